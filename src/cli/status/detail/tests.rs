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
