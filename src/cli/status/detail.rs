//! One tunnel in full: first what is wrong and what to do, then what there is.

use super::format::{WIDTH, bytes, count, labelled, moment, rate, span, wrap};
use super::screen::{Colour, Line};
use crate::metrics::snapshot::{
    Interface, Occurrence, Queue, Session, Snapshot, State, Stream, Traffic,
};

/// The version of the program that is installed: this one.
const INSTALLED: &str = env!("CARGO_PKG_VERSION");

/// How long ago something may have been put right to be worth a word.
const LATELY: u64 = 3600;

/// Bytes and packets a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// From the interface to the peer.
    pub sent: Traffic,
    /// From the peer to the interface.
    pub received: Traffic,
}

impl Rates {
    /// What happened between two snapshots of one process.
    pub fn between(before: &Snapshot, after: &Snapshot) -> Option<Self> {
        let elapsed = after.taken_ms.checked_sub(before.taken_ms).filter(|elapsed| *elapsed > 0)?;
        if (before.pid, before.started) != (after.pid, after.started) {
            return None;
        }
        let a_second = |before: u64, after: u64| {
            let moved = u128::from(after.saturating_sub(before)) * 1000 / u128::from(elapsed);
            u64::try_from(moved).unwrap_or(u64::MAX)
        };
        let rate = |before: &Traffic, after: &Traffic| Traffic {
            packets: a_second(before.packets, after.packets),
            bytes: a_second(before.bytes, after.bytes),
        };
        Some(Self {
            sent: rate(&before.sent, &after.sent),
            received: rate(&before.received, &after.received),
        })
    }
}

/// Everything about one tunnel.
pub fn lines(snapshot: &Snapshot, now: u64, rates: Option<Rates>) -> Vec<Line> {
    let (headline, colour) = headline(snapshot, now);
    let headline = wrap(&headline, WIDTH - 6);
    let mut lines: Vec<_> = (0..)
        .zip(headline)
        .map(|(n, text)| if n == 0 { text } else { format!("      {text}") })
        .map(|text| Line::coloured(&text, colour))
        .collect();
    let mut add = |label: &str, text: &str| {
        lines.extend(labelled(label, text).iter().map(|line| Line::plain(line)));
    };
    for (n, problem) in snapshot.problems.iter().enumerate() {
        if n > 0 {
            add("Also", &problem.text);
        }
        add("Remedy", &problem.remedy);
    }
    if let Some(last) = lately_restored(snapshot, now) {
        add("Note", &restored(&snapshot.interface, last, now));
    }
    if snapshot.state == State::NotRunning || snapshot.state == State::Unknown {
        return lines;
    }
    let told = |text: &String| snapshot.problems.iter().any(|problem| problem.text.contains(text));
    if let Some(last) = snapshot.last_error.as_ref().filter(|last| !told(&last.text)) {
        add("Last error", &format!("{}: {}", ago(last.time, now), last.text));
    }
    if let Some(session) = &snapshot.session {
        add("Session", &session_told(snapshot, session, now));
        add("Peer", &session.peer);
        if let Some(key) = &session.peer_public_key {
            add("Peer key", key);
        }
        add("Security", &security(session));
    }
    for stream in &snapshot.streams {
        add(&format!("Stream {}", stream.index), &stream_told(stream, now));
    }
    add("Sent", &traffic(&snapshot.sent, rates.map(|rates| rates.sent)));
    add("Received", &traffic(&snapshot.received, rates.map(|rates| rates.received)));
    add("Queue", &queue(&snapshot.queue));
    add("Dropped", &drops(snapshot));
    add("Interface", &interface(&snapshot.interface));
    add("Link", &link(snapshot));
    if let Some(key) = &snapshot.config.public_key {
        add("Our key", key);
    }
    add("Process", &process(snapshot, now));
    lines
}

/// What is wrong, or that all is well.
fn headline(snapshot: &Snapshot, now: u64) -> (String, Colour) {
    let Snapshot { name, state, .. } = snapshot;
    let long = span(now.saturating_sub(snapshot.since));
    let first = snapshot.problems.first().map(|problem| problem.text.as_str());
    let peer = snapshot.session.as_ref().map_or("", |session| session.peer.as_str());
    match (state, first) {
        (State::Up, None) => match lately_restored(snapshot, now) {
            None => (format!("{name}: up for {long}, connected to {peer}"), Colour::Green),
            Some(last) => {
                let (interface, ago) = (&snapshot.interface.name, ago(last.time, now));
                let text = format!("up for {long}, but somebody changed {interface} {ago}");
                (format!("{name}: {text}"), Colour::Yellow)
            }
        },
        (State::Up, Some(problem)) => {
            (format!("{name}: up for {long}, but {problem}"), Colour::Yellow)
        }
        (State::Stalled, Some(problem)) => (format!("{name}: stalled: {problem}"), Colour::Red),
        (State::Connecting | State::Listening, Some(problem)) => {
            (format!("{name}: not connected for {long}: {problem}"), Colour::Red)
        }
        (State::NotRunning | State::Unknown, Some(problem)) => {
            (format!("{name}: {problem}"), Colour::Red)
        }
        (_, None) => (format!("{name}: {}", snapshot.summary), Colour::Yellow),
    }
}

