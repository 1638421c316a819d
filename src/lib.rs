//! `tunnel64d` carries IPv6 and IPv4 packets from a TUN interface over TCP to the other gateway.
//!
//! The rooms, each importing only from rows below its own (`tests/directions.rs` checks it):
//!
//! - [`tun`]: packets to and from the kernel: the vnet header, what a peer may hand it, software GSO.
//! - [`packet`]: views on the bytes of IP packets: headers, checksums, offload, flows.
//! - [`sys`]: the only unsafe code: ioctls and socket options that no crate wraps.

#![deny(unsafe_code)]

pub mod packet;
pub mod sys;
pub mod tun;
