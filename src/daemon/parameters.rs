//! The settings, cut into what each room needs to know.

use std::env;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::{Congestion, Level, Mode, Offload, Settings, Streams};
use crate::datapath::inbound::Sources;
use crate::datapath::outbound::QueueParameters;
use crate::link::negotiate::Ours;
use crate::link::session::{self, Identity};
use crate::metrics::Counters;
use crate::netlink;
use crate::packet::offload::Accepts;
use crate::queue::codel;
use crate::transport::keys::{self, PrivateKey};
use crate::transport::{Protection, tcp, tls};
use crate::tun::sanitise::Sanitiser;
use crate::wire::frame::MAX_PACKET;
use crate::wire::hello::{Instance, SessionId};

use super::introduction::plaintext_identity;
use super::{Error, worker};

/// Streams that `auto` stands for. One carries several Gbit/s, and shares a slow line best: several
/// compete with each other at the bottleneck, each with a queue of its own.
const AUTO_STREAMS: u8 = 1;

/// How connections leave the machine.
pub fn tcp(settings: &Settings) -> tcp::Options {
    let link = &settings.link;
    tcp::Options {
        source: link.source,
        device: link.device.clone(),
        fwmark: link.fwmark,
        dscp: link.dscp,
        congestion: match &link.congestion {
            Congestion::Auto => tcp::Congestion::Auto,
            Congestion::Default => tcp::Congestion::Default,
            Congestion::Named(name) => tcp::Congestion::Named(name.clone()),
        },
        unacknowledged_limit: unacknowledged_limit(settings),
    }
}

/// Later than our own verdict, which has the better words.
fn unacknowledged_limit(settings: &Settings) -> Duration {
    settings.link.dead_after + Duration::from_secs(5)
}

/// What the interface should look like.
pub fn desired(settings: &Settings) -> netlink::Desired {
    let interface = &settings.interface;
    netlink::Desired {
        interface: interface.name.clone(),
        mtu: interface.mtu,
        addresses: interface.addresses.clone(),
        routes: interface
            .routes
            .iter()
            .map(|route| netlink::Route {
                destination: route.destination,
                via: route.via,
                metric: route.metric,
                table: route.table,
                source: route.source,
            })
            .collect(),
    }
}

/// What is worth a line in the log.
pub fn level(level: Level) -> tracing::Level {
    match level {
        Level::Error => tracing::Level::ERROR,
        Level::Warn => tracing::Level::WARN,
        Level::Info => tracing::Level::INFO,
        Level::Debug => tracing::Level::DEBUG,
        Level::Trace => tracing::Level::TRACE,
    }
}

/// How many streams this end is ready for.
pub fn streams(settings: &Settings) -> u8 {
    match settings.link.streams {
        Streams::Fixed(streams) => streams,
        Streams::Auto => AUTO_STREAMS,
    }
}

/// Whether the kernel is asked for super-packets.
pub fn offload(settings: &Settings) -> bool {
    settings.interface.offload == Offload::Auto
}

/// Whether packets cross the network in the clear.
pub fn plaintext(settings: &Settings) -> bool {
    settings.security.mode == Mode::Plaintext
}

/// How connections are protected: reads the private key.
///
/// # Errors
/// There is no usable private key, or the peer's key is our own.
pub fn protection(settings: &Settings) -> Result<Protection, Error> {
    if plaintext(settings) {
        return Ok(Protection::Plaintext);
    }
    let security = &settings.security;
    let credentials = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let path = keys::locate(security.private_key_file.as_deref(), credentials.as_deref());
    let key = PrivateKey::read(&path.ok_or(Error::NoKey)?)?;
    let peers = security.peer_public_keys.clone();
    if peers.contains(&key.public()) {
        return Err(Error::OwnKey(key.public()));
    }
    Ok(Protection::Tls(tls::Endpoint::new(&key, peers)?))
}

/// The outer addresses that may connect at all: with keys everybody, unless some are named.
pub fn peers(settings: &Settings) -> Vec<IpNet> {
    let named = settings.security.peer_addresses.clone();
    if named.is_empty() && !plaintext(settings) {
        return vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    }
    named
}

/// The outer addresses that may be dialled; `None` for all. With keys it is these that tell who the
/// peer is, and one behind NAT may be dialled at another address than it connects from.
pub fn dialled(settings: &Settings) -> Option<Vec<IpNet>> {
    plaintext(settings).then(|| settings.security.peer_addresses.clone())
}

/// What may wait in the queue of one of so many streams, and for how long.
pub fn queue(settings: &Settings, streams: usize) -> QueueParameters {
    let queue = &settings.queue;
    QueueParameters {
        codel: codel::Parameters { target: queue.target, interval: queue.interval },
        limit: queue.limit / streams.max(1),
        mark: queue.ecn,
    }
}

/// The inner addresses that the peer may send from: those configured, or whatever is routed to it,
/// and its neighbours on the tunnel itself.
pub fn sources(settings: &Settings) -> Sources {
    let implied = || {
        let interface = &settings.interface;
        let routes = interface.routes.iter().map(|route| route.destination);
        routes.chain(interface.addresses.iter().map(IpNet::trunc)).collect()
    };
    Sources::new(settings.security.allowed_sources.clone().unwrap_or_else(implied))
}

/// What all workers need, of which there are this many.
pub fn worker(
    settings: &Settings,
    workers: usize,
    accepts: Accepts,
    counters: &Arc<Counters>,
) -> worker::Parameters {
    worker::Parameters {
        sanitiser: Sanitiser { mtu: settings.interface.mtu, accepts },
        sources: sources(settings),
        queue: queue(settings, workers),
        keepalive: settings.link.keepalive,
        dead_after: settings.link.dead_after,
        unacknowledged_limit: unacknowledged_limit(settings),
        counters: counters.clone(),
    }
}

/// What this end says in HELLO.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn ours(settings: &Settings, streams: u8, accepts: Accepts) -> Result<Ours, Error> {
    let mut instance = Instance::default();
    random(&mut instance.0)?;
    Ok(Ours {
        streams,
        instance,
        features: accepts.bits(),
        mtu: settings.interface.mtu,
        keepalive: settings.link.keepalive,
        max_packet: u32::try_from(MAX_PACKET).unwrap_or(u32::MAX),
    })
}

/// What the session needs to know.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn session(
    settings: &Settings,
    protection: &Protection,
    ours: Ours,
) -> Result<session::Parameters, Error> {
    let mut seed = [0; 8];
    random(&mut seed)?;
    Ok(session::Parameters {
        dials: !settings.link.connect.is_empty(),
        identity: match protection {
            Protection::Plaintext => plaintext_identity(ours.instance),
            Protection::Tls(endpoint) => Identity(endpoint.public_key().0),
        },
        ours,
        reconnect_min: settings.link.reconnect.min,
        reconnect_max: settings.link.reconnect.max,
        seed: u64::from_ne_bytes(seed),
        name: Box::new(|| {
            let mut id = SessionId::default();
            // It has worked at start-up; the kernel doesn't take randomness back.
            random(&mut id.0).expect("the kernel gives random bytes");
            id
        }),
    })
}

fn random(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes)
        .map_err(|error| Error::system("asking for random bytes")(io::Error::other(error)))
}
