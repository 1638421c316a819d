//! What a tunnel has done and how it is, as plain data. A leaf: it imports nothing.
//!
//! Counters that the data path writes and everybody else reads; a [`snapshot`] of a whole tunnel.

pub mod snapshot;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a packet was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Drop {
    /// The queue towards the peer was full.
    QueueFull,
    /// Its flow waited too long in the queue (CoDel).
    Congestion,
    /// It waited while there was no session for too long.
    NoSession,
    /// It was longer than the peer takes.
    TooLong,
    /// What the kernel handed us is no packet we understand.
    MalformedFromKernel,
    /// What the peer sent is not what a packet may look like.
    RefusedFromPeer,
    /// Its source is none that the peer may send from.
    ForeignSource,
    /// The kernel refused the packet on its way into the TUN interface.
    RefusedByKernel,
    /// The TUN interface was down or gone.
    InterfaceDown,
}

impl Drop {
    /// Every cause, in the order of the counters.
    pub const ALL: [Self; 9] = [
        Self::QueueFull,
        Self::Congestion,
        Self::NoSession,
        Self::TooLong,
        Self::MalformedFromKernel,
        Self::RefusedFromPeer,
        Self::ForeignSource,
        Self::RefusedByKernel,
        Self::InterfaceDown,
    ];

    /// The cause as a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Congestion => "congestion",
            Self::NoSession => "no_session",
            Self::TooLong => "too_long",
            Self::MalformedFromKernel => "malformed_from_kernel",
            Self::RefusedFromPeer => "refused_from_peer",
            Self::ForeignSource => "foreign_source",
            Self::RefusedByKernel => "refused_by_kernel",
            Self::InterfaceDown => "interface_down",
        }
    }
}

/// Packets and bytes of one direction. A super-packet counts once.
#[derive(Debug, Default)]
pub struct Traffic {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Traffic {
    /// Counts one packet of `bytes` bytes.
    pub fn add(&self, bytes: usize) {
        self.packets.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Packets so far.
    pub fn packets(&self) -> u64 {
        self.packets.load(Relaxed)
    }

    /// Bytes so far, IP headers included.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}

/// What one tunnel has done since it started.
#[derive(Debug, Default)]
pub struct Counters {
    /// From the TUN interface to the peer.
    pub sent: Traffic,
    /// From the peer to the TUN interface.
    pub received: Traffic,
    dropped: [AtomicU64; Drop::ALL.len()],
}

impl Counters {
    /// Counts one dropped packet.
    pub fn dropped(&self, cause: Drop) {
        self.dropped[cause as usize].fetch_add(1, Relaxed);
    }

    /// Packets dropped for this cause so far.
    pub fn drops(&self, cause: Drop) -> u64 {
        self.dropped[cause as usize].load(Relaxed)
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
}
