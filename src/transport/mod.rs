//! One connection to the peer: frames in, frames out.
//!
//! [`tcp`] dials, accepts and sets socket options; [`tls`] and [`keys`] say who is who. [`Stream`]
//! is what the data path holds: it never blocks, takes whole frames and gives whole frames. What
//! protects the bytes between the two ends is its layer: TLS, or nothing.

#[cfg(any(fuzzing, debug_assertions))]
pub mod fuzzing;
mod incoming;
pub mod keys;
mod outgoing;
mod sealed;
mod stream;
pub mod tcp;
pub mod tls;
mod window;

use std::io;

use crate::packet::buffer;
use crate::wire::frame;

pub use incoming::Frame;
pub use stream::{Parked, Stream};

const _: () = assert!(buffer::MAX_PACKET == frame::MAX_PACKET);
const _: () = assert!(buffer::HEADROOM == frame::HEADER_LEN);

/// How the bytes of every connection are protected.
#[derive(Debug, Clone)]
pub enum Protection {
    /// Not at all.
    Plaintext,
    /// TLS 1.3 between pinned keys.
    Tls(tls::Endpoint),
}

impl Protection {
    /// Whether it is TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

/// Why a connection did not get as far as frames.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The connection broke, or was closed.
    #[error("closed during the handshake: {0}")]
    Io(#[from] io::Error),
    /// The ends don't accept each other.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}
