//! The control socket of one tunnel: how `tunnel64d status` and others ask the daemon.
//!
//! It speaks Varlink (<https://varlink.org>), written by hand because so little of it is needed:
//! [`protocol`] has the messages, [`socket`] the file, [`server`] the daemon's end and [`client`]
//! the other one; [`bound`] is how any socket of ours with a file is had, [`places`] is who is
//! served when many come, and [`requests`] the way to the main loop, for the exporter of metrics as
//! well. The server runs on a thread of its own. What clients can cost is bounded: their number,
//! the length and pace of their requests, and the time that each may take.

pub mod bound;
pub mod client;
pub mod places;
pub mod protocol;
pub mod requests;
pub mod server;
pub mod socket;
