//! An interface's frames, raw: AF_PACKET (packet(7)).

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{getsockopt, setsockopt};
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};
use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};

/// More than any frame has without offloads, so that a longer one shows in the counters.
pub const LONGEST_FRAME: usize = 1 << 17;

/// What the kernel may hold for us while others have the processor: a tenth of a second at
/// 500 Mbit/s, with the room that the kernel takes beside a frame.
const RECEIVE_BUFFER: usize = 32 << 20;

sockopt_impl!(IgnoreOutgoing, SetOnly, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, bool);
sockopt_impl!(Statistics, GetOnly, libc::SOL_PACKET, libc::PACKET_STATISTICS, libc::tpacket_stats);

/// One direction of an interface.
pub struct Port(Socket);

impl Port {
    /// For the frames that arrive at an interface.
    pub fn receiving(interface: &str) -> io::Result<Self> {
        let port = Self::open()?;
        setsockopt(&port.0, RcvBufForce, &RECEIVE_BUFFER)?;
        setsockopt(&port.0, IgnoreOutgoing, &true)?;
        port.0.bind(&address(interface, libc::ETH_P_ALL)?)?;
        Ok(port)
    }

    /// For frames to send through an interface; nothing is received.
    pub fn sending(interface: &str) -> io::Result<Self> {
        let port = Self::open()?;
        port.0.bind(&address(interface, 0)?)?;
        Ok(port)
    }

    /// The length of the frame received, or none when no more has come.
    pub fn receive(&self, frame: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match nix::unistd::read(&self.0, frame) {
                Ok(length) => return Ok(Some(length)),
                Err(Errno::EAGAIN) => return Ok(None),
                // The interface is down for a moment. The kernel says so once.
                Err(Errno::EINTR | Errno::ENETDOWN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether the frame was sent; when not, the interface is down or has no room.
    pub fn send(&self, frame: &[u8]) -> io::Result<bool> {
        match self.0.send(frame) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENETDOWN | Errno::ENOBUFS | Errno::EMSGSIZE | Errno::ENXIO) => {
                    Ok(false)
                }
                _ => Err(error),
            },
        }
    }

    /// Frames that came too fast for us since this was last asked: the line lost them by mistake.
    pub fn missed(&self) -> io::Result<u32> {
        Ok(getsockopt(&self.0, Statistics)?.tp_drops)
    }

    /// A socket of protocol 0 receives nothing until it is bound.
    fn open() -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The address of an interface and the protocol that is received there.
fn address(interface: &str, protocol: i32) -> io::Result<SockAddr> {
    let index = if_nametoindex(interface)
        .map_err(|error| io::Error::new(ErrorKind::NotFound, format!("{interface}: {error}")))?;
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is one of the kernel's socket addresses, plain data valid when zeroed.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = libc::sa_family_t::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    link.sll_protocol = u16::try_from(protocol).map_err(io::Error::other)?.to_be();
    link.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>());
    // SAFETY: the storage holds a sockaddr_ll, which is that long.
    Ok(unsafe { SockAddr::new(storage, length.map_err(io::Error::other)?) })
}
