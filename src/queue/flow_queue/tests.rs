use std::time::Duration;

use super::*;
use crate::packet::buffer::Buffer;
use crate::packet::headers::Ecn;
use crate::packet::offload::Offload;
use proptest::prelude::*;

const PARAMETERS: Parameters =
    Parameters { target: Duration::from_millis(5), interval: Duration::from_millis(100) };

fn at(milliseconds: u64) -> Time {
    Time::since_boot(Duration::from_millis(milliseconds))
}

fn packet(flow: u64, length: usize, arrived: Time) -> Queued {
    Queued {
        buffer: Buffer::copy_of(&vec![0x60; length]),
        offload: Offload::NONE,
        flow,
        ecn: Ecn::NotCapable,
        arrived,
        returned: false,
    }
}

fn queue(limit: usize) -> FlowQueue {
    FlowQueue::new(PARAMETERS, limit, true)
}

fn flows_in_turn(queue: &mut FlowQueue, now: Time) -> Vec<u64> {
    std::iter::from_fn(|| queue.dequeue(now, |_, _| panic!("dropped")))
        .map(|packet| packet.flow)
        .collect()
}

#[test]
fn a_new_flow_goes_before_one_that_has_used_its_turn() {
    let mut queue = queue(1 << 20);
    (0..5).for_each(|_| queue.enqueue(packet(1, 1500, at(0)), |_, _| {}));
    assert_eq!(queue.dequeue(at(0), |_, _| {}).map(|packet| packet.flow), Some(1));
    assert_eq!(queue.dequeue(at(0), |_, _| {}).map(|packet| packet.flow), Some(1));
    queue.enqueue(packet(2, 100, at(0)), |_, _| {});
    assert_eq!(flows_in_turn(&mut queue, at(0)), [2, 1, 1, 1]);
}

#[test]
fn flows_share_by_bytes_not_by_packets() {
    let mut queue = queue(1 << 20);
    (0..200).for_each(|_| queue.enqueue(packet(1, 1500, at(0)), |_, _| {}));
    (0..2000).for_each(|_| queue.enqueue(packet(2, 150, at(0)), |_, _| {}));
    let (mut first, mut second) = (0, 0);
    while first + second < 200_000 {
        let packet = queue.dequeue(at(0), |_, _| {}).unwrap();
        let bytes = packet.buffer.packet().len();
        if packet.flow == 1 { first += bytes } else { second += bytes }
    }
    assert!(first.abs_diff(second) <= 2 * 1514, "{first} and {second}");
}

#[test]
fn a_super_packet_is_paid_back_in_turns() {
    let mut queue = queue(1 << 20);
    (0..2).for_each(|_| queue.enqueue(packet(1, 60_000, at(0)), |_, _| {}));
    (0..60).for_each(|_| queue.enqueue(packet(2, 1500, at(0)), |_, _| {}));
    let turns = flows_in_turn(&mut queue, at(0));
    assert_eq!(turns[0], 1);
    assert!(turns[1..35].iter().all(|flow| *flow == 2), "{turns:?}");
}

#[test]
fn a_flow_that_empties_and_refills_does_not_starve_the_others() {
    let mut queue = queue(1 << 20);
    (0..10).for_each(|_| queue.enqueue(packet(1, 1500, at(0)), |_, _| {}));
    let mut served = 0;
    for _ in 0..40 {
        queue.enqueue(packet(2, 1500, at(0)), |_, _| {});
        served += usize::from(queue.dequeue(at(0), |_, _| {}).unwrap().flow == 1);
    }
    assert!(served >= 9, "{served} of 10");
}

#[test]
fn a_standing_flow_is_dropped_from_and_others_are_not() {
    let mut queue = queue(64 << 20);
    let (mut sent, mut dropped) = ([0, 0], [0, 0]);
    // Flow 0 offers twice what the line takes, flow 1 a little.
    for time in 0..5000 {
        (0..2).for_each(|_| queue.enqueue(packet(0, 1500, at(time)), |_, _| {}));
        if time % 20 == 0 {
            queue.enqueue(packet(1, 100, at(time)), |_, _| {});
        }
        let packet = queue.dequeue(at(time), |packet, why| {
            assert_eq!(why, Dropped::Congestion);
            dropped[usize::try_from(packet.flow).unwrap()] += 1;
        });
        let packet = packet.unwrap();
        if packet.flow == 1 {
            let waited = at(time) - packet.arrived;
            assert!(waited <= Duration::from_millis(2), "the small flow waits {waited:?}");
        }
        sent[usize::try_from(packet.flow).unwrap()] += 1;
    }
    assert_eq!((sent[1], dropped[1]), (250, 0));
    assert!(dropped[0] > 100, "{dropped:?}");
}

#[test]
fn capable_packets_are_marked_and_none_is_lost() {
    for (mark, lost) in [(true, false), (false, true)] {
        let mut queue = FlowQueue::new(PARAMETERS, 64 << 20, mark);
        let (mut marked, mut dropped) = (0, 0);
        for time in 0..2000 {
            for _ in 0..2 {
                let mut packet = packet(0, 1500, at(time));
                packet.ecn = Ecn::Capable0;
                packet.buffer.packet_mut()[1] = 0b10 << 4;
                queue.enqueue(packet, |_, _| {});
            }
            let packet = queue.dequeue(at(time), |_, _| dropped += 1).unwrap();
            marked += u32::from(packet.buffer.packet()[1] >> 4 & 0b11 == 0b11);
        }
        assert_eq!((marked > 20, dropped > 20), (!lost, lost));
    }
}

