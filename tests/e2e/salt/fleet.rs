//! A master and two gateways that are its minions.
//!
//! ```text
//!              master  eth1 10.0.1.1 ───── 10.0.1.2 eth2  near  eth1 172.16.2.131
//!                                                                      │
//!                      eth2 10.0.2.1 ───── 10.0.2.2 eth2  far   eth1 172.16.2.163
//! ```

use std::time::Duration;

use super::minion::{self, CURRENT, QUICK};
use super::pair::pillar;
use crate::gateways::{PING, SOON};
use crate::machine::{Machine, Release, Running, World};
use crate::wait::eventually;

#[test]
fn a_master_has_both_ends_learn_each_others_keys_and_rolls_them_one_after_the_other() {
    let world = World::new();
    let fleet = Fleet::boot(&world);
    fleet.roll().expect("both ends come up");
    fleet.near.run(PING);
    fleet.private_keys_are_where_they_were_made();
    fleet.roll().expect("nothing is to be done");

    a_roll_stops_at_the_first_end_that_does_not_come_back(&fleet);
    a_tunnel_that_goes_down_is_told_of(&fleet);
}

fn a_roll_stops_at_the_first_end_that_does_not_come_back(fleet: &Fleet<'_>) {
    let file = "cat /etc/tunnel64d/tun0.toml";
    let (before, pid) = (fleet.far.run(file), fleet.far.pid());
    fleet.pillar("link: {connect: '192.0.2.1', listen: '127.0.0.1', streams: 2}", "");
    fleet.pillar_of(&fleet.far, "queue: {target: 6ms}");
    let said = fleet.roll().expect_err("near does not come back");
    assert!(said.contains("tun0: not connected after 5 s"), "{said}");
    assert_eq!((fleet.far.run(file), fleet.far.pid()), (before, pid), "far: {said}");

    fleet.pillar("queue: {target: 6ms}", "queue: {target: 6ms}");
    fleet.roll().expect("both ends come back");
    for machine in [&fleet.near, &fleet.far] {
        machine.run("grep -q 6ms /etc/tunnel64d/tun0.toml");
    }
    fleet.near.run(PING);
}

fn a_tunnel_that_goes_down_is_told_of(fleet: &Fleet<'_>) {
    fleet.salt("far beacons.add tunnel64d '[{interval: 1}]'").expect("a beacon");
    let heard = fleet
        .master
        .spawn("env PYTHONUNBUFFERED=1 /opt/salt/bin/salt-run state.event 'salt/beacon/*'");
    // A tunnel changes once, and who listens only after that hears nothing.
    eventually("the master's events are heard", SOON * 2, || {
        fleet.salt("far event.send salt/beacon/far/ready").expect("an event");
        heard.output().contains("salt/beacon/far/ready")
    });
    for (command, word) in [("stop", "down"), ("start", "up")] {
        fleet.near.run(&format!("systemctl {command} tunnel64d@tun0"));
        let tag = format!("salt/beacon/far/tunnel64d/tun0/{word}");
        eventually(&format!("the master hears {tag}"), SOON, || heard.output().contains(&tag));
    }
    fleet.near.await_success(PING, SOON);
}

struct Fleet<'w> {
    master: Machine<'w>,
    near: Machine<'w>,
    far: Machine<'w>,
    _processes: Vec<Running>,
}

impl<'w> Fleet<'w> {
    fn boot(world: &'w World) -> Self {
        let [master, near, far] = ["master", "near", "far"]
            .map(|name| minion::boot(world, name, Release::Bookworm, CURRENT));
        world.wire((&near, "172.16.2.131/24"), (&far, "172.16.2.163/24"));
        for (number, eth, minion) in [(1, "eth1", &near), (2, "eth2", &far)] {
            world.cable((&master, eth), (minion, "eth2"));
            master.run(&format!("ip address add 10.0.{number}.1/24 dev {eth}"));
            minion.run(&format!("ip address add 10.0.{number}.2/24 dev eth2"));
            let name = minion.name();
            let config = format!("id: {name}\nmaster: 10.0.{number}.1\n{QUICK}");
            minion.write("/etc/salt/minion", "-m 0644", &config);
        }
        let config = "interface: 0.0.0.0\nauto_accept: true\nworker_threads: 3\n\
                      file_roots: {base: [/srv/formula, /srv/files]}\n\
                      pillar_roots: {base: [/srv/pillar]}\n";
        master.write("/etc/salt/master", "-m 0644", config);
        let fleet = Self {
            _processes: vec![
                master.spawn("/opt/salt/bin/salt-master -l info --log-file-level=debug"),
                near.spawn("/opt/salt/bin/salt-minion -l info --log-file-level=debug"),
                far.spawn("/opt/salt/bin/salt-minion -l info --log-file-level=debug"),
            ],
            master,
            near,
            far,
        };
        fleet.pillar("", "");
        let both = || {
            let answer = fleet.salt("'*' test.ping");
            answer.is_ok_and(|said| said.contains("near: true") && said.contains("far: true"))
        };
        eventually("both minions answer", Duration::from_secs(90), both);
        fleet.salt("'*' saltutil.sync_all").expect("the modules reach the minions");
        fleet
    }

    /// The pillars of both ends, with more below their tunnel.
    fn pillar(&self, near: &str, far: &str) {
        let top = "base: {near: [near, near-more], far: [far, far-more]}\n";
        self.master.write("/srv/pillar/top.sls", "-m 0644", top);
        self.pillar_of(&self.near, near);
        self.pillar_of(&self.far, far);
    }

    fn pillar_of(&self, machine: &Machine<'_>, more: &str) {
        let (name, peer) = if machine.name() == "near" { ("near", "far") } else { ("far", "near") };
        let text = format!("{}      peers: [{{minion: {peer}}}]\n", pillar(machine, ""));
        self.master.write(&format!("/srv/pillar/{name}.sls"), "-m 0600", &text);
        let text = format!("tunnel64d: {{tunnels: {{tun0: {{{more}}}}}}}\n");
        self.master.write(&format!("/srv/pillar/{name}-more.sls"), "-m 0600", &text);
    }

    fn salt(&self, arguments: &str) -> Result<String, String> {
        self.master.attempt(&format!("/opt/salt/bin/salt --timeout 20 --out=yaml {arguments}"))
    }

    fn roll(&self) -> Result<String, String> {
        let pillar = r#"{"roll": {"minions": ["near", "far"], "timeout": 5}}"#;
        self.master.attempt(&format!(
            "/opt/salt/bin/salt-run state.orchestrate tunnel64d.orch.roll pillar='{pillar}'"
        ))
    }

    /// Searches all that the master keeps and all that the minions wrote about.
    fn private_keys_are_where_they_were_made(&self) {
        for minion in [&self.near, &self.far] {
            let key = minion.run("cat /etc/tunnel64d/tun0.key");
            let public = minion.run("tunnel64d pubkey </etc/tunnel64d/tun0.key");
            let search = |what: &str, machine: &Machine<'_>| {
                let places = "/etc /home /root /run /srv /tmp /var";
                let command = format!("grep -srlF --binary-files=text -e '{what}' {places} | sort");
                machine.attempt(&command).unwrap_or_else(|said| said)
            };
            assert_eq!(search(key.trim(), &self.master), "", "the master knows a private key");
            assert_eq!(search(key.trim(), minion), "/etc/tunnel64d/tun0.key\n");
            let known = search(public.trim(), &self.master);
            assert!(known.contains("/var/cache/salt/master/"), "the search finds nothing: {known}");
        }
    }
}
