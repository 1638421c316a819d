//! What waits between the TUN interface and the TCP connection.
//!
//! The queue is where it is decided who waits and what is dropped: the TUN ring above and the TCP
//! buffer below are kept short on purpose. It knows no clock: time is passed in.

mod fifo;

pub use fifo::{Fifo, Queued};
