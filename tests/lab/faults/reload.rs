//! A new configuration under traffic: nothing of it is lost, and what is refused changes nothing.
//!
//! ```text
//!   VM1-6 ── VM1 ══════════════ VM3 ── VM3-6
//!     a ping every 10 ms, iperf3 ──▶
//!             ▲ SIGHUP           ▲ SIGHUP
//! ```

mod effects;
mod peers;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tunnel64d::config::schema::{KEYS, Reload};

use super::FAR;
use crate::harness::{Daemon, Lab, Process, VM1, VM1_6, VM3, VM3_6, eventually, sample_without};

/// A change of one key on VM1.
struct Change {
    key: &'static str,
    drop_in: &'static str,
    /// A command on VM1 whose output has the text when the change is in force. What only later
    /// connections or packets show is shown by tests of its own.
    shows: Option<(&'static str, &'static str)>,
}

const fn change(key: &'static str, drop_in: &'static str) -> Change {
    Change { key, drop_in, shows: None }
}

const fn shown(
    key: &'static str,
    drop_in: &'static str,
    command: &'static str,
    text: &'static str,
) -> Change {
    Change { key, drop_in, shows: Some((command, text)) }
}

const ROUTES: &str = "ip -6 route show table all";
const PORTS: &str = "ss -Htlnei --tos";

/// Every key that a reload applies.
const CHANGES: &[Change] = &[
    shown(
        "interface.addresses",
        "interface.addresses = [\"fc00:1234:ffff::1/64\", \"fc00:1234:ffff::2/64\"]",
        "ip addr show tun0",
        "fc00:1234:ffff::2/64",
    ),
    shown("interface.mtu", "interface.mtu = 1400", "ip link show tun0", " mtu 1400 "),
    shown(
        "interface.routes.*.via",
        "interface.routes.\"fc00:77::/64\" = { via = \"fc00:1234:ffff::10\" }",
        ROUTES,
        "fc00:77::/64 via fc00:1234:ffff::10 dev tun0",
    ),
    shown(
        "interface.routes.*.metric",
        "interface.routes.\"fc00:1234:4::/64\".metric = 50",
        ROUTES,
        "fc00:1234:4::/64 via fc00:1234:ffff::10 dev tun0 proto 64 metric 50",
    ),
    shown(
        "interface.routes.*.table",
        "interface.routes.\"fc00:77::/64\" = { table = 100 }",
        ROUTES,
        "fc00:77::/64 dev tun0 table 100",
    ),
    shown(
        "interface.routes.*.source",
        "interface.routes.\"fc00:1234:4::/64\".source = \"fc00:1234:3::1\"",
        ROUTES,
        "fc00:1234:4::/64 via fc00:1234:ffff::10 dev tun0 proto 64 src fc00:1234:3::1",
    ),
    shown("link.listen", "link.listen = \"0.0.0.0:4641\"", PORTS, " 0.0.0.0:4641 "),
    change("link.connect", "link.connect = [\"172.16.2.163:4641\", \"172.16.2.163:4642\"]"),
    change("link.source", "link.source = \"172.16.2.131\""),
    shown("link.device", "link.device = \"eth1\"", PORTS, " 172.16.2.131%eth1:4641 "),
    shown("link.fwmark", "link.fwmark = 64", PORTS, "fwmark:0x40"),
    shown("link.dscp", "link.dscp = 10", PORTS, "tos:0x28"),
    shown("link.congestion", "link.congestion = \"reno\"", PORTS, "reno"),
    change("link.keepalive", "link.keepalive = \"3s\""),
    change("link.dead_after", "link.dead_after = \"20s\""),
    change("link.reconnect.min", "link.reconnect.min = \"100ms\""),
    change("link.reconnect.max", "link.reconnect.max = \"5s\""),
    change("link.ready", "link.ready = \"connected\""),
    change("security.private_key_file", "security.private_key_file = \"@DIR@/tun0.d/../tun0.key\""),
    change(
        "security.peer_public_keys",
        "security.peer_public_keys = [\"JBqfnNZiJyJBm4nexqXFZC0sxPOBaYdQmYp7Ou/uGsA=\", \
         \"gIFNq5py8WTXkty7Y+UKmJP1iz95X/q+E7we0pWUo5A=\"]",
    ),
    change("security.peer_addresses", "security.peer_addresses = [\"172.16.2.0/24\"]"),
    change("security.allowed_sources", "security.allowed_sources = [\"fc00:1234:4::/64\"]"),
    change("queue.target", "queue.target = \"10ms\""),
    change("queue.interval", "queue.interval = \"200ms\""),
    change("queue.limit", "queue.limit = \"4MiB\""),
    change("queue.ecn", "queue.ecn = false"),
    change("log.level", "log.level = \"debug\""),
    shown("metrics.listen", "metrics.listen = \"127.0.0.1:9641\"", "ss -Htln", " 127.0.0.1:9641 "),
];

