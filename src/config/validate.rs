//! The merged layers → [`Settings`], with every mistake found on the way.

use std::net::IpAddr;
use std::time::Duration;

use figment::value::Value;
use ipnet::IpNet;

use crate::link::peers::lists;

use super::Sources;
use super::error::{Error, Origin, Problem};
use super::layers::Merged;
use super::reader::Reader;
use super::settings::{
    Endpoint, Interface, Level, Link, Log, LogFormat, Metrics, Mode, Offload, Queue, Ready,
    Reconnect, Route, Security, Settings,
};
use super::values::{self, Parsed, Refusal};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const MAIN_TABLE: u32 = 254;

/// Types, ranges and consistency of all values; `None` only together with new `errors`.
pub fn settings(sources: &Sources, merged: &Merged, errors: &mut Vec<Error>) -> Option<Settings> {
    let mut reader = Reader { sources, merged, errors };
    let interface = interface(&mut reader);
    let link = link(&mut reader);
    let security = security(&mut reader);
    let queue = queue(&mut reader);
    let log = log(&mut reader);
    if let (Some(link), Some(security)) = (&link, &security) {
        plaintext_reaches(&mut reader, &link.connect, security);
    }
    let metrics = metrics(&mut reader);
    Some(Settings {
        name: sources.name.clone(),
        interface: interface?,
        link: link?,
        security: security?,
        queue: queue?,
        log: log?,
        metrics: metrics?,
    })
}

fn interface(reader: &mut Reader) -> Option<Interface> {
    let name = reader.required("interface.name", values::interface_name);
    let addresses = reader.list("interface.addresses", values::interface_address);
    let mtu = reader.required("interface.mtu", |value| narrow(value, 1280, 65535));
    let offload = reader.required("interface.offload", |value| {
        values::choice(value, &[("auto", Offload::Auto), ("off", Offload::Off)])
    });
    let routes = routes(reader);
    if let Some(addresses) = &addresses {
        for (index, address) in addresses.iter().enumerate() {
            if addresses[..index].iter().any(|earlier| earlier.addr() == address.addr()) {
                let problem = Problem::Duplicate(format!("address {}", address.addr()));
                reader.element_error(&["interface", "addresses"], index, problem);
            }
        }
    }
    Some(Interface {
        name: name?,
        addresses: addresses?,
        mtu: mtu?,
        offload: offload?,
        routes: routes?,
    })
}

fn routes(reader: &mut Reader) -> Option<Vec<Route>> {
    let Some(Value::Dict(_, table)) = reader.merged.find(&["interface", "routes"]) else {
        return Some(Vec::new());
    };
    let mut routes = Vec::new();
    let mut complete = true;
    for name in table.keys() {
        match (values::prefix(name), route(reader, name)) {
            (Ok(destination), Some(rest)) => routes.push(Route { destination, ..rest }),
            _ => complete = false,
        }
    }
    routes.sort_by_key(|route| route.destination);
    complete.then_some(routes)
}

fn route(reader: &mut Reader, name: &str) -> Option<Route> {
    let destination: IpNet = name.parse().ok()?;
    let at = |key| ["interface", "routes", name, key];
    let via = reader.optional_at(&at("via"), values::address);
    let metric = reader.optional_at(&at("metric"), |value| values::integer(value, 0, u32::MAX));
    let table = reader.optional_at(&at("table"), |value| values::integer(value, 1, u32::MAX));
    let source = reader.optional_at(&at("source"), values::address);
    let mut matching = true;
    for (key, address) in [("via", via), ("source", source)] {
        let stranger =
            address.flatten().filter(|address| address.is_ipv4() != destination.addr().is_ipv4());
        if let Some(stranger) = stranger {
            let (found, other) = (stranger.to_string(), destination.to_string());
            reader.error(&at(key), Problem::Family { found, other });
            matching = false;
        }
    }
    let route = Route {
        destination,
        via: via?,
        metric: metric?,
        table: table?.unwrap_or(MAIN_TABLE),
        source: source?,
    };
    matching.then_some(route)
}

fn link(reader: &mut Reader) -> Option<Link> {
    let listen = reader.optional("link.listen", values::listen);
    let connect = connect(reader);
    let source = reader.optional("link.source", values::address);
    let device = reader.optional("link.device", values::device_name);
    let fwmark = reader.optional("link.fwmark", |value| values::integer(value, 0, u32::MAX));
    let dscp = reader.optional("link.dscp", |value| narrow(value, 0, 63));
    let streams = reader.required("link.streams", values::streams);
    let congestion = reader.required("link.congestion", values::congestion);
    let keepalive =
        reader.required("link.keepalive", |value| values::duration(value, SECOND, HOUR));
    let dead_after =
        reader.required("link.dead_after", |v| values::duration(v, 2 * SECOND, 24 * HOUR));
    let wait = |value: &Value| values::duration(value, Duration::from_millis(10), HOUR);
    let min = reader.required("link.reconnect.min", wait);
    let max = reader.required("link.reconnect.max", wait);
    let ready = reader.required("link.ready", |value| {
        values::choice(value, &[("interface", Ready::Interface), ("connected", Ready::Connected)])
    });

    reader.at_most_half(("link.keepalive", keepalive), ("link.dead_after", dead_after));
    reader.at_most(("link.reconnect.min", min), ("link.reconnect.max", max));
    if let (Some(Some(source)), Some(connect)) = (source, &connect) {
        source_reaches(reader, source, connect);
    }
    let nobody = listen == Some(None) && connect.as_ref().is_some_and(Vec::is_empty);
    if nobody && reader.complete("link") {
        let files: Vec<_> =
            reader.merged.looked_for.iter().map(|path| path.display().to_string()).collect();
        reader.instance_error("link", Problem::NoPeer(files.join(", ")));
    }
    Some(Link {
        listen: listen?,
        connect: connect?,
        source: source?,
        device: device?,
        fwmark: fwmark?,
        dscp: dscp?,
        streams: streams?,
        congestion: congestion?,
        keepalive: keepalive?,
        dead_after: dead_after?,
        reconnect: Reconnect { min: min?, max: max? },
        ready: ready?,
    })
}