fn lately_restored(snapshot: &Snapshot, now: u64) -> Option<&Occurrence> {
    let last = snapshot.interface.last_restored.as_ref();
    last.filter(|last| now.saturating_sub(last.time) <= LATELY)
}

fn restored(interface: &Interface, last: &Occurrence, now: u64) -> String {
    let times = match interface.restored {
        1 => String::new(),
        times => format!(", {times} times since the start"),
    };
    format!(
        "put back {}{times}: {}. `ip monitor` shows such changes; see what else manages interfaces \
         on this host.",
        ago(last.time, now),
        last.text
    )
}

fn session_told(snapshot: &Snapshot, session: &Session, now: u64) -> String {
    let which = match snapshot.sessions {
        1 => "the first since the start".to_owned(),
        number => format!("number {} since the start", count(number)),
    };
    format!(
        "for {}, {which}; {} of {} streams, protocol {}, id {}",
        span(now.saturating_sub(session.since)),
        snapshot.streams.len(),
        session.streams,
        session.protocol,
        session.id
    )
}

fn security(session: &Session) -> String {
    match (&session.cipher, &session.key_exchange) {
        (Some(cipher), Some(exchange)) => format!("TLS 1.3, {cipher}, {exchange}"),
        _ => "plaintext: neither encrypted nor authenticated".to_owned(),
    }
}

fn stream_told(stream: &Stream, now: u64) -> String {
    let Stream { local, remote, since, stalled, silent_us, tcp, unsent, .. } = stream;
    let silence = if *stalled {
        format!("STALLED, nothing heard for {}; ", span(silent_us / 1_000_000))
    } else {
        String::new()
    };
    let delivers = match tcp.delivery_rate {
        0 => String::new(),
        bytes => format!(", delivers {}", rate(bytes)),
    };
    format!(
        "{local} to {remote}, for {}; {silence}RTT {} (least {}), {} retransmits{delivers}, window \
         {}, unsent {}",
        span(now.saturating_sub(*since)),
        moment(tcp.rtt_us),
        moment(tcp.min_rtt_us),
        count(tcp.retransmits),
        bytes(tcp.congestion_window),
        bytes(tcp.unsent + unsent)
    )
}

fn traffic(traffic: &Traffic, now: Option<Traffic>) -> String {
    let total = format!("{} in {} packets", bytes(traffic.bytes), count(traffic.packets));
    match now {
        Some(now) => {
            format!("{} now, {} packets/s; {total}", rate(now.bytes), count(now.packets))
        }
        None => total,
    }
}

fn queue(queue: &Queue) -> String {
    if queue.packets == 0 {
        return "empty".to_owned();
    }
    format!(
        "{} packets, {} of {}, the oldest waits for {}",
        count(queue.packets),
        bytes(queue.bytes),
        bytes(queue.limit),
        moment(queue.delay_us)
    )
}

fn drops(snapshot: &Snapshot) -> String {
    let drops = snapshot.drops.iter().filter(|(_, number)| **number > 0);
    let drops: Vec<_> =
        drops.map(|(cause, number)| format!("{cause} {}", count(*number))).collect();
    if drops.is_empty() { "nothing".to_owned() } else { drops.join(", ") }
}

fn interface(interface: &Interface) -> String {
    let Interface { name, index, mtu, mtu_configured, offload, offload_configured, .. } = interface;
    let mtu = if mtu == mtu_configured {
        format!("MTU {mtu}")
    } else {
        format!("MTU {mtu}, the peer's (configured: {mtu_configured})")
    };
    let offload = if offload.is_empty() { "none".to_owned() } else { offload.join(" ") };
    let carrier = if interface.carrier { "" } else { ", NO CARRIER" };
    let gone = if *index == 0 { ", GONE" } else { "" };
    format!("{name}, {mtu}, offload {offload} (configured: {offload_configured}){carrier}{gone}")
}

fn link(snapshot: &Snapshot) -> String {
    let config = &snapshot.config;
    let listens = config.listen.iter().map(|address| format!("listens on {address}"));
    let dials =
        (!config.connect.is_empty()).then(|| format!("dials {}", config.connect.join(", ")));
    listens.chain(dials).collect::<Vec<_>>().join("; ")
}

fn process(snapshot: &Snapshot, now: u64) -> String {
    let Snapshot { name, daemon_version, pid, started, .. } = snapshot;
    let running = span(now.saturating_sub(*started));
    let newer = if daemon_version == INSTALLED {
        String::new()
    } else {
        format!(
            "; {INSTALLED} is installed: `systemctl restart tunnel64d@{name}` puts the tunnel on it"
        )
    };
    format!("{pid}, running for {running}, version {daemon_version}{newer}")
}

fn ago(time: u64, now: u64) -> String {
    format!("{} ago", span(now.saturating_sub(time)))
}

#[cfg(test)]
mod tests;
