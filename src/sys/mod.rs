//! The fence around unsafe code: ioctls, socket options and C functions that neither nix nor socket2
//! wraps.
//!
//! Nothing here decides anything: each function is one call with typed arguments. The rest of
//! the crate denies `unsafe_code`; these files are where it is allowed.

#[allow(unsafe_code)]
pub mod fd;
#[allow(unsafe_code)]
pub mod inherited;
#[allow(unsafe_code)]
pub mod memory;
#[allow(unsafe_code)]
pub mod tcp;
#[allow(unsafe_code)]
pub mod tun;
