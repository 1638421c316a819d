//! Descriptors that the service manager hands to a process at its start (sd_listen_fds(3)).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The descriptors with their names, on the first call; none on a later one. They are
/// close-on-exec.
///
/// # Errors
/// The environment says something of them that can't be.
pub fn take() -> io::Result<Vec<(String, OwnedFd)>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let inherited = sd_notify::listen_fds_with_names()?;
    // SAFETY: each is open, or it could not have been made close-on-exec, and by the protocol it is
    // this process's own. Nobody else has taken it: this runs once.
    Ok(inherited.map(|(fd, name)| (name, unsafe { OwnedFd::from_raw_fd(fd) })).collect())
}
