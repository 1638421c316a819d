//! What the tunnel has done and how it is, in numbers. A leaf: it imports no other room.
//!
//! [`counters`] are written by all threads, mostly by the data path, and read by everybody; a
//! [`snapshot`] is how things are at one moment. [`families`] names what is told to Prometheus,
//! [`exposition`] writes it down.

pub mod counters;
pub mod exposition;
pub mod families;
pub mod histogram;
pub mod labels;
pub mod snapshot;

pub use counters::{Count, Counters, Traffic};
pub use histogram::{Batch, Histogram};
pub use labels::{Direction, Drop, Handshake, Refusal, Reload};
