//! `tunnel64d` carries IPv6 and IPv4 packets from a TUN interface over TCP to the other gateway.
//!
//! The rooms, from the top down. Each imports only from rows below its own: `docs/architecture.md`
//! draws the rows, `tests/directions.rs` checks them. To follow a packet, start at [`datapath`]; to
//! follow a start-up, at [`daemon`].
//!
//! - [`cli`]: the commands, one file each, and their exit statuses.
//! - [`daemon`]: start-up, the main loop and the end of one tunnel; joins all that follows.
//! - [`config`]: files, environment and arguments → typed, validated settings, or every mistake
//!   with its place.
//! - [`service`]: systemd and the admin: readiness, watchdog, and the log.
//! - [`control`]: the socket on which the daemon is asked how things are.
//! - [`netlink`]: the TUN interface in the kernel: MTU, addresses and routes, set and kept.
//! - [`link`]: the session with the peer as state machines, without sockets or clock.
//! - [`datapath`]: the walk of a packet, out and in, step by step.
//! - [`transport`]: one connection to the peer: dial, accept, socket options, TLS, frames in and out.
//! - [`queue`]: what waits between the TUN interface and the connection, and what is dropped.
//! - [`tun`]: packets to and from the kernel: the device, the vnet header, what a peer may hand it,
//!   software GSO.
//! - [`wire`]: frames, HELLO and BYE: bytes to types and back.
//! - [`packet`]: views on the bytes of IP packets, and the buffers that they are kept in.
//! - [`sys`]: the only unsafe code: ioctls, socket options and descriptors that no crate wraps.
//! - [`metrics`], counters and a snapshot of it all, and what Prometheus is told of them, and
//!   [`time`]: leaves that any room may use.

#![deny(unsafe_code)]

pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod datapath;
pub mod link;
pub mod metrics;
pub mod netlink;
pub mod packet;
pub mod queue;
pub mod service;
pub mod sys;
pub mod time;
pub mod transport;
pub mod tun;
pub mod wire;
