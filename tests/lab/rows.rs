//! What the original lab did or failed to do, row by row, with the tools it used.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, SockRef, Socket, Type};

use crate::harness::{Lab, Process, VM1, VM1_6, VM3, VM3_6, eventually, sample_without};
use crate::traffic::{dial, listen, transfer_in_writes_of};

const FAR: &str = "fc00:1234:4::36";
const NEAR: &str = "fc00:1234:3::16";

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
    let ping = |host, target| lab.attempt(host, &format!("ping -c 5 -i 0.2 -W 2 {target}"));
    let through_router = ping(VM1_6, FAR).expect("VM2-6 is alive");
    assert!(through_router.contains("ttl=63"), "{through_router}");

    lab.tool(&["kill-router"]);
    lab.tool(&["takeover"]);
    let dead = ping(VM1_6, FAR).expect_err("no router and no tunnel");
    assert!(dead.contains("100% packet loss"), "{dead}");

    let _daemons = (lab.start(VM1, ""), lab.start(VM3, ""));
    lab.await_tunnel();
    let island_to_island = [(VM1_6, FAR, 62), (VM3_6, NEAR, 62)];
    let island_to_gateway = [(VM1_6, "fc00:1234:4::3", 63), (VM3_6, "fc00:1234:3::1", 63)];
    for (host, target, ttl) in island_to_island.into_iter().chain(island_to_gateway) {
        let answer = ping(host, target).expect("the tunnel has taken over");
        assert_eq!(answer.matches(&format!("ttl={ttl} ")).count(), 5, "{answer}");
        assert!(answer.contains(" 0% packet loss"), "{answer}");
    }
}

#[test]
fn row_05_traceroute_names_every_router() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled();
    let trace = lab.run(VM1_6, &format!("traceroute -6 -n -w 2 {FAR}"));
    let hops: Vec<_> =
        trace.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(hops, ["fc00:1234:3::1", "fc00:1234:ffff::10", FAR], "{trace}");
}

#[test]
fn row_06_inetd_echoes_through_the_tunnel_on_ipv6_alone() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled();
    let _far = inetd(&lab, VM3_6, "echo stream tcp6 nowait root internal");
    let _own = inetd(&lab, VM1, "echo stream tcp4 nowait root internal");
    assert_eq!(lab.run(VM1_6, &format!("echo hello | nc -N -w 5 {FAR} echo")), "hello\n");
    assert_eq!(lab.run(VM1, "echo own | nc -N -w 5 127.0.0.1 echo"), "own\n");
    assert_eq!(lab.run(VM3_6, "ss -Hltn 'sport = :echo' | awk '{print $4}'"), "[::]:7\n");
    let refused = lab.attempt(VM3_6, "nc -v -z -w 5 127.0.0.1 echo").expect_err("IPv6 alone");
    assert!(refused.contains("refused"), "{refused}");
}

#[test]
fn row_07_half_closes_resets_and_two_clients_pass_through() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled();
    const BANNER: &[u8] = b"welcome to the echo service\n";
    let service = listen(&lab, (VM3_6, FAR), 5007);
    let (mut first, mut first_served) = dial(&lab, VM1_6, &service);
    let (mut second, mut second_served) = dial(&lab, VM1_6, &service);

    for (client, server) in [(&mut first, &mut first_served), (&mut second, &mut second_served)] {
        server.write_all(BANNER).unwrap();
        let mut banner = [0; BANNER.len()];
        client.read_exact(&mut banner).unwrap();
        assert_eq!(banner, BANNER);
    }

    // Ctrl-D: the client has said all, the server answers after that.
    first.write_all(b"last words").unwrap();
    first.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    first_served.read_to_end(&mut heard).unwrap();
    first_served.write_all(&heard).unwrap();
    drop(first_served);
    let mut echoed = Vec::new();
    first.read_to_end(&mut echoed).unwrap();
    assert_eq!(echoed, b"last words");

    // Ctrl-C: closing without lingering resets.
    SockRef::from(&second).set_linger(Some(Duration::ZERO)).unwrap();
    drop(second);
    let error = second_served.read(&mut [0; 16]).expect_err("a reset, not an end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn row_08_netcat_messages_pass_and_a_closed_port_says_so() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled();
    for (from, to, address) in [(VM1_6, VM3_6, FAR), (VM3_6, VM1_6, NEAR)] {
        let tcp = lab.spawn(to, &format!("nc -6 -l {address} 5100"));
        await_port(&lab, to, "-tl", 5100);
        lab.run(from, &format!("echo over TCP | nc -6 -N -w 5 {address} 5100"));
        tcp.await_output("over TCP\n");

        let udp = lab.spawn(to, &format!("nc -6 -u -l {address} 5100"));
        await_port(&lab, to, "-ul", 5100);
        lab.run(from, &format!("echo over UDP | nc -6 -u -w 1 {address} 5100"));
        udp.await_output("over UDP\n");
    }
    let socket = lab.inside(VM1_6, || UdpSocket::bind("[::]:0")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.connect((FAR, 5199)).unwrap();
    socket.send(b"anybody?").unwrap();
    let error = socket.recv(&mut [0; 16]).expect_err("nobody listens there");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "port unreachable comes back");
}

