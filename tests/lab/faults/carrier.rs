//! VM3's daemon is gone for longer than `dead_after`: VM1's tun0 loses its carrier, its routes are
//! passed over, and whoever sends into the tunnel is told instead of left waiting.
//!
//! ```text
//!   VM1-6 ── VM1 ══ NO-CARRIER      VM3 ── VM3-6
//!       ◀── unreachable
//! ```

use std::time::Duration;

use super::FAR;
use crate::harness::{Lab, VM1, VM1_6, eventually};

const QUICK: &str = "link.keepalive = \"1s\"\nlink.dead_after = \"3s\"\n\
                     link.reconnect = { min = \"200ms\", max = \"1s\" }\n";
const INNER4: &str = "10.64.0.10";

#[test]
fn senders_are_told_when_the_peer_is_gone_and_served_when_it_is_back() {
    let inner = |four, six| format!("{QUICK}interface.addresses = [\"{four}/24\", \"{six}/64\"]");
    let (lab, vm1, mut vm3) = Lab::raise_tunnelled_with(
        &inner("10.64.0.1", "fc00:1234:ffff::1"),
        &inner(INNER4, "fc00:1234:ffff::10"),
    );
    let has_carrier = || !lab.run(VM1, "ip link show tun0").contains("NO-CARRIER");
    lab.run(VM1, &format!("ping -c 1 -W 5 {INNER4}"));
    vm3.kill();
    assert!(has_carrier(), "a short interruption is bridged");
    eventually("tun0 loses its carrier", Duration::from_secs(15), || !has_carrier());

    let forwarded = || lab.attempt(VM1_6, &format!("ping -c 1 -W 2 {FAR}"));
    eventually("VM1 tells VM1-6", Duration::from_secs(5), || {
        forwarded().is_err_and(|answer| answer.contains("Destination unreachable"))
    });
    let own = lab.attempt(VM1, &format!("ping -c 1 -W 2 {INNER4}")).expect_err("nobody is there");
    assert!(own.contains("Network is unreachable"), "{own}");
    assert!(vm1.log().contains("carrier lost"), "{}", vm1.log());
    assert!(!vm1.log().contains("a lost carrier will go unnoticed"), "{}", vm1.log());

    vm3.start_again(&lab);
    eventually("tun0 has its carrier back", Duration::from_secs(10), has_carrier);
    eventually("VM1-6 is served again", Duration::from_secs(5), || forwarded().is_ok());
    lab.run(VM1, &format!("ping -c 1 -W 5 {INNER4}"));
}
