//! The IPv4 path between the gateways goes silent and comes back:
//! `VM1-6 ── VM1 ══ VM2 (drops everything) ══ VM3 ── VM3-6`.

use std::thread::sleep;
use std::time::Duration;

use super::FAR;
use crate::harness::{Lab, VM1, VM1_6, VM3_6, eventually};
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
