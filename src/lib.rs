//! `tunnel64d` carries IPv6 and IPv4 packets from a TUN interface over TCP to the other gateway.
//!
//! The rooms, each importing only from rows below its own (`tests/directions.rs` checks it):
//!
//! - [`cli`]: the commands, one file each, and their exit statuses.
//! - [`config`]: files, environment and arguments → typed, validated settings, or every mistake with its place.
//! - [`sys`]: the only unsafe code: ioctls and socket options that no crate wraps.

#![deny(unsafe_code)]

pub mod cli;
pub mod config;
pub mod sys;
