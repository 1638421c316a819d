//! One tunnel at one moment, as plain data: what `tunnel64d status --json` prints.
//!
//! The daemon fills it in, the control socket carries it, and its fields are described to others
//! by the Varlink interface in `src/control/org.tunnel64d.varlink`. Points in time are Unix
//! seconds, spans of time microseconds, sizes bytes and rates bytes a second, unless a field says
//! otherwise. Within [`VERSION`] fields are added, never changed or removed; what another version
//! of the daemon leaves out reads as zero, empty or unknown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The form of a [`Snapshot`].
pub const VERSION: u32 = 1;

/// Everything about one tunnel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// [`VERSION`].
    pub version: u32,
    /// Name of the instance.
    pub name: String,
    /// Version of the running program.
    pub daemon_version: String,
    /// Its process.
    pub pid: u32,
    /// When it started.
    pub started: u64,
    /// When this was taken, in Unix milliseconds: rates are differences.
    pub taken_ms: u64,
    /// How things are.
    pub state: State,
    /// Since when.
    pub since: u64,
    /// The same in one line, as `systemctl status` shows it.
    pub summary: String,
    /// What is wrong, the gravest first.
    pub problems: Vec<Problem>,
    /// The last thing that went wrong, even if all is well again.
    pub last_error: Option<Occurrence>,
    /// What of the configuration concerns the link.
    pub config: Config,
    /// The session with the peer, while there is one.
    pub session: Option<Session>,
    /// Sessions begun since the start.
    pub sessions: u64,
    /// The connections that are up.
    pub streams: Vec<Stream>,
    /// From the interface to the peer.
    pub sent: Traffic,
    /// From the peer to the interface.
    pub received: Traffic,
    /// Packets dropped, by cause; every cause is there.
    pub drops: BTreeMap<String, u64>,
    /// What waits for the link.
    pub queue: Queue,
    /// The TUN interface.
    pub interface: Interface,
}

/// How things are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Packets flow.
    Up,
    /// There is a session, but nothing is heard over any of its streams.
    Stalled,
    /// No session; the peer is dialled.
    Connecting,
    /// No session; the peer is waited for.
    Listening,
    /// There is no daemon to ask: `tunnel64d status` says so itself.
    NotRunning,
    /// One that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Something that is wrong, and what can be done about it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// Which kind of thing.
    pub kind: Kind,
    /// What is wrong, in words.
    pub text: String,
    /// What can be done about it, in words.
    pub remedy: String,
    /// Since when, if that is known.
    pub since: Option<u64>,
}

/// The kinds of problems.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The peer's name has no address.
    Name,
    /// Nobody listens at the peer's address.
    Refused,
    /// The network has no way to the peer's address.
    Unreachable,
    /// Nothing comes back from the peer's address.
    NoAnswer,
    /// The way to the peer's address leads into the tunnel itself.
    Loop,
    /// The peer does not take our key.
    KeyRefused,
    /// The peer, or whoever connects, shows a key that is not configured.
    KeyUnknown,
    /// The ends have no protocol version in common.
    Version,
    /// What answers is no tunnel64d, or one whose `security.mode` differs.
    Protocol,
    /// The last session ended, and no attempt at another has failed yet.
    Lost,
    /// Nothing has been heard from the peer for some time.
    Silent,
    /// Somebody was turned away who may be the peer.
    TurnedAway,
    /// The port can't be listened on.
    Listen,
    /// The interface is not as configured, or can't be read.
    Interface,
    /// Somebody else keeps changing the interface.
    Quarrel,
    /// A thread of the daemon does not answer.
    Worker,
    /// The daemon does not run, or does not answer.
    NotRunning,
    /// The configuration is wrong.
    Configuration,
    /// The private key can't be used.
    Key,
    /// Whoever asks may not.
    Permission,
    /// One that this version does not know.
    #[default]
    #[serde(other)]
    Other,
}

/// Something that happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Occurrence {
    /// When.
    pub time: u64,
    /// What.
    pub text: String,
}

