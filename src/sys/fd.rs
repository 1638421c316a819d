//! Borrowed descriptors of owners that only know the old, unchecked kind.

use std::os::fd::{AsRawFd, BorrowedFd};

/// The descriptor of something that owns it but does not implement `AsFd`.
pub fn borrow<T: AsRawFd>(owner: &T) -> BorrowedFd<'_> {
    // SAFETY: the owner keeps its descriptor open for as long as it lives, and the result borrows it.
    unsafe { BorrowedFd::borrow_raw(owner.as_raw_fd()) }
}
