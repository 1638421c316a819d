//! First in, first out, bounded by the memory it holds.

use std::collections::VecDeque;

use crate::packet::buffer::Buffer;
use crate::packet::offload::Offload;

/// A packet that waits, with what it needs besides its bytes.
#[derive(Debug)]
pub struct Queued {
    /// The packet.
    pub buffer: Buffer,
    /// Whether it is a super-packet, and whether its checksum is complete.
    pub offload: Offload,
}

/// A queue that drops what has waited longest when it is full: whoever sent it has given it up
/// first.
#[derive(Debug)]
pub struct Fifo {
    packets: VecDeque<Queued>,
    held: usize,
    limit: usize,
}

impl Fifo {
    /// An empty queue that holds at most `limit` bytes of memory, or a single packet.
    pub fn new(limit: usize) -> Self {
        Self { packets: VecDeque::new(), held: 0, limit }
    }

    /// Adds a packet at the end, and hands what had to make room for it to `dropped`.
    pub fn enqueue(&mut self, packet: Queued, mut dropped: impl FnMut(Queued)) {
        let footprint = packet.buffer.footprint();
        while self.held + footprint > self.limit {
            let Some(oldest) = self.dequeue() else { break };
            dropped(oldest);
        }
        self.held += footprint;
        self.packets.push_back(packet);
    }

    /// Takes the packet that has waited longest.
    pub fn dequeue(&mut self) -> Option<Queued> {
        let packet = self.packets.pop_front()?;
        self.held -= packet.buffer.footprint();
        Some(packet)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(length: usize) -> Queued {
        Queued { buffer: Buffer::copy_of(&vec![0; length]), offload: Offload::default() }
    }

    proptest! {
        #[test]
        fn order_is_kept_and_the_limit_holds(lengths in prop::collection::vec(1usize..3000, 1..60)) {
            const LIMIT: usize = 20_000;
            let mut queue = Fifo::new(LIMIT);
            let mut expected = VecDeque::new();
            for (turn, length) in lengths.into_iter().enumerate() {
                expected.push_back(length);
                queue.enqueue(packet(length), |oldest| {
                    assert_eq!(expected.pop_front(), Some(oldest.buffer.packet().len()));
                });
                prop_assert!(queue.held <= LIMIT);
                if turn % 3 == 2 {
                    let taken = queue.dequeue().map(|queued| queued.buffer.packet().len());
                    prop_assert_eq!(taken, expected.pop_front());
                }
            }
            while let Some(queued) = queue.dequeue() {
                prop_assert_eq!(Some(queued.buffer.packet().len()), expected.pop_front());
            }
            prop_assert!(expected.is_empty());
            prop_assert_eq!(queue.held, 0);
        }
    }

    #[test]
    fn a_packet_larger_than_the_limit_still_passes() {
        let mut queue = Fifo::new(100);
        let mut dropped = 0;
        queue.enqueue(packet(50), |_| dropped += 1);
        queue.enqueue(packet(5000), |_| dropped += 1);
        assert_eq!(dropped, 1);
        assert!(queue.dequeue().is_some());
        assert!(queue.is_empty());
    }
}
