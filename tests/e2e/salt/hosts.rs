//! The lab as states: six booted hosts, one `state.apply` each.

use std::time::Duration;

use super::harness::{HOSTS, Lab, VM1, VM1_6, VM2, VM2_6, VM3, VM3_6, eventually};
use super::islands::{self, FAR, NEAR};
use crate::machine::World;

#[test]
fn six_hosts_are_brought_up_by_their_states_and_take_over_from_the_router_that_dies() {
    let world = World::new();
    let mut lab = Lab::boot(&world);
    for host in HOSTS {
        let run = lab.machine(host).apply("");
        run.succeeds();
        assert!(!run.changed().is_empty(), "{host}: {}", run.text());
        assert!(!run.text().contains("dNAvdgxqUfANkreQu7j71KG"), "VM1's key: {}", run.text());
    }
    for host in HOSTS {
        let run = lab.machine(host).apply("");
        assert_eq!(run.succeeds().changed(), [""; 0], "{host}: {}", run.text());
    }
    await_islands(&lab);
    let between = lab.run(VM1_6, "ping -c 1 -W 2 fc00:1234:2::36");
    assert!(between.contains("ttl=63 "), "through VM2-6, while it lives: {between}");

    lab.kill(VM2_6);
    islands::ping_each_other_with_ttl_62(&lab);
    islands::traceroute_names_every_router(&lab);
    islands::inetd_echoes_through_the_tunnel_on_ipv6_alone(&lab);
    islands::half_closes_resets_and_two_clients_pass_through(&lab);
    islands::netcat_messages_pass_and_a_closed_port_says_so(&lab);
    islands::a_port_scan_finds_exactly_the_open_ports(&lab);
    islands::iperf3_completes_with_every_length_and_loses_no_byte(&lab);
    islands::addresses_and_ports_cross_unchanged(&lab);
    islands::full_packets_pass_and_larger_ones_bring_back_packet_too_big(&lab);

    drift_is_named_and_mended(&lab);
    the_dialling_end_may_sit_behind_nat(&lab);

    lab.reboot(&[VM1, VM3, VM1_6, VM3_6]);
    await_islands(&lab);
    for host in [VM1_6, VM3_6, VM3, VM1] {
        let run = lab.machine(host).apply("");
        assert_eq!(run.succeeds().changed(), [""; 0], "{host} after a boot: {}", run.text());
    }
}

fn drift_is_named_and_mended(lab: &Lab) {
    let by_hand = [
        (VM1_6, "ip -6 route del fc00:1234:4::/64", vec!["tunnel64d-route-fc00:1234:4::/64"]),
        (
            VM3_6,
            "rm /etc/network/if-up.d/tunnel64d-*ffff*",
            vec!["tunnel64d-route-fc00:1234:ffff::/64"],
        ),
        (VM2, "sysctl -qw net.ipv4.ip_forward=0", vec!["tunnel64d-sysctl"]),
        (VM1, "systemctl stop tunnel64d@tun0", vec!["tunnel64d-tun0-running"]),
        (
            VM3,
            "sed -i s/4641/4642/ /etc/tunnel64d/tun0.toml",
            vec!["tunnel64d-tun0-config", "tunnel64d-tun0-running"],
        ),
    ];
    for (host, drift, expected) in &by_hand {
        let machine = lab.machine(host);
        machine.run(drift);
        for _ in 0..2 {
            let foreseen = machine.apply("test=True");
            assert_eq!(foreseen.succeeds().changed(), *expected, "{host}: {}", foreseen.text());
        }
        let mended = machine.apply("");
        assert_eq!(mended.succeeds().changed(), *expected, "{host}: {}", mended.text());
    }
    await_islands(lab);
    for (host, ..) in by_hand {
        let run = lab.machine(host).apply("test=True");
        assert_eq!(run.succeeds().changed(), [""; 0], "{host}: {}", run.text());
    }
}

/// Row 12: VM1 dials only, VM3 listens only, and VM2 hides VM1.
fn the_dialling_end_may_sit_behind_nat(lab: &Lab) {
    lab.run(
        VM2,
        "nft 'add table ip nat
         add chain ip nat postrouting { type nat hook postrouting priority srcnat; }
         add rule ip nat postrouting oifname \"eth2\" ip saddr 172.16.2.128/28 masquerade'",
    );
    for (host, one_way) in [
        (VM1, r#"{"link": {"listen": null}}"#),
        (
            VM3,
            r#"{"link": {"connect": null}, "security": {"peer_addresses": ["172.16.2.162/32"]}}"#,
        ),
    ] {
        let pillar = format!(r#"pillar='{{"tunnel64d": {{"tunnels": {{"tun0": {one_way}}}}}}}'"#);
        let run = lab.machine(host).apply(&pillar);
        let expected = ["tunnel64d-tun0-config", "tunnel64d-tun0-running"];
        assert_eq!(run.succeeds().changed(), expected, "{}", run.text());
    }
    // A session that is up stays, also one that VM3 has dialled.
    lab.machine(VM1).run("systemctl restart tunnel64d@tun0");
    await_islands(lab);
    let seen = lab.run(VM3, "ss -Htn state established '( sport = :4641 )' | awk '{print $4}'");
    assert!(!seen.is_empty());
    assert!(seen.lines().all(|peer| peer.starts_with("172.16.2.162:")), "{seen}");

    lab.run(VM2, "nft delete table ip nat");
    for host in [VM1, VM3] {
        lab.machine(host).apply("").succeeds();
    }
    await_islands(lab);
}

fn await_islands(lab: &Lab) {
    for (host, target) in [(VM1_6, FAR), (VM3_6, NEAR)] {
        eventually(&format!("{host} reaches {target}"), Duration::from_secs(30), || {
            lab.attempt(host, &format!("ping -c 1 -W 1 {target}")).is_ok()
        });
    }
}