#[test]
fn every_key_that_a_reload_applies_changes_under_traffic_and_nothing_is_lost() {
    let (lab, vm1, _vm3) = tunnelled("");
    let session = lab.outer_connections(VM1);
    let traffic = Traffic::start(&lab);
    for key in KEYS.iter().filter(|key| !matches!(key.reload, Reload::Restart(_))) {
        let change = CHANGES.iter().find(|change| change.key == key.path);
        let change = change.unwrap_or_else(|| panic!("no change of {}", key.path));
        let directory = lab.file(VM1);
        vm1.reconfigure(
            &change.drop_in.replace("@DIR@", directory.to_str().expect("a plain path")),
        );
        let verdict = vm1.reload();
        let (section, name) = key.path.rsplit_once('.').expect("a section and a name");
        let section = section.trim_end_matches(".*");
        assert!(
            verdict.contains("configuration reloaded changed=")
                && verdict.contains(section)
                && verdict.contains(name),
            "{}: {verdict}",
            key.path
        );
        if let Some((command, text)) = change.shows {
            let seen = lab.run(VM1, command);
            assert!(seen.contains(text), "{text:?} in {seen}");
        }
        vm1.reconfigure("");
        assert!(vm1.reload().contains(name), "{} back", key.path);
        if let Some((command, text)) = change.shows {
            let seen = lab.run(VM1, command);
            assert!(!seen.contains(text), "no {text:?} in {seen}");
        }
        assert_eq!(lab.outer_connections(VM1), session, "{}", key.path);
    }
    traffic.lost_nothing();
    assert!(!vm1.log().contains("session down"), "{}", vm1.log());
}

#[test]
fn a_refused_reload_changes_nothing() {
    let (lab, vm1, _vm3) = tunnelled("");
    let taken = lab.inside(VM1, || TcpListener::bind("172.16.2.131:4700")).expect("a free port");
    let session = lab.outer_connections(VM1);
    let before = state(&lab, &vm1);
    let traffic = Traffic::start(&lab);
    // What a reload would apply, and must not.
    let harmless = "interface.mtu = 1400\ninterface.addresses = [\"fc00:1234:ffff::2/64\"]\n\
                    interface.routes.\"fc00:77::/64\" = {}\nqueue.ecn = false\n\
                    security.allowed_sources = [\"fc00:99::/64\"]\nlog.level = \"debug\"\n";
    for (refused, why) in [
        ("interface.name = \"tun1\"", "test.toml:7: interface.name: needs a restart"),
        ("interface.offload = \"off\"", "test.toml:7: interface.offload: needs a restart"),
        ("link.streams = 4", "test.toml:7: link.streams: needs a restart"),
        ("security.mode = \"plaintext\"", "test.toml:7: security.mode: needs a restart"),
        ("log.format = \"json\"", "test.toml:7: log.format: needs a restart"),
        (
            "link.listen = \"172.16.2.131:4700\"",
            "cannot listen on 172.16.2.131:4700: Address already",
        ),
        ("link.device = \"nowhere\"", "can be made: link.device nowhere: No such device"),
        ("link.congestion = \"nosuch\"", "can be made: link.congestion nosuch: No such file"),
        ("security.private_key_file = \"/nowhere/tun0.key\"", "/nowhere/tun0.key"),
        ("link.dscp = 64", "test.toml:7: link.dscp: 64 is not accepted"),
        ("link.listen = [", "test.toml:7"),
    ] {
        vm1.reconfigure(&format!("{harmless}{refused}\n"));
        let verdict = vm1.reload();
        assert!(verdict.contains("reload rejected") && verdict.contains(why), "{why}: {verdict}");
        assert_eq!(state(&lab, &vm1), before, "{refused}");
        // What is in force is what the old files say.
        vm1.reconfigure("");
        let verdict = vm1.reload();
        assert!(verdict.contains("configuration reloaded changed=nothing"), "{verdict}");
    }
    drop(taken);
    assert_eq!(lab.outer_connections(VM1), session);
    traffic.lost_nothing();
}

