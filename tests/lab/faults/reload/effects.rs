//! What has been reloaded does what it says, where nothing but packets and connections can show it.

use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::tunnelled;
use crate::faults::FAR;
use crate::harness::{Daemon, Lab, VM1, VM1_6, VM3, eventually, sample_without};

#[test]
fn sources_that_are_no_longer_allowed_are_dropped_and_those_that_are_again_pass() {
    let (lab, _vm1, vm3) = tunnelled("");
    let ping = format!("ping -c 3 -i 0.1 -W 1 {FAR}");
    lab.run(VM1_6, &ping);
    vm3.reconfigure("security.allowed_sources = [\"fc00:1234:ffff::/64\"]");
    assert!(vm3.reload().contains("changed=security.allowed_sources"));
    lab.attempt(VM1_6, &ping).expect_err("its source is not allowed");
    vm3.reconfigure("");
    assert!(vm3.reload().contains("changed=security.allowed_sources"));
    lab.run(VM1_6, &ping);
}

#[test]
fn a_silence_is_measured_by_the_new_times() {
    let (lab, vm1, vm3) = tunnelled("");
    vm1.reconfigure("link.keepalive = \"1s\"\nlink.dead_after = \"3s\"");
    assert!(vm1.reload().contains("changed=\"link.keepalive, link.dead_after\""), "{}", vm1.log());
    lab.run(VM3, &format!("kill -STOP {}", vm3.pid()));
    let start = Instant::now();
    vm1.await_log("nothing was heard from the peer for 3 s");
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
}

#[test]
fn what_waits_has_the_room_that_it_is_given() {
    let (lab, vm1, vm3) = tunnelled("");
    let overflowed = || -> u64 {
        let (_, told, _) = vm1.command(&lab, "status --json");
        let told: Value = serde_json::from_str(&told).expect("JSON");
        told["drops"]["queue_full"].as_u64().expect("a count")
    };
    lab.run(VM3, &format!("kill -STOP {}", vm3.pid()));
    // More than the kernels take for a process that reads nothing.
    let send = || {
        lab.inside(VM1_6, || {
            let udp = UdpSocket::bind("[::]:0").expect("a socket");
            for _ in 0..4000 {
                udp.send_to(&[7; 1000], (FAR, 9)).expect("sent");
                thread::sleep(Duration::from_micros(50));
            }
        });
    };
    send();
    assert_eq!(overflowed(), 0);
    vm1.reconfigure("queue.limit = \"64KiB\"");
    assert!(vm1.reload().contains("changed=queue.limit"), "{}", vm1.log());
    send();
    assert!(overflowed() > 1000, "{}", overflowed());
}

#[test]
fn the_log_says_more_as_soon_as_it_is_asked_to() {
    let (lab, vm1, _vm3) = tunnelled("");
    lab.run(VM3, "nc -z 172.16.2.131 4641");
    vm1.reconfigure("log.level = \"debug\"");
    assert!(vm1.reload().contains("changed=log.level"), "{}", vm1.log());
    lab.run(VM3, "nc -z 172.16.2.131 4641");
    vm1.await_log("DEBUG tun0: a connection ended before HELLO");
    let log = vm1.log();
    let (before, _) = log.split_once("changed=log.level").expect("the reload");
    assert!(!before.contains("DEBUG"), "{before}");
}

#[test]
fn an_endpoint_that_was_wrong_is_left_at_once_for_the_right_one() {
    let lab = Lab::raise_after_failure();
    // Nobody answers there, and the pause after it is long.
    let wrong =
        "link.connect = \"172.16.2.99:4641\"\nlink.reconnect = { min = \"1h\", max = \"1h\" }";
    let vm1 = lab.start(VM1, wrong);
    let vm3 = sample_without(VM3, "connect");
    let _vm3 = lab.start_from(VM3, &vm3, "");
    vm1.await_log("ready");
    lab.attempt(VM1, "ping -c 2 -W 1 fc00:1234:ffff::10").expect_err("no way");
    vm1.reconfigure("");
    assert!(vm1.reload().contains("link.connect"), "{}", vm1.log());
    eventually("the tunnel is up", Duration::from_secs(3), || vm1.log().contains("session up"));
}

