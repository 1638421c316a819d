//! The walk of a packet.
//!
//! Out, from the kernel to the peer ([`outbound`]):
//!
//! 1. read a packet, or a super-packet, from the TUN queue
//! 2. parse its headers, and what the kernel left to be done to it
//! 3. enqueue it; datagrams of one flow that come right after each other as one
//! 4. dequeue it, when the connection can take more
//! 5. segment it, only if the peer can't take it whole
//! 6. put the frame header in front of it
//! 7. hand it to the connection, whose layer seals it when it is its turn
//! 8. write to TCP
//!
//! In, from the peer to the kernel ([`inbound`], but for the first two):
//!
//! 1. read from TCP ([`Stream::read`](crate::transport::Stream::read))
//! 2. open what the peer's layer sealed
//! 3. take whole frames out of the bytes
//! 4. sanitise the packet and rebuild the header that the kernel wants before it
//! 5. filter by its source
//! 6. write it to the TUN queue
//!
//! Both run in one task per stream that never waits for one direction while the other could go
//! on. A single packet that can't be carried is counted and dropped; only a broken connection or
//! a deleted interface is an error.

use std::io;

pub mod inbound;
pub mod outbound;

/// The interface is gone, and with it every packet in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceGone;

/// Why nothing is read from a TUN queue.
#[derive(Debug)]
pub enum Unreadable {
    /// The interface is gone.
    Gone(InterfaceGone),
    /// The kernel refuses one read after the other. Nothing to wait for says when that is over.
    Failing(io::Error),
}
