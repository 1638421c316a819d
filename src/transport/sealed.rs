//! TLS between the frames and the socket: seals what goes out in full records, opens what comes in.

use std::io;

use crate::packet::buffer::Pool;

use super::incoming::{FIRST_READ, a_read};
use super::outgoing::Outgoing;
use super::tls::{self, Progress, RECORD, Session};
use super::window::Window;

/// Frames up to this length share a record; longer ones are sealed where they lie.
const SHARED: usize = 4 * 1024;

/// The TLS layer of one connection.
#[derive(Debug)]
pub(super) struct Sealed {
    session: Session,
    /// Records that came in and are not complete.
    incoming: Window,
    /// Records that wait to be written.
    outgoing: Window,
    /// Short frames that will share a record.
    shared: Vec<u8>,
    /// Whether the peer has said that nothing more will come.
    closed: bool,
}

impl Sealed {
    pub(super) fn new(session: Session) -> Self {
        Self {
            session,
            incoming: Window::default(),
            outgoing: Window::default(),
            shared: Vec::new(),
            closed: false,
        }
    }

    /// The key that the peer has proved to hold.
    pub(super) fn peer(&self) -> Result<super::keys::PublicKey, tls::Error> {
        self.session.peer()
    }

    /// What was agreed on to protect the connection.
    pub(super) fn ciphers(&self) -> Option<tls::Ciphers> {
        self.session.ciphers()
    }

    /// Sealed bytes that wait to be written.
    pub(super) fn unsent(&self) -> usize {
        self.outgoing.len()
    }

    /// Seals about `ahead` bytes of frames, unless some are sealed already, and writes once. A
    /// control frame waits behind what is sealed.
    pub(super) fn write(
        &mut self,
        frames: &mut Outgoing,
        ahead: usize,
        write: impl FnOnce(&[u8]) -> io::Result<usize>,
        pool: &mut Pool,
    ) -> io::Result<()> {
        if self.outgoing.len() == 0 {
            self.seal_some(frames, ahead, pool).map_err(io::Error::other)?;
        }
        match write(self.outgoing.filled())? {
            0 if self.outgoing.len() > 0 => Err(io::ErrorKind::WriteZero.into()),
            written => {
                self.outgoing.take(written);
                Ok(())
            }
        }
    }

    /// Reads once and opens what came; the plaintext goes to `plain`. Gives the bytes read.
    pub(super) fn read(
        &mut self,
        plain: &mut Window,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.closed {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let at_least = match self.incoming.len() {
            0 if self.session.is_established() => a_read(&self.incoming),
            // Whoever has yet to prove anything gets no more for what was taken already.
            0 => FIRST_READ,
            some => (2 * RECORD).saturating_sub(some).max(1),
        };
        let length = read(self.incoming.room(at_least))?;
        self.incoming.added(length);
        let before = plain.len();
        let opened = self.open(plain).map_err(io::Error::other)?;
        self.closed = opened.closed;
        if self.closed && plain.len() == before {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(length)
    }

    /// Writes what is sealed already, once: why the connection ends may be the last of it.
    pub(super) fn write_sealed(&mut self, write: impl FnOnce(&[u8]) -> io::Result<usize>) {
        if let Ok(written) = write(self.outgoing.filled()) {
            self.outgoing.take(written);
        }
    }

    /// Opens what has come: messages of the handshake, then data, which is added to `plain`. Says
    /// whether the handshake is complete, and whether the peer has closed.
    pub(super) fn open(&mut self, plain: &mut Window) -> Result<Progress, tls::Error> {
        let opened = self.session.open(self.incoming.filled_mut(), plain, &mut self.outgoing)?;
        self.incoming.take(opened.consumed);
        Ok(opened)
    }

    /// Bytes of memory that are held for what came and is not complete.
    #[cfg(any(fuzzing, debug_assertions))]
    pub(super) fn held(&self) -> usize {
        self.incoming.capacity()
    }

    /// Seals one record of any type.
    #[cfg(any(fuzzing, debug_assertions))]
    pub(super) fn seal_as(&mut self, kind: u8, plain: &[u8]) -> Result<(), tls::Error> {
        self.session.seal_as(kind, plain, &mut self.outgoing)
    }

    fn seal_some(
        &mut self,
        frames: &mut Outgoing,
        ahead: usize,
        pool: &mut Pool,
    ) -> Result<(), tls::Error> {
        while self.outgoing.len() + self.shared.len() < ahead {
            let Some(frame) = frames.pop() else { break };
            let bytes = frame.frame();
            if bytes.len() <= SHARED {
                if self.shared.len() + bytes.len() > RECORD {
                    self.seal_shared()?;
                }
                self.shared.extend_from_slice(bytes);
            } else {
                self.seal_shared()?;
                self.session.seal(bytes, &mut self.outgoing)?;
            }
            pool.recycle(frame);
        }
        self.seal_shared()
    }

    fn seal_shared(&mut self) -> Result<(), tls::Error> {
        let mut shared = std::mem::take(&mut self.shared);
        if !shared.is_empty() {
            self.session.seal(&shared, &mut self.outgoing)?;
            shared.clear();
        }
        self.shared = shared;
        Ok(())
    }
}
