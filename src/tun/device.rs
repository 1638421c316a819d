//! The TUN interface: its queues, and what the kernel may hand us through them.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};

use nix::sys::uio::{readv, writev};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use zerocopy::IntoBytes;

use crate::packet::offload::Accepts;
use crate::sys;

use super::vnet::VnetHeader;

#[allow(clippy::cast_possible_truncation)] // Ten.
pub(super) const HEADER_LEN: u8 = size_of::<VnetHeader>() as u8;

/// Why the interface could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// `/dev/net/tun` is not there.
    #[error("/dev/net/tun is not there: load the driver with `modprobe tun`")]
    NoDriver,
    /// The kernel did not let us.
    #[error(
        "not allowed to open interface {0}: CAP_NET_ADMIN and access to /dev/net/tun are needed"
    )]
    NotAllowed(String),
    /// The kernel takes no such name.
    #[error("{0} is not a name for a TUN interface: choose another interface.name")]
    Name(String),
    /// A TUN of that name is there.
    #[error(
        "interface {0} is already there: stop the process that holds it, or remove it with \
         `ip link delete {0}` if none does"
    )]
    Busy(String),
    /// The name belongs to an interface of another kind.
    #[error("{0} is the name of an interface that is no TUN: choose another interface.name")]
    Taken(String),
    /// Anything else.
    #[error("interface {name} could not be opened: {source}")]
    Other {
        /// The interface.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// One queue of the interface that no runtime watches yet. It is in the flow hash.
pub struct Opened {
    device: tun::Device,
    may_hold_packets: bool,
}

/// One queue of the interface: a flow's packets come out of one queue, as long as it is attached.
pub struct Queue(AsyncFd<tun::Device>);

/// Opens the interface with this many queues and asks the kernel for super-packets if `offload`
/// says so: for all kinds, then without UDP, then for none.
///
/// Gives the queues, attached, and the super-packets that this kernel takes and hands out.
/// The interface goes with the last queue.
///
/// # Errors
/// [`OpenError`]; nothing is left behind then. [`OpenError::Busy`] for any interface of that name:
/// the kernel does not say of which kind it is.
pub fn open(name: &str, queues: u8, offload: bool) -> Result<(Vec<Opened>, Accepts), OpenError> {
    let failed = |source: io::Error| OpenError::from_io(name, source);
    let mut opened = Vec::with_capacity(queues.into());
    for index in 0..queues {
        opened.push(Opened::open(name, index == 0).map_err(failed)?);
    }
    let accepts = probe(&opened, offload).map_err(failed)?;
    Ok((opened, accepts))
}

/// Asks the kernel for super-packets, for the whole interface. Gives those that it takes.
pub(super) fn probe(queues: &[Opened], offload: bool) -> io::Result<Accepts> {
    queues.first().map_or(Ok(Accepts::NONE), |first| first.probe(offload))
}

impl Opened {
    pub(super) fn open(name: &str, first: bool) -> io::Result<Self> {
        let fd = sys::tun::open_queue(name, first)?;
        sys::tun::set_vnet_header_size(fd.as_fd(), HEADER_LEN)?;
        Self::own(name, fd, false)
    }

    pub(super) fn own(name: &str, fd: OwnedFd, may_hold_packets: bool) -> io::Result<Self> {
        let mut owner = tun::Configuration::default();
        owner.raw_fd(fd.into_raw_fd()).close_fd_on_drop(true).tun_name(name);
        let device = tun::Device::new(&owner).map_err(io::Error::other)?;
        Ok(Self { device, may_hold_packets })
    }

    /// Whatever a test has in place of a queue.
    #[cfg(test)]
    pub(crate) fn of(fd: OwnedFd) -> Self {
        Self::own("test", fd, false).expect("nothing is asked of it")
    }

    /// Whether packets may wait in it that came before it was opened here.
    pub fn may_hold_packets(&self) -> bool {
        self.may_hold_packets
    }

    fn probe(&self, offload: bool) -> io::Result<Accepts> {
        use sys::tun::{TUN_F_CSUM, TUN_F_TSO_ECN, TUN_F_TSO4, TUN_F_TSO6, TUN_F_USO4, TUN_F_USO6};
        const TCP: u32 = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
        const ALL: u32 = TCP | TUN_F_USO4 | TUN_F_USO6;
        let tcp = Accepts::CHECKSUM.union(Accepts::TSO4).union(Accepts::TSO6);
        let queue = self.as_fd();
        if offload {
            for (mask, accepts) in [(ALL, Accepts::ALL), (TCP, tcp)] {
                if sys::tun::set_offload(queue, mask).is_ok() {
                    return Ok(accepts);
                }
            }
        }
        sys::tun::set_offload(queue, 0)?;
        Ok(Accepts::NONE)
    }

    /// Brings the queue into the current runtime.
    ///
    /// # Errors
    /// The runtime can't watch the descriptor; the queue is closed.
    pub fn watch(self) -> io::Result<Queue> {
        sys::tun::watch(self.device).map(Queue)
    }
}

impl Queue {
    /// Waits until a packet can be read, or the interface is gone.
    pub async fn readable(&self) {
        // A deleted interface is an error to the poller, and nothing else. One of the runtime's
        // will be met by the next read.
        let _ = self.0.ready(Interest::READABLE | Interest::ERROR).await;
    }

    /// Reads one packet and the header in front of it; `packet` must have room for the largest.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; one that [`is_gone`] knows when the interface was deleted.
    pub fn read(&self, header: &mut VnetHeader, packet: &mut [u8]) -> io::Result<usize> {
        let mut read = |device: &tun::Device| {
            let mut parts = [IoSliceMut::new(header.as_mut_bytes()), IoSliceMut::new(packet)];
            let length = readv(sys::fd::borrow(device), &mut parts)?;
            Ok(length.saturating_sub(size_of::<VnetHeader>()))
        };
        match self.0.try_io(Interest::READABLE, &mut read) {
            // Without an error to the poller this asks nobody.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.0.try_io(Interest::ERROR, read)
            }
            result => result,
        }
    }

    /// Hands the kernel one packet. Runs the kernel's receive path for it before it returns.
    ///
    /// # Errors
    /// `InvalidInput` when the kernel refuses the packet, EIO when the interface is down, one that
    /// [`is_gone`] knows when it was deleted.
    pub fn write(&self, header: &VnetHeader, packet: &[u8]) -> io::Result<()> {
        let parts = [IoSlice::new(header.as_bytes()), IoSlice::new(packet)];
        writev(self.fd(), &parts)?;
        Ok(())
    }

    /// Puts the queue into the kernel's flow hash or takes it out; what waits in it is dropped
    /// when it is taken out.
    ///
    /// # Errors
    /// The interface has been deleted, or CAP_NET_ADMIN is missing.
    pub fn attach(&self, attached: bool) -> io::Result<()> {
        sys::tun::attach_queue(self.fd(), attached)
    }

    /// Sets the carrier of the whole interface.
    ///
    /// # Errors
    /// The interface has been deleted, or the kernel is older than 5.0.
    pub fn set_carrier(&self, carrier: bool) -> io::Result<()> {
        sys::tun::set_carrier(self.fd(), carrier)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        sys::fd::borrow(self.0.get_ref())
    }
}

/// Whether an error of a queue says that the interface has been deleted.
pub fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADFD)
}

impl AsFd for Opened {
    fn as_fd(&self) -> BorrowedFd<'_> {
        sys::fd::borrow(&self.device)
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opened({})", self.device.as_raw_fd())
    }
}

impl OpenError {
    fn from_io(name: &str, source: io::Error) -> Self {
        let name = name.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NoDriver,
            io::ErrorKind::PermissionDenied => Self::NotAllowed(name),
            io::ErrorKind::InvalidInput => Self::Name(name),
            io::ErrorKind::ResourceBusy => Self::Busy(name),
            _ => Self::Other { name, source },
        }
    }
}