#[test]
fn the_command_tells_the_verdict() {
    let (lab, mut vm1, _vm3) = tunnelled("");
    let reload = |daemon: &Daemon| daemon.command(&lab, "reload");
    let says = |status, out: &str| (Some(status), out.to_owned(), String::new());
    assert_eq!(reload(&vm1), says(0, "nothing changed\n"));
    vm1.reconfigure("queue.ecn = false\nlink.keepalive = \"5s\"");
    assert_eq!(reload(&vm1), says(0, "link.keepalive\nqueue.ecn\n"));

    vm1.reconfigure("link.streams = 4\nlog.format = \"json\"");
    let (status, out, err) = reload(&vm1);
    assert_eq!((status, out.as_str()), (Some(1), ""));
    let lines: Vec<_> = err.lines().collect();
    assert!(lines[0].contains("test.toml:1: link.streams: needs a restart"), "{err}");
    assert!(lines[1].contains("test.toml:2: log.format: needs a restart"), "{err}");
    assert!(lines[2].contains("the old configuration is still in force"), "{err}");
    assert!(lines[3].contains("`systemctl restart tunnel64d@tun0`"), "{err}");
    assert_eq!(lines.len(), 4, "{err}");

    // What the kernel refuses is told, and what it takes is in force.
    vm1.reconfigure("interface.routes.\"fc00:77::/64\".via = \"fc00:5::1\"\nlink.dscp = 1");
    let (status, out, err) = reload(&vm1);
    assert_eq!(status, Some(0), "{err}");
    assert!(out.contains("link.dscp\n") && err.contains("fc00:77::/64"), "{out}{err}");
    assert!(err.contains("all the rest is in force") && err.contains("tried again"), "{err}");
    vm1.reconfigure("");
    assert_eq!(reload(&vm1).2, "", "nothing is left of it");

    assert!(vm1.stop().success());
    assert_eq!(reload(&vm1).0, Some(69));
}

#[test]
fn systemd_is_told_when_a_reload_begins_and_when_it_is_over() {
    let lab = Lab::raise_after_failure();
    let path = lab.file("notify");
    let notify = UnixDatagram::bind(&path).expect("a socket");
    notify.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let vm1 = lab.start_notifying(VM1, &path);
    let mut told = Vec::new();
    let mut next = |text: &str| loop {
        let mut message = [0; 4096];
        let length = notify.recv(&mut message).unwrap_or_else(|_| panic!("{text:?} in {told:#?}"));
        let message = String::from_utf8_lossy(&message[..length]).into_owned();
        told.push(message.clone());
        if message.contains(text) {
            return message;
        }
    };
    next("READY=1");
    for drop_in in ["queue.ecn = false", "link.streams = 7"] {
        vm1.reconfigure(drop_in);
        vm1.reload();
        let reloading = next("RELOADING=1");
        assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
        next("READY=1");
    }
}

#[test]
fn a_reload_that_is_asked_for_during_the_start_follows_it() {
    let lab = Lab::raise_after_failure();
    let vm1 = lab.start(VM1, "");
    vm1.await_log("interface created");
    assert!(vm1.reload().contains("changed=nothing"), "{}", vm1.log());
}

#[test]
fn reloads_as_fast_as_they_come_lose_nothing() {
    reload_often("");
}

#[test]
fn reloads_of_several_streams_lose_nothing() {
    reload_often("link.streams = 4\n");
}

