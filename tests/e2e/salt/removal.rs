//! `tunnel64d.clean`, and tunnels that the pillar no longer wants.

use super::minion::{CURRENT, Run};
use super::pair::Pair;
use crate::gateways::{PING, SOON};
use crate::machine::{Machine, Release, World};
use crate::package::other_version;

#[test]
fn what_the_formula_brought_it_takes_away_again() {
    let world = World::new();
    let pair = Pair::boot(&world, Release::Bookworm, CURRENT);
    let near = &pair.near;
    near.run("sysctl -qw net.ipv6.conf.eth1.accept_ra=0");
    let before = near.run(HOST);
    pair.raise();
    assert_ne!(near.run(HOST), before);
    let key = near.run("cat /etc/tunnel64d/tun0.key");

    an_upgrade_leaves_the_tunnel_alone_unless_the_pillar_says_so(&world, near);
    a_tunnel_is_disabled_enabled_and_absent(near);

    near.apply("").succeeds();
    let foreseen = near.apply("tunnel64d.clean test=True");
    foreseen.succeeds();
    near.run(PING);
    near.apply("tunnel64d.clean").succeeds();
    assert_eq!(near.run(HOST), before);
    assert_eq!(near.run(FILES), "/etc/tunnel64d\n/etc/tunnel64d/tun0.key\n");
    assert_eq!(near.run("cat /etc/tunnel64d/tun0.key"), key);
    let again = near.apply("tunnel64d.clean");
    assert_eq!(again.succeeds().changed(), [""; 0], "{}", again.text());

    near.apply("test=True").succeeds();
    near.apply("").succeeds();
    near.await_success(PING, SOON);
    assert_eq!(near.run("cat /etc/tunnel64d/tun0.key"), key, "peers still know this one");
    near.apply(r#"tunnel64d.clean pillar='{"tunnel64d": {"purge": true}}'"#).succeeds();
    assert_eq!(near.run(FILES), "");
    assert_eq!(near.run(HOST), before);
}

/// What a host is like, without the package.
const HOST: &str =
    "ip -br link; ip -6 route; ip route; sysctl net.ipv6.conf | grep -v -e stable_secret -e tun0";

/// What is ours of what packages leave behind when they are removed and not purged: needrestart's
/// file is a conffile of the package.
const FILES: &str = "find /etc /run /usr /var/cache -name '*tunnel64d*' -not -path '/run/systemd/*' \
     -not -path '/var/cache/salt/*' -not -path '/etc/needrestart/*'; [ ! -e /etc/tunnel64d ] || find /etc/tunnel64d -type f";

fn an_upgrade_leaves_the_tunnel_alone_unless_the_pillar_says_so(world: &World, near: &Machine) {
    let pid = near.pid();
    near.copy(&other_version(world, "99.0", ""), "/root/newer.deb");
    let with = |more: &str| {
        format!(
            r#"pillar='{{"tunnel64d": {{"package": {{"from": "path", "path": "/root/newer.deb" {more}}}}}}}'"#
        )
    };
    let run = near.apply(&with(r#", "version": "99.0""#));
    assert_eq!(run.succeeds().changed(), ["tunnel64d-package"], "{}", run.text());
    assert_eq!(near.pid(), pid);
    let run = near.apply(&with(r#", "restart_on_upgrade": true"#));
    assert_eq!(run.succeeds().changed(), ["tunnel64d-tun0-running"], "{}", run.text());
    assert_ne!(near.pid(), pid);
    near.await_success(PING, SOON);
    // Back to the version of the file server.
    let run = near.apply("");
    assert_eq!(run.succeeds().changed(), ["tunnel64d-package"], "{}", run.text());
}

fn a_tunnel_is_disabled_enabled_and_absent(near: &Machine) {
    let tunnel = |key: &str| -> Run {
        near.apply(&format!(r#"pillar='{{"tunnel64d": {{"tunnels": {{"tun0": {{{key}}}}}}}}}'"#))
    };
    let stopped = tunnel(r#""enabled": false"#);
    assert_eq!(stopped.succeeds().changed(), ["tunnel64d-tun0-dead"], "{}", stopped.text());
    assert!(!near.succeeds("ip link show tun0"));
    near.run("test -e /etc/tunnel64d/tun0.toml");
    let started = tunnel("");
    let expected = ["tunnel64d-tun0-enabled", "tunnel64d-tun0-running"];
    assert_eq!(started.succeeds().changed(), expected, "{}", started.text());
    near.await_success(PING, SOON);
    one_that_never_comes_up_is_no_tunnel_that_runs(near);
    let gone = tunnel(r#""absent": true"#);
    let expected = ["tunnel64d-tun0-dead", "tunnel64d-tun0-absent"];
    assert_eq!(gone.succeeds().changed(), expected, "{}", gone.text());
    near.run("test -e /etc/tunnel64d/tun0.key -a ! -e /etc/tunnel64d/tun0.toml");
}

fn one_that_never_comes_up_is_no_tunnel_that_runs(near: &Machine) {
    let directory = "/run/systemd/system/tunnel64d@tun0.service.d";
    let drop_in = "[Service]\nExecStartPre=/bin/false\n";
    near.write(&format!("{directory}/fails.conf"), "-m 0644", drop_in);
    near.attempt("systemctl daemon-reload; systemctl restart tunnel64d@tun0")
        .expect_err("no start");
    let state = near.run("systemctl show -P ActiveState tunnel64d@tun0");
    assert_eq!(state.trim(), "activating", "systemd goes on trying");
    let run = near.apply("");
    assert!(run.fails().contains("tunnel64d@tun0.service is activating"), "{}", run.text());
    near.run(&format!(
        "rm -r {directory}; systemctl daemon-reload; systemctl restart tunnel64d@tun0"
    ));
}
