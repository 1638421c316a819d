//! The ioctls of `/dev/net/tun` (Linux `include/uapi/linux/if_tun.h`).

use std::ffi::{c_int, c_short, c_uint};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tun::Device;

/// `TUN_F_CSUM`: the kernel may hand us packets whose checksum is incomplete.
pub const TUN_F_CSUM: u32 = 0x01;
/// `TUN_F_TSO4`: the kernel may hand us TCP super-packets over IPv4.
pub const TUN_F_TSO4: u32 = 0x02;
/// `TUN_F_TSO6`: the kernel may hand us TCP super-packets over IPv6.
pub const TUN_F_TSO6: u32 = 0x04;
/// `TUN_F_TSO_ECN`: those may have the CWR flag set.
pub const TUN_F_TSO_ECN: u32 = 0x08;
/// `TUN_F_USO4`: the kernel may hand us trains of UDP datagrams over IPv4 (Linux 6.2).
pub const TUN_F_USO4: u32 = 0x20;
/// `TUN_F_USO6`: the same over IPv6.
pub const TUN_F_USO6: u32 = 0x40;

const DRIVER: &str = "/dev/net/tun";

/// `struct ifreq` as the TUN driver reads it: the name, then the flags, padded to the kernel's size.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: c_short,
    padding: [u8; 22],
}

const _: () = assert!(size_of::<InterfaceRequest>() == size_of::<libc::ifreq>());

mod ioctl {
    use super::{InterfaceRequest, c_int, c_uint};
    // The driver declares these as taking an int; some take a larger structure (`if_tun.h`).
    const TUN: u8 = b'T';
    const INT: usize = size_of::<c_int>();
    nix::ioctl_write_ptr_bad!(
        set_interface,
        nix::request_code_write!(TUN, 202, INT),
        InterfaceRequest
    );
    nix::ioctl_write_int_bad!(set_offload, nix::request_code_write!(TUN, 208, INT));
    nix::ioctl_write_ptr_bad!(set_vnet_header_size, nix::request_code_write!(TUN, 216, INT), c_int);
    nix::ioctl_read_bad!(
        interface,
        nix::request_code_read!(TUN, 210, size_of::<c_uint>()),
        InterfaceRequest
    );
    nix::ioctl_read_bad!(
        vnet_header_size,
        nix::request_code_read!(TUN, 215, size_of::<c_int>()),
        c_int
    );
    nix::ioctl_write_ptr_bad!(set_queue, nix::request_code_write!(TUN, 217, INT), InterfaceRequest);
    nix::ioctl_write_ptr_bad!(set_carrier, nix::request_code_write!(TUN, 226, INT), c_uint);
}

/// Opens one queue of the TUN interface `name`. The first one creates the interface, later ones
/// join it; only `first` keeps two processes from sharing one by mistake.
///
/// Packets come and go with a `virtio_net_hdr` in front and without packet information. The
/// descriptor is non-blocking and close-on-exec.
///
/// # Errors
/// `NotFound` without the TUN driver, `PermissionDenied` without CAP_NET_ADMIN or access to the
/// device, `InvalidInput` for a name longer than 15 bytes or an interface of another kind,
/// `ResourceBusy` when `first` and the interface is already there.
pub fn open_queue(name: &str, first: bool) -> io::Result<OwnedFd> {
    open_queue_at(Path::new(DRIVER), name, first)
}

fn open_queue_at(device: &Path, name: &str, first: bool) -> io::Result<OwnedFd> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(device)?;
    let exclusive = if first { libc::IFF_TUN_EXCL } else { 0 };
    let mut request = queue_request(
        libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE | exclusive,
    );
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() >= request.name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    request.name[..bytes.len()].copy_from_slice(bytes);
    // SAFETY: the request is a valid `struct ifreq` that outlives the call; the name is NUL-terminated.
    unsafe { ioctl::set_interface(file.as_raw_fd(), &request) }?;
    Ok(file.into())
}

