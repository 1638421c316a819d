//! Others on the same machine: systemd-networkd, needrestart.

use crate::gateways::{PING, SOON, tunnelled};
use crate::machine::{Release, World};
use crate::package::other_version;

on_both_releases! {
    networkd_leaves_addresses_and_routes_of_the_tunnel_alone,
    needrestart_does_not_restart_tunnels,
}

const ROUTES: &str = "ip -6 route show dev tun0; ip -6 address show dev tun0";

fn networkd_leaves_addresses_and_routes_of_the_tunnel_alone(release: Release) {
    let world = World::new();
    let (near, _far) = tunnelled(&world, release);
    let before = near.run(ROUTES);
    assert!(before.contains("fc00:1234:4::/64 via fc00:1234:ffff::10"), "{before}");
    let network = "[Match]\nName=eth1\n[Network]\nAddress=172.16.2.131/24\nKeepConfiguration=yes\n";
    near.write("/etc/systemd/network/eth1.network", "-m 0644", network);
    near.run("systemctl start systemd-networkd");
    // It is on the bus only a while after it says that it has started.
    near.await_success("busctl status org.freedesktop.network1", SOON);
    near.run("networkctl reload; networkctl reconfigure eth1");
    near.run("systemctl restart systemd-networkd");
    near.run(PING);
    assert_eq!(near.run(ROUTES), before);
    // Not even taken away for a moment and put right.
    let log = near.run("journalctl --sync; journalctl --no-pager -u tunnel64d@tun0");
    assert!(!log.contains("interface restored"), "{log}");
}

fn needrestart_does_not_restart_tunnels(release: Release) {
    let world = World::new();
    let (near, _far) = tunnelled(&world, release);
    let before = near.pid();
    near.install(&other_version(&world, "99.0", ""));
    let said = near.run("needrestart -v -r a -m a -l");
    assert!(said.contains("tunnel64d"), "it has not even looked: {said}");
    assert_eq!(near.pid(), before, "{said}");
}
