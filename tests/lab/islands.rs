//! What hosts of the two islands must see of each other through the tunnel, row by row, with the
//! tools that the original lab used.

#![expect(clippy::unwrap_used, reason = "these are tests, only called from elsewhere")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, SockRef, Socket, Type};

use super::harness::{Lab, Process, VM1, VM1_6, VM3, VM3_6, eventually};
use super::traffic::{dial, listen, transfer_in_writes_of};

/// VM3-6, on the island behind VM3.
pub const FAR: &str = "fc00:1234:4::36";
/// VM1-6, on the island behind VM1.
pub const NEAR: &str = "fc00:1234:3::16";

/// Five pings; what ping printed, an error when not even one came back.
pub fn ping(lab: &Lab, host: &str, target: &str) -> Result<String, String> {
    lab.attempt(host, &format!("ping -c 5 -i 0.2 -W 2 {target}"))
}

/// Row 4.
pub fn ping_each_other_with_ttl_62(lab: &Lab) {
    let island_to_island = [(VM1_6, FAR, 62), (VM3_6, NEAR, 62)];
    let island_to_gateway = [(VM1_6, "fc00:1234:4::3", 63), (VM3_6, "fc00:1234:3::1", 63)];
    for (host, target, ttl) in island_to_island.into_iter().chain(island_to_gateway) {
        let answer = ping(lab, host, target).expect("the tunnel has taken over");
        assert_eq!(answer.matches(&format!("ttl={ttl} ")).count(), 5, "{answer}");
        assert!(answer.contains(" 0% packet loss"), "{answer}");
    }
}

/// Row 5.
pub fn traceroute_names_every_router(lab: &Lab) {
    let trace = lab.run(VM1_6, &format!("traceroute -6 -n -w 2 {FAR}"));
    let hops: Vec<_> =
        trace.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(hops, ["fc00:1234:3::1", "fc00:1234:ffff::10", FAR], "{trace}");
}

/// Row 6.
pub fn inetd_echoes_through_the_tunnel_on_ipv6_alone(lab: &Lab) {
    let _far = inetd(lab, VM3_6, "echo stream tcp6 nowait root internal");
    let _own = inetd(lab, VM1, "echo stream tcp4 nowait root internal");
    assert_eq!(lab.run(VM1_6, &format!("echo hello | nc -N -w 5 {FAR} echo")), "hello\n");
    assert_eq!(lab.run(VM1, "echo own | nc -N -w 5 127.0.0.1 echo"), "own\n");
    assert_eq!(lab.run(VM3_6, "ss -Hltn 'sport = :echo' | awk '{print $4}'"), "[::]:7\n");
    let refused = lab.attempt(VM3_6, "nc -v -z -w 5 127.0.0.1 echo").expect_err("IPv6 alone");
    assert!(refused.contains("refused"), "{refused}");
}

/// Row 7.
pub fn half_closes_resets_and_two_clients_pass_through(lab: &Lab) {
    const BANNER: &[u8] = b"welcome to the echo service\n";
    let service = listen(lab, (VM3_6, FAR), 5007);
    let (mut first, mut first_served) = dial(lab, VM1_6, &service);
    let (mut second, mut second_served) = dial(lab, VM1_6, &service);

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

/// Row 8.
pub fn netcat_messages_pass_and_a_closed_port_says_so(lab: &Lab) {
    for (from, to, address) in [(VM1_6, VM3_6, FAR), (VM3_6, VM1_6, NEAR)] {
        let tcp = lab.spawn(to, &format!("nc -6 -l {address} 5100"));
        await_port(lab, to, "-tl", 5100);
        lab.run(from, &format!("echo over TCP | nc -6 -N -w 5 {address} 5100"));
        tcp.await_output("over TCP\n");

        let udp = lab.spawn(to, &format!("nc -6 -u -l {address} 5100"));
        await_port(lab, to, "-ul", 5100);
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

/// Row 9.
pub fn a_port_scan_finds_exactly_the_open_ports(lab: &Lab) {
    let _services = inetd(
        lab,
        VM3_6,
        "echo stream tcp6 nowait root internal\ndiscard stream tcp6 nowait root internal\n\
         daytime stream tcp6 nowait root internal",
    );
    let _listeners = [5001, 5004].map(|port| listen(lab, (VM3_6, FAR), port));
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

/// Row 10.
pub fn iperf3_completes_with_every_length_and_loses_no_byte(lab: &Lab) {
    let _server = lab.spawn(VM3_6, "iperf3 -s");
    await_port(lab, VM3_6, "-tl", 5201);
    let goodput = |length: &str, bytes: &str| -> f64 {
        // The server goes on for a moment after its client has ended, and turns the next one away.
        let mut report = String::new();
        eventually("the server is free", Duration::from_secs(10), || {
            let command = format!("iperf3 -c {FAR} -J -l {length} -n {bytes}");
            let (Ok(said) | Err(said)) = lab.attempt(VM1_6, &command);
            report = said;
            !report.contains("the server is busy")
        });
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
        transfer_in_writes_of(length, lab, VM1_6, (VM3_6, FAR), 5010, bytes);
    }
}

/// Row 11.
pub fn addresses_and_ports_cross_unchanged(lab: &Lab) {
    // Two servers on one port, called by one client port.
    let client = SocketAddr::new(NEAR.parse().unwrap(), 40_000);
    for (host, address) in [(VM3_6, FAR), (VM3, "fc00:1234:4::3")] {
        let listener = listen(lab, (host, address), 5000);
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

/// Row 13.
pub fn full_packets_pass_and_larger_ones_bring_back_packet_too_big(lab: &Lab) {
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
