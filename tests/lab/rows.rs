//! What the original lab did or failed to do, row by row, with the tools it used.

use std::time::Duration;

use crate::harness::{Lab, VM1, VM1_6, VM3, VM3_6, eventually, sample_without};
use crate::islands::{self, FAR, NEAR};

#[test]
fn row_01_the_daemon_makes_the_interface_and_removes_it() {
    let (lab, mut vm1, mut vm3) = Lab::raise_tunnelled();
    let expected = [
        (VM1, "fc00:1234:ffff::1/64", "fc00:1234:4::/64 via fc00:1234:ffff::10 dev tun0"),
        (VM3, "fc00:1234:ffff::10/64", "fc00:1234:3::/64 via fc00:1234:ffff::1 dev tun0"),
    ];
    for (host, address, route) in expected {
        let addresses = lab.run(host, "ip -6 addr show dev tun0");
        assert!(addresses.contains(&format!("inet6 {address} scope global")), "{addresses}");
        let routes = lab.run(host, "ip -6 route");
        assert!(routes.contains(route), "{routes}");
    }
    assert!(vm1.stop().success());
    assert!(vm3.stop().success());
    for host in [VM1, VM3] {
        let left = lab.run(host, "ip link; ip -6 addr; ip -6 route show table all");
        assert!(!left.contains("tun0"), "{left}");
        assert!(!left.contains("fc00:1234:ffff:"), "{left}");
    }
}

#[test]
fn row_02_tcpdump_decodes_clean_packets_and_own_pings_stay_home() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled();
    for (host, own, far) in [
        (VM1, "fc00:1234:ffff::1", "fc00:1234:ffff::10"),
        (VM3, "fc00:1234:ffff::10", "fc00:1234:ffff::1"),
    ] {
        let capture = lab.spawn(host, "tcpdump -i tun0 -n -l --immediate-mode icmp6");
        capture.await_output("listening on tun0, link-type RAW");
        lab.run(host, &format!("ping -c 1 -W 5 {own}"));
        lab.run(host, &format!("ping -c 1 -W 5 {far}"));
        capture.await_output(&format!("IP6 {own} > {far}: ICMP6, echo request, id "));
        capture.await_output(&format!("IP6 {far} > {own}: ICMP6, echo reply, id "));
        let seen = capture.output();
        assert!(!seen.contains(&format!("IP6 {own} > {own}:")), "{seen}");
    }
}

#[test]
fn row_03_one_session_carries_both_directions() {
    let one_stream = "link.streams = 1";
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled_with(one_stream, one_stream);
    // Both ends dial; soon one session is left of the two.
    eventually("one connection is left", Duration::from_secs(10), || {
        lab.outer_connections(VM1).len() == 1 && lab.outer_connections(VM3).len() == 1
    });
    let before = lab.outer_connections(VM1);
    lab.run(VM1_6, &format!("ping -c 3 -i 0.2 -W 5 {FAR}"));
    lab.run(VM3_6, &format!("ping -c 3 -i 0.2 -W 5 {NEAR}"));
    assert_eq!(lab.outer_connections(VM1), before);
}

#[test]
fn row_04_islands_ping_each_other_with_ttl_62() {
    let lab = Lab::raise();
    let ping = |host, target| islands::ping(&lab, host, target);
    let through_router = ping(VM1_6, FAR).expect("VM2-6 is alive");
    assert!(through_router.contains("ttl=63"), "{through_router}");

    lab.tool(&["kill-router"]);
    lab.tool(&["takeover"]);
    let dead = ping(VM1_6, FAR).expect_err("no router and no tunnel");
    assert!(dead.contains("100% packet loss"), "{dead}");

    let _daemons = (lab.start(VM1, ""), lab.start(VM3, ""));
    lab.await_tunnel();
    islands::ping_each_other_with_ttl_62(&lab);
}

#[test]
fn row_05_traceroute_names_every_router() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled();
    islands::traceroute_names_every_router(&lab);
}

#[test]
fn row_06_inetd_echoes_through_the_tunnel_on_ipv6_alone() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled();
    islands::inetd_echoes_through_the_tunnel_on_ipv6_alone(&lab);
}

#[test]
fn row_07_half_closes_resets_and_two_clients_pass_through() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled();
    islands::half_closes_resets_and_two_clients_pass_through(&lab);
}

#[test]
fn row_08_netcat_messages_pass_and_a_closed_port_says_so() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled();
    islands::netcat_messages_pass_and_a_closed_port_says_so(&lab);
}

#[test]
fn row_09_a_port_scan_finds_exactly_the_open_ports() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled();
    islands::a_port_scan_finds_exactly_the_open_ports(&lab);
}

#[test]
fn row_10_iperf3_completes_with_every_length_and_loses_no_byte() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled();
    islands::iperf3_completes_with_every_length_and_loses_no_byte(&lab);
}

#[test]
fn row_11_addresses_and_ports_cross_unchanged() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled();
    islands::addresses_and_ports_cross_unchanged(&lab);
}

#[test]
fn row_12_the_dialling_end_may_sit_behind_nat() {
    let lab = Lab::raise_after_failure();
    lab.tool(&["nat"]);
    lab.attempt(VM3, "ping -c 1 -W 1 172.16.2.131").expect_err("VM1 is hidden");
    let _vm1 = lab.start_from(VM1, &sample_without(VM1, "listen"), "");
    let nat_only = "security.peer_addresses = [\"172.16.2.162/32\"]";
    let _vm3 = lab.start_from(VM3, &sample_without(VM3, "connect"), nat_only);
    lab.await_tunnel();
    lab.run(VM1_6, &format!("ping -c 3 -i 0.2 -W 5 {FAR}"));
    lab.run(VM3_6, &format!("ping -c 3 -i 0.2 -W 5 {NEAR}"));
    let seen = lab.outer_connections(VM3);
    assert!(!seen.is_empty());
    for connection in seen {
        assert!(connection.starts_with("172.16.2.163:4641 172.16.2.162:"), "{connection}");
    }
}

#[test]
fn row_13_full_packets_pass_and_larger_ones_bring_back_packet_too_big() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled();
    islands::full_packets_pass_and_larger_ones_bring_back_packet_too_big(&lab);
}