fn connect(reader: &mut Reader) -> Option<Vec<Endpoint>> {
    match reader.merged.find(&["link", "connect"]) {
        None => Some(Vec::new()),
        Some(Value::Array(..)) => reader.list("link.connect", values::endpoint),
        Some(_) => reader.required("link.connect", values::endpoint).map(|one| vec![one]),
    }
}

/// An endpoint given as an address of the other family could never be dialled from `source`.
fn source_reaches(reader: &mut Reader, source: IpAddr, connect: &[Endpoint]) {
    let stranger = connect.iter().find(|endpoint| {
        endpoint.address().is_some_and(|address| address.is_ipv6() != source.is_ipv6())
    });
    if let Some(stranger) = stranger {
        let (found, other) = (source.to_string(), stranger.to_string());
        reader.error(&["link", "source"], Problem::Family { found, other });
    }
}

/// Without keys no address is dialled that is not listed. What names lead to is known only then.
fn plaintext_reaches(reader: &mut Reader, connect: &[Endpoint], security: &Security) {
    let listed = &security.peer_addresses;
    if security.mode != Mode::Plaintext || listed.is_empty() {
        return;
    }
    for (index, endpoint) in connect.iter().enumerate() {
        let stranger = endpoint.address().filter(|address| !lists(listed, *address));
        if let Some(stranger) = stranger {
            let problem = Problem::NotThePeer(stranger);
            reader.element_error(&["link", "connect"], index, problem);
        }
    }
}

fn security(reader: &mut Reader) -> Option<Security> {
    let mode = reader.required("security.mode", |value| {
        values::choice(value, &[("tls", Mode::Tls), ("plaintext", Mode::Plaintext)])
    });
    let private_key_file = reader.optional("security.private_key_file", values::absolute_path);
    let peer_public_keys = reader.list("security.peer_public_keys", values::public_key);
    let network = |value: &Value| values::prefix(values::text(value)?);
    let peer_addresses = reader.list("security.peer_addresses", network);
    let allowed_sources = match reader.merged.find(&["security", "allowed_sources"]) {
        None => Some(None),
        Some(_) => reader.list("security.allowed_sources", network).map(Some),
    };
    let nobody = mode == Some(Mode::Tls) && peer_public_keys.as_ref().is_some_and(Vec::is_empty);
    let is_written = reader.merged.origin(&["security", "mode"], None) != Origin::BuiltIn;
    if nobody && (is_written || reader.complete("security")) {
        reader.error(&["security", "mode"], Problem::TlsForNobody);
    }
    let anyone =
        mode == Some(Mode::Plaintext) && peer_addresses.as_ref().is_some_and(Vec::is_empty);
    if anyone && reader.complete("security") {
        reader.error(&["security", "mode"], Problem::PlaintextForAnyone);
    }
    if allowed_sources.as_ref().is_some_and(|list| list.as_ref().is_some_and(Vec::is_empty)) {
        reader.error(&["security", "allowed_sources"], Problem::NothingAllowed);
    }
    Some(Security {
        mode: mode?,
        private_key_file: private_key_file?,
        peer_public_keys: peer_public_keys?,
        peer_addresses: peer_addresses?,
        allowed_sources: allowed_sources?,
    })
}

fn queue(reader: &mut Reader) -> Option<Queue> {
    let target = reader.required("queue.target", |value| {
        values::duration(value, Duration::from_micros(100), SECOND)
    });
    let interval = reader.required("queue.interval", |value| {
        values::duration(value, Duration::from_millis(1), 10 * SECOND)
    });
    let limit = reader.required("queue.limit", |value| values::size(value, 64 << 10, 1 << 30));
    let ecn = reader.required("queue.ecn", values::flag);
    reader.less(("queue.target", target), ("queue.interval", interval));
    Some(Queue { target: target?, interval: interval?, limit: limit?, ecn: ecn? })
}

fn log(reader: &mut Reader) -> Option<Log> {
    const LEVELS: [(&str, Level); 5] = [
        ("error", Level::Error),
        ("warn", Level::Warn),
        ("info", Level::Info),
        ("debug", Level::Debug),
        ("trace", Level::Trace),
    ];
    const FORMATS: [(&str, LogFormat); 4] = [
        ("auto", LogFormat::Auto),
        ("journal", LogFormat::Journal),
        ("text", LogFormat::Text),
        ("json", LogFormat::Json),
    ];
    let level = reader.required("log.level", |value| values::choice(value, &LEVELS));
    let format = reader.required("log.format", |value| values::choice(value, &FORMATS));
    Some(Log { level: level?, format: format? })
}

fn metrics(reader: &mut Reader) -> Option<Metrics> {
    let listen = reader.optional("metrics.listen", values::metrics_listen);
    Some(Metrics { listen: listen? })
}

fn narrow<T: TryFrom<u32>>(value: &Value, low: u32, high: u32) -> Parsed<T> {
    values::integer(value, low, high)?.try_into().map_err(|_| Refusal::Unfit)
}
