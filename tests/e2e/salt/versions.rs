//! The same formula on every version of Salt that is maintained, and on both releases of Debian.

use serde_json::json;

use super::minion::CURRENT;
use super::pair::Pair;
use crate::gateways::{PING, SOON};
use crate::machine::{Release, World};

#[test]
fn the_formula_works_on_3006() {
    works(Release::Bookworm, "3006.24");
}

#[test]
fn the_formula_works_on_3007() {
    works(Release::Bookworm, "3007.15");
}

#[test]
fn the_formula_works_on_3008() {
    works(Release::Bookworm, CURRENT);
}

#[test]
fn the_formula_works_on_debian_13() {
    works(Release::Trixie, CURRENT);
}

/// What the first run of a gateway does.
const ALL: [&str; 8] = [
    "tunnel64d-package-file",
    "tunnel64d-package",
    "tunnel64d-tun0-key",
    "tunnel64d-tun0-config",
    "tunnel64d-sysctl",
    "tunnel64d-route-10.99.0.0/16",
    "tunnel64d-tun0-enabled",
    "tunnel64d-tun0-running",
];

const FILES: &str = "find /etc -type f -printf '%p %T@\\n' | sort";

fn works(release: Release, version: &str) {
    let world = World::new();
    let pair = Pair::boot(&world, release, version);
    let before = pair.near.run(FILES);
    let foreseen = pair.near.apply("tunnel64d test=True");
    assert_eq!(foreseen.succeeds().changed(), ALL, "{}", foreseen.text());
    assert_eq!(pair.near.run(FILES), before);
    assert!(!pair.near.succeeds("command -v tunnel64d"), "a test changes nothing");

    pair.raise();
    for machine in pair.machines() {
        let run = machine.apply("");
        assert_eq!(run.succeeds().changed(), [""; 0], "{}", run.text());
        machine.call("tunnel64d.wait_connected tun0");
    }
    assert_eq!(pair.near.call("tunnel64d.down"), json!({}));
    assert_eq!(pair.near.call("tunnel64d.status")["tun0"]["connected"], true);
    assert_eq!(pair.near.call("tunnel64d.check tun0"), json!([]));
    assert_eq!(pair.near.run("stat -c '%a %U:%G' /etc/tunnel64d/tun0.key"), "640 root:tunnel64d\n");

    a_change_reaches_the_daemon(&pair);

    let tests = "/opt/salt/bin/python -B -m unittest discover -q -s /srv/tests -p '*_test.py'";
    let said = pair.near.run(tests);
    assert!(said.contains("\nOK"), "{said}");
}

fn a_change_reaches_the_daemon(pair: &Pair) {
    let near = &pair.near;
    let key = near.run("cat /etc/tunnel64d/tun0.key");
    for (change, done, same) in [
        (r#""interface": {"mtu": 1400}"#, "reloaded (interface.mtu)", true),
        (r#""interface": {"mtu": 1400}, "link": {"streams": 2}"#, "restarted", false),
    ] {
        let pillar =
            format!(r#"pillar='{{"tunnel64d": {{"tunnels": {{"tun0": {{{change}}}}}}}}}'"#);
        let (pid, expected) = (near.pid(), ["tunnel64d-tun0-config", "tunnel64d-tun0-running"]);
        let foreseen = near.apply(&format!("{pillar} test=True"));
        assert_eq!(foreseen.succeeds().changed(), expected, "{}", foreseen.text());
        let run = near.apply(&pillar);
        assert_eq!(run.succeeds().changed(), expected, "{}", run.text());
        let comment = run.comment("tunnel64d-tun0-running");
        assert!(comment.contains(&format!("The tunnel was {done}")), "{comment}");
        assert_eq!(near.pid() == pid, same);
        near.await_success("ip link show tun0 | grep -q 'mtu 1400'", SOON);
        near.await_success(PING, SOON);
    }
    assert_eq!(near.run("cat /etc/tunnel64d/tun0.key"), key);
}
