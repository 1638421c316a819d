//! Two gateways with the package installed, configured as the README says.

use std::time::Duration;

use crate::machine::{Machine, Release, World};
use crate::package::boot_installed;

/// Long enough for a start on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// A ping from the near gateway through the tunnel.
pub const PING: &str = "ping -c 1 -W 1 fc00:1234:ffff::10";

/// What must not change when a process takes over: index, routes and addresses of the interface.
pub const INTERFACE: &str = "cat /sys/class/net/tun0/ifindex; ip -6 route show dev tun0
                             ip -6 address show dev tun0";

const README: &str = include_str!("../../README.md");

/// Two booted machines on one wire, without the package.
pub fn wired(world: &World, near: Release) -> (Machine<'_>, Machine<'_>) {
    let (near, far) = (world.boot("near", near), world.boot("far", near.other()));
    wire(world, &near, &far);
    (near, far)
}

fn wire(world: &World, near: &Machine<'_>, far: &Machine<'_>) {
    world.wire((near, "172.16.2.131/24"), (far, "172.16.2.163/24"));
}

/// Two gateways whose tunnel passes a ping.
pub fn tunnelled(world: &World, near: Release) -> (Machine<'_>, Machine<'_>) {
    let (near, far) =
        (boot_installed(world, "near", near), boot_installed(world, "far", near.other()));
    wire(world, &near, &far);
    configure(&near, &far);
    for machine in [&near, &far] {
        machine.run("systemctl enable --now tunnel64d@tun0");
    }
    near.await_success(PING, SOON);
    (near, far)
}

/// Writes the README's files.
pub fn configure(near: &Machine<'_>, far: &Machine<'_>) {
    let keys = [near, far].map(|machine| {
        machine.run(
            "tunnel64d genkey | install -m 0640 -g tunnel64d /dev/stdin /etc/tunnel64d/tun0.key
             tunnel64d pubkey </etc/tunnel64d/tun0.key",
        )
    });
    let [ours, theirs] = readme_files();
    for (machine, file, key) in [(near, ours, &keys[1]), (far, theirs, &keys[0])] {
        let line = |line: &str| match line.starts_with("peer_public_keys = ") {
            true => format!("peer_public_keys = [\"{}\"]\n", key.trim()),
            false => format!("{line}\n"),
        };
        let file = file.lines().map(line).collect::<String>();
        machine.write("/etc/tunnel64d/tun0.toml", "-m 0640 -g tunnel64d", &file);
    }
}

/// The configuration files that the README shows: of this gateway, of the other one.
fn readme_files() -> [&'static str; 2] {
    let mut blocks = README.split("```toml\n").skip(1);
    [(); 2].map(|()| {
        let block = blocks.next().expect("two files in the README");
        block.split("```").next().expect("the end of the file")
    })
}

impl Machine<'_> {
    /// One property of the tunnel's unit.
    pub fn property(&self, name: &str) -> String {
        let show = format!("systemctl show --property={name} --value tunnel64d@tun0");
        self.run(&show).trim().to_owned()
    }

    /// The daemon's process.
    pub fn pid(&self) -> String {
        self.property("MainPID")
    }
}
