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
mod tests {
    use super::*;
    use crate::cli::status::format::columns;
    use crate::cli::status::screen;
    use crate::metrics::snapshot::{Config, Kind, Problem, Queue, Tcp};

    const NOW: u64 = 1_800_000_000;

    fn up() -> Snapshot {
        Snapshot {
            version: 1,
            name: "tun0".to_owned(),
            daemon_version: INSTALLED.to_owned(),
            pid: 812,
            started: NOW - 90_000,
            taken_ms: NOW * 1000,
            state: State::Up,
            since: NOW - 11_520,
            summary: "connected to 172.16.2.163:4641, 1 stream".to_owned(),
            config: Config {
                listen: Some("172.16.2.131:4641".to_owned()),
                connect: vec!["vm3.example:4641".to_owned()],
                mode: "tls".to_owned(),
                public_key: Some("4kNAmoS/UN7+S1Vv/hqdaNG7mYFmqmom+sS9hfp5UE0=".to_owned()),
                streams: 1,
            },
            session: Some(Session {
                id: "34f56aeb".to_owned(),
                since: NOW - 11_520,
                peer: "172.16.2.163:4641".to_owned(),
                peer_public_key: Some("JBqfnNZiJyJBm4nexqXFZC0sxPOBaYdQmYp7Ou/uGsA=".to_owned()),
                cipher: Some("TLS_AES_128_GCM_SHA256".to_owned()),
                key_exchange: Some("X25519MLKEM768".to_owned()),
                protocol: 1,
                streams: 1,
                mtu: 1400,
                ..Session::default()
            }),
            sessions: 2,
            streams: vec![Stream {
                local: "172.16.2.131:50346".to_owned(),
                remote: "172.16.2.163:4641".to_owned(),
                since: NOW - 11_520,
                tcp: Tcp {
                    rtt_us: 1234,
                    min_rtt_us: 812,
                    retransmits: 3,
                    delivery_rate: 11_760_000,
                    congestion_window: 24_616,
                    ..Tcp::default()
                },
                ..Stream::default()
            }],
            sent: Traffic { packets: 8_123_456, bytes: 13_300_000_000 },
            received: Traffic { packets: 12, bytes: 1000 },
            drops: [("congestion".to_owned(), 12), ("queue_full".to_owned(), 0)].into(),
            queue: Queue { packets: 2, bytes: 4096, limit: 8 << 20, delay_us: 4100 },
            interface: Interface {
                name: "tun0".to_owned(),
                index: 4,
                mtu: 1400,
                mtu_configured: 1500,
                offload: vec!["checksum".to_owned(), "tcp".to_owned()],
                offload_configured: "auto".to_owned(),
                carrier: true,
                ..Interface::default()
            },
            ..Snapshot::default()
        }
    }

    fn shown(snapshot: &Snapshot) -> String {
        screen::text(&lines(snapshot, NOW, None), false)
    }

    #[test]
    fn a_tunnel_that_is_up_is_told_in_full() {
        assert_eq!(
            shown(&up()),
            "\
tun0: up for 3 h 12 min, connected to 172.16.2.163:4641
  Session     for 3 h 12 min, number 2 since the start; 1 of 1 streams, protocol
              1, id 34f56aeb
  Peer        172.16.2.163:4641
  Peer key    JBqfnNZiJyJBm4nexqXFZC0sxPOBaYdQmYp7Ou/uGsA=
  Security    TLS 1.3, TLS_AES_128_GCM_SHA256, X25519MLKEM768
  Stream 0    172.16.2.131:50346 to 172.16.2.163:4641, for 3 h 12 min; RTT 1.2
              ms (least 812 µs), 3 retransmits, delivers 94.0 Mbit/s, window
              24.0 KiB, unsent 0 B
  Sent        12.3 GiB in 8 123 456 packets
  Received    1000 B in 12 packets
  Queue       2 packets, 4.0 KiB of 8.0 MiB, the oldest waits for 4.1 ms
  Dropped     congestion 12
  Interface   tun0, MTU 1400, the peer's (configured: 1500), offload checksum
              tcp (configured: auto)
  Link        listens on 172.16.2.131:4641; dials vm3.example:4641
  Our key     4kNAmoS/UN7+S1Vv/hqdaNG7mYFmqmom+sS9hfp5UE0=
  Process     812, running for 1 d 1 h, version 0.1.0
"
        );
    }

