//! TCP socket options that neither nix nor socket2 wraps (Linux `include/uapi/linux/tcp.h`).

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use super::fd::unread_by_peer;

/// `TCP_RTO_MAX_MS`, Linux 6.15.
const TCP_RTO_MAX_MS: c_int = 44;

/// `TCP_CC_INFO`.
const TCP_CC_INFO: c_int = 26;

/// Bounds the retransmission timeout, so that a connection whose path comes back after an outage
/// is heard again after at most this long. The kernel takes 1 s to 120 s.
///
/// # Errors
/// `ENOPROTOOPT` before Linux 6.15.
pub fn set_max_retransmission_timeout(socket: BorrowedFd<'_>, limit: Duration) -> io::Result<()> {
    let milliseconds = c_int::try_from(limit.as_millis())
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: the kernel reads one int of the given length from a live variable.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_RTO_MAX_MS,
            (&raw const milliseconds).cast::<c_void>(),
            socklen::<c_int>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What BBR knows of a connection (`struct tcp_bbr_info`, Linux
/// `include/uapi/linux/inet_diag.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bbr {
    /// The shortest round-trip time of about the last ten seconds.
    pub least_round_trip: Duration,
    /// Whether it keeps hardly anything in flight, to learn the shortest round-trip time anew
    /// (`PROBE_RTT`). Only then is the window no larger than what the line holds.
    pub probing: bool,
}

/// Reads what BBR knows of a connection (`TCP_CC_INFO`); nothing of one with another congestion
/// control, of which none says as much.
pub fn bbr(socket: BorrowedFd<'_>) -> Option<Bbr> {
    /// 1 as a gain (`BBR_UNIT`).
    const ONE: u32 = 256;
    // Bandwidth (low, high half), shortest round trip in microseconds, gain of pacing and of window.
    let mut info = [0_u32; 5];
    let mut length = socklen::<[u32; 5]>();
    // SAFETY: the kernel writes at most `length` bytes into an array of that size, of integers.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_CC_INFO,
            info.as_mut_ptr().cast::<c_void>(),
            &raw mut length,
        )
    };
    let [_, _, least, _, window_gain] = info;
    let known = result == 0 && length == socklen::<[u32; 5]>();
    known.then(|| Bbr {
        least_round_trip: Duration::from_micros(least.into()),
        probing: window_gain == ONE,
    })
}

/// What the kernel knows of a connection (`struct tcp_info`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// Smoothed round-trip time.
    pub round_trip: Duration,
    /// The shortest round-trip time in a long while.
    pub least_round_trip: Duration,
    /// Bytes on their way: neither acknowledged nor taken for lost.
    pub in_flight: usize,
    /// Bytes that the kernel holds and has not sent.
    pub unsent: usize,
    /// Segments retransmitted since the connection began.
    pub retransmits: u32,
    /// What the connection has delivered lately, in bytes a second; 0 when that is not known.
    pub delivery_rate: u64,
    /// Bytes that may be under way.
    pub congestion_window: u64,
    /// Bytes that the peer has acknowledged since the connection began.
    pub acknowledged: u64,
    /// Bytes that have arrived since the connection began.
    pub received: u64,
}

/// Reads what the kernel knows of a connection (`TCP_INFO`).
pub fn info(socket: BorrowedFd<'_>) -> io::Result<Info> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = socklen::<libc::tcp_info>();
    // SAFETY: the kernel writes at most `length` bytes into a buffer of that size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast::<c_void>(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all fields are integers and the buffer was zeroed, so every byte is initialised.
    let info = unsafe { info.assume_init() };
    let arrived = info.tcpi_sacked.saturating_add(info.tcpi_lost);
    let travelling = info.tcpi_unacked.saturating_add(info.tcpi_retrans).saturating_sub(arrived);
    let unacknowledged = unread_by_peer(socket)?.saturating_sub(info.tcpi_notsent_bytes.into());
    let in_flight = unacknowledged * u64::from(travelling) / u64::from(info.tcpi_unacked.max(1));
    Ok(Info {
        round_trip: Duration::from_micros(info.tcpi_rtt.into()),
        least_round_trip: Duration::from_micros(info.tcpi_min_rtt.into()),
        in_flight: usize::try_from(in_flight).unwrap_or(usize::MAX),
        unsent: usize::try_from(info.tcpi_notsent_bytes).unwrap_or(usize::MAX),
        retransmits: info.tcpi_total_retrans,
        delivery_rate: info.tcpi_delivery_rate,
        congestion_window: u64::from(info.tcpi_snd_cwnd) * u64::from(info.tcpi_snd_mss),
        acknowledged: info.tcpi_bytes_acked,
        received: info.tcpi_bytes_received,
    })
}

#[allow(clippy::cast_possible_truncation)] // Option values are a few hundred bytes at most.
fn socklen<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    #[test]
    fn a_connection_reports_its_round_trip_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let info = info(stream.as_fd()).unwrap();
        assert!(info.round_trip > Duration::ZERO);
        assert!(info.least_round_trip > Duration::ZERO && info.congestion_window > 0);
        assert_eq!((info.retransmits, info.unsent, info.received), (0, 0, 0));
    }

    #[test]
    fn bbr_says_what_it_knows_and_others_say_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = socket2::SockRef::from(&stream);
        socket.set_tcp_congestion(b"reno").unwrap();
        assert_eq!(bbr(stream.as_fd()), None);
        if socket.set_tcp_congestion(b"bbr").is_err() {
            eprintln!("this kernel has no bbr: its half is not tested");
            return;
        }
        let known = bbr(stream.as_fd()).unwrap();
        assert!(!known.probing && known.least_round_trip > Duration::ZERO, "{known:?}");
    }

    #[test]
    fn a_retransmission_limit_out_of_range_is_refused() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(set_max_retransmission_timeout(socket.as_fd(), Duration::ZERO).is_err());
    }
}