#[test]
fn row_09_a_port_scan_finds_exactly_the_open_ports() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled();
    let _services = inetd(
        &lab,
        VM3_6,
        "echo stream tcp6 nowait root internal\ndiscard stream tcp6 nowait root internal\n\
         daytime stream tcp6 nowait root internal",
    );
    let _listeners = [5001, 5004].map(|port| listen(&lab, (VM3_6, FAR), port));
    let scan = |ports: &str| -> Vec<u16> {
        // nc ends with 1 when a port of the range is closed; what it found it has printed.
        let (Ok(found) | Err(found)) =
            lab.attempt(VM1_6, &format!("nc -6 -n -v -z -w 5 {FAR} {ports}"));
        let open = found.lines().filter(|line| line.contains("succeeded"));
        open.filter_map(|line| line.split_whitespace().nth(3)?.parse().ok()).collect()
    };
    assert_eq!(scan("5000-5005"), [5001, 5004]);
    assert_eq!(scan("7-13"), [7, 9, 13]);
}

#[test]
fn row_10_iperf3_completes_with_every_length_and_loses_no_byte() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled();
    let _server = lab.spawn(VM3_6, "iperf3 -s");
    await_port(&lab, VM3_6, "-tl", 5201);
    let goodput = |length: &str, bytes: &str| -> f64 {
        let report = lab.run(VM1_6, &format!("iperf3 -c {FAR} -J -l {length} -n {bytes}"));
        let report: Value = serde_json::from_str(&report).expect("iperf3 -J prints JSON");
        let received = &report["end"]["sum_received"];
        assert!(received["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{report}");
        received["bits_per_second"].as_f64().expect("a figure")
    };
    let (tiny, small) = (goodput("10", "2M"), goodput("2K", "64M"));
    let (large, largest) = (goodput("128K", "256M"), goodput("1M", "256M"));
    // A system call for every ten bytes costs more than any tunnel does.
    assert!(large > 2.0 * tiny, "{tiny} {small} {large} {largest} bit/s");
    assert!(small > tiny && largest > tiny, "{tiny} {small} {large} {largest} bit/s");

    // iperf3 stops its receiver when its sender is done, with bytes still on the way, so its two
    // counts differ on any path. The same writes on connections that are read to the end:
    for (length, bytes) in
        [(10, 1 << 20), (2 << 10, 8 << 20), (128 << 10, 32 << 20), (1 << 20, 32 << 20)]
    {
        transfer_in_writes_of(length, &lab, VM1_6, (VM3_6, FAR), 5010, bytes);
    }
}

#[test]
fn row_11_addresses_and_ports_cross_unchanged() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled();
    // Two servers on one port, called by one client port.
    let client = SocketAddr::new(NEAR.parse().unwrap(), 40_000);
    for (host, address) in [(VM3_6, FAR), (VM3, "fc00:1234:4::3")] {
        let listener = listen(&lab, (host, address), 5000);
        let server = listener.local_addr().unwrap();
        let socket = lab.inside(VM1_6, || Socket::new(Domain::IPV6, Type::STREAM, None)).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&client.into()).unwrap();
        socket.connect_timeout(&server.into(), Duration::from_secs(10)).unwrap();
        let dialled = TcpStream::from(socket);
        let (accepted, seen) = listener.accept().unwrap();
        assert_eq!((seen, accepted.local_addr().unwrap()), (client, server));
        assert_eq!(dialled.local_addr().unwrap(), client);
        assert_eq!(dialled.peer_addr().unwrap(), server);
    }
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
    // The island's own links must carry the larger packet as far as the gateway.
    lab.run(VM1_6, "ip link set eth2 mtu 9000");
    lab.run(VM1, "ip link set eth2 mtu 9000");
    // 40 bytes of IPv6 and 8 of ICMPv6 go before the payload.
    let ping = |size: u32| {
        let payload = size - 48;
        lab.attempt(VM1_6, &format!("ping -M do -c 2 -i 0.2 -W 2 -s {payload} {FAR}"))
    };
    let full = ping(1500).expect("1500 bytes pass");
    assert!(full.contains(" 0% packet loss"), "{full}");
    let refused = ping(1501).expect_err("1501 bytes do not");
    let answer = "From fc00:1234:3::1 icmp_seq=1 Packet too big: mtu=1500";
    assert!(refused.contains(answer), "{refused}");
}

/// An inetd with these services, ready to serve.
fn inetd(lab: &Lab, host: &str, services: &str) -> Process {
    let config = lab.file(&format!("{host}-inetd.conf"));
    std::fs::write(&config, format!("{services}\n")).expect("a configuration file");
    // It writes /run/inetd.pid even in the foreground: let it have a /run of its own.
    let command = format!(
        "exec <{} && mount -t tmpfs inetd /run && exec inetd -i /dev/stdin",
        config.display()
    );
    let inetd = lab.spawn(host, &format!("bash -c '{command}'"));
    await_port(lab, host, "-tl", 7);
    inetd
}

fn await_port(lab: &Lab, host: &str, kind: &str, port: u16) {
    eventually(&format!("{host} listens on port {port}"), Duration::from_secs(10), || {
        !lab.run(host, &format!("ss -Hn {kind} 'sport = :{port}'")).is_empty()
    });
}
