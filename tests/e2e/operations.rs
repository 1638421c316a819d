//! The operations guide, done as it is written: every command, in order, on the gateway that it is
//! for.

use crate::gateways::{PING, SOON, tunnelled};
use crate::machine::{Machine, Release, World};

on_both_releases! { every_command_of_the_operations_guide_does_what_it_says }

const GUIDE: &str = include_str!("../../docs/operations.md");

fn every_command_of_the_operations_guide_does_what_it_says(release: Release) {
    let world = World::new();
    let (near, far) = tunnelled(&world, release);
    far.run("install -d -m 0750 -g tunnel64d /etc/tunnel64d/tun0.d");
    let blocks = blocks();
    assert!(blocks.len() > 40, "{}", blocks.len());
    for Block { host, needs, script } in blocks {
        let (machine, other) = match host {
            "vm1" => (&near, &far),
            "vm3" => (&far, &near),
            host => panic!("no gateway {host}: {script}"),
        };
        // Not every kernel has them; the others prove nothing about these commands.
        if needs == Some("vrf") && !machine.succeeds("ip link add probe type vrf table 99") {
            continue;
        }
        machine.run(&format!("set -eu; {script}"));
        hand_over_public_keys(machine, other);
    }
    near.await_success(PING, SOON);
}

/// Commands for one gateway.
struct Block {
    host: &'static str,
    needs: Option<&'static str>,
    script: &'static str,
}

fn blocks() -> Vec<Block> {
    let blocks = GUIDE.split("\n```sh ").skip(1).map(|rest| {
        let (words, rest) = rest.split_once('\n').expect("a first line");
        let (script, _) = rest.split_once("```").expect("the end of the block");
        let mut words = words.split(' ');
        Block { host: words.next().expect("a gateway"), needs: words.next(), script }
    });
    blocks.collect()
}

/// What the guide leaves to the reader.
fn hand_over_public_keys(from: &Machine<'_>, to: &Machine<'_>) {
    for path in from.run("ls /etc/tunnel64d | grep -x '.*[.]pub' || true").lines() {
        let key = from.run(&format!("cat /etc/tunnel64d/{path}"));
        to.write(&format!("/etc/tunnel64d/{path}"), "-m 0644", &key);
    }
}
