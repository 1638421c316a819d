//! Somebody else meddles with tun0, its addresses or its routes on VM1.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::FAR;
use crate::harness::{Lab, VM1, VM1_6, VM3, VM3_6, eventually};
use crate::traffic::Stream;

const ADDRESS: &str = "fc00:1234:ffff::1/64";
const ROUTE: &str = "fc00:1234:4::/64 via fc00:1234:ffff::10 dev tun0";

#[test]
fn a_deleted_interface_comes_back_with_its_addresses_and_routes() {
    let (lab, mut vm1, _vm3) = Lab::raise_tunnelled();
    let stream = Stream::slow(&lab, VM1_6, (VM3_6, FAR), 5200);
    lab.run(VM1, "ip link delete tun0");
    await_interface(&lab);
    lab.await_tunnel();
    stream.await_progress("after tun0 is back", Duration::from_secs(20));
    stream.finish();
    assert!(vm1.runs());
}

#[test]
fn an_interface_that_is_deleted_again_and_again_comes_back_ever_more_slowly() {
    let (lab, vm1, _vm3) = Lab::raise_tunnelled();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(6) {
        let _ = lab.attempt(VM1, "ip link delete tun0");
        sleep(Duration::from_millis(20));
    }
    let created = vm1.log().matches("interface created").count();
    assert!((4..=8).contains(&created), "{created} times: {}", vm1.log());
    assert_eq!(vm1.log().matches("keeps undoing").count(), 1, "{}", vm1.log());
    lab.await_tunnel();
}

#[test]
fn a_renamed_interface_gets_its_name_back_and_loses_nothing() {
    let (lab, vm1, _vm3) = Lab::raise_tunnelled();
    let stream = Stream::slow(&lab, VM1_6, (VM3_6, FAR), 5200);
    let index = |lab: &Lab| lab.run(VM1, "cat /sys/class/net/tun0/ifindex");
    let before = index(&lab);
    lab.run(VM1, "ip link set tun0 down && ip link set tun0 name wan0 && ip link set wan0 up");
    await_interface(&lab);
    assert_eq!(index(&lab), before, "it is the same interface");
    stream.await_progress("after tun0 has its name back", Duration::from_secs(20));
    stream.finish();
    assert!(vm1.log().contains("name wan0 taken back"), "{}", vm1.log());
}

#[test]
fn routes_that_somebody_else_deletes_come_back() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled();
    lab.run(VM1, "ip -6 route delete fc00:1234:4::/64");
    await_interface(&lab);
    lab.run(VM1_6, &format!("ping -c 1 -W 5 {FAR}"));
}

/// The address that a route sends from comes up after the daemon: nobody has undone anything.
#[test]
fn what_was_refused_at_first_is_completed_and_nobody_blamed() {
    let lab = Lab::raise_after_failure();
    let route = "interface.routes.\"fc00:77::/64\" = { source = \"fc00:99::1\" }";
    let vm1 = lab.start(VM1, route);
    vm1.await_log("interface incomplete");
    lab.run(VM1, "ip address add fc00:99::1/128 dev lo nodad");
    vm1.await_log("interface completed");
    assert!(lab.run(VM1, "ip -6 route show dev tun0").contains("fc00:77::/64"));
    assert!(!vm1.log().contains("interface restored"), "{}", vm1.log());
}

#[test]
fn addresses_that_somebody_else_deletes_come_back() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled();
    lab.run(VM1, &format!("ip -6 address delete {ADDRESS} dev tun0"));
    await_interface(&lab);
    lab.run(VM1, "ping -c 1 -W 5 fc00:1234:ffff::10");
}

#[test]
fn kill_9_leaves_no_interface_and_no_route() {
    let (lab, mut vm1, mut vm3) = Lab::raise_tunnelled();
    for (host, daemon) in [(VM1, &mut vm1), (VM3, &mut vm3)] {
        daemon.kill();
        let left = lab.run(host, "ip link; ip -6 addr; ip -6 route show table all");
        assert!(!left.contains("tun0"), "{left}");
    }
}

#[test]
fn routes_of_others_stay_when_the_daemon_stops() {
    let (lab, mut vm1, _vm3) = Lab::raise_tunnelled();
    lab.run(VM1, "ip -6 route add fc00:5678::/64 via fc00:1234:3::16 dev eth2");
    assert!(vm1.stop().success());
    assert!(lab.run(VM1, "ip -6 route").contains("fc00:5678::/64 via fc00:1234:3::16 dev eth2"));
}

fn await_interface(lab: &Lab) {
    eventually("tun0 has its address and route", Duration::from_secs(10), || {
        let addresses = lab.attempt(VM1, "ip -6 addr show dev tun0").unwrap_or_default();
        let routes = lab.run(VM1, "ip -6 route");
        addresses.contains(ADDRESS) && routes.contains(ROUTE)
    });
}
