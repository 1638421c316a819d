//! What goes through the tunnel and what it goes over: address families, MTUs, offloads, streams.
//!
//! ```text
//!   VM1-6 ── VM1 ═══ outer: 172.16.2.131 … 172.16.2.163, or fd00:1234:a::1 … fd00:1234:b::3 ═══ VM3 ── VM3-6
//!            tun0    inner: fc00:1234:ffff::1 … fc00:1234:ffff::10, or 10.64.0.1 … 10.64.0.10   tun0
//! ```

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use crate::harness::{Lab, VM1, VM1_6, VM3, VM3_6, binary, eventually, sample};
use crate::traffic::transfer;

const FAR: &str = "fc00:1234:4::36";
const NEAR: &str = "fc00:1234:3::16";
const TUNNEL6: (&str, &str) = ("fc00:1234:ffff::1", "fc00:1234:ffff::10");
const TUNNEL4: (&str, &str) = ("10.64.0.1", "10.64.0.10");

#[test]
fn ipv6_crosses_over_ipv4() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled();
    crosses(&lab, TUNNEL6);
}

#[test]
fn ipv4_crosses_over_ipv4() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled_with(
        &inner_addresses(TUNNEL4.0, TUNNEL6.0),
        &inner_addresses(TUNNEL4.1, TUNNEL6.1),
    );
    crosses(&lab, TUNNEL4);
}

#[test]
fn ipv6_crosses_over_ipv6() {
    let lab = Lab::raise_after_failure();
    let _daemons = start_over_ipv6(&lab, "", "");
    crosses(&lab, TUNNEL6);
}

#[test]
fn ipv4_crosses_over_ipv6() {
    let lab = Lab::raise_after_failure();
    let vm1 = inner_addresses(TUNNEL4.0, TUNNEL6.0);
    let vm3 = inner_addresses(TUNNEL4.1, TUNNEL6.1);
    let _daemons = start_over_ipv6(&lab, &vm1, &vm3);
    crosses(&lab, TUNNEL4);
}

#[test]
fn packets_of_1280_bytes_pass_and_no_more() {
    carries_exactly(1280);
}

#[test]
fn packets_of_1500_bytes_pass_and_no_more() {
    carries_exactly(1500);
}

#[test]
fn packets_of_9000_bytes_pass_and_no_more() {
    carries_exactly(9000);
}

#[test]
fn packets_of_65535_bytes_pass_and_no_more() {
    carries_exactly(65535);
}

#[test]
fn datagrams_that_cross_as_trains_arrive_as_they_were_sent() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled_with(
        &inner_addresses(TUNNEL4.0, TUNNEL6.0),
        &inner_addresses(TUNNEL4.1, TUNNEL6.1),
    );
    for (from, to) in [TUNNEL6, TUNNEL4] {
        datagrams_cross(&lab, from, to);
    }
}

#[test]
fn offloads_on_one_side_only_change_no_byte() {
    for (vm1, vm3) in [("off", "auto"), ("auto", "off"), ("off", "off"), ("auto", "auto")] {
        let offload = |setting| format!("interface.offload = \"{setting}\"");
        let (lab, _vm1, _vm3) = Lab::raise_tunnelled_with(&offload(vm1), &offload(vm3));
        transfer(&lab, VM1_6, (VM3_6, FAR), 5300, 16 << 20);
        transfer(&lab, VM3_6, (VM1_6, NEAR), 5300, 16 << 20);
    }
}

#[test]
fn different_inner_mtus_on_the_two_sides_change_no_byte() {
    let (lab, _vm1, _vm3) =
        Lab::raise_tunnelled_with("interface.mtu = 9000", "interface.mtu = 1280");
    transfer(&lab, VM1_6, (VM3_6, FAR), 5300, 8 << 20);
    transfer(&lab, VM3_6, (VM1_6, NEAR), 5300, 8 << 20);
}

#[test]
fn any_mixture_of_stream_counts_carries_several_flows() {
    for (vm1, vm3) in [(1, 1), (2, 2), (4, 4), (1, 4), (4, 2)] {
        let streams = |count| format!("link.streams = {count}");
        let (lab, _vm1, _vm3) = Lab::raise_tunnelled_with(&streams(vm1), &streams(vm3));
        std::thread::scope(|scope| {
            for port in 5300..5303 {
                let lab = &lab;
                scope.spawn(move || transfer(lab, VM1_6, (VM3_6, FAR), port, 4 << 20));
                scope.spawn(move || transfer(lab, VM3_6, (VM1_6, NEAR), port, 4 << 20));
            }
        });
    }
}

