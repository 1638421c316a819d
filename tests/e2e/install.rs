//! From nothing to a tunnel, and again after a boot.

use crate::gateways::{PING, SOON, configure, tunnelled, wired};
use crate::machine::{Release, World};
use crate::package;

on_both_releases! {
    a_gateway_set_up_as_the_readme_says_answers_and_does_so_after_a_reboot,
    a_key_is_taken_from_the_credential_store,
}

on_one_release! {
    the_shipped_example_is_valid_and_every_key_in_it_too,
}

fn a_gateway_set_up_as_the_readme_says_answers_and_does_so_after_a_reboot(release: Release) {
    let world = World::new();
    let (mut near, far) = wired(&world, release);
    for machine in [&near, &far] {
        let said = machine.install(&package::built());
        assert!(!said.contains("running tunnels"), "nothing runs yet: {said}");
        assert!(!machine.succeeds("systemctl is-active 'tunnel64d@*'"), "nothing was asked to run");
    }
    configure(&near, &far);
    for machine in [&near, &far] {
        machine.run("systemctl enable --now tunnel64d@tun0");
    }
    near.await_success(PING, SOON);
    let status = near.run("systemctl status tunnel64d@tun0");
    assert!(status.contains("Status: \"connected"), "{status}");

    near.reboot();
    near.await_success(PING, SOON);
    assert_eq!(near.run("systemctl is-system-running --wait").trim(), "running");
}

fn a_key_is_taken_from_the_credential_store(release: Release) {
    let world = World::new();
    let (near, _far) = tunnelled(&world, release);
    near.run("systemctl stop tunnel64d@tun0");
    near.run(
        "install -D -m 0600 /etc/tunnel64d/tun0.key /etc/credstore/tunnel64d.tun0.key
         rm /etc/tunnel64d/tun0.key
         sed -i '/^private_key_file/d' /etc/tunnel64d/tun0.toml",
    );
    near.run("systemctl start tunnel64d@tun0");
    near.await_success(PING, SOON);
}

fn the_shipped_example_is_valid_and_every_key_in_it_too(release: Release) {
    let world = World::new();
    let near = package::boot_installed(&world, "near", release);
    near.run("cp /usr/share/doc/tunnel64d/examples/tun0.toml /etc/tunnel64d/");
    near.run("tunnel64d check tun0");
    near.run("sed -i 's/^# \\(\"\\?[a-z0-9_./]*\"\\? = \\)/\\1/' /etc/tunnel64d/tun0.toml");
    near.run("grep -q '^ecn = ' /etc/tunnel64d/tun0.toml");
    near.run("tunnel64d check tun0");
}
