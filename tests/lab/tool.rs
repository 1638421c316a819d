//! The lab's own promises: alone, beside others, and gone.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::harness::{Lab, VM1_6, VM2_6, demand_what_the_lab_needs, eventually, tool};

const FAR: &str = "fc00:1234:4::36";

#[test]
fn the_islands_reach_each_other_through_vm2_6_until_it_dies() {
    let lab = Lab::raise();
    lab.run(VM1_6, &format!("ping -c 1 -W 5 {FAR}"));
    lab.tool(&["kill-router"]);
    assert!(lab.run(VM2_6, "ip -br link show eth1").contains("DOWN"));
    lab.attempt(VM1_6, &format!("ping -c 1 -W 1 {FAR}")).expect_err("VM2-6 is dead");
}

#[test]
fn the_path_between_the_gateways_is_cut_without_a_word_and_healed() {
    let lab = Lab::raise();
    let ping = || lab.attempt("VM1", "ping -c 2 -i 0.2 -W 1 172.16.2.163");
    ping().expect("the path is whole");
    lab.tool(&["cut"]);
    let lost = ping().expect_err("the path is cut");
    assert!(!lost.contains("From "), "no ICMP error comes back: {lost}");
    lab.tool(&["heal"]);
    ping().expect("the path is whole again");
}

#[test]
fn the_native_path_leads_from_island_to_island() {
    let lab = Lab::raise();
    lab.tool(&["direct"]);
    let answer = lab.run(VM1_6, "ping -c 1 -W 5 fd00:1234:4::36");
    assert!(answer.contains("ttl=61 "), "three routers on the way: {answer}");
}

#[test]
fn labs_raised_together_do_not_meet() {
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| Lab::raise().run(VM1_6, &format!("ping -c 1 -W 5 {FAR}")));
        }
    });
}

#[test]
fn a_lab_is_gone_soon_after_its_owner_and_so_is_what_ran_in_it() {
    demand_what_the_lab_needs();
    let mut owner = Command::new("sleep").arg("60").spawn().unwrap();
    let id = tool(&["up", "--owner", &owner.id().to_string()]).trim().to_owned();
    let namespace = tool(&["--id", &id, "ns", VM1_6]).trim().to_owned();
    let mut inside =
        Command::new("ip").args(["netns", "exec", &namespace, "sleep", "60"]).spawn().unwrap();
    assert!(tool(&["list"]).contains(&id));

    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("the lab is gone", Duration::from_secs(20), || !tool(&["list"]).contains(&id));
    assert!(!Path::new("/run/netns").join(&namespace).exists());
    eventually("what ran in it is gone", Duration::from_secs(5), || {
        inside.try_wait().unwrap().is_some()
    });
}
