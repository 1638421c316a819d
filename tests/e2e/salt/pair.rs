//! Two gateways that Salt has brought up, each with a key of its own making.
//!
//! ```text
//!    near  eth1 172.16.2.131/24 ───────── 172.16.2.163/24 eth1  far
//!          tun0 fc00:1234:ffff::1 ══════ fc00:1234:ffff::10 tun0
//! ```

use super::minion;
use crate::machine::{Machine, Release, World};

/// A tunnel that passes pings.
pub struct Pair<'w> {
    pub near: Machine<'w>,
    pub far: Machine<'w>,
}

impl<'w> Pair<'w> {
    /// Two machines on one wire, with Salt.
    pub fn boot(world: &'w World, release: Release, version: &str) -> Self {
        let near = minion::boot(world, "near", release, version);
        let far = minion::boot(world, "far", release, version);
        world.wire((&near, "172.16.2.131/24"), (&far, "172.16.2.163/24"));
        let pair = Self { near, far };
        for machine in pair.machines() {
            machine.pillar(&pillar(machine, ""));
            machine.call("saltutil.sync_all");
        }
        pair
    }

    /// Applies keys first, then, with the other's public key in the pillar, everything.
    pub fn raise(&self) {
        let keys = self.machines().map(|machine| {
            machine.apply("tunnel64d.keys").succeeds();
            let key = machine.call("tunnel64d.pubkey tun0");
            key.as_str().expect("a key").to_owned()
        });
        for (machine, key) in [(&self.near, &keys[1]), (&self.far, &keys[0])] {
            machine.pillar(&pillar(machine, key));
            machine.apply("").succeeds();
        }
        self.near.await_success(crate::gateways::PING, crate::gateways::SOON);
    }

    pub fn machines(&self) -> [&Machine<'w>; 2] {
        [&self.near, &self.far]
    }
}

/// The pillar of either end; `peer_key` may be empty.
pub fn pillar(machine: &Machine<'_>, peer_key: &str) -> String {
    let (own, peer, tun, behind, via) = match machine.name() {
        "near" => ("172.16.2.131", "172.16.2.163", "::1", "4", "::10"),
        _ => ("172.16.2.163", "172.16.2.131", "::10", "3", "::1"),
    };
    format!(
        "tunnel64d:
  package:
    source: salt://tunnel64d.deb
    source_hash: sha256={hash}
  sysctl:
    forward_ipv6: true
    accept_ra: [eth1]
  routes:
    10.99.0.0/16:
      dev: eth1
      via: 172.16.2.200
  tunnels:
    tun0:
      wait_connected: 0
      interface:
        addresses: ['fc00:1234:ffff{tun}/64']
        routes:
          fc00:1234:{behind}::/64:
            via: fc00:1234:ffff{via}
      link:
        listen: {own}:4641
        connect: {peer}:4641
      security:
        peer_public_keys: [{peer_key}]
",
        hash = machine.run("sha256sum </srv/files/tunnel64d.deb | cut -d ' ' -f 1").trim(),
    )
}