    #[test]
    fn the_first_line_says_what_is_wrong_and_the_next_what_to_do() {
        let problem = |kind, text: &str, remedy: &str| Problem {
            kind,
            text: text.to_owned(),
            remedy: remedy.to_owned(),
            since: None,
        };
        let snapshot = Snapshot {
            state: State::Connecting,
            since: NOW - 720,
            session: None,
            streams: Vec::new(),
            problems: vec![
                problem(Kind::Name, "vm3.example does not resolve", "Ask `getent`."),
                problem(Kind::Listen, "cannot listen on 172.16.2.131:4641", "See `ss -ltnp`."),
            ],
            last_error: Some(Occurrence {
                time: NOW - 3,
                text: "vm3.example does not resolve".to_owned(),
            }),
            ..up()
        };
        let text = shown(&snapshot);
        let expected = "\
tun0: not connected for 12 min: vm3.example does not resolve
  Remedy      Ask `getent`.
  Also        cannot listen on 172.16.2.131:4641
  Remedy      See `ss -ltnp`.
  Sent        12.3 GiB";
        assert!(text.starts_with(expected), "{text}");
        let up = Snapshot { problems: snapshot.problems, ..up() };
        assert!(shown(&up).starts_with("tun0: up for 3 h 12 min, but vm3.example does not"));
    }

    #[test]
    fn what_was_put_right_lately_is_told_of() {
        let mut snapshot = up();
        snapshot.interface.restored = 2;
        let text = "route fc00::/64 added".to_owned();
        snapshot.interface.last_restored = Some(Occurrence { time: NOW - 5, text });
        let text = shown(&snapshot);
        assert!(text.starts_with("tun0: up for 3 h 12 min, but somebody changed tun0 5 s ago\n"));
        assert!(text.contains("2 times since the start: route fc00::/64 added."), "{text}");
        snapshot.interface.last_restored.as_mut().unwrap().time = NOW - LATELY - 1;
        assert_eq!(shown(&snapshot), shown(&up()));
    }

    #[test]
    fn another_version_than_the_installed_one_is_told_of_with_the_remedy() {
        let older = shown(&Snapshot { daemon_version: "0.0.9".to_owned(), ..up() });
        let words = older.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("version 0.0.9; 0.1.0 is installed: `systemctl restart"), "{words}");
    }

    #[test]
    fn the_longest_values_fit_the_screen() {
        let mut snapshot = up();
        let address = "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".to_owned();
        snapshot.streams[0].local = address.clone();
        snapshot.streams[0].remote = address;
        snapshot.streams[0].stalled = true;
        snapshot.sent = Traffic { packets: u64::MAX, bytes: u64::MAX };
        snapshot.interface.carrier = false;
        let rates = Rates { sent: snapshot.sent, received: snapshot.sent };
        for line in lines(&snapshot, NOW, Some(rates)) {
            assert!(columns(&line.text) <= WIDTH, "{}", line.text);
        }
    }

    #[test]
    fn rates_are_those_between_two_looks_at_one_process() {
        let before = up();
        let mut after = up();
        after.taken_ms += 500;
        after.sent.bytes += 1000;
        after.received.packets += 7;
        let rates = Rates::between(&before, &after).unwrap();
        assert_eq!((rates.sent.bytes, rates.received.packets), (2000, 14));
        assert_eq!(Rates::between(&before, &before), None, "no time has passed");
        after.pid += 1;
        assert_eq!(Rates::between(&before, &after), None, "it was restarted");
    }
}
