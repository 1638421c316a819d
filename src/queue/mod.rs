//! What waits between the TUN interface and the TCP connection.
//!
//! The queue is where it is decided who waits, what is marked and what is dropped: the TUN ring
//! above and the TCP buffer below are kept short on purpose. It is FlowQueue-CoDel (RFC 8290):
//! [`FlowQueue`] shares the line fairly between flows and lets new ones go first, [`codel`] keeps
//! each flow's own wait short. It knows no clock: time is passed in.

pub mod codel;
mod flow_queue;
pub mod line;
mod rest;

use crate::packet::buffer::Buffer;
use crate::packet::ecn;
use crate::packet::headers::Ecn;
use crate::packet::offload::Offload;
use crate::time::Time;

pub use flow_queue::{Depth, Dropped, FlowQueue};

/// A packet that waits, with what it needs besides its bytes.
#[derive(Debug)]
pub struct Queued {
    /// The packet.
    pub buffer: Buffer,
    /// Whether it is a super-packet, and whether its checksum is complete.
    pub offload: Offload,
    /// A hash of its flow: packets with equal ones stay in order.
    pub flow: u64,
    /// What its sender understands of congestion marks.
    pub ecn: Ecn,
    /// When it came.
    pub arrived: Time,
    /// Whether it was handed to a connection before, which ended and gave it back.
    pub returned: bool,
}

impl Queued {
    /// The memory it holds, in bytes: of a short packet most is not the packet's own.
    fn footprint(&self) -> usize {
        size_of::<Self>() + self.buffer.footprint()
    }

    /// Marks congestion experienced instead of dropping, if the sender understands that.
    fn mark(&mut self) -> bool {
        self.ecn != Ecn::NotCapable && ecn::mark(self.buffer.packet_mut())
    }
}
