//! Who the peer is changes while it is connected.

use std::fs;
use std::time::Duration;

use super::{Traffic, tunnelled};
use crate::faults::FAR;
use crate::harness::{Daemon, Lab, VM1, VM1_6, VM3, eventually, sample_without};

/// The key of VM1 in the lab.
const VM1_KEY: &str = "4kNAmoS/UN7+S1Vv/hqdaNG7mYFmqmom+sS9hfp5UE0=";

#[test]
fn keys_are_rotated_while_traffic_flows() {
    let (lab, vm1, vm3) = tunnelled("");
    let (file, new) = lab.make_key("new.key");
    let session = lab.outer_connections(VM1);
    let traffic = Traffic::start(&lab);
    let reloaded = |daemon: &Daemon, drop_in: &str, key: &str| {
        daemon.reconfigure(drop_in);
        assert!(daemon.reload().contains(&format!("reloaded changed={key}")), "{}", daemon.log());
    };
    let accept_both = format!("security.peer_public_keys = [{VM1_KEY:?}, {new:?}]");
    reloaded(&vm3, &accept_both, "security.peer_public_keys");
    reloaded(&vm1, &format!("security.private_key_file = {file:?}"), "security.private_key_file");
    assert_eq!(lab.outer_connections(VM1), session);
    traffic.lost_nothing();

    // The session still rests on the old key, and ends with it; the next one proves the new key.
    let accept_new = format!("security.peer_public_keys = [{new:?}]");
    reloaded(&vm3, &accept_new, "security.peer_public_keys");
    eventually("there is another session", Duration::from_secs(10), || {
        let connections = lab.outer_connections(VM1);
        !connections.is_empty() && connections != session
    });
    lab.run(VM1_6, &format!("ping -c 1 -W 5 {FAR}"));
    let log = vm3.log();
    assert!(log.contains("its key is no longer in security.peer_public_keys"), "{log}");
}

#[test]
fn a_new_key_in_the_old_file_is_a_change() {
    let (lab, vm1, _vm3) = tunnelled("");
    let (file, _) = lab.make_key("new.key");
    fs::copy(file, lab.file(VM1).join("tun0.key")).expect("copied");
    assert!(vm1.reload().contains("changed=security.private_key_file"), "{}", vm1.log());
    assert!(vm1.reload().contains("changed=nothing"), "{}", vm1.log());
}

#[test]
fn a_peer_whose_key_or_address_is_taken_away_is_gone_at_once_and_does_not_come_back() {
    for taken in [
        format!("security.peer_public_keys = [{VM1_KEY:?}]"),
        "security.peer_addresses = [\"172.16.2.99/32\"]".to_owned(),
    ] {
        let lab = Lab::raise_after_failure();
        let only_listens = sample_without(VM3, "connect");
        let vm3 = lab.start_from(VM3, &only_listens, "");
        let vm1 = lab.start(VM1, "");
        lab.await_tunnel();
        // Our own key is refused as the peer's, so VM3 gets one that nobody has.
        let nobody = lab.make_key("nobody.key").1;
        vm3.reconfigure(&taken.replace(VM1_KEY, &nobody));
        assert!(vm3.reload().contains("configuration reloaded"), "{}", vm3.log());
        assert!(vm3.log().contains("session down"), "{}", vm3.log());
        vm1.await_log("does not take us any more");
        lab.attempt(VM1_6, &format!("ping -c 10 -i 0.2 -W 1 {FAR}")).expect_err("no way");
        vm3.reconfigure("");
        vm3.reload();
        lab.await_tunnel();
    }
}
