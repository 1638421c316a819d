//! `tunnel64d` carries IPv6 and IPv4 packets from a TUN interface over TCP to the other gateway.
//!
//! The rooms, each importing only from rows below its own (`tests/directions.rs` checks it):
//!
//! - [`daemon`]: start-up, the main loop and the end of one tunnel; joins all that follows.
//! - [`link`]: the session with the peer as state machines, without sockets or clock.
//! - [`datapath`]: the walk of a packet, out and in, step by step.
//! - [`transport`]: one connection to the peer: dial, accept, socket options, frames in and out.
//! - [`queue`]: what waits between the TUN interface and the connection, and what is dropped.
//! - [`tun`]: the TUN interface: the device, the vnet header, what a peer may hand it, software GSO.
//! - [`wire`]: frames, HELLO and BYE: bytes to types and back.
//! - [`packet`]: views on the bytes of IP packets, and the buffers that they are kept in.
//! - [`sys`]: the only unsafe code: ioctls and socket options that no crate wraps.
//! - [`metrics`] counters and [`time`]: leaves that any room may use.

#![deny(unsafe_code)]

pub mod daemon;
pub mod datapath;
pub mod link;
pub mod metrics;
pub mod packet;
pub mod queue;
pub mod sys;
pub mod time;
pub mod transport;
pub mod tun;
pub mod wire;
