//! What is wrong with the link, in words that an admin can act on.
//!
//! Failures come and go as attempts are made; a [`History`] keeps what is worth telling of them
//! until there is a session again, and the last one for longer than that.

mod history;

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use crate::metrics::snapshot::{Kind, Problem};
use crate::transport::{HandshakeError, tls};
use crate::wire::bye::Reason;
use crate::wire::hello::{Hello, VERSIONS};

use super::introduction::Failure;

pub use history::History;

/// Endpoints and addresses whose failures are told apart.
const MOST: usize = 4;

type Versions = RangeInclusive<u8>;

/// What an attempt to connect has failed of.
pub fn of(failure: &Failure) -> Vec<Problem> {
    let mut problems = match failure {
        Failure::All(failures) => failures.iter().flat_map(of).collect(),
        Failure::Dialled { address, failure } => {
            let at = |problem: Problem| Problem {
                text: format!("{address}: {}", problem.text),
                ..problem
            };
            of(failure).into_iter().map(at).collect()
        }
        Failure::NotNeeded => Vec::new(),
        failure => vec![one(failure)],
    };
    problems.truncate(MOST);
    problems
}

/// Somebody connected and is not the peer, or not one that we can talk to.
pub fn of_greeting(peer: SocketAddr, failure: &Failure) -> Problem {
    let Problem { kind, text, mut remedy, .. } = one(failure);
    if kind == Kind::KeyUnknown {
        remedy = format!(
            "If {} is the peer, put this key into security.peer_public_keys here, in place of the \
             one it had before. If not, a stranger has tried.",
            peer.ip()
        );
    }
    problem(kind, format!("{peer} connected and was turned away: {text}"), remedy)
}

/// An address that may not connect.
pub fn of_address(peer: SocketAddr, why: &str) -> Problem {
    let ip = peer.ip();
    problem(
        Kind::TurnedAway,
        format!("{peer} connected and was turned away: {why}"),
        format!(
            "If {ip} is the peer, perhaps behind NAT, add it to security.peer_addresses. If not, a \
             stranger has tried."
        ),
    )
}

/// A peer whose HELLO is refused for this reason, if that is worth telling.
pub fn of_hello(peer: SocketAddr, hello: &Hello, reason: Reason) -> Option<Problem> {
    if reason != Reason::Version {
        let text = |what: &str| format!("{peer}: {what}");
        return match reason {
            Reason::Myself => Some(myself(text("the endpoint leads back to this very process"))),
            Reason::Protocol => Some(protocol(text("the answer is for another session"))),
            _ => None,
        };
    }
    Some(version(peer, &hello.versions, &VERSIONS))
}

fn version(peer: SocketAddr, theirs: &Versions, ours: &Versions) -> Problem {
    let (which, place) =
        if theirs.end() < ours.start() { ("the peer's", "there") } else { ("this", "here") };
    let range = |versions: &Versions| match (versions.start(), versions.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first} to {last}"),
    };
    problem(
        Kind::Version,
        format!(
            "{peer} speaks version {} of the protocol, this end {}: {which} tunnel64d is too old",
            range(theirs),
            range(ours)
        ),
        format!("Update tunnel64d {place}, and restart it: `tunnel64d --version` on both."),
    )
}

/// The session has ended and no attempt has failed yet.
pub fn of_end(reason: &str) -> Problem {
    problem(
        Kind::Lost,
        format!("the session ended: {reason}"),
        "Nothing yet: another one is on its way. If it comes again and again, see the peer's log."
            .to_owned(),
    )
}

/// Nobody has connected to this address.
pub fn of_absence(listen: SocketAddr) -> Problem {
    let port = listen.port();
    problem(
        Kind::NoAnswer,
        format!("the peer has not connected to {listen}"),
        format!(
            "See that tunnel64d runs on the peer, that link.connect there names this address, and \
             that no firewall drops TCP port {port}: `nc -vz {} {port}` there.",
            listen.ip()
        ),
    )
}

