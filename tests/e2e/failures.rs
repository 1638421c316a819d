//! The daemon hangs, dies, or is told nonsense: systemd puts it right, or says what to do.

use std::time::Duration;

use crate::gateways::{INTERFACE, PING, SOON, tunnelled};
use crate::machine::{Release, World};
use crate::wait::eventually;

on_both_releases! {
    a_daemon_that_hangs_is_replaced,
    a_daemon_that_crashes_comes_back_however_often,
    a_wrong_configuration_fails_once_and_says_why,
}

fn a_daemon_that_hangs_is_replaced(release: Release) {
    let world = World::new();
    let (near, _far) = tunnelled(&world, release);
    let limit = "[Service]\nWatchdogSec=2s\n";
    near.write("/etc/systemd/system/tunnel64d@.service.d/e2e.conf", "-m 0644", limit);
    near.run("systemctl daemon-reload; systemctl restart tunnel64d@tun0");
    let (before, interface) = (near.pid(), near.run(INTERFACE));
    near.run(&format!("kill -STOP {before}"));
    eventually("another process took over", SOON, || {
        let now = near.pid();
        now != before && now != "0"
    });
    assert!(!near.succeeds(&format!("test -d /proc/{before}")), "the one that hung is gone");
    near.await_success(PING, SOON);
    near.run("journalctl -u tunnel64d@tun0 | grep 'Watchdog timeout'");
    assert_eq!(near.run(INTERFACE), interface);
}

fn a_daemon_that_crashes_comes_back_however_often(release: Release) {
    let world = World::new();
    let (near, _far) = tunnelled(&world, release);
    // Faster than systemd's own limit, 5 starts in 10 seconds, would allow.
    near.write(
        "/etc/systemd/system/tunnel64d@.service.d/e2e.conf",
        "-m 0644",
        "[Service]\nRestartSec=10ms\n",
    );
    near.run("systemctl daemon-reload");
    let interface = near.run(INTERFACE);
    for _ in 0..8 {
        let before = near.pid();
        eventually("another process took over", Duration::from_secs(5), || {
            // Rust's handler returns from the first one, for the faulty instruction to fault again.
            let _ = near.attempt(&format!("kill -SEGV {before}"));
            let (now, state) = (near.pid(), near.property("ActiveState"));
            now != before && now != "0" && state == "active"
        });
    }
    assert_eq!(near.property("NRestarts"), "8");
    near.await_success(PING, SOON);
    assert_eq!(near.run(INTERFACE), interface);
}

fn a_wrong_configuration_fails_once_and_says_why(release: Release) {
    let world = World::new();
    let (near, _far) = tunnelled(&world, release);
    near.run("sed -i 's/^connect = /conect = /' /etc/tunnel64d/tun0.toml");
    near.attempt("systemctl restart tunnel64d@tun0").expect_err("the configuration is wrong");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(near.property("ActiveState"), "failed");
    assert_eq!(near.property("ExecMainStatus"), "78");
    assert_eq!(near.property("NRestarts"), "0");
    let status = near.attempt("systemctl status tunnel64d@tun0").expect_err("it is down");
    let why = r#"Status: "configuration rejected: /etc/tunnel64d/tun0.toml:9: link.conect: unknown key (did you mean "connect"?)""#;
    assert!(status.contains(why), "{status}");
    let why = r#"configuration rejected error="/etc/tunnel64d/tun0.toml:9: link.conect: unknown key (did you mean \"connect\"?)""#;
    assert!(status.contains(why), "{status}");

    // What root alone can read is no configuration for the daemon either.
    near.run("sed -i 's/^conect = /connect = /' /etc/tunnel64d/tun0.toml");
    near.run("tunnel64d check tun0");
    let drop_ins = "/etc/tunnel64d/tun0.d";
    near.run(&format!(
        "umask 077; mkdir {drop_ins}; echo 'link.dscp = 10' > {drop_ins}/class.toml"
    ));
    near.attempt("systemctl start tunnel64d@tun0").expect_err("the drop-in can't be read");
    for ask in ["tunnel64d check tun0", "tunnel64d status tun0"] {
        let said = near.attempt(ask).expect_err("it does not run");
        assert!(said.contains("/etc/tunnel64d/tun0.d: the daemon can't read it: "), "{said}");
        assert!(said.contains("`chown root:tunnel64d /etc/tunnel64d/tun0.d`"), "{said}");
    }
    near.run(&format!("chgrp -R tunnel64d {drop_ins}; chmod -R g+rX {drop_ins}"));
    near.run("tunnel64d check tun0");
    near.run("systemctl start tunnel64d@tun0");
    near.await_success(PING, SOON);
}
