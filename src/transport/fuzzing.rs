//! The two ways in for a peer's bytes, without a socket: there for `tests/fuzz` only, which means
//! with `--cfg fuzzing` and, so that the seeds are tried, in debug builds.

use std::io;

use crate::packet::buffer::{Buffer, Pool};
use crate::wire::frame::{Header, Kind, Malformed};

use super::incoming::{self, Frame};
use super::outgoing::Outgoing;
use super::sealed::Sealed;
use super::tls;
use super::window::Window;

/// Bytes that arrive in plaintext.
#[derive(Debug, Default)]
pub struct Frames(Window);

impl Frames {
    /// Takes as many of `bytes` as one read would, and gives how many.
    pub fn read(&mut self, bytes: &[u8]) -> usize {
        let room = incoming::room(&mut self.0);
        let length = room.len().min(bytes.len());
        room[..length].copy_from_slice(&bytes[..length]);
        self.0.added(length);
        length
    }

    /// The next whole frame, as [`Stream::next_frame`](super::Stream::next_frame).
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, Malformed> {
        incoming::next_frame(&mut self.0)
    }

    /// Bytes of memory that are held.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

/// One end of a connection under TLS.
#[derive(Debug)]
pub struct End {
    layer: Sealed,
    frames: Frames,
    outgoing: Outgoing,
}

impl End {
    /// The end that dialled.
    pub fn dialler(endpoint: &tls::Endpoint) -> Result<Self, tls::Error> {
        endpoint.client().map(Self::new)
    }

    /// The end that was dialled.
    pub fn listener(endpoint: &tls::Endpoint) -> Result<Self, tls::Error> {
        endpoint.server().map(Self::new)
    }

    fn new(session: tls::Session) -> Self {
        Self {
            layer: Sealed::new(session),
            frames: Frames::default(),
            outgoing: Outgoing::default(),
        }
    }

    /// Goes on with the handshake; whether it is complete.
    pub fn open(&mut self) -> Result<bool, tls::Error> {
        self.layer.open(&mut self.frames.0).map(|opened| opened.ready)
    }

    /// Takes as many of `bytes` as one read would, and gives how many.
    pub fn read(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.layer.read(&mut self.frames.0, |room| {
            let length = room.len().min(bytes.len());
            room[..length].copy_from_slice(&bytes[..length]);
            Ok(length)
        })
    }

    /// What it has to say, a frame included; everything is written at once.
    pub fn write(&mut self, frame: Option<&[u8]>) -> io::Result<Vec<u8>> {
        if let Some(body) = frame {
            let mut buffer = Buffer::copy_of(body);
            let kind = Kind::Data { gso_size: 0, checksum_incomplete: false };
            buffer.set_header(Header { kind, length: body.len() }.to_bytes());
            self.outgoing.push(buffer);
        }
        let mut written = Vec::new();
        while self.layer.unsent() + self.outgoing.bytes() > 0 {
            let take = |bytes: &[u8]| {
                written.extend_from_slice(bytes);
                Ok(bytes.len())
            };
            let pool = &mut Pool::default();
            self.layer.write(&mut self.outgoing, usize::MAX, take, pool)?;
        }
        Ok(written)
    }

    /// Seals one record of any type, to be written with the next frames; `plain` is at most 16 KiB.
    pub fn seal_as(&mut self, kind: u8, plain: &[u8]) -> Result<(), tls::Error> {
        self.layer.seal_as(kind, plain)
    }

    /// Bytes of memory that are held for records that are not complete, or wait for others.
    pub fn held(&self) -> usize {
        self.layer.held()
    }

    /// The frames that have come.
    pub fn frames(&mut self) -> &mut Frames {
        &mut self.frames
    }
}