#[test]
fn reloads_in_plaintext_lose_nothing() {
    reload_often("security.mode = \"plaintext\"\n");
}

fn reload_often(base: &str) {
    let (lab, vm1, vm3) = tunnelled(base);
    let traffic = Traffic::start(&lab);
    for round in 0..20 {
        for daemon in [&vm1, &vm3] {
            daemon.reconfigure(&format!(
                "{base}interface.mtu = {}\nqueue.target = \"{}ms\"\nlink.dead_after = \"{}s\"\n\
                 interface.routes.\"fc00:77::/64\".metric = {}\nlink.dscp = {round}",
                1400 + round,
                5 + round,
                31 + round,
                100 + round,
            ));
            let verdict = daemon.reload();
            assert!(verdict.contains("configuration reloaded"), "{verdict}");
        }
    }
    traffic.lost_nothing();
    for daemon in [&vm1, &vm3] {
        assert!(!daemon.log().contains("session down"), "{}", daemon.log());
    }
}

/// The sample's tunnel, with a drop-in for both gateways. Only VM1 dials: where both do, the first
/// session may give way to another one.
fn tunnelled(both: &str) -> (Lab, Daemon, Daemon) {
    let lab = Lab::raise_after_failure();
    let vm3 = lab.start_from(VM3, &sample_without(VM3, "connect"), both);
    vm3.await_log("listening");
    let vm1 = lab.start(VM1, both);
    lab.await_tunnel();
    (lab, vm1, vm3)
}

/// The interface, its addresses and routes, and the ports, as VM1 shows them, and what the daemon
/// says of its configuration.
fn state(lab: &Lab, vm1: &Daemon) -> String {
    let (status, told, _) = vm1.command(lab, "status --json");
    assert_eq!(status, Some(0));
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let told = [&told["config"], &told["interface"], &told["session"], &told["queue"]["limit"]];
    format!("{told:#?}\n")
        + &lab.run(
            VM1,
            "ip -d addr show tun0; ip route show table all; ip -6 route show table all; ss -Htlne",
        )
}

/// A ping every 10 ms from VM1-6 to VM3-6, and iperf3 beside it.
struct Traffic {
    ping: Process,
    client: Process,
    _server: Process,
}

impl Traffic {
    fn start(lab: &Lab) -> Self {
        let server = lab.spawn(VM3_6, "iperf3 -s --forceflush");
        server.await_output("listening");
        let client =
            lab.spawn(VM1_6, &format!("iperf3 -c {FAR} -t 600 -i 0.5 -b 100M --forceflush"));
        client.await_output("bits/sec");
        let ping = lab.spawn(VM1_6, &format!("ping -n -i 0.01 {FAR}"));
        ping.await_output("icmp_seq=20 ");
        Self { ping, client, _server: server }
    }

    /// Ends it; panics if a ping was lost or the flow stood still.
    fn lost_nothing(mut self) {
        // What came just now may not be told of yet.
        let last = self.last_answered();
        eventually("another ping", Duration::from_secs(5), || self.last_answered() > last + 50);
        self.ping.end(Signal::SIGINT);
        let answered = self.answered();
        let last = answered.last().copied().unwrap_or_default();
        let lost: Vec<_> = (1..=last).filter(|number| !answered.contains(number)).collect();
        assert!(lost.is_empty(), "of {last} pings these were lost: {lost:?}");

        self.client.end(Signal::SIGINT);
        let output = self.client.output();
        let (intervals, _) = output.split_once("- - -").expect("intervals, then a summary");
        let rates = intervals.lines().filter(|line| line.contains("/sec"));
        let stood_still = rates.clone().filter(|line| line.contains(" 0.00 bits/sec")).count();
        assert!(rates.count() > 2 && stood_still == 0, "{output}");
    }

    fn answered(&self) -> BTreeSet<u64> {
        let output = self.ping.output();
        let numbers = output
            .split("icmp_seq=")
            .skip(1)
            .filter_map(|rest| rest.split(' ').next().and_then(|number| number.parse().ok()));
        numbers.collect()
    }

    fn last_answered(&self) -> u64 {
        self.answered().last().copied().unwrap_or_default()
    }
}
