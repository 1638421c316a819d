//! One connection to the peer: frames in, frames out.
//!
//! [`tcp`] dials, accepts and sets socket options. [`Stream`] is what the data path holds: it
//! never blocks, takes whole frames and gives whole frames. What protects the bytes between the
//! two ends is its layer: plaintext for now; TLS takes the same place.

mod incoming;
pub mod keys;
mod outgoing;
pub mod tcp;
pub mod tls;

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::packet::buffer::{self, Buffer, Pool};
use crate::wire::frame::{self, Header, Kind, Malformed};

pub use incoming::Frame;
use incoming::Incoming;
use outgoing::Outgoing;

const _: () = assert!(buffer::MAX_PACKET == frame::MAX_PACKET);
const _: () = assert!(buffer::HEADROOM == frame::HEADER_LEN);

/// A connection to the peer, bound to the runtime it was made in.
#[derive(Debug)]
pub struct Stream {
    tcp: TcpStream,
    peer: SocketAddr,
    outgoing: Outgoing,
    incoming: Incoming,
}

/// A [`Stream`] on its way from one runtime to another.
#[derive(Debug)]
pub struct Parked {
    tcp: std::net::TcpStream,
    peer: SocketAddr,
    outgoing: Outgoing,
    incoming: Incoming,
}

impl Stream {
    /// Carries frames in the clear over a connection.
    pub fn plaintext(tcp: TcpStream, peer: SocketAddr) -> Self {
        Self { tcp, peer, outgoing: Outgoing::default(), incoming: Incoming::default() }
    }

    /// The peer's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Queues a DATA frame; its header is already in place.
    pub fn push(&mut self, frame: Buffer) {
        self.outgoing.push(frame);
    }

    /// Queues a control frame ahead of all data that is not yet on its way.
    pub fn push_control(&mut self, kind: Kind, body: &[u8]) {
        let mut frame = Buffer::copy_of(body);
        frame.set_header(Header { kind, length: body.len() }.to_bytes());
        self.outgoing.push_first(frame);
    }

    /// Bytes that wait to be sent.
    pub fn unsent(&self) -> usize {
        self.outgoing.bytes()
    }

    /// Sends what waits, until nothing is left or the kernel takes no more. Buffers that are done
    /// with go back to `pool`.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn flush(&mut self, pool: &mut Pool) -> io::Result<()> {
        while self.unsent() > 0 {
            let Self { tcp, outgoing, .. } = self;
            match outgoing.write(|slices| tcp.try_write_vectored(slices), pool) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Drops every frame that is not yet on its way and queues a last one.
    pub fn finish(&mut self, kind: Kind, body: &[u8]) {
        self.outgoing.drop_unstarted();
        self.push_control(kind, body);
    }

    /// Reads once, as much as there is room for. Says false when nothing has arrived.
    ///
    /// # Errors
    /// The connection is broken; `UnexpectedEof` when the peer has closed it.
    pub fn read(&mut self) -> io::Result<bool> {
        let Self { tcp, incoming, .. } = self;
        match incoming.fill(|room| tcp.try_read(room)) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The next whole frame that has been read, if there is one.
    ///
    /// # Errors
    /// What has been read is no frame; the connection has to be closed.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, Malformed> {
        self.incoming.next_frame()
    }

    /// Waits until the peer may have said something.
    pub async fn readable(&self) -> io::Result<()> {
        self.tcp.readable().await
    }

    /// Waits until the kernel may take more.
    pub async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// Takes it out of this runtime.
    ///
    /// # Errors
    /// The runtime refused; the connection is closed.
    pub fn park(self) -> io::Result<Parked> {
        let Self { tcp, peer, outgoing, incoming } = self;
        Ok(Parked { tcp: tcp.into_std()?, peer, outgoing, incoming })
    }
}

impl Parked {
    /// Brings it into the current runtime.
    ///
    /// # Errors
    /// The runtime refused; the connection is closed.
    pub fn resume(self) -> io::Result<Stream> {
        let Self { tcp, peer, outgoing, incoming } = self;
        Ok(Stream { tcp: TcpStream::from_std(tcp)?, peer, outgoing, incoming })
    }
}
