//! A connection as the data path holds it: it never blocks, takes whole frames and gives whole
//! frames.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::task::consume_budget;

use crate::packet::buffer::{Buffer, Pool};
use crate::sys;
use crate::wire::frame::{Header, Kind, Malformed};

use super::incoming::{self, Frame};
use super::keys::PublicKey;
use super::outgoing::Outgoing;
use super::sealed::Sealed;
use super::window::Window;
use super::{HandshakeError, Protection, tcp, tls};

/// A connection to the peer, bound to the runtime it was made in.
#[derive(Debug)]
pub struct Stream {
    tcp: TcpStream,
    state: State,
}

/// A [`Stream`] on its way from one runtime to another.
#[derive(Debug)]
pub struct Parked {
    tcp: std::net::TcpStream,
    state: State,
}

#[derive(Debug)]
struct State {
    peer: SocketAddr,
    /// Frames that wait to be sent.
    outgoing: Outgoing,
    /// Frames that have come, the last perhaps in part.
    incoming: Window,
    /// What protects them on their way.
    layer: Option<Box<Sealed>>,
    /// Bytes that the kernel may hold unsent.
    unsent_limit: u32,
    /// Whether the last segment waits in the kernel to become full.
    corked: bool,
}

impl Stream {
    /// A connection that was dialled.
    ///
    /// # Errors
    /// [`HandshakeError::Tls`] only; nothing has been said yet.
    pub fn dialled(
        tcp: TcpStream,
        peer: SocketAddr,
        protection: &Protection,
    ) -> Result<Self, HandshakeError> {
        Self::new(tcp, peer, protection, tls::Endpoint::client)
    }

    /// A connection that was accepted.
    ///
    /// # Errors
    /// [`HandshakeError::Tls`] only; nothing has been said yet.
    pub fn accepted(
        tcp: TcpStream,
        peer: SocketAddr,
        protection: &Protection,
    ) -> Result<Self, HandshakeError> {
        Self::new(tcp, peer, protection, tls::Endpoint::server)
    }

    fn new(
        tcp: TcpStream,
        peer: SocketAddr,
        protection: &Protection,
        session: impl FnOnce(&tls::Endpoint) -> Result<tls::Session, tls::Error>,
    ) -> Result<Self, HandshakeError> {
        let layer = match protection {
            Protection::Plaintext => None,
            Protection::Tls(endpoint) => Some(Box::new(Sealed::new(session(endpoint)?))),
        };
        let (outgoing, incoming) = (Outgoing::default(), Window::default());
        Ok(Self {
            tcp,
            state: State {
                peer,
                outgoing,
                incoming,
                layer,
                unsent_limit: tcp::UNSENT_LIMIT,
                corked: false,
            },
        })
    }

    /// Lets the layer shake hands; gives the key that the peer has proved to hold, or `None` in
    /// plaintext. Must come first, and must be bounded in time by the caller.
    ///
    /// # Errors
    /// [`HandshakeError`]; the peer has been told, as far as TLS has words for it.
    pub async fn handshake(&mut self) -> Result<Option<PublicKey>, HandshakeError> {
        loop {
            let State { incoming, layer, .. } = &mut self.state;
            let Some(layer) = layer else { return Ok(None) };
            let opened = layer.open(incoming);
            let said = self.flush(&mut Pool::default());
            let opened = opened?;
            said?;
            if opened.closed {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            if opened.ready {
                let peer = self.state.layer.as_ref().map(|layer| layer.peer()).transpose()?;
                return Ok(peer);
            }
            if self.unsent() > 0 {
                tokio::select! {
                    ready = self.tcp.writable() => ready?,
                    ready = self.tcp.readable() => ready?,
                }
            } else {
                self.tcp.readable().await?;
            }
            if let Err(error) = self.read() {
                return Err(unwrap_tls(error));
            }
            // Whoever never stops sending must not keep the runtime, nor the caller's bound, waiting.
            consume_budget().await;
        }
    }

    /// The peer's address.
    pub fn peer(&self) -> SocketAddr {
        self.state.peer
    }

    /// Our address of the connection.
    ///
    /// # Errors
    /// It is gone.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// What was agreed on to protect it; `None` in plaintext, or before the handshake.
    pub fn ciphers(&self) -> Option<tls::Ciphers> {
        self.state.layer.as_ref()?.ciphers()
    }

    /// Queues a DATA frame; its header is already in place.
    pub fn push(&mut self, frame: Buffer) {
        self.state.outgoing.push(frame);
    }

    /// Queues a control frame ahead of all data that is not yet on its way. Does nothing when too
    /// many wait already.
    pub fn push_control(&mut self, kind: Kind, body: &[u8]) {
        self.state.outgoing.push_control(control_frame(kind, body));
    }

    /// Takes back the DATA frames that are not yet on their way, in order.
    pub fn take_unsent(&mut self) -> impl Iterator<Item = (Header, Buffer)> + use<> {
        let frames = self.state.outgoing.take_data().into_iter();
        frames.filter_map(|frame| {
            let header = Header::parse(frame.frame().first_chunk()?).ok()?;
            Some((header, frame))
        })
    }

    /// What the kernel knows of the connection.
    pub fn info(&self) -> Option<sys::tcp::Info> {
        sys::tcp::info(self.tcp.as_fd()).ok()
    }

    /// What BBR knows of the connection.
    pub fn bbr(&self) -> Option<sys::tcp::Bbr> {
        sys::tcp::bbr(self.tcp.as_fd())
    }

    /// Bytes that the peer has acknowledged so far, which shows progress on a line that is merely
    /// slow.
    pub fn acknowledged(&self) -> Option<u64> {
        sys::tcp::info(self.tcp.as_fd()).ok().map(|info| info.acknowledged)
    }

    /// Chooses the congestion control, where `options` leave that to us.
    pub fn suit_path(&self, options: &tcp::Options) {
        tcp::suit_path(SockRef::from(&self.tcp), options);
    }

    /// Lets the kernel hold at most this many bytes unsent.
    pub fn limit_unsent(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).map_or(tcp::UNSENT_LIMIT, u32::next_power_of_two);
        let bytes = bytes.min(tcp::UNSENT_LIMIT);
        if self.state.unsent_limit != bytes {
            self.state.unsent_limit = bytes;
            // Without it the line is a little slower to react.
            let _ = SockRef::from(&self.tcp).set_tcp_notsent_lowat(bytes);
        }
    }

