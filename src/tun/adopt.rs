//! Queues of an interface that a process before this one has left open.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use libc::{IFF_DETACH_QUEUE, IFF_MULTI_QUEUE, IFF_NO_PI, IFF_TUN, IFF_VNET_HDR};

use crate::packet::offload::Accepts;
use crate::sys;

use super::device::{HEADER_LEN, Opened, probe};

/// What [`Opened::open`] asks the driver for.
const KIND: i32 = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE;

/// Why descriptors can't be taken over.
#[derive(Debug, thiserror::Error)]
pub enum Misfit {
    /// A descriptor is no queue, or its interface has been deleted.
    #[error("not a queue of an interface: {0}")]
    NoQueue(#[source] io::Error),
    /// A queue of another interface.
    #[error("a queue of the interface {0}")]
    OtherName(String),
    /// A queue whose packets look otherwise.
    #[error("a queue of another kind: flags {flags:#x}, header of {header} bytes")]
    OtherKind {
        /// The driver's `IFF_` flags.
        flags: i32,
        /// Bytes in front of each packet.
        header: i32,
    },
    /// The kernel refused something.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Takes over queues of the interface `name`, opens those that are missing, closes those that are
/// too many, and asks for super-packets anew.
///
/// The interface stays as it is meanwhile, and packets that wait in the queues stay there; only
/// what waits in one that is too many is lost.
///
/// # Errors
/// [`Misfit`]: all of them have been closed.
pub fn adopt(
    name: &str,
    stored: Vec<OwnedFd>,
    queues: u8,
    offload: bool,
) -> Result<(Vec<Opened>, Accepts), Misfit> {
    let mut present = stored
        .into_iter()
        .map(|queue| Ok((is_attached(name, &queue)?, queue)))
        .collect::<Result<Vec<_>, Misfit>>()?;
    let superfluous = present.split_off(present.len().min(queues.into()));
    for (_, queue) in superfluous.iter().filter(|(attached, _)| *attached) {
        // Whoever else holds it open must not keep it in the flow hash.
        sys::tun::attach_queue(queue.as_fd(), false)?;
    }
    let mut opened = Vec::with_capacity(queues.into());
    for (attached, queue) in present {
        if !attached {
            sys::tun::attach_queue(queue.as_fd(), true)?;
        }
        opened.push(Opened::own(name, queue, attached)?);
    }
    while opened.len() < usize::from(queues) {
        opened.push(Opened::open(name, false)?);
    }
    let accepts = probe(&opened, offload)?;
    Ok((opened, accepts))
}

/// Checks that a queue is one of ours. Says whether it is in the flow hash.
fn is_attached(name: &str, queue: &OwnedFd) -> Result<bool, Misfit> {
    let queue = queue.as_fd();
    let (present, flags) = sys::tun::interface(queue).map_err(Misfit::NoQueue)?;
    if present != name {
        return Err(Misfit::OtherName(present));
    }
    let header = sys::tun::vnet_header_size(queue)?;
    if flags & KIND != KIND || header != i32::from(HEADER_LEN) {
        return Err(Misfit::OtherKind { flags, header });
    }
    Ok(flags & IFF_DETACH_QUEUE == 0)
}
