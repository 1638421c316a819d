//! The configuration as the daemon uses it: typed, within bounds, consistent.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::transport::keys::PublicKey;

/// All settings of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name of the instance.
    pub name: String,
    /// The TUN interface.
    pub interface: Interface,
    /// The connections to the peer.
    pub link: Link,
    /// Who the peer is and what is accepted from it.
    pub security: Security,
    /// The queue in front of the link.
    pub queue: Queue,
    /// The log.
    pub log: Log,
    /// The metrics endpoint.
    pub metrics: Metrics,
}

/// `[interface]`: the TUN interface, its addresses and routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Name of the interface, 1 to 15 bytes; default: the instance's name.
    pub name: String,
    /// Addresses with prefix length, no address twice; default: none.
    pub addresses: Vec<IpNet>,
    /// Largest inner packet in bytes, 1280 to 65535; default: 1500.
    pub mtu: u16,
    /// Whether the kernel hands over super-packets; default: auto.
    pub offload: Offload,
    /// Routes through the interface, in the order of their destinations, each destination once; default: none.
    pub routes: Vec<Route>,
}

/// Segmentation offload between the kernel and the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// As much as the kernel offers.
    Auto,
    /// Single packets of at most the MTU.
    Off,
}

/// One route through the interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Network without host bits.
    pub destination: IpNet,
    /// Gateway, of the destination's family; `None`: on the link.
    pub via: Option<IpAddr>,
    /// Priority, the lowest wins, 0 to 4294967295; `None`: the kernel's choice.
    pub metric: Option<u32>,
    /// Routing table, 1 to 4294967295; default: 254, the main table.
    pub table: u32,
    /// Preferred source address, of the destination's family; `None`: the kernel's choice.
    pub source: Option<IpAddr>,
}

/// `[link]`: the TCP connections to the peer. At least one of `listen` and `connect` is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Where the peer's connections are accepted, port 1 to 65535, 4641 when none is given; default: nowhere.
    pub listen: Option<SocketAddr>,
    /// Where the peer listens, tried in turn, no endpoint twice; default: none.
    pub connect: Vec<Endpoint>,
    /// Local address of outgoing connections; default: the kernel's choice.
    pub source: Option<IpAddr>,
    /// Interface that the link is bound to, 1 to 15 bytes; default: none.
    pub device: Option<String>,
    /// Mark on the link's packets, 0 to 4294967295; default: none.
    pub fwmark: Option<u32>,
    /// DSCP value of the link's packets, 0 to 63; default: the kernel's.
    pub dscp: Option<u8>,
    /// TCP connections of a session; default: auto.
    pub streams: Streams,
    /// TCP congestion control; default: auto.
    pub congestion: Congestion,
    /// Silence after which the peer is probed, 1 s to 1 h, at most half of `dead_after`; default: 10 s.
    pub keepalive: Duration,
    /// Silence after which the connection is given up, 2 s to 24 h; default: 30 s.
    pub dead_after: Duration,
    /// Waits between dials.
    pub reconnect: Reconnect,
    /// When systemd is told that the service is ready; default: interface.
    pub ready: Ready,
}

/// A host and port to dial; prints as `host:port`, an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or IP address, without brackets; an IPv6 address may carry a `%zone`.
    pub host: String,
    /// TCP port, 1 to 65535; default: 4641.
    pub port: u16,
}

impl Endpoint {
    /// The address that the host is given as, without its zone; `None` for a name.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.split('%').next()?.parse().ok()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Number of TCP connections of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// The daemon decides.
    Auto,
    /// So many, 1 to 16.
    Fixed(u8),
}

/// TCP congestion control of the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Congestion {
    /// `cubic` on a path under a millisecond; else `bbr` where the kernel has it, else the kernel's
    /// default.
    Auto,
    /// The kernel's default.
    Default,
    /// The one of this name, 1 to 15 characters of `a-z`, `0-9`, `_` and `-`.
    Named(String),
}

/// Bounds of the wait before dialling again (full jitter); `min` is at most `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconnect {
    /// Upper bound of the first wait, 10 ms to 1 h; default: 200 ms.
    pub min: Duration,
    /// Upper bound of every wait, 10 ms to 1 h; default: 30 s.
    pub max: Duration,
}

/// When the service counts as started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// As soon as the interface, its addresses and routes are there.
    Interface,
    /// With the first session.
    Connected,
}

/// `[security]`: who the peer is and what is accepted from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Security {
    /// How the peer is authenticated; default: tls.
    pub mode: Mode,
    /// File with this end's private key, an absolute path; default: the credential `tunnel64d.key`.
    pub private_key_file: Option<PathBuf>,
    /// Public keys that the peer may prove, no key twice; default: none, never empty with tls.
    pub peer_public_keys: Vec<PublicKey>,
    /// Outer networks that may connect at all, and with plaintext be dialled, no network twice; default: any, never empty with plaintext.
    pub peer_addresses: Vec<IpNet>,
    /// Inner source networks accepted from the peer, never empty; `None`: what routes and addresses imply.
    pub allowed_sources: Option<Vec<IpNet>>,
}

/// How the peer is authenticated and packets are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Not at all: the peer is known by its address alone.
    Plaintext,
    /// TLS 1.3 with raw public keys.
    Tls,
}

/// `[queue]`: what waits in front of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Wait that is fine for as long as it takes, 100 µs to 1 s, less than `interval`; default: 5 ms.
    pub target: Duration,
    /// How long the wait may exceed `target`, 1 ms to 10 s; default: 100 ms.
    pub interval: Duration,
    /// Memory that waiting packets may take, in bytes, 64 KiB to 1 GiB; default: 8 MiB.
    pub limit: usize,
    /// Whether packets that allow it are marked instead of dropped; default: true.
    pub ecn: bool,
}

/// `[log]`: what is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The least important messages that are logged; default: info.
    pub level: Level,
    /// Form of the log; default: auto.
    pub format: LogFormat,
}

/// Importance of a log message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something needs attention.
    Warn,
    /// Changes of state.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything, down to single packets.
    Trace,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// The journal under systemd, text elsewhere.
    Auto,
    /// Structured fields to journald.
    Journal,
    /// Lines of text on stderr.
    Text,
    /// Lines of JSON on stderr.
    Json,
}

/// `[metrics]`: where metrics are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Address of the endpoint; default: none.
    pub listen: Option<MetricsListen>,
}

/// Address of the metrics endpoint; prints as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricsListen {
    /// TCP, port 1 to 65535.
    Address(SocketAddr),
    /// A Unix socket, by its absolute path.
    Unix(PathBuf),
}

impl fmt::Display for MetricsListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
