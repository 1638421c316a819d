//! The IPv4 path between the gateways goes silent and comes back:
//! `VM1-6 ── VM1 ══ VM2 (drops everything) ══ VM3 ── VM3-6`.

use std::net::UdpSocket;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::FAR;
use crate::harness::{Lab, VM1, VM1_6, VM2, VM3, VM3_6, eventually, sample_without};
use crate::traffic::Stream;

#[test]
fn traffic_flows_within_two_seconds_of_the_return_of_a_path_cut_for_twenty() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled();
    let stream = Stream::slow(&lab, VM1_6, (VM3_6, FAR), 5200);
    lab.tool(&["cut"]);
    lab.attempt(VM1, "ping -c 1 -W 1 172.16.2.163").expect_err("the path is cut");
    sleep(Duration::from_secs(19));
    let before = stream.received();
    // Every fifth of a second, so that none of the two seconds is spent waiting to ask.
    let pings = lab.spawn(VM1_6, &format!("ping -n -i 0.2 {FAR}"));
    lab.tool(&["heal"]);
    let ping_and_stream = || (pings.output().contains("ttl=62"), stream.received() > before);
    eventually("a ping passes and the inner connection moves", Duration::from_secs(2), || {
        ping_and_stream() == (true, true)
    });
    stream.finish();
}

#[test]
fn an_interruption_of_three_seconds_loses_no_ping() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled();
    let pings = lab.spawn(VM1_6, &format!("ping -n -i 0.2 -c 25 -W 10 {FAR}"));
    pings.await_output("icmp_seq=2 ");
    lab.tool(&["cut"]);
    sleep(Duration::from_secs(3));
    lab.tool(&["heal"]);
    pings.await_output(" packet loss");
    assert!(pings.output().contains(" 0% packet loss"), "{}", pings.output());
}

#[test]
fn a_daemon_started_before_its_path_exists_connects_when_it_does() {
    let lab = Lab::raise_after_failure();
    lab.tool(&["cut"]);
    let soon = "link.reconnect = { min = \"200ms\", max = \"1s\" }";
    let mut daemons = [lab.start("VM1", soon), lab.start("VM3", soon)];
    sleep(Duration::from_secs(3));
    for daemon in &mut daemons {
        assert!(daemon.runs(), "{}", daemon.log());
    }
    lab.tool(&["heal"]);
    lab.await_tunnel();
}

/// What is handed to the connection before anything is known of the line is there in good time, and
/// so is the PING behind it.
#[test]
fn a_slow_line_with_traffic_one_way_is_not_taken_for_a_dead_one() {
    let lab = Lab::raise_after_failure();
    lab.tool(&["emulate", "--delay", "10ms", "--rate", "128kbit"]);
    let times = "link.keepalive = \"1s\"\nlink.dead_after = \"4s\"";
    let _vm3 = lab.start_from(VM3, &sample_without(VM3, "connect"), times);
    let vm1 = lab.start(VM1, times);
    lab.await_tunnel();
    // Nothing answers what comes to an open port.
    let _port = lab.inside(VM3_6, || UdpSocket::bind((FAR, 5300))).expect("a free port");
    let start = Instant::now();
    lab.inside(VM1_6, || {
        let udp = UdpSocket::bind("[::]:0").expect("a socket");
        while start.elapsed() < Duration::from_secs(8) {
            for _ in 0..200 {
                udp.send_to(&[7; 1200], (FAR, 5300)).expect("sent");
            }
            sleep(Duration::from_millis(100));
        }
    });
    assert!(!vm1.log().contains("session down"), "{}", vm1.log());
    lab.await_tunnel();
}

/// `dead_after` is half a minute: the first endpoint is left for the second long before that.
#[test]
fn a_stream_that_stalls_on_one_endpoint_goes_on_over_the_next_within_its_session() {
    let lab = Lab::raise_after_failure();
    lab.run(VM3, "ip address add 172.16.2.164/28 dev eth1");
    let both = "link.connect = [\"172.16.2.163:4641\", \"172.16.2.164:4641\"]";
    let vm1 = lab.start_from(VM1, &sample_without(VM1, "listen"), both);
    let anywhere = "link.listen = \"0.0.0.0:4641\"";
    let _vm3 = lab.start_from(VM3, &sample_without(VM3, "connect"), anywhere);
    lab.await_tunnel();
    let pings = lab.spawn(VM1_6, &format!("ping -n -i 0.2 {FAR}"));
    let over = |address: &str| {
        lab.outer_connections(VM3).iter().any(|connection| connection.starts_with(address))
    };
    let [first, second] = ["172.16.2.163", "172.16.2.164"];
    for (lost, left) in [(first, second), (second, first)] {
        assert!(over(lost) && !over(left), "{:?}", lab.outer_connections(VM3));
        lab.run(
            VM2,
            &format!(
                "nft 'add table inet way
                 add chain inet way forward {{ type filter hook forward priority 0; }}
                 add rule inet way forward ip saddr {lost} drop
                 add rule inet way forward ip daddr {lost} drop'"
            ),
        );
        eventually("the other endpoint", Duration::from_secs(15), || over(left));
        lab.await_status(VM1, &["connected", left]);
        lab.run(VM2, "nft delete table inet way");
        eventually("the end of the other connection", Duration::from_secs(20), || !over(lost));
    }
    assert!(!vm1.log().contains("session down"), "{}", vm1.log());
    drop(pings);
}