/// Nothing has been heard over any stream for so many seconds.
pub fn of_silence(peer: SocketAddr, seconds: u64) -> Problem {
    problem(
        Kind::Silent,
        format!("nothing has been heard from {peer} for {seconds} s"),
        format!(
            "The path is cut, or the peer hangs: look with `ping {}`, and at firewalls that forget \
             connections. The connection is replaced as soon as the path is back.",
            peer.ip()
        ),
    )
}

/// The port can't be had.
pub fn of_listening(address: SocketAddr, why: &str) -> Problem {
    let (ip, port) = (address.ip(), address.port());
    let remedy = if why.starts_with("link.") {
        "Correct the key, or see that the kernel has what it names. It is tried again every 2 s."
            .to_owned()
    } else {
        format!(
            "See who has the port, `ss -ltnp 'sport = {port}'`, and whether {ip} is on this host, \
             `ip address`. It is tried again every 2 s."
        )
    };
    problem(Kind::Listen, format!("cannot listen on {address}: {}", plain(why)), remedy)
}

/// The interface is not as configured.
pub fn of_interface(name: &str, why: &str) -> Problem {
    problem(
        Kind::Interface,
        format!("interface {name} is incomplete: {}", plain(why)),
        format!(
            "Remove what is in the way, a route or an address of somebody else's: `ip address \
             show {name}`, `ip route`, `ip -6 route`. It is tried again every 2 s."
        ),
    )
}

/// The interface is there, but nothing can be read from the queue of this worker.
pub fn of_unreadable(name: &str, index: usize) -> Problem {
    problem(
        Kind::Interface,
        format!("stream {index} can read nothing from interface {name}"),
        format!(
            "If it lasts, stop the service and start it again, which opens {name} anew, and report \
             it with the log, which names the kernel's error. It is tried again ten times a second."
        ),
    )
}

/// Somebody keeps changing the interface.
pub fn of_quarrel(name: &str, last: &str) -> Problem {
    problem(
        Kind::Quarrel,
        format!("somebody keeps undoing the configuration of {name}; put back last: {last}"),
        format!(
            "Find out who does it: `ip monitor` shows what changes. With systemd-networkd, set \
             ManageForeignRoutes=no in networkd.conf and leave {name} unmanaged."
        ),
    )
}

/// A worker has not answered.
pub fn of_worker(index: usize) -> Problem {
    problem(
        Kind::Worker,
        format!("the thread of stream {index} does not answer"),
        "The host is overloaded, or this is a fault in tunnel64d: restart it unless its watchdog \
         does, and report it with the log."
            .to_owned(),
    )
}

fn one(failure: &Failure) -> Problem {
    match failure {
        Failure::Name { name, source } => problem(
            Kind::Name,
            format!("{name} does not resolve: {}", plain(&source.to_string())),
            format!(
                "Ask the resolver yourself: `getent hosts {name}`. Correct the name in \
                 link.connect, or /etc/resolv.conf, or put an address into link.connect."
            ),
        ),
        Failure::Foreign { address, .. } => problem(
            Kind::TurnedAway,
            failure.to_string(),
            format!(
                "If {} is the peer's, add it to security.peer_addresses: in plaintext no other \
                 address is dialled. If not, correct link.connect.",
                address.ip()
            ),
        ),
        Failure::Connect { address, source } => connect(*address, source),
        Failure::Loop(address) => problem(
            Kind::Loop,
            format!("{address} is routed into the tunnel itself"),
            format!(
                "Give the peer's address a route through the uplink: `ip route get {}` shows the \
                 one that counts. Or use link.fwmark with a routing rule.",
                address.ip()
            ),
        ),
        Failure::Unanswered { endpoints, .. } => problem(
            Kind::NoAnswer,
            format!("no answer from {endpoints}"),
            "The peer is down, the path is cut, or a firewall drops the packets on the way: look \
             at each with `ping` and `nc -vz HOST PORT`."
                .to_owned(),
        ),
        Failure::Handshake(HandshakeError::Tls(error)) => keys(error),
        Failure::Refused(bye) => match bye.reason {
            Reason::Version => problem(
                Kind::Version,
                "the peer has no protocol version in common with this end".to_owned(),
                "Update tunnel64d on the older end and restart it: `tunnel64d --version` on both."
                    .to_owned(),
            ),
            Reason::Myself => myself(bye.reason.to_string()),
            Reason::Protocol => protocol(failure.to_string()),
            _ => problem(Kind::Lost, failure.to_string(), "Nothing: it is tried again.".to_owned()),
        },
        Failure::Closed(_) | Failure::Handshake(HandshakeError::Io(_)) => problem(
            Kind::TurnedAway,
            plain(&failure.to_string()),
            "Mostly the peer's security.peer_addresses does not list the address that this end \
             comes from: see its log. Or another program has the port."
                .to_owned(),
        ),
        failure => protocol(plain(&failure.to_string())),
    }
}

