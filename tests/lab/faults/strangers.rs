//! Connections to VM1's port that are not its peer's, while a session is up:
//!
//! ```text
//!   VM1:4641 ◀══ session ══ VM3's daemon
//!       ▲ ▲──── garbage, half a greeting, silence ──── VM3, an allowed address
//!       └────── a connection ───────────────────────── VM2, which is not
//! ```
//!
//! Each is closed and logged once with its address; the session does not notice.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::FAR;
use crate::harness::{Daemon, Lab, VM1, VM1_6, VM2, VM3, VM3_6, eventually, sample_without};
use crate::traffic::Stream;

const PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(172, 16, 2, 131)), 4641);

/// A connection that does not become a session is closed within this.
const CLOSED_WITHIN: Duration = Duration::from_secs(30);

#[test]
fn garbage_is_logged_once_and_closed() {
    let target = Target::raise();
    let mut stranger = target.dial(VM3);
    let garbage: Vec<u8> = (0..=255_u8).map(|byte| byte.wrapping_mul(167) ^ 0x55).collect();
    stranger.write_all(&garbage).unwrap();
    target.turns_away(stranger, "172.16.2.163");
}

#[test]
fn an_overlong_frame_is_logged_once_and_closed() {
    let target = Target::raise();
    let mut stranger = target.dial(VM3);
    let resident = target.vm1.resident_kib();
    // Every length field reads as its largest. The daemon may close before it has read it all.
    let _ = stranger.write_all(&[0xff; 1 << 20]);
    assert!(target.vm1.resident_kib() < resident + 16 * 1024, "memory is bounded");
    target.turns_away(stranger, "172.16.2.163");
}

#[test]
fn half_a_greeting_is_logged_once_and_closed() {
    // What VM1's daemon itself says first is a greeting by definition.
    let lab = Lab::raise_after_failure();
    let listener = lab.inside(VM3, || TcpListener::bind("172.16.2.163:4641")).unwrap();
    SockRef::from(&listener).set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let vm1 = lab.start(VM1, "link.reconnect = { min = \"200ms\", max = \"1s\" }");
    let (mut dialled, _) = listener.accept().unwrap();
    dialled.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut greeting = [0; 4096];
    let length = dialled.read(&mut greeting).unwrap();
    assert!(length > 1, "the dialling end speaks first");
    drop((dialled, listener));

    let target = Target::with(lab, vm1);
    let mut stranger = target.dial(VM3);
    stranger.write_all(&greeting[..length / 2]).unwrap();
    target.turns_away(stranger, "172.16.2.163");
}

#[test]
fn a_silent_connection_is_logged_once_and_closed() {
    let target = Target::raise();
    let stranger = target.dial(VM3);
    target.turns_away(stranger, "172.16.2.163");
}

#[test]
fn a_scan_that_connects_and_closes_is_nobodys_fault() {
    let target = Target::raise();
    // Fewer than may wait for their HELLO at once.
    for _ in 0..10 {
        drop(target.dial(VM3));
    }
    target.stream.await_progress("beside the scan", Duration::from_secs(5));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(&target.vm1.log()[target.logged..], "", "nothing is worth a line");
    target.stream.finish();
}

#[test]
fn an_address_that_is_not_a_peers_is_logged_once_and_closed() {
    let target = Target::raise();
    let stranger = target.dial(VM2);
    let start = Instant::now();
    target.turns_away(stranger, "172.16.2.132");
    assert!(start.elapsed() < CLOSED_WITHIN / 2, "closed at once, not when it has been silent");
}

#[test]
fn two_hundred_silent_connections_leave_memory_and_session_alone() {
    let target = Target::raise();
    let resident = target.vm1.resident_kib();
    let strangers: Vec<_> = (0..200).map(|_| target.dial(VM3)).collect();
    target.stream.await_progress("beside the crowd", Duration::from_secs(5));
    let grown = target.vm1.resident_kib().saturating_sub(resident);
    assert!(grown < 16 * 1024, "{grown} KiB for {} connections", strangers.len());
    drop(strangers);
    assert_eq!(target.lab.outer_connections(VM3), target.session);
    target.stream.finish();
}

/// VM1 with a session and traffic on it.
struct Target {
    vm1: Daemon,
    _vm3: Daemon,
    stream: Stream,
    /// The session's connections, seen from VM3.
    session: Vec<String>,
    logged: usize,
    lab: Lab,
}

impl Target {
    fn raise() -> Self {
        let lab = Lab::raise_after_failure();
        let vm1 = lab.start(VM1, "");
        Self::with(lab, vm1)
    }

    fn with(lab: Lab, vm1: Daemon) -> Self {
        let vm3 = lab.start(VM3, "");
        lab.await_tunnel();
        let stream = Stream::slow(&lab, VM1_6, (VM3_6, FAR), 5200);
        let mut session = lab.outer_connections(VM3);
        // Both ends dial; wait until one session is left of the two.
        eventually("the session has settled", Duration::from_secs(20), || {
            std::thread::sleep(Duration::from_millis(500));
            let before = std::mem::replace(&mut session, lab.outer_connections(VM3));
            before == session
        });
        let logged = vm1.log().len();
        Self { vm1, _vm3: vm3, stream, session, logged, lab }
    }

    fn dial(&self, host: &str) -> TcpStream {
        let dial = || TcpStream::connect_timeout(&PORT, CLOSED_WITHIN);
        let stranger = self.lab.inside(host, dial).expect("it listens");
        stranger.set_read_timeout(Some(CLOSED_WITHIN)).expect("a timeout");
        stranger.set_write_timeout(Some(CLOSED_WITHIN)).expect("a timeout");
        stranger
    }

    /// The stranger is closed and logged once; the session and its traffic stay as they were.
    fn turns_away(self, mut stranger: TcpStream, address: &str) {
        let start = Instant::now();
        // A greeting of ours may come first; then an end, or a reset for bytes left unread.
        let _ = stranger.read_to_end(&mut Vec::new());
        assert!(start.elapsed() < CLOSED_WITHIN, "the stranger is still there");
        let lines = || -> Vec<String> {
            let log = self.vm1.log()[self.logged..].to_owned();
            log.lines().filter(|line| line.contains(address)).map(str::to_owned).collect()
        };
        eventually("the log names the stranger", Duration::from_secs(5), || !lines().is_empty());
        self.stream.await_progress("after the stranger has gone", Duration::from_secs(2));
        assert_eq!(lines().len(), 1, "{:?}", lines());
        assert_eq!(self.lab.outer_connections(VM3), self.session);
        self.stream.finish();
    }
}

/// What answers at the peer's address may find new words each time; the log has few of them.
#[test]
fn a_listener_that_answers_differently_each_time_does_not_fill_the_log() {
    let lab = Lab::raise_after_failure();
    let listener = lab.inside(VM3, || TcpListener::bind("172.16.2.163:4641")).unwrap();
    let quickly = "link.reconnect = { min = \"10ms\", max = \"10ms\" }
        security.mode = \"plaintext\"";
    let vm1 = lab.start_from(VM1, &sample_without(VM1, "listen"), quickly);
    for unknown in 0x40..0x80 {
        let (mut dialled, _) = listener.accept().unwrap();
        dialled.write_all(&[unknown, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        dialled.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = dialled.read_to_end(&mut Vec::new());
    }
    let lines = vm1.log().matches("cannot connect").count();
    assert!((1..=10).contains(&lines), "{lines} lines: {}", vm1.log());
}
