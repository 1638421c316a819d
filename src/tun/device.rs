//! The TUN interface: its queues, and what the kernel may hand us through them.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, RawFd};

use nix::sys::uio::{readv, writev};
use tun::AbstractDevice;

use crate::packet::offload::Accepts;
use crate::sys;

use super::vnet::HEADER_LEN;

/// Why the interface could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// `/dev/net/tun` is not there.
    #[error("/dev/net/tun is not there: load the driver with `modprobe tun`")]
    NoDriver,
    /// The kernel did not let us.
    #[error("not allowed to open interface {0}: CAP_NET_ADMIN and access to /dev/net/tun are needed")]
    NotAllowed(String),
    /// The name belongs to an interface that is no multi-queue TUN, or can't be one.
    #[error("{0} is not a name for a TUN interface, or an interface of another kind has it")]
    Name(String),
    /// Another process holds the interface.
    #[error("interface {0} is in use by another process")]
    Busy(String),
    /// Anything else.
    #[error("interface {name} could not be opened: {source}")]
    Other {
        /// The interface.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// One queue of the interface: a flow's packets come out of one queue, as long as it is attached.
pub struct Queue {
    device: tun::Device,
}

/// Opens the interface with this many queues, creating it when it is not there, and asks the
/// kernel for super-packets if `offload` says so: for all kinds, then without UDP, then for none.
///
/// Gives the queues, attached, and the super-packets that this kernel takes and hands out.
/// The interface goes with the last queue.
///
/// # Errors
/// [`OpenError`]; nothing is left behind then.
pub fn open(name: &str, queues: u8, offload: bool) -> Result<(Vec<Queue>, Accepts), OpenError> {
    let failed = |source: io::Error| OpenError::from_io(name, source);
    let mut opened = Vec::with_capacity(queues.into());
    for _ in 0..queues {
        opened.push(Queue::open(name).map_err(failed)?);
    }
    let accepts = match opened.first() {
        Some(first) => first.probe(offload).map_err(failed)?,
        None => Accepts::NONE,
    };
    Ok((opened, accepts))
}

impl Queue {
    fn open(name: &str) -> io::Result<Self> {
        let fd = sys::tun::open_queue(name)?;
        sys::tun::set_vnet_header_size(fd.as_fd(), HEADER_LEN as u8)?;
        let mut owner = tun::Configuration::default();
        owner.raw_fd(fd.into_raw_fd()).close_fd_on_drop(true).tun_name(name);
        let device = tun::Device::new(&owner).map_err(io::Error::other)?;
        Ok(Self { device })
    }

    fn probe(&self, offload: bool) -> io::Result<Accepts> {
        use sys::tun::{TUN_F_CSUM, TUN_F_TSO_ECN, TUN_F_TSO4, TUN_F_TSO6, TUN_F_USO4, TUN_F_USO6};
        const TCP: u32 = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
        const ALL: u32 = TCP | TUN_F_USO4 | TUN_F_USO6;
        if offload {
            for (mask, accepts) in [(ALL, Accepts::ALL), (TCP, Accepts::TCP)] {
                if sys::tun::set_offload(self.as_fd(), mask).is_ok() {
                    return Ok(accepts);
                }
            }
        }
        sys::tun::set_offload(self.as_fd(), 0)?;
        Ok(Accepts::NONE)
    }

    /// Reads one packet and the header in front of it; `packet` must have room for the largest.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; EBADFD when the interface has been deleted.
    pub fn read(&self, header: &mut [u8; HEADER_LEN], packet: &mut [u8]) -> io::Result<usize> {
        let mut parts = [IoSliceMut::new(header), IoSliceMut::new(packet)];
        let length = readv(self, &mut parts)?;
        Ok(length.saturating_sub(HEADER_LEN))
    }

    /// Hands the kernel one packet. Runs the kernel's receive path for it before it returns.
    ///
    /// # Errors
    /// `InvalidInput` when the kernel refuses the packet, EIO when the interface is down, EBADFD
    /// when it has been deleted.
    pub fn write(&self, header: &[u8; HEADER_LEN], packet: &[u8]) -> io::Result<()> {
        writev(self, &[IoSlice::new(header), IoSlice::new(packet)])?;
        Ok(())
    }

    /// Puts the queue into the kernel's flow hash or takes it out; what waits in it is dropped
    /// when it is taken out.
    ///
    /// # Errors
    /// The interface has been deleted, or CAP_NET_ADMIN is missing.
    pub fn attach(&self, attached: bool) -> io::Result<()> {
        sys::tun::attach_queue(self.as_fd(), attached)
    }

    /// Sets the carrier of the whole interface.
    ///
    /// # Errors
    /// The interface has been deleted, or the kernel is older than 5.0.
    pub fn set_carrier(&self, carrier: bool) -> io::Result<()> {
        sys::tun::set_carrier(self.as_fd(), carrier)
    }

    /// The interface's name.
    ///
    /// # Errors
    /// Never for a queue that [`open`] has opened.
    pub fn interface(&self) -> io::Result<String> {
        self.device.tun_name().map_err(io::Error::other)
    }
}

/// Whether an error of a queue says that the interface has been deleted.
pub fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADFD)
}

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.device.as_raw_fd()
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
