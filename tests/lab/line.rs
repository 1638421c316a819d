//! The emulated line is what was asked for: `VM1-6 ── VM1 ── line ── VM2 ── VM3 ── VM3-6`.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::harness::{Lab, VM1, VM1_6, VM2};

/// VM3-6 on the native IPv6 path.
const FAR: &str = "fd00:1234:4::36";

#[test]
fn a_line_has_the_delay_and_the_rate_asked_for() {
    let lab = Lab::raise();
    lab.tool(&["direct"]);
    lab.tool(&["emulate", "--delay", "20ms", "--rate", "16mbit", "--buffer", "100kB"]);
    let rtt = fastest_ping(&lab);
    assert!((40.0..80.0).contains(&rtt), "{rtt} ms");

    // Three times what the line carries, to a port that nobody listens at.
    let _flood = lab.spawn(VM1_6, &format!("bash -c '{}'", flood()));
    sleep(Duration::from_secs(1));
    let (start, before) = (Instant::now(), arrived(&lab));
    sleep(Duration::from_secs(4));
    let bytes = arrived(&lab) - before;
    let rate = bytes as f64 * 8.0 / start.elapsed().as_secs_f64();
    assert!((0.8 * 16e6..1.2 * 16e6).contains(&rate), "{rate} bit/s");

    let counted = lab.tool(&["emulate", "off"]);
    let there = counted.lines().find(|line| line.starts_with("there:")).expect("a report");
    assert!(!there.contains(" overflowed=0 "), "the buffer has a bound: {there}");
    assert_eq!(counted.matches(" missed=0").count(), 2, "the emulator keeps up: {counted}");
}

#[test]
fn a_line_comes_and_goes_without_a_change_of_address_or_route() {
    let lab = Lab::raise();
    lab.tool(&["direct"]);
    let before = VISIBLE.map(|(host, command)| lab.run(host, command));
    lab.tool(&["emulate", "--delay", "30ms"]);
    assert_eq!(VISIBLE.map(|(host, command)| lab.run(host, command)), before);
    assert!(fastest_ping(&lab) >= 60.0);
    lab.tool(&["emulate", "--delay", "5ms/10ms"]);
    assert!(fastest_ping(&lab) >= 15.0);
    lab.tool(&["emulate", "off"]);
    assert_eq!(VISIBLE.map(|(host, command)| lab.run(host, command)), before);
    assert!(fastest_ping(&lab) < 15.0);
}

#[test]
fn a_line_loses_what_it_is_asked_to_lose() {
    let lab = Lab::raise();
    lab.tool(&["direct"]);
    lab.tool(&["emulate", "--blackhole", "off/on"]);
    lab.attempt(VM1, "ping -c 2 -i 0.1 -W 1 172.16.2.163").expect_err("no answer comes back");
    // Neighbours are known by now: what follows is counted echo for echo.
    lab.tool(&["emulate", "--delay", "1ms"]);
    fastest_ping(&lab);
    lab.tool(&["emulate", "--loss", "50%/0%"]);
    let pings = lab.run(VM1_6, &format!("ping -n -q -c 400 -i 0.005 -W 1 {FAR}"));
    let answers = pings.split(", ").nth(1).and_then(|part| part.split(' ').next());
    let answers: u32 = answers.and_then(|count| count.parse().ok()).expect("a count");
    assert!((120..280).contains(&answers), "{pings}");
    let counted = lab.tool(&["emulate", "off"]);
    assert!(counted.lines().any(|line| line.starts_with("back:") && line.contains(" lost=0 ")));
}

/// Where the line could show: both ends of the cable.
const VISIBLE: [(&str, &str); 2] = [(VM1, STATE), (VM2, STATE)];

/// Addresses, routes and the MAC address. The order of a host's own routes means nothing.
const STATE: &str = "ip -br addr show dev eth1 | sed s/@[^\\ ]*//; cat /sys/class/net/eth1/address; \
                     ip route; ip -6 route | sort";

/// The shortest of ten round trips to VM3-6, in ms.
fn fastest_ping(lab: &Lab) -> f64 {
    let pings = lab.run(VM1_6, &format!("ping -n -c 10 -i 0.05 {FAR}"));
    let times = pings.lines().filter_map(|line| line.split("time=").nth(1)?.strip_suffix(" ms"));
    let times = times.map(|time| time.parse::<f64>().expect("a time"));
    times.min_by(f64::total_cmp).unwrap_or_else(|| panic!("no answer: {pings}"))
}

/// Datagrams of 1000 bytes, 48 Mbit/s of them.
fn flood() -> String {
    format!(
        "exec 3<>/dev/udp/{FAR}/9; printf -v text %1000s; \
         while :; do for i in {{1..60}}; do printf %s \"$text\" >&3; done; sleep 0.01; done"
    )
}

/// Bytes that have left the line at VM2, Ethernet headers included.
fn arrived(lab: &Lab) -> u64 {
    let bytes = lab.run(VM2, "cat /sys/class/net/eth1/statistics/rx_bytes");
    bytes.trim().parse().expect("a number")
}
