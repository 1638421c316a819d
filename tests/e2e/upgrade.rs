//! New versions under running tunnels.

use crate::gateways::{PING, SOON, tunnelled};
use crate::machine::{Machine, Release, Running, World};
use crate::package::{self, other_version};
use crate::wait::eventually;

on_both_releases! {
    an_upgrade_leaves_the_tunnel_and_the_session_in_it_alone,
}

on_one_release! {
    a_restart_leaves_the_session_in_the_tunnel_alive,
    reinstalling_and_downgrading_leave_the_tunnel_alone,
    a_failed_upgrade_leaves_the_tunnel_alone_and_can_be_mended,
}

const HINT: &str = "  tunnel64d check tun0 && systemctl restart tunnel64d@tun0.service\n";

fn an_upgrade_leaves_the_tunnel_and_the_session_in_it_alone(release: Release) {
    let world = World::new();
    let (near, far) = tunnelled(&world, release);
    let newer = other_version(&world, "99.0", "");
    let mut session = Session::open(&near, &far);
    for machine in [&near, &far] {
        let before = machine.pid();
        let said = machine.install(&newer);
        assert!(said.contains(HINT), "{said}");
        assert_eq!(machine.pid(), before);
        session.goes_on();
    }
    assert_eq!(near.property("NeedDaemonReload"), "no");
    assert!(!is_of(&near, "99.0"));
    near.run("systemctl restart tunnel64d@tun0");
    assert!(is_of(&near, "99.0"));
    let said = near.install(&newer);
    assert!(!said.contains(HINT), "nothing old runs any more: {said}");
}

fn a_restart_leaves_the_session_in_the_tunnel_alive(release: Release) {
    let world = World::new();
    let (near, far) = tunnelled(&world, release);
    let mut session = Session::open(&near, &far);
    for machine in [&near, &far] {
        machine.run("systemctl restart tunnel64d@tun0");
        session.goes_on();
    }
}

fn reinstalling_and_downgrading_leave_the_tunnel_alone(release: Release) {
    let world = World::new();
    let (near, _far) = tunnelled(&world, release);
    let before = near.pid();
    let said = near.install(&package::built());
    assert!(!said.contains(HINT), "the same binary: {said}");
    let said = near.install(&other_version(&world, "0.0.1", ""));
    assert!(said.contains(HINT), "{said}");
    assert_eq!(near.pid(), before);
    near.run(PING);
}

fn a_failed_upgrade_leaves_the_tunnel_alone_and_can_be_mended(release: Release) {
    let world = World::new();
    let (near, _far) = tunnelled(&world, release);
    let before = near.pid();
    let refused = "printf '#!/bin/sh\\nexit 1\\n' >DEBIAN/preinst; chmod 755 DEBIAN/preinst";
    let unfinished = "sed -i '2i [ -e /root/mended ] || exit 1' DEBIAN/postinst";

    near.try_install(&other_version(&world, "98.0", refused)).expect_err("its preinst fails");
    assert_ne!(installed(&near), "98.0");
    near.try_install(&other_version(&world, "98.1", unfinished)).expect_err("its postinst fails");
    assert_eq!(installed(&near), "98.1");
    near.run("touch /root/mended");
    let said = near.run("dpkg --configure -a");
    assert!(said.contains(HINT), "{said}");
    assert_eq!(near.run("dpkg --audit"), "");
    assert_eq!(near.pid(), before);
    near.run(PING);
}

/// Whether the running daemon is of the binary that [`other_version`] made for `version`.
fn is_of(machine: &Machine<'_>, version: &str) -> bool {
    let marked = format!("tail -c 40 /proc/{}/exe | grep -aqx {version}", machine.pid());
    machine.succeeds(&marked)
}

fn installed(machine: &Machine<'_>) -> String {
    machine.run("dpkg-query -W -f '${Version}' tunnel64d")
}

/// A session of ssh through the tunnel.
struct Session(Running);

impl Session {
    fn open(near: &Machine<'_>, far: &Machine<'_>) -> Self {
        near.run("mkdir -p /root/.ssh; ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519");
        let key = near.run("cat /root/.ssh/id_ed25519.pub");
        far.write("/root/.ssh/authorized_keys", "-m 0600", &key);
        far.await_success("systemctl is-active ssh", SOON);
        let mut session = Self(near.spawn(
            "ssh -o StrictHostKeyChecking=no -o BatchMode=yes root@fc00:1234:ffff::10 \
                 'while sleep 0.1; do echo alive; done'",
        ));
        session.goes_on();
        session
    }

    /// Returns when the session has said ten things more.
    fn goes_on(&mut self) {
        let said = |session: &Self| session.0.output().matches("alive").count();
        let before = said(self);
        eventually("the session goes on", SOON, || {
            assert!(self.0.runs(), "the session has ended: {}", self.0.output());
            said(self) >= before + 10
        });
    }
}