#[test]
fn new_connections_heed_what_is_for_them() {
    let (lab, vm1, mut vm3) = tunnelled("");
    let heed =
        "link.dscp = 10\nlink.congestion = \"reno\"\nlink.fwmark = 64\nlink.device = \"eth1\"";
    vm1.reconfigure(heed);
    assert!(vm1.reload().contains("configuration reloaded"), "{}", vm1.log());
    let connections = "ss -Htneio --tos state established '( sport = :4641 or dport = :4641 )'";
    assert!(!lab.run(VM1, connections).contains("reno"));
    vm3.kill();
    vm3.start_again(&lab);
    lab.await_tunnel();
    let seen = lab.run(VM1, connections);
    for text in ["reno", "tos:0x28", "fwmark:0x40", "%eth1"] {
        assert!(seen.contains(text), "{text}: {seen}");
    }
}

#[test]
fn an_mtu_that_both_ends_raise_holds_from_the_next_session_on() {
    let (lab, vm1, mut vm3) = tunnelled("");
    let mtu = |host| lab.run(host, "cat /sys/class/net/tun0/mtu").trim().to_owned();
    for daemon in [&vm1, &vm3] {
        daemon.reconfigure("interface.mtu = 9000");
        assert!(daemon.reload().contains("changed=interface.mtu"), "{}", daemon.log());
    }
    assert_eq!([mtu(VM1), mtu(VM3)], ["1500", "1500"], "what was agreed on");
    vm3.kill();
    vm3.start_again(&lab);
    lab.await_tunnel();
    eventually("the new one holds", Duration::from_secs(5), || {
        [mtu(VM1), mtu(VM3)] == ["9000", "9000"]
    });
    lab.run(VM1, "ping -c 2 -i 0.2 -W 5 -M do -s 8900 fc00:1234:ffff::10");
    // One that is lowered holds at once, and the peer may go on sending what it was promised.
    vm1.reconfigure("interface.mtu = 1300");
    vm1.reload();
    assert_eq!([mtu(VM1), mtu(VM3)], ["1300", "9000"]);
    lab.run(VM3, "ping -c 2 -i 0.2 -W 5 -M do -s 8900 fc00:1234:ffff::1");
}

/// An attempt to replace a stalled stream is on its way with the MTU of before, and is answered by
/// another process, with which it begins a session.
#[test]
fn an_mtu_that_was_told_before_the_reload_is_kept_to_after_it() {
    let quickly = "link.keepalive = \"1s\"\n";
    let (lab, vm1, mut vm3) = tunnelled(quickly);
    let told_before = (0..5).any(|_| told_before_the_reload(&lab, &vm1, &mut vm3, quickly));
    assert!(told_before, "{}", vm1.log());
    lab.run(VM3, "ping -c 2 -i 0.2 -W 5 -M do -s 1400 fc00:1234:ffff::1");
}

/// Whether the far end goes by the MTU of before the reload.
fn told_before_the_reload(lab: &Lab, vm1: &Daemon, vm3: &mut Daemon, drop_in: &str) -> bool {
    let attempts = || lab.run(VM1, "ss -Htn state syn-sent '( dport = :4641 )'").lines().count();
    vm1.reconfigure(drop_in);
    vm1.reload();
    lab.tool(&["cut"]);
    eventually("an attempt", Duration::from_secs(10), || attempts() > 0);
    vm1.reconfigure(&format!("{drop_in}interface.mtu = 1300"));
    vm1.reload();
    vm3.kill();
    vm3.start_again(lab);
    let sessions = || vm3.log().matches("session up").count();
    let before = sessions();
    lab.tool(&["heal"]);
    eventually("a session", Duration::from_secs(10), || sessions() > before);
    lab.await_tunnel();
    lab.run(VM3, "cat /sys/class/net/tun0/mtu").trim() == "1500"
}
