//! `tunnel64d` carries IPv6 and IPv4 packets from a TUN interface over TCP to the other gateway.
//!
//! The rooms, each importing only from rows below its own (`tests/directions.rs` checks it):
//!
//! - [`service`]: systemd and the admin: readiness, watchdog, and the log.
//! - [`netlink`]: the TUN interface in the kernel: MTU, addresses and routes, set and kept.
//! - [`sys`]: the only unsafe code: ioctls and socket options that no crate wraps.

#![deny(unsafe_code)]

pub mod netlink;
pub mod service;
pub mod sys;