/// What of the configuration concerns the link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where the peer is waited for.
    pub listen: Option<String>,
    /// Where the peer is dialled.
    pub connect: Vec<String>,
    /// `tls` or `plaintext`.
    pub mode: String,
    /// Our public key; none in plaintext.
    pub public_key: Option<String>,
    /// Streams that this end is ready for.
    pub streams: u8,
}

/// A session with the peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Session {
    /// The first digits of its name, as in the log; both ends know it.
    pub id: String,
    /// Since when it is up.
    pub since: u64,
    /// The peer's address and port.
    pub peer: String,
    /// The key that the peer has proved to hold; none in plaintext.
    pub peer_public_key: Option<String>,
    /// The cipher suite; none in plaintext.
    pub cipher: Option<String>,
    /// The key exchange; none in plaintext.
    pub key_exchange: Option<String>,
    /// The version of the protocol.
    pub protocol: u8,
    /// The super-packets that the peer takes.
    pub features: Vec<String>,
    /// Streams that both ends are ready for.
    pub streams: u8,
    /// The smaller of both ends' MTUs.
    pub mtu: u16,
}

/// One TCP connection of the session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stream {
    /// Which one, from 0.
    pub index: u8,
    /// Our address and port.
    pub local: String,
    /// The peer's.
    pub remote: String,
    /// Since when it is up.
    pub since: u64,
    /// Whether the peer leaves a PING unanswered.
    pub stalled: bool,
    /// How long nothing has been heard over it; silence up to `link.keepalive` is normal.
    pub silent_us: u64,
    /// What the kernel knows of it.
    pub tcp: Tcp,
    /// Bytes that wait to be handed to the kernel.
    pub unsent: u64,
}

/// What the kernel knows of a connection (`TCP_INFO`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tcp {
    /// Smoothed round-trip time.
    pub rtt_us: u64,
    /// The smallest one lately.
    pub min_rtt_us: u64,
    /// Segments retransmitted since it began.
    pub retransmits: u64,
    /// What it has delivered lately; 0 when that is not known.
    pub delivery_rate: u64,
    /// What it may have under way.
    pub congestion_window: u64,
    /// Bytes that the kernel holds and has not yet sent.
    pub unsent: u64,
    /// Bytes acknowledged by the peer since it began.
    pub sent: u64,
    /// Bytes received since it began.
    pub received: u64,
}

/// Packets and bytes of one direction, IP headers included. A super-packet counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// Packets since the start.
    pub packets: u64,
    /// Bytes since the start.
    pub bytes: u64,
}

/// What waits for the link, over all streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Queue {
    /// Packets.
    pub packets: u64,
    /// Memory that they hold.
    pub bytes: u64,
    /// How much that may be: `queue.limit`.
    pub limit: u64,
    /// How long the oldest of them has been waiting.
    pub delay_us: u64,
}

/// The TUN interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index in the kernel; 0 while it is gone.
    pub index: u32,
    /// Its MTU: the configured one, or the peer's if that is smaller.
    pub mtu: u16,
    /// The MTU that is configured.
    pub mtu_configured: u16,
    /// The super-packets that the kernel hands over and takes.
    pub offload: Vec<String>,
    /// What is configured: `auto` or `off`.
    pub offload_configured: String,
    /// Whether it has its carrier.
    pub carrier: bool,
    /// How often something was put right that somebody else had changed.
    pub restored: u64,
    /// What was put right last, and when.
    pub last_restored: Option<Occurrence>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_version_adds_or_leaves_out_is_no_obstacle() {
        let other = r#"{
            "version": 1, "name": "tun0", "state": "hibernating", "weather": "fine",
            "problems": [{"kind": "locusts", "text": "t"}], "streams": [{"index": 3}]
        }"#;
        let snapshot: Snapshot = serde_json::from_str(other).unwrap();
        assert_eq!((snapshot.name.as_str(), snapshot.state), ("tun0", State::Unknown));
        assert_eq!(snapshot.problems[0].kind, Kind::Other);
        assert_eq!(snapshot.streams[0].index, 3);
    }
}
