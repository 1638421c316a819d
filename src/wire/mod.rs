//! What crosses the TCP connection: frames, HELLO and BYE. Bytes to types and back, no I/O.
//!
//! `docs/protocol.md` is the specification. All integers are big-endian. Parsers take any bytes
//! and never panic: what a peer sends is data.

pub mod bye;
pub mod frame;
pub mod hello;
