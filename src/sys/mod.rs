//! The fence around unsafe code: ioctls, socket options and C functions that neither nix nor socket2
//! wraps.
//!
//! Nothing here decides anything: each function is one call with typed arguments. The rest of
//! the crate denies `unsafe_code`; these files are where it is allowed.

#[allow(unsafe_code)] // BorrowedFd::borrow_raw, ioctl(2)
pub mod fd;
#[allow(unsafe_code)] // OwnedFd::from_raw_fd
pub mod inherited;
#[allow(unsafe_code)] // malloc_trim(3)
pub mod memory;
#[allow(unsafe_code)] // getsockopt(2), setsockopt(2)
pub mod tcp;
#[allow(unsafe_code)] // ioctl(2)
pub mod tun;
