//! Removing and purging the package.

use crate::gateways::{PING, SOON, tunnelled};
use crate::machine::{Release, World};
use crate::package;

on_both_releases! {
    removing_stops_the_tunnel_and_keeps_what_the_administrator_wrote,
    purging_removes_configuration_and_keys,
}

/// systemd closes what it has kept a moment after the service has ended.
const GONE: &str = "! ip link show tun0";

fn removing_stops_the_tunnel_and_keeps_what_the_administrator_wrote(release: Release) {
    let world = World::new();
    let (near, _far) = tunnelled(&world, release);
    let before = near.pid();
    near.run("apt-get remove -y tunnel64d");
    assert!(!near.succeeds(&format!("test -d /proc/{before}")), "the daemon was stopped");
    near.await_success(GONE, SOON);
    near.run("test -e /etc/tunnel64d/tun0.toml");
    assert_eq!(near.run("systemctl --failed --plain --no-legend"), "");

    near.install(&package::built());
    near.run("systemctl start tunnel64d@tun0");
    near.run("systemctl is-enabled tunnel64d@tun0");
    near.await_success(PING, SOON);
}

fn purging_removes_configuration_and_keys(release: Release) {
    let world = World::new();
    let (near, _far) = tunnelled(&world, release);
    near.write("/etc/credstore/tunnel64d.tun0.key", "-m 0600", "a key\n");
    near.write("/etc/credstore/another.key", "-m 0600", "somebody else's\n");
    near.run("systemctl enable tunnel64d@other.service tunnel64d@other.socket");
    near.run("apt-get purge -y tunnel64d");
    let left = near.run(
        "find /etc /run /usr /var/lib/systemd -name '*tunnel64d*' -not -path '/run/systemd/*'",
    );
    assert_eq!(left, "");
    near.run("test -e /etc/credstore/another.key");
    near.await_success(GONE, SOON);
}
