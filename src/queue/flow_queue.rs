//! Fair queueing between flows (RFC 8290).
//!
//! ```text
//!                    ┌ flow 3 ▮▮       (CoDel)
//!  enqueue ─ hash ───┤ flow 7 ▮        (CoDel)   ─ new flows, then old ones, ─ dequeue
//!                    └ flow 9 ▮▮▮▮▮▮▮  (CoDel)     a quantum of bytes a turn
//! ```
//!
//! A flow that was empty goes to the new flows and is served first; when it has used its quantum
//! it becomes an old one. So a flow that sends less than its share never waits for one that sends
//! more.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Time;

use super::Queued;
use super::codel::{Codel, Parameters, Verdict};

/// Flows that can be told apart; others share (RFC 8290 section 4.1.2).
const FLOWS: usize = 1024;

/// Bytes a flow may send a turn: one packet of an ordinary MTU (RFC 8290 section 4.2).
const QUANTUM: i64 = 1514;

/// Packets that are dropped at once when memory runs out, so that the search for the longest
/// queue is paid for by many (RFC 8290 section 4.1.3 takes half its queue).
const OVERFLOW_BATCH: usize = 64;

/// Room for so many packets is never taken back from a flow. What a burst has taken beyond that is,
/// or bursts of many flows, one after the other, would take it many times.
const KEPT: usize = 16;

/// Why a packet left the queue unsent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// Its flow's wait was above target for too long.
    Congestion,
    /// The queue was out of memory.
    Overflow,
}

/// How much waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Packets.
    pub packets: usize,
    /// Memory that they hold, in bytes.
    pub bytes: usize,
    /// How long the oldest of them has been waiting.
    pub delay: Duration,
}

/// Packets that wait, flow by flow.
#[derive(Debug)]
pub struct FlowQueue {
    parameters: Parameters,
    mark: bool,
    limit: usize,
    flows: Vec<Flow>,
    new: VecDeque<usize>,
    old: VecDeque<usize>,
    held: usize,
}

#[derive(Debug, Default)]
struct Flow {
    packets: VecDeque<Queued>,
    /// Memory that its packets hold, in bytes.
    held: usize,
    /// Bytes that it may still send this turn.
    deficit: i64,
    /// Whether it is among the new or the old flows.
    listed: bool,
    codel: Codel,
}

impl FlowQueue {
    /// An empty queue that holds at most `limit` bytes of packets and of what is kept about each, or
    /// a single packet. With `mark` packets whose senders understand it are marked instead of
    /// dropped.
    pub fn new(parameters: Parameters, limit: usize, mark: bool) -> Self {
        Self {
            parameters,
            mark,
            limit,
            flows: (0..FLOWS).map(|_| Flow::default()).collect(),
            new: VecDeque::new(),
            old: VecDeque::new(),
            held: 0,
        }
    }

    /// From now on these hold, also for what waits already.
    pub fn reconfigure(&mut self, parameters: Parameters, limit: usize, mark: bool) {
        (self.parameters, self.limit, self.mark) = (parameters, limit, mark);
    }

    /// Adds a packet, and hands what had to make room for it to `dropped`.
    pub fn enqueue(&mut self, packet: Queued, dropped: impl FnMut(Queued, Dropped)) {
        let index = bucket(packet.flow);
        let footprint = packet.footprint();
        let flow = &mut self.flows[index];
        flow.packets.push_back(packet);
        flow.held += footprint;
        self.held += footprint;
        if !flow.listed {
            flow.listed = true;
            flow.deficit = QUANTUM;
            self.new.push_back(index);
        }
        self.make_room(index, dropped);
    }

