//! A queue of a real TUN interface, in a network namespace of the test's own. Needs root.

#![allow(clippy::unwrap_used)] // All of it is test code, also outside the test functions.

use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use tokio::time::timeout;
use tunnel64d::packet::buffer::MAX_PACKET;
use tunnel64d::tun::device::{self, OpenError};
use tunnel64d::tun::vnet::VnetHeader;

#[test]
fn whoever_waits_for_a_packet_learns_that_the_interface_was_deleted() {
    in_namespace(|| async {
        let (opened, _) = device::open("tun0", 2, true).unwrap();
        let queues = opened.into_iter().map(|opened| opened.watch().unwrap()).collect::<Vec<_>>();
        ip("link set tun0 up");
        let mut packet = vec![0; MAX_PACKET];
        let mut header = VnetHeader::default();
        for queue in &queues {
            while queue.read(&mut header, &mut packet).is_ok() {}
        }
        let deletion = std::thread::spawn({
            // A thread is in the namespace of the one that starts it.
            || {
                std::thread::sleep(Duration::from_millis(200));
                ip("link delete tun0");
            }
        });
        for queue in &queues {
            let end = timeout(Duration::from_secs(5), async {
                loop {
                    queue.readable().await;
                    match queue.read(&mut header, &mut packet) {
                        Err(error) if device::is_gone(&error) => break,
                        _ => tokio::task::yield_now().await,
                    }
                }
            });
            end.await.expect("nobody was told");
        }
        deletion.join().unwrap();
    });
}

#[test]
fn a_name_that_is_in_use_is_told_from_one_that_cannot_be() {
    in_namespace(|| async {
        let (_held, _) = device::open("tun0", 1, true).unwrap();
        assert!(matches!(device::open("tun0", 1, true), Err(OpenError::Busy(_))));
        let long = device::open("sixteen-bytes-xx", 1, true);
        assert!(matches!(long, Err(OpenError::Name(_))));
    });
}

fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    assert!(nix::unistd::geteuid().is_root(), "run as root: this test makes a network namespace");
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of our own");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

#[track_caller]
fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}