#[test]
fn the_old_configuration_file_is_imported_and_works_on_port_123() {
    let lab = Lab::raise_after_failure();
    let old = |here: &str, there: &str| {
        format!("tun=tun0\ninip={here}\ninport=123\noptions=empty\noutip={there}\noutport=123\n")
    };
    let import = |name: &str, text: String| {
        let file = lab.file(name);
        std::fs::write(&file, text).unwrap();
        let output = Command::new(binary())
            .arg("import")
            .arg(&file)
            .env_remove("TUNNEL64D_BIN")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    // The old file never knew the interface's addresses and routes: a script set them.
    let interface = |host| sample(host).split("[link]").next().unwrap().to_owned();
    let vm1 = import("vm1.conf", old("172.16.2.131", "172.16.2.163"));
    let vm3 = import("vm3.conf", old("172.16.2.163", "172.16.2.131"));
    let _vm1 = lab.start_from(VM1, &vm1, &interface(VM1));
    let _vm3 = lab.start_from(VM3, &vm3, &interface(VM3));
    lab.await_tunnel();
    lab.run(VM1_6, &format!("ping -c 3 -i 0.2 -W 5 {FAR}"));
    assert_eq!(lab.outer_connections(VM1), Vec::<String>::new(), "nothing on the new port");
    let old_port = lab.run(VM1, "ss -Htn state established '( sport = :123 or dport = :123 )'");
    assert!(old_port.contains("172.16.2.163"), "{old_port}");
}

/// Pings and bytes pass in both directions between two addresses of the tunnel.
fn crosses(lab: &Lab, (vm1, vm3): (&str, &str)) {
    eventually("the first ping passes", Duration::from_secs(20), || {
        lab.attempt(VM1, &format!("ping -c 1 -W 1 {vm3}")).is_ok()
    });
    lab.run(VM1, &format!("ping -c 3 -i 0.2 -W 5 {vm3}"));
    lab.run(VM3, &format!("ping -c 3 -i 0.2 -W 5 {vm1}"));
    transfer(lab, VM1, (VM3, vm3), 5300, 8 << 20);
    transfer(lab, VM3, (VM1, vm1), 5300, 8 << 20);
}

/// The largest inner packet passes in both families and directions, one byte more does not.
fn carries_exactly(mtu: u32) {
    let with = |four, six| format!("interface.mtu = {mtu}\n{}", inner_addresses(four, six));
    let (lab, _vm1, _vm3) =
        Lab::raise_tunnelled_with(&with(TUNNEL4.0, TUNNEL6.0), &with(TUNNEL4.1, TUNNEL6.1));
    // The network header and 8 bytes of ICMP come before the payload.
    for (ends, headers) in [(TUNNEL6, 40 + 8), (TUNNEL4, 20 + 8)] {
        for (host, target) in [(VM1, ends.1), (VM3, ends.0)] {
            let ping = |payload: u32| {
                lab.attempt(host, &format!("ping -M do -c 2 -i 0.2 -W 2 -s {payload} {target}"))
            };
            let full = ping(mtu - headers).unwrap_or_else(|output| panic!("{output}"));
            assert!(full.contains(" 0% packet loss"), "{full}");
            ping(mtu - headers + 1).expect_err("more than the interface takes");
        }
        transfer(&lab, VM1, (VM3, ends.1), 5300, 8 << 20);
        transfer(&lab, VM3, (VM1, ends.0), 5300, 8 << 20);
    }
}

fn datagrams_cross(lab: &Lab, from: &str, to: &str) {
    const BURST: u16 = 40;
    const BURSTS: u16 = 50;
    let address = |address: &str| SocketAddr::new(address.parse().expect("an address"), 0);
    let receiver = lab.inside(VM3, || UdpSocket::bind(address(to))).expect("a socket");
    receiver.set_read_timeout(Some(Duration::from_secs(5))).expect("a limit");
    let sender = lab.inside(VM1, || UdpSocket::bind(address(from))).expect("a socket");
    let there = receiver.local_addr().expect("its address");
    sender.connect(there).expect("the way to it");
    let before = packets_sent(lab);
    for burst in 0..BURSTS {
        // Equal lengths, now and then a shorter or an empty one.
        let datagrams: Vec<_> = (0..BURST)
            .map(|number| {
                let length = match number % 11 {
                    10 => burst % 30,
                    _ => 30 + burst * 25,
                };
                vec![(number + burst).to_le_bytes()[0]; length.into()]
            })
            .collect();
        for datagram in &datagrams {
            sender.send(datagram).expect("room for it");
        }
        let mut room = [0; 2000];
        for datagram in &datagrams {
            let length = receiver.recv(&mut room).expect("every datagram");
            assert_eq!(&room[..length], datagram);
        }
    }
    let crossed = packets_sent(lab) - before;
    let sent = u64::from(BURST) * u64::from(BURSTS);
    assert!(crossed < sent, "{crossed} packets for {sent} datagrams: there were no trains");
}

fn packets_sent(lab: &Lab) -> u64 {
    let (_, status) = lab.status(VM1, &["--json", "tun0"]);
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    status["sent"]["packets"].as_u64().expect("a number")
}

fn inner_addresses(four: &str, six: &str) -> String {
    format!("interface.addresses = [\"{four}/24\", \"{six}/64\"]")
}

/// Both daemons, with VM1 and VM3 reaching each other over the native IPv6 path.
fn start_over_ipv6(
    lab: &Lab,
    vm1: &str,
    vm3: &str,
) -> (crate::harness::Daemon, crate::harness::Daemon) {
    lab.tool(&["direct"]);
    let over_ipv6 = |host| {
        sample(host)
            .replace("172.16.2.131:4641", "[fd00:1234:a::1]:4641")
            .replace("172.16.2.163:4641", "[fd00:1234:b::3]:4641")
            .replace("172.16.2.131/32", "fd00:1234:a::1/128")
            .replace("172.16.2.163/32", "fd00:1234:b::3/128")
    };
    (lab.start_from(VM1, &over_ipv6(VM1), vm1), lab.start_from(VM3, &over_ipv6(VM3), vm3))
}

#[test]
fn a_long_path_has_bbr_at_both_ends() {
    let lab = Lab::raise_after_failure();
    lab.tool(&["emulate", "--delay", "5ms"]);
    let _vm1 = lab.start(VM1, "");
    let _vm3 = lab.start(VM3, "");
    lab.await_tunnel();
    if !lab.run(VM1, "sysctl -n net.ipv4.tcp_available_congestion_control").contains("bbr") {
        eprintln!("this kernel has no bbr: not tested");
        return;
    }
    for host in [VM1, VM3] {
        let connection =
            lab.run(host, "ss -Htin state established '( sport = :4641 or dport = :4641 )'");
        assert!(connection.contains(" bbr ") && !connection.contains(" cubic "), "{connection}");
    }
}