fn connect(address: SocketAddr, source: &io::Error) -> Problem {
    let (ip, port) = (address.ip(), address.port());
    match source.kind() {
        io::ErrorKind::ConnectionRefused => problem(
            Kind::Refused,
            format!("nobody listens on {address}"),
            format!(
                "Start tunnel64d on the peer, and see that link.listen there has port {port}: \
                 `ss -ltn`. A firewall may refuse as well."
            ),
        ),
        io::ErrorKind::TimedOut => {
            problem(Kind::NoAnswer, format!("no answer from {address}"), no_answer_remedy(address))
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => problem(
            Kind::Unreachable,
            format!("no way to {address}: {}", plain(&source.to_string())),
            format!(
                "See the uplink and the route: `ip route get {ip}`. If they are right, a router on \
                 the way says so, because the peer's host is down or a firewall rejects."
            ),
        ),
        _ => problem(
            Kind::Other,
            format!("{address}: {}", plain(&source.to_string())),
            "See the key that it names, or link.source and the packet filter of this host."
                .to_owned(),
        ),
    }
}

fn no_answer_remedy(address: SocketAddr) -> String {
    let (ip, port) = (address.ip(), address.port());
    format!(
        "The peer is down, the path is cut, or a firewall drops TCP port {port}: look with \
         `ping {ip}` and `nc -vz {ip} {port}`."
    )
}

fn keys(error: &tls::Error) -> Problem {
    match error {
        tls::Error::UnknownKey(_) => problem(
            Kind::KeyUnknown,
            error.to_string(),
            "Compare the key with what `tunnel64d pubkey` prints on the peer. If it is the peer's, \
             put it into security.peer_public_keys here; if not, somebody else answers there."
                .to_owned(),
        ),
        tls::Error::Refused(key) => problem(
            Kind::KeyRefused,
            "the peer refuses our key".to_owned(),
            format!(
                "On the peer, put our key {key} into security.peer_public_keys; or use the private \
                 key here whose public key stands there."
            ),
        ),
        error => protocol(plain(&error.to_string())),
    }
}

fn protocol(text: String) -> Problem {
    problem(
        Kind::Protocol,
        text,
        "See that it is tunnel64d that listens there, and that security.mode is the same on both \
         ends."
            .to_owned(),
    )
}

fn myself(text: String) -> Problem {
    problem(
        Kind::Loop,
        text,
        "Put the peer's address into link.connect, not one of this host's own.".to_owned(),
    )
}

fn problem(kind: Kind, text: String, remedy: String) -> Problem {
    Problem { kind, text, remedy, since: None }
}

/// Without the number of the error and the name of the call, which tell an admin nothing.
fn plain(text: &str) -> String {
    let text = text.strip_prefix("failed to lookup address information: ").unwrap_or(text);
    match text.split_once(" (os error ") {
        Some((before, after)) => {
            let (_, after) = after.split_once(')').unwrap_or_default();
            format!("{before}{after}")
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
