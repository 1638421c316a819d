//! A daemon dies or changes under an inner connection:
//! `VM1-6 ── VM1 ══ VM3 ── VM3-6`, either gateway's process killed and started again.

use std::thread::sleep;
use std::time::Duration;

use super::FAR;
use crate::harness::{Lab, VM1_6, VM3_6};
use crate::traffic::Stream;

/// After an outage the inner sender waits out its own retransmission timer, which has doubled a
/// few times.
const INNER_RETRANSMISSION: Duration = Duration::from_secs(20);

#[test]
fn an_inner_connection_survives_kill_9_of_the_near_daemon() {
    let (lab, mut vm1, _vm3) = Lab::raise_tunnelled();
    let stream = Stream::slow(&lab, VM1_6, (VM3_6, FAR), 5200);
    vm1.kill();
    sleep(Duration::from_secs(1));
    vm1.start_again(&lab);
    stream.await_progress("after the near daemon is back", INNER_RETRANSMISSION);
    stream.finish();
}

#[test]
fn an_inner_connection_survives_kill_9_of_the_far_daemon() {
    let (lab, _vm1, mut vm3) = Lab::raise_tunnelled();
    let stream = Stream::slow(&lab, VM1_6, (VM3_6, FAR), 5200);
    vm3.kill();
    sleep(Duration::from_secs(1));
    vm3.start_again(&lab);
    stream.await_progress("after the far daemon is back", INNER_RETRANSMISSION);
    stream.finish();
}

#[test]
fn inner_bulk_transfers_survive_kill_9_of_either_daemon() {
    let (lab, mut vm1, mut vm3) = Lab::raise_tunnelled();
    let there = Stream::fast(&lab, VM1_6, (VM3_6, FAR), 5200);
    let back = Stream::fast(&lab, VM3_6, (VM1_6, "fc00:1234:3::16"), 5200);
    for daemon in [&mut vm1, &mut vm3] {
        daemon.kill();
        daemon.start_again(&lab);
        there.await_progress("after a daemon is back", INNER_RETRANSMISSION);
        back.await_progress("after a daemon is back", INNER_RETRANSMISSION);
    }
    there.finish();
    back.finish();
}

#[test]
fn an_inner_connection_survives_kill_9_of_both_daemons_at_once() {
    let (lab, mut vm1, mut vm3) = Lab::raise_tunnelled();
    let stream = Stream::slow(&lab, VM1_6, (VM3_6, FAR), 5200);
    vm1.kill();
    vm3.kill();
    vm1.start_again(&lab);
    vm3.start_again(&lab);
    stream.await_progress("after both daemons are back", INNER_RETRANSMISSION);
    stream.finish();
}

#[test]
fn a_stopped_daemon_leaves_the_other_waiting_for_it() {
    let (lab, mut vm1, mut vm3) = Lab::raise_tunnelled();
    let stream = Stream::slow(&lab, VM1_6, (VM3_6, FAR), 5200);
    assert!(vm3.stop().success());
    sleep(Duration::from_secs(1));
    assert!(vm1.runs());
    vm3.start_again(&lab);
    stream.await_progress("after the far daemon is back", INNER_RETRANSMISSION);
    stream.finish();
}

#[test]
fn a_peer_may_come_back_with_another_stream_count() {
    let (lab, _vm1, mut vm3) = Lab::raise_tunnelled_with("link.streams = 2", "link.streams = 2");
    let stream = Stream::slow(&lab, VM1_6, (VM3_6, FAR), 5200);
    for streams in [4, 1] {
        assert!(vm3.stop().success());
        vm3.reconfigure(&format!("link.streams = {streams}"));
        vm3.start_again(&lab);
        stream.await_progress("after the stream count changed", INNER_RETRANSMISSION);
    }
    stream.finish();
}