    /// Has the kernel give the connection up when sent bytes stay unacknowledged for this long.
    pub fn limit_unacknowledged(&mut self, limit: Duration) {
        // Refused on a connection that is gone only.
        let _ = SockRef::from(&self.tcp).set_tcp_user_timeout(Some(limit));
    }

    /// Has the last segment wait in the kernel to become full, or lets it go (tcp(7), `TCP_CORK`).
    pub fn cork(&mut self, corked: bool) {
        if self.state.corked != corked {
            // Refused, it costs the line a little more headers.
            self.state.corked = SockRef::from(&self.tcp).set_tcp_cork(corked).is_ok() && corked;
        }
    }

    /// Whether the last segment waits in the kernel to become full.
    pub fn is_corked(&self) -> bool {
        self.state.corked
    }

    /// Bytes that wait to be sent.
    pub fn unsent(&self) -> usize {
        let sealed = self.state.layer.as_ref().map_or(0, |layer| layer.unsent());
        self.state.outgoing.bytes() + sealed
    }

    /// Sends what waits, until nothing is left or the kernel takes no more. Buffers that are done
    /// with go back to `pool`.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn flush(&mut self, pool: &mut Pool) -> io::Result<()> {
        while self.unsent() > 0 {
            let Self { tcp, state: State { outgoing, layer, unsent_limit, .. } } = self;
            let written = match layer {
                None => outgoing.write(|slices| tcp.try_write_vectored(slices), pool),
                Some(layer) => {
                    let ahead = usize::try_from(*unsent_limit).unwrap_or(usize::MAX);
                    layer.write(outgoing, ahead, |bytes| tcp.try_write(bytes), pool)
                }
            };
            match written {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads once, as much as there is room for. Says false when nothing has arrived.
    ///
    /// # Errors
    /// The connection is broken; `UnexpectedEof` when the peer has closed it.
    pub fn read(&mut self) -> io::Result<bool> {
        let Self { tcp, state: State { incoming, layer, .. } } = self;
        let read = match layer {
            None => {
                let read = tcp.try_read(incoming::room(incoming));
                read.inspect(|length| incoming.added(*length))
            }
            Some(layer) => layer.read(incoming, |room| tcp.try_read(room)).inspect_err(|error| {
                if error.kind() == io::ErrorKind::Other {
                    // The peer's log should say why as well.
                    layer.write_sealed(|bytes| tcp.try_write(bytes));
                }
            }),
        };
        match read {
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
        incoming::next_frame(&mut self.state.incoming)
    }

    /// Waits until the peer may have said something.
    pub async fn readable(&self) -> io::Result<()> {
        self.tcp.readable().await
    }

    /// Waits until the kernel may take more.
    pub async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// Sends one last frame and closes our direction. What is left to be done is to read until the
    /// peer has closed its own: what was sent would be lost if the connection were closed while
    /// data of the peer's is unread. Must be bounded in time by the caller.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn say_last(&mut self, kind: Kind, body: Vec<u8>) -> io::Result<()> {
        self.state.outgoing.take_data();
        // Behind the control frames that wait, however many: it is the last.
        self.state.outgoing.push(control_frame(kind, &body));
        let mut pool = Pool::default();
        loop {
            self.flush(&mut pool)?;
            if self.unsent() == 0 {
                return SockRef::from(&self.tcp).shutdown(Shutdown::Write);
            }
            self.writable().await?;
        }
    }

    /// Ends the stream with one last frame, and waits until the peer has closed its end too. Must
    /// be bounded in time by the caller.
    pub async fn finish(mut self, kind: Kind, body: Vec<u8>) {
        if self.say_last(kind, body).await.is_err() {
            return;
        }
        let mut rest = [0; 4096];
        while self.tcp.readable().await.is_ok() {
            match self.tcp.try_read(&mut rest) {
                Ok(0) => return,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                _ => consume_budget().await,
            }
        }
    }

    /// Takes it out of this runtime.
    ///
    /// # Errors
    /// The runtime refused; the connection is closed.
    pub fn park(self) -> io::Result<Parked> {
        Ok(Parked { tcp: self.tcp.into_std()?, state: self.state })
    }
}

impl Parked {
    /// Brings it into the current runtime.
    ///
    /// # Errors
    /// The runtime refused; the connection is closed.
    pub fn resume(self) -> io::Result<Stream> {
        Ok(Stream { tcp: TcpStream::from_std(self.tcp)?, state: self.state })
    }
}

fn control_frame(kind: Kind, body: &[u8]) -> Buffer {
    let mut frame = Buffer::copy_of(body);
    frame.set_header(Header { kind, length: body.len() }.to_bytes());
    frame
}

/// An error of TLS that came by way of I/O is one of TLS.
fn unwrap_tls(error: io::Error) -> HandshakeError {
    match error.downcast::<tls::Error>() {
        Ok(error) => HandshakeError::Tls(error),
        Err(error) => HandshakeError::Io(error),
    }
}

#[cfg(test)]
mod tests;
