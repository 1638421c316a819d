//! The session with the peer, as state machines: no sockets, no clock, no randomness but a seed.
//!
//! A *session* is what two ends agree on by HELLO; it consists of *streams*, one TCP connection
//! each, and is up as long as it has one. [`session`] decides who dials what and when, which
//! connection is taken and which is turned away; [`liveness`] says of one stream when to ask
//! whether the peer is still there, and when to give it up.

pub mod backoff;
pub mod liveness;
pub mod negotiate;
pub mod peers;
pub mod session;
