//! Views on the bytes of IP packets: headers, checksums, offload and flows. No I/O, no state.
//!
//! Everything here takes bytes that somebody else wrote, so nothing here panics on them: what does
//! not parse is an error value.

pub mod buffer;
pub mod checksum;
pub mod ecn;
pub mod flow;
pub mod headers;
pub mod offload;

#[cfg(test)]
pub(crate) mod samples;
