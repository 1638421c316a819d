//! `systemctl reload`: the unit's sandbox lets the daemon read and apply what is new, and systemd
//! knows what came of it.

use crate::gateways::{PING, tunnelled};
use crate::machine::{Machine, Release, World};

on_both_releases! {
    a_reload_is_applied_or_refused_and_the_service_runs_on,
}

fn a_reload_is_applied_or_refused_and_the_service_runs_on(release: Release) {
    let world = World::new();
    let (near, _far) = tunnelled(&world, release);
    let (pid, session) = (near.pid(), connections(&near));

    near.run("sed -i '/^addresses/a mtu = 1400' /etc/tunnel64d/tun0.toml");
    near.run("systemctl reload tunnel64d@tun0");
    near.run("ip link show tun0 | grep ' mtu 1400 '");
    near.run("journalctl -u tunnel64d@tun0 | grep 'configuration reloaded changed=interface.mtu'");

    near.run("sed -i '/^.link.$/a streams = 4' /etc/tunnel64d/tun0.toml");
    let rejected = near.attempt("systemctl reload tunnel64d@tun0");
    rejected.expect_err("streams need a restart");
    let journal = near.run("journalctl -x -u tunnel64d@tun0");
    for line in [
        "tun0.toml:10: link.streams: needs a restart",
        "the old configuration is still in force",
        "a key that only a restart applies",
    ] {
        assert!(journal.contains(line), "{line:?} in {journal}");
    }

    assert_eq!(near.property("ActiveState"), "active");
    assert_eq!(near.property("SubState"), "running");
    assert_eq!((near.pid(), connections(&near)), (pid, session));
    near.run(PING);

    // The socket is not for everybody.
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    near.run(&format!("{nobody} tunnel64d reload tun0; test $? = 77"));
    near.run("systemctl stop tunnel64d@tun0; tunnel64d reload tun0; test $? = 69");
}

/// The connections of the session, at both their ends.
fn connections(machine: &Machine<'_>) -> String {
    machine.run(
        "ss -Htn state established '( sport = :4641 or dport = :4641 )' | awk '{print $3, $4}'",
    )
}
