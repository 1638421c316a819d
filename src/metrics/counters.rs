//! What is counted, and by whom: one of these a tunnel, shared by all its threads.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::histogram::Histogram;
use super::labels::{Direction, Drop, Handshake, Refusal, Reload};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Counts one.
    pub fn one(&self) {
        self.add(1);
    }

    /// Counts so many.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// How many so far.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Packets and bytes of one direction. A super-packet counts once.
#[derive(Debug, Default)]
pub struct Traffic {
    packets: Count,
    bytes: Count,
}

impl Traffic {
    /// Counts one packet of `bytes` bytes.
    pub fn add(&self, bytes: usize) {
        self.packets.one();
        self.bytes.add(bytes as u64);
    }

    /// Packets so far.
    pub fn packets(&self) -> u64 {
        self.packets.value()
    }

    /// Bytes so far, IP headers included.
    pub fn bytes(&self) -> u64 {
        self.bytes.value()
    }
}

/// What one tunnel has done since it started.
#[derive(Debug, Default)]
pub struct Counters {
    /// From the TUN interface to the peer.
    pub sent: Traffic,
    /// From the peer to the TUN interface.
    pub received: Traffic,
    /// How long packets waited for their turn to be sent.
    pub queue_delay: Histogram,
    /// Sessions that came up.
    pub sessions: Count,
    /// Sessions that ended, whatever came after them.
    pub sessions_lost: Count,
    /// Streams that ended while they were part of the session.
    pub streams_lost: Count,
    dropped: [Count; Drop::ALL.len()],
    handshakes: [[Count; Handshake::ALL.len()]; Direction::ALL.len()],
    refusals: [Count; Refusal::ALL.len()],
    reloads: [Count; Reload::ALL.len()],
    last_reload_rejected: AtomicBool,
}

impl Counters {
    /// Counts one dropped packet.
    pub fn dropped(&self, cause: Drop) {
        self.dropped[cause as usize].one();
    }

    /// Packets dropped for this cause so far.
    pub fn drops(&self, cause: Drop) -> u64 {
        self.dropped[cause as usize].value()
    }

    /// The attempts to get to know the peer that ended like this.
    pub fn handshakes(&self, direction: Direction, outcome: Handshake) -> &Count {
        &self.handshakes[direction as usize][outcome as usize]
    }

    /// The connections that were closed for this before a word was said.
    pub fn refusals(&self, why: Refusal) -> &Count {
        &self.refusals[why as usize]
    }

    /// Counts a reload.
    pub fn reloaded(&self, outcome: Reload) {
        self.reloads[outcome as usize].one();
        self.last_reload_rejected.store(outcome == Reload::Rejected, Relaxed);
    }

    /// The reloads that ended like this so far.
    pub fn reloads(&self, outcome: Reload) -> u64 {
        self.reloads[outcome as usize].value()
    }

    /// Whether what is in force is not what lies there: the last reload was rejected.
    pub fn last_reload_rejected(&self) -> bool {
        self.last_reload_rejected.load(Relaxed)
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "sent {} packets, {} bytes; received {} packets, {} bytes",
            self.sent.packets(),
            self.sent.bytes(),
            self.received.packets(),
            self.received.bytes()
        )?;
        for cause in Drop::ALL.into_iter().filter(|cause| self.drops(*cause) > 0) {
            write!(f, "; dropped {} {}", self.drops(cause), cause.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_a_counter_of_its_own_and_a_name() {
        let counters = Counters::default();
        for (times, cause) in (1..).zip(Drop::ALL) {
            (0..times).for_each(|_| counters.dropped(cause));
        }
        for (times, cause) in (1..).zip(Drop::ALL) {
            assert_eq!(counters.drops(cause), times);
            assert!(counters.to_string().contains(&format!("dropped {times} {}", cause.as_str())));
        }
    }

    #[test]
    fn the_last_reload_is_remembered_beside_their_number() {
        let counters = Counters::default();
        assert!(!counters.last_reload_rejected());
        counters.reloaded(Reload::Rejected);
        assert!(counters.last_reload_rejected());
        counters.reloaded(Reload::Applied);
        assert!(!counters.last_reload_rejected());
        assert_eq!([Reload::Applied, Reload::Rejected].map(|how| counters.reloads(how)), [1, 1]);
    }

    #[test]
    fn handshakes_are_told_apart_by_direction_and_outcome() {
        let counters = Counters::default();
        counters.handshakes(Direction::Accepted, Handshake::Key).add(3);
        counters.handshakes(Direction::Dialled, Handshake::Key).one();
        let all = Direction::ALL.into_iter().flat_map(|direction| {
            Handshake::ALL.map(|outcome| counters.handshakes(direction, outcome).value())
        });
        assert_eq!(all.sum::<u64>(), 4);
        assert_eq!(counters.handshakes(Direction::Accepted, Handshake::Key).value(), 3);
    }
}