/// The interface that a descriptor is a queue of: its name, and the `IFF_` flags of the driver, with
/// `IFF_DETACH_QUEUE` while the queue is out of the flow hash (`TUNGETIFF`).
///
/// # Errors
/// ENOTTY for a descriptor of another kind, EBADFD when the interface has been deleted.
pub fn interface(queue: BorrowedFd<'_>) -> io::Result<(String, c_int)> {
    let mut request = queue_request(0);
    // SAFETY: the kernel writes one `struct ifreq` to the pointer, which is valid for that.
    unsafe { ioctl::interface(queue.as_raw_fd(), &mut request) }?;
    let name = request.name.split(|byte| *byte == 0).next().unwrap_or_default();
    // The kernel's flags are 16 bits without a sign.
    let flags = c_int::from(request.flags) & 0xffff;
    Ok((String::from_utf8_lossy(name).into_owned(), flags))
}

/// The size in bytes of the `virtio_net_hdr` before each packet.
pub fn vnet_header_size(queue: BorrowedFd<'_>) -> io::Result<c_int> {
    let mut size = 0;
    // SAFETY: the kernel writes one int to the pointer, which is valid for that.
    unsafe { ioctl::vnet_header_size(queue.as_raw_fd(), &mut size) }?;
    Ok(size)
}

/// Sets the size in bytes of the `virtio_net_hdr` before each packet; the kernel wants at least 10.
pub fn set_vnet_header_size(queue: BorrowedFd<'_>, bytes: u8) -> io::Result<()> {
    let size = c_int::from(bytes);
    // SAFETY: the kernel reads one int from the pointer, which outlives the call.
    unsafe { ioctl::set_vnet_header_size(queue.as_raw_fd(), &size) }?;
    Ok(())
}

/// Tells the kernel which super-packets it may hand us: an OR of the `TUN_F_` bits. Holds for the
/// whole interface, not for this queue alone.
///
/// # Errors
/// `InvalidInput` when the kernel does not know one of the bits.
pub fn set_offload(queue: BorrowedFd<'_>, mask: u32) -> io::Result<()> {
    let mask = c_int::try_from(mask).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: TUNSETOFFLOAD takes its argument by value; no memory is passed.
    unsafe { ioctl::set_offload(queue.as_raw_fd(), mask) }?;
    Ok(())
}

/// Puts the queue into the kernel's flow hash, or takes it out without closing it. Taking it out
/// drops what waits in its ring.
pub fn attach_queue(queue: BorrowedFd<'_>, attached: bool) -> io::Result<()> {
    let request =
        queue_request(if attached { libc::IFF_ATTACH_QUEUE } else { libc::IFF_DETACH_QUEUE });
    // SAFETY: the request is a valid `struct ifreq` that outlives the call.
    unsafe { ioctl::set_queue(queue.as_raw_fd(), &request) }?;
    Ok(())
}

/// Sets or clears the interface's carrier (`TUNSETCARRIER`, Linux 5.0).
pub fn set_carrier(queue: BorrowedFd<'_>, carrier: bool) -> io::Result<()> {
    let carrier = c_uint::from(carrier);
    // SAFETY: the kernel reads one unsigned int from the pointer, which outlives the call.
    unsafe { ioctl::set_carrier(queue.as_raw_fd(), &carrier) }?;
    Ok(())
}

/// Has the current runtime watch a queue for packets to read and for the end of the interface,
/// which the driver tells as an error alone (`tun_chr_poll`).
///
/// # Errors
/// The runtime can't watch the descriptor; the queue is closed.
pub fn watch(queue: Device) -> io::Result<AsyncFd<Device>> {
    // SAFETY: a `tun::Device` made from a raw descriptor owns it, keeps it open until it is
    // dropped, and never exchanges it for another.
    let watched =
        unsafe { AsyncFd::register_with_interest(queue, Interest::READABLE | Interest::ERROR) };
    Ok(watched?)
}

fn queue_request(flags: c_int) -> InterfaceRequest {
    #[allow(clippy::cast_possible_truncation)] // The kernel keeps its 16 flag bits in a short.
    InterfaceRequest { name: [0; libc::IFNAMSIZ], flags: flags as c_short, padding: [0; 22] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_does_not_fit_is_refused_before_the_kernel_sees_it() {
        for name in ["", "sixteen-bytes-xx"] {
            let error = open_queue_at(Path::new("/dev/null"), name, true).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn a_missing_driver_is_told_apart_from_a_refusal() {
        let error = open_queue_at(Path::new("/nonexistent/tun"), "tun0", true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
