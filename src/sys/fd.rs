//! Borrowed descriptors of owners that only know the old, unchecked kind, and what any socket can
//! say.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The descriptor of something that owns it but does not implement `AsFd`.
pub fn borrow<T: AsRawFd>(owner: &T) -> BorrowedFd<'_> {
    // SAFETY: the owner keeps its descriptor open for as long as it lives, and the result borrows it.
    unsafe { BorrowedFd::borrow_raw(owner.as_raw_fd()) }
}

mod ioctl {
    use super::c_int;
    nix::ioctl_read_bad!(outgoing, libc::TIOCOUTQ, c_int);
}

/// What the kernel holds of all that was sent on a socket (`SIOCOUTQ`): on TCP the bytes that have
/// not been acknowledged (tcp(7)), on a local socket the memory of what its peer has not read.
///
/// # Errors
/// Not a socket.
pub fn unread_by_peer(socket: impl AsFd) -> io::Result<u64> {
    let mut bytes: c_int = 0;
    // SAFETY: the kernel writes one int to the pointer, which outlives the call.
    unsafe { ioctl::outgoing(socket.as_fd().as_raw_fd(), &raw mut bytes) }?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}