#[test]
fn when_memory_runs_out_the_longest_flow_pays() {
    let mut queue = queue(300_000);
    let mut dropped = Vec::new();
    queue.enqueue(packet(2, 1500, at(0)), |_, _| panic!());
    for _ in 0..1000 {
        queue.enqueue(packet(1, 1500, at(0)), |packet, _| dropped.push(packet.flow));
        assert!(queue.held <= 300_000);
    }
    assert!(dropped.len() > 700 && dropped.iter().all(|flow| *flow == 1));
}

#[test]
fn bursts_of_many_flows_one_after_the_other_leave_no_memory_behind() {
    let mut queue = queue(8 << 20);
    const BURSTS: usize = 100;
    for flow in 0..BURSTS as u64 {
        (0..5000).for_each(|_| queue.enqueue(packet(flow, 64, at(0)), |_, _| panic!("room")));
        assert_eq!(flows_in_turn(&mut queue, at(0)).len(), 5000);
    }
    assert!(room(&queue) <= BURSTS * KEPT, "for {} packets", room(&queue));
}

#[test]
fn what_overflows_leaves_no_memory_behind_either() {
    let mut queue = queue(1 << 20);
    for flow in 0..FLOWS as u64 {
        (0..1000).for_each(|_| queue.enqueue(packet(flow, 40, at(0)), |_, _| {}));
    }
    let waiting = queue.depth(at(0)).packets;
    assert!(room(&queue) <= 4 * waiting + FLOWS * KEPT, "{} for {waiting}", room(&queue));
}

/// Packets that memory is held for.
fn room(queue: &FlowQueue) -> usize {
    queue.flows.iter().map(|flow| flow.packets.capacity()).sum()
}

#[test]
fn short_packets_count_with_what_is_kept_about_them() {
    let mut queue = queue(1 << 20);
    let mut dropped = 0;
    (0..50_000).for_each(|_| queue.enqueue(packet(1, 1, at(0)), |_, _| dropped += 1));
    let waiting = flows_in_turn(&mut queue, at(0)).len();
    assert_eq!(waiting + dropped, 50_000);
    assert!(waiting * size_of::<Queued>() <= 1 << 20, "{waiting} wait");
}

#[test]
fn new_parameters_keep_what_waits_as_far_as_it_has_room() {
    let mut queue = queue(1 << 20);
    for flow in 0..20 {
        queue.enqueue(packet(flow, 1000, at(0)), |_, _| panic!("there is room"));
    }
    let held = queue.held;
    queue.reconfigure(PARAMETERS, held, false);
    assert_eq!(queue.held, held);
    let mut dropped = 0;
    queue.enqueue(packet(3, 1000, at(0)), |_, why| {
        assert_eq!(why, Dropped::Overflow);
        dropped += 1;
    });
    assert!(dropped > 0 && queue.held <= held);
}

#[test]
fn many_flows_of_one_packet_each_keep_to_the_limit() {
    let mut queue = queue(300_000);
    let mut dropped = 0;
    for flow in 0..1000 {
        queue.enqueue(packet(flow, 60_000, at(0)), |_, _| dropped += 1);
        assert!(queue.held <= 300_000);
    }
    assert_eq!(flows_in_turn(&mut queue, at(0)).len() + dropped, 1000);
}

#[test]
fn a_packet_larger_than_the_limit_still_passes() {
    let mut queue = queue(100);
    queue.enqueue(packet(1, 5000, at(0)), |_, _| panic!());
    assert!(queue.dequeue(at(0), |_, _| {}).is_some());
    assert!(queue.is_empty());
}

proptest! {
    #[test]
    fn every_packet_leaves_once_and_flows_stay_in_order(
        turns in prop::collection::vec((0u64..5, 1usize..3000, 0u64..20, 0usize..3), 1..300),
    ) {
        let mut queue = queue(40_000);
        let mut numbers = std::collections::HashMap::new();
        let (mut now, mut entered, mut left) = (0, 0, 0);
        let mut out = |packet: &Queued| {
            let bytes = packet.buffer.packet();
            let number = u32::from_be_bytes(*bytes.last_chunk().unwrap());
            let last = numbers.insert(packet.flow, number);
            assert!(last.is_none_or(|last| last < number), "out of order");
            left += 1;
        };
        for (number, (flow, length, pause, taken)) in (0u32..).zip(turns) {
            now += pause;
            let mut packet = packet(flow, length + 4, at(now));
            packet.buffer.packet_mut()[length..].copy_from_slice(&number.to_be_bytes());
            entered += 1;
            queue.enqueue(packet, |packet, _| out(&packet));
            for _ in 0..taken {
                let mut lost = Vec::new();
                let packet = queue.dequeue(at(now), |packet, _| lost.push(packet));
                lost.iter().for_each(&mut out);
                packet.iter().for_each(&mut out);
            }
        }
        queue.take_all().iter().for_each(out);
        prop_assert_eq!(entered, left);
        prop_assert!(queue.is_empty());
        let more = queue.dequeue(at(now), |_, _| ());
        prop_assert!(more.is_none());
    }
}
