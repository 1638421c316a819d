//! `tunnel64d` carries IPv6 and IPv4 packets from a TUN interface over TCP to the other gateway.
//!
//! The rooms, each importing only from rows below its own (`tests/directions.rs` checks it):
//!
//! - [`transport`]: one connection to the peer: dial, accept, socket options, frames in and out.
//! - [`queue`]: what waits between the TUN interface and the connection, and what is dropped.
//! - [`wire`]: frames, HELLO and BYE: bytes to types and back.
//! - [`packet`]: packets and what they are kept in.
//! - [`sys`]: the only unsafe code: ioctls and socket options that no crate wraps.
//! - [`metrics`] counters and [`time`]: leaves that any room may use.

#![deny(unsafe_code)]

pub mod metrics;
pub mod packet;
pub mod queue;
pub mod sys;
pub mod time;
pub mod transport;
pub mod wire;
