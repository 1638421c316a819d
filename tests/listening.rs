//! The port of `link.listen`, where it is bound to `link.device`.
//!
//! Needs root, for it makes a network namespace.

use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use socket2::SockRef;
use tunnel64d::daemon::listening::Listening;
use tunnel64d::time::Time;
use tunnel64d::transport::tcp;

const PAUSE: Duration = Duration::from_secs(2);

#[test]
fn a_port_follows_its_device_when_another_one_gets_its_name() {
    in_namespace(|| {
        let mut now = Time::now();
        ip("link add up0 type veth peer name other");
        let mut listening = Listening::new("[::]:4641".parse().unwrap(), options("up0"), now);
        assert!(listening.poll(now), "{:?}", listening.trouble());
        assert_eq!(device_of(&listening).as_deref(), Some("up0"));
        let mut later = |listening: &Listening| {
            now += PAUSE;
            assert!(listening.due().is_some_and(|due| due <= now));
            now
        };

        let looked = later(&listening);
        assert!(!listening.poll(looked), "it is the same device");

        ip("link delete up0");
        let looked = later(&listening);
        assert!(!listening.poll(looked));
        assert!(listening.trouble().is_some_and(|why| why.contains("link.device up0: ")));

        ip("link add up0 type veth peer name other");
        assert_eq!(device_of(&listening), None);
        let looked = later(&listening);
        assert!(listening.poll(looked), "{:?}", listening.trouble());
        assert_eq!(device_of(&listening).as_deref(), Some("up0"));
        assert_eq!(listening.trouble(), None);

        ip("link set up0 name up1");
        let looked = later(&listening);
        assert!(!listening.poll(looked));
        assert!(listening.trouble().is_some());
        ip("link set up1 name up0");
        let looked = later(&listening);
        assert!(!listening.poll(looked), "the same device is back");
        assert_eq!(listening.trouble(), None);

        ip("link set up0 name up1");
        ip("link set other name up0");
        let looked = later(&listening);
        assert!(listening.poll(looked), "another one has the name");
        assert_eq!(device_of(&listening).as_deref(), Some("up0"));
    });
}

#[test]
fn a_port_that_is_bound_to_no_device_is_not_looked_after() {
    in_namespace(|| {
        let now = Time::now();
        let any = tcp::Options { device: None, ..options("none") };
        let mut listening = Listening::new("[::]:4641".parse().unwrap(), any, now);
        assert!(listening.poll(now), "{:?}", listening.trouble());
        assert_eq!(listening.due(), None);
    });
}

fn options(device: &str) -> tcp::Options {
    tcp::Options {
        source: None,
        device: Some(device.to_owned()),
        fwmark: None,
        dscp: None,
        congestion: tcp::Congestion::Default,
        unacknowledged_limit: Duration::from_secs(30),
    }
}

/// The name that the interface has by now which the port is bound to; `None` when it is gone.
fn device_of(listening: &Listening) -> Option<String> {
    let port = listening.port().expect("it is bound");
    let name = SockRef::from(port).device().ok().flatten()?;
    Some(String::from_utf8(name).expect("a name"))
}

/// Runs a test in a fresh network namespace, which goes with the thread.
fn in_namespace(test: fn()) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of our own, as root");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        runtime.block_on(async { test() });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_whitespace()).status().expect("iproute2");
    assert!(status.success(), "ip {arguments}");
}