    /// The packet whose turn it is. What its flow had to lose is handed to `dropped`.
    pub fn dequeue(
        &mut self,
        now: Time,
        mut dropped: impl FnMut(Queued, Dropped),
    ) -> Option<Queued> {
        loop {
            let from_new = !self.new.is_empty();
            let list = if from_new { &mut self.new } else { &mut self.old };
            let index = *list.front()?;
            if self.flows[index].deficit <= 0 {
                self.flows[index].deficit += QUANTUM;
                list.pop_front();
                self.old.push_back(index);
                continue;
            }
            if let Some(packet) = self.dequeue_from(index, now, &mut dropped) {
                let length = i64::try_from(packet.buffer.packet().len()).unwrap_or(QUANTUM);
                self.flows[index].deficit -= length;
                return Some(packet);
            }
            let list = if from_new { &mut self.new } else { &mut self.old };
            list.pop_front();
            // A new flow that ran empty must not come back as a new one before the old ones had
            // their turn (RFC 8290 section 4.2).
            if from_new && !self.old.is_empty() {
                self.old.push_back(index);
            } else {
                self.flows[index].listed = false;
            }
        }
    }

    /// Takes everything that waits, a flow at a time, each in order.
    pub fn take_all(&mut self) -> Vec<Queued> {
        let Self { flows, new, old, held, .. } = self;
        *held = 0;
        let listed = new.drain(..).chain(old.drain(..));
        listed.flat_map(|index| std::mem::take(&mut flows[index]).packets).collect()
    }

    /// The memory that its packets hold, in bytes.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// How much waits, and for how long. Looks at every flow: not for every packet.
    pub fn depth(&self, now: Time) -> Depth {
        let oldest = |flow: &Flow| flow.packets.front().map(|packet| now - packet.arrived);
        Depth {
            packets: self.flows.iter().map(|flow| flow.packets.len()).sum(),
            bytes: self.held,
            delay: self.flows.iter().filter_map(oldest).max().unwrap_or_default(),
        }
    }

    fn dequeue_from(
        &mut self,
        index: usize,
        now: Time,
        dropped: &mut impl FnMut(Queued, Dropped),
    ) -> Option<Queued> {
        let Self { parameters, mark, flows, held, .. } = self;
        let flow = &mut flows[index];
        loop {
            let mut packet = flow.pop(held)?;
            let waited = now - packet.arrived;
            let standing = !flow.packets.is_empty();
            match flow.codel.judge(parameters, now, waited, standing) {
                Verdict::Drop if !(*mark && packet.mark()) => dropped(packet, Dropped::Congestion),
                Verdict::Send | Verdict::Drop => return Some(packet),
            }
        }
    }

    /// Drops from the head of the longest queue until the limit holds. What has just come, to the
    /// flow `newest`, is never dropped, or a packet larger than the limit never passed.
    fn make_room(&mut self, newest: usize, mut dropped: impl FnMut(Queued, Dropped)) {
        while self.held > self.limit {
            let kept = |index: usize| usize::from(index == newest);
            let listed = self.new.iter().chain(&self.old).copied();
            let longest = listed
                .filter(|index| self.flows[*index].packets.len() > kept(*index))
                .max_by_key(|index| self.flows[*index].held);
            let Some(longest) = longest else { return };
            let flow = &mut self.flows[longest];
            let half = flow.held / 2;
            for _ in 0..OVERFLOW_BATCH {
                if flow.held <= half || flow.packets.len() <= kept(longest) {
                    break;
                }
                match flow.pop(&mut self.held) {
                    Some(packet) => dropped(packet, Dropped::Overflow),
                    None => break,
                }
            }
        }
    }
}

impl Flow {
    fn pop(&mut self, held: &mut usize) -> Option<Queued> {
        let packet = self.packets.pop_front()?;
        let room = self.packets.capacity();
        if room > KEPT && self.packets.len() < room / 4 {
            self.packets.shrink_to(room / 2);
        }
        let footprint = packet.footprint();
        self.held -= footprint;
        *held -= footprint;
        Some(packet)
    }
}

fn bucket(flow: u64) -> usize {
    // The low bits of a hash are as good as any; 1024 buckets fit every usize.
    usize::try_from(flow % FLOWS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests;
