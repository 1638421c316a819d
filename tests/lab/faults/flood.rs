//! Ten thousand strangers at VM1's port, as fast as they come, while a session is busy:
//!
//! ```text
//!   VM1-6 ═══ bulk ══▶ VM1:4641 ◀══ session ══ VM3 ═══ bulk ══▶ VM3-6
//!                          ▲ ▲── strangers ──── VM3, the peer's address
//!                          └──── strangers ──── VM2, eight addresses
//! ```
//!
//! Strangers run with the least priority, for they stand for other machines.

use std::env;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::FAR;
use crate::harness::{
    Daemon, Lab, Process, VM1, VM1_6, VM2, VM3, VM3_6, eventually, sample_without,
};
use crate::traffic::Stream;

/// Half of them come from each of the two hosts.
const STRANGERS: usize = 10_000;

/// VM1's public key: strangers know it.
const KEY: &str = "4kNAmoS/UN7+S1Vv/hqdaNG7mYFmqmom+sS9hfp5UE0=";

const SOURCES: std::ops::RangeInclusive<u8> = 134..=141;

#[test]
fn ten_thousand_strangers_where_addresses_are_configured() {
    floods("", "all");
}

#[test]
fn ten_thousand_strangers_where_anybody_may_try() {
    floods("security.peer_addresses = []", "all");
}

/// What costs the gateway most: an exchange of keys each, and nobody keeps a place for long.
#[test]
fn ten_thousand_keys_that_nobody_knows() {
    floods("security.peer_addresses = []", "keys");
}

/// VM1 only listens, so that VM3 has to get in.
#[test]
fn the_peer_comes_back_in_the_middle_of_a_flood() {
    let lab = Lab::raise_after_failure();
    let anybody = "security.peer_addresses = []";
    let vm1 = lab.start_from(VM1, &sample_without(VM1, "connect"), anybody);
    let mut vm3 = lab.start_from(VM3, &sample_without(VM3, "listen"), "");
    lab.await_tunnel();
    let _strangers = strangers(&lab, VM2, "silence", 1_000_000);
    eventually("all places are taken", Duration::from_secs(10), || {
        vm1.log().contains("too many connections")
    });
    sleep(Duration::from_secs(1));
    vm3.kill();
    vm3.start_again(&lab);
    lab.await_tunnel();
}

fn floods(vm1: &str, kind: &str) {
    let (lab, vm1, _vm3) = Lab::raise_tunnelled_with(vm1, "");
    let stream = Stream::fast(&lab, VM1_6, (VM3_6, FAR), 5200);
    sleep(Duration::from_secs(1));
    let session = lab.outer_connections(VM3);
    let before = State::of(&vm1);
    let quiet = rate(&stream, || sleep(Duration::from_secs(3)));

    let mut strangers = [VM3, VM2].map(|host| strangers(&lab, host, kind, STRANGERS / 2));
    let mut most = before;
    let busy = rate(&stream, || {
        eventually("all strangers have been there", Duration::from_secs(50), || {
            most = most.or_more(State::of(&vm1));
            strangers.iter_mut().all(|process| process.output().contains("seconds="))
        });
    });
    // A silent stranger may stay for five seconds.
    sleep(Duration::from_secs(7));
    let after = State::of(&vm1);
    eprintln!(
        "inner goodput {quiet:.0} MB/s before, {busy:.0} beside the flood: {:.2}\n\
         resident KiB {} before, {} at the most, {} after\n\
         descriptors {} before, {} at the most, {} after\n\
         {} ticks of 10 ms in the main thread\n{}{}",
        busy / quiet,
        before.resident,
        most.resident,
        after.resident,
        before.descriptors,
        most.descriptors,
        after.descriptors,
        after.ticks - before.ticks,
        strangers[0].output(),
        strangers[1].output(),
    );
    for process in &strangers {
        // Those whom the kernel of the gateway has no room for have connected all the same.
        let failed = process.output().split_once("failed=").map(|(_, rest)| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<usize>().expect("a number")
        });
        assert!(failed.is_some_and(|failed| failed < STRANGERS / 20), "{}", process.output());
    }
    assert_eq!(after.descriptors, before.descriptors);
    // What waits of the stream comes and goes.
    eventually("memory comes back", Duration::from_secs(5), || {
        State::of(&vm1).resident < before.resident + 2 * 1024
    });
    assert!(most.resident < before.resident + 16 * 1024, "{} KiB", most.resident);
    // Timing is the machine's: a hard bound would fail on a busy one.
    assert!(busy > 0.3 * quiet, "{busy} of {quiet} MB/s");
    assert_eq!(lab.outer_connections(VM3), session);
    let lines = vm1.log().lines().filter(|line| line.contains("172.16.2.")).count();
    assert!(lines < 100, "{lines} lines of log");
    stream.finish();
}

/// Connections from a host to VM1's port; those of VM2 come from eight addresses. Elsewhere strangers
/// have processors of their own, here they are nice; on a quiet machine `STRANGERS_UNDER="chrt --idle 0"`
/// leaves them only what the gateways and their hosts don't need, so that what is measured is their
/// attack and not their work.
fn strangers(lab: &Lab, host: &str, kind: &str, count: usize) -> Process {
    let mut sources = String::new();
    for address in SOURCES.filter(|_| host == VM2).map(|host| format!("172.16.2.{host}")) {
        lab.run(host, &format!("ip address add {address}/28 dev eth1"));
        sources = sources + " " + &address;
    }
    let program = program();
    let program = program.display();
    let nice = env::var("STRANGERS_UNDER").unwrap_or_else(|_| "nice -n 19".to_owned());
    lab.spawn(host, &format!("{nice} {program} 172.16.2.131:4641 {KEY} {kind} {count}{sources}"))
}

/// What of VM1's daemon strangers could use up.
#[derive(Clone, Copy)]
struct State {
    /// KiB.
    resident: u64,
    descriptors: usize,
    /// Ticks of the main thread, which takes connections.
    ticks: u64,
}

impl State {
    fn of(daemon: &Daemon) -> Self {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("it runs");
        let stat = fs::read_to_string(format!("/proc/{0}/task/{0}/stat", daemon.pid()));
        let stat = stat.expect("it runs");
        // Fields 14 and 15 of proc(5); the second may hold blanks, but ends with a bracket.
        let after_name = stat.rsplit(") ").next().expect("a name").split(' ');
        let ticks = after_name.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("ticks"));
        Self {
            resident: daemon.resident_kib(),
            descriptors: descriptors.count(),
            ticks: ticks.sum(),
        }
    }

    fn or_more(self, other: Self) -> Self {
        Self {
            resident: self.resident.max(other.resident),
            descriptors: self.descriptors.max(other.descriptors),
            ticks: self.ticks.max(other.ticks),
        }
    }
}

/// MB/s while `work` goes on.
fn rate(stream: &Stream, work: impl FnOnce()) -> f64 {
    let (start, before) = (Instant::now(), stream.received());
    work();
    (stream.received() - before) as f64 / 1e6 / start.elapsed().as_secs_f64()
}

/// The program that the strangers are; built with the other examples.
fn program() -> std::path::PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_tunnel64d")).with_file_name("examples/strangers");
    assert!(built.exists(), "`cargo build --examples` builds {}", built.display());
    built
}
