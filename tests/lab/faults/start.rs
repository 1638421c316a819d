//! What is missing when VM1's daemon starts and comes later: its port, its peer's name.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;

use crate::harness::{Lab, VM1, VM3, eventually, sample, sample_without};

const SOON: &str = "link.reconnect = { min = \"200ms\", max = \"1s\" }";

#[test]
fn a_taken_port_is_named_and_used_once_it_is_free() {
    let lab = Lab::raise_after_failure();
    let squatter = lab.inside(VM1, || TcpListener::bind("172.16.2.131:4641")).unwrap();
    let mut vm1 = lab.start_from(VM1, &sample_without(VM1, "connect"), SOON);
    eventually("the log names the taken port", Duration::from_secs(10), || {
        vm1.log().contains("172.16.2.131:4641") && vm1.log().to_lowercase().contains("in use")
    });
    assert!(vm1.runs());
    drop(squatter);
    let _vm3 = lab.start_from(VM3, &sample_without(VM3, "listen"), SOON);
    lab.await_tunnel();
}

#[test]
fn a_name_that_another_interface_has_is_refused_without_harm_to_it() {
    let lab = Lab::raise_after_failure();
    let mut vm1 = lab.start(VM1, "interface.name = \"eth1\"");
    let mut status = None;
    eventually("the daemon ends", Duration::from_secs(10), || {
        status = vm1.exit_status();
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(78), "{}", vm1.log());
    assert!(vm1.log().contains("eth1") && vm1.log().contains("interface.name"), "{}", vm1.log());
    assert!(!vm1.log().contains("ip link delete"), "{}", vm1.log());
    lab.run(VM1, "ip link show eth1");
}

#[test]
fn without_descriptors_it_keeps_its_port_and_goes_on_once_there_are_some() {
    let lab = Lab::raise_after_failure();
    let vm1 = lab.start_from(VM1, &sample_without(VM1, "connect"), SOON);
    let limit = |descriptors: usize| {
        lab.run(VM1, &format!("prlimit --pid {} --nofile={descriptors}:4096", vm1.pid()));
    };
    eventually("VM1 listens", Duration::from_secs(10), || vm1.log().contains("listening"));
    limit(3);
    let _vm3 = lab.start_from(VM3, &sample_without(VM3, "listen"), SOON);
    eventually("the log says what is missing", Duration::from_secs(10), || {
        vm1.log().contains("Too many open files")
    });
    assert!(lab.run(VM1, "ss -Hltn").contains("172.16.2.131:4641"));
    limit(1024);
    lab.await_tunnel();
    assert_eq!(vm1.log().matches("Too many open files").count(), 1, "{}", vm1.log());
    assert_eq!(vm1.log().matches("listening").count(), 1, "{}", vm1.log());
}

#[test]
fn a_peer_whose_name_resolves_late_is_reached_then() {
    let lab = Lab::raise_after_failure();
    let by_name = format!("{SOON}\nlink.connect = \"gateway.example:4641\"");
    let mut vm1 = lab.start_from(VM1, &sample_without(VM1, "listen"), &by_name);
    let _vm3 = lab.start_from(VM3, &sample_without(VM3, "connect"), "");
    eventually("the log names the unknown peer", Duration::from_secs(10), || {
        vm1.log().contains("gateway.example")
    });
    assert!(vm1.runs());
    // What `ip netns exec` shows as /etc/hosts; appended to, because it is mounted as a file.
    let hosts = format!("/etc/netns/{}/hosts", lab.namespace(VM1));
    let mut hosts = OpenOptions::new().append(true).open(hosts).unwrap();
    writeln!(hosts, "172.16.2.163 gateway.example").unwrap();
    lab.await_tunnel();
}

#[test]
fn a_wrong_configuration_never_touches_the_network() {
    let lab = Lab::raise_after_failure();
    let mut vm1 = lab.start_from(VM1, &sample(VM1).replace("connect", "conect"), "");
    let mut status = None;
    eventually("the daemon ends", Duration::from_secs(10), || {
        status = vm1.exit_status();
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(78), "{}", vm1.log());
    assert!(vm1.log().contains("tun0.toml:"), "{}", vm1.log());
    assert!(!lab.run(VM1, "ip link").contains("tun0"));
}
