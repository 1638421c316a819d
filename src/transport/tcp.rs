//! TCP: dialling, listening and the socket options that a tunnel wants.

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::sys;

/// Bytes that the kernel may hold unsent, on a fast line. Short, so that packets wait where the queue
/// can decide about them.
pub const UNSENT_LIMIT: u32 = 128 * 1024;

/// A connection whose path comes back after an outage is tried again after at most this long.
const RETRANSMIT_WITHIN: Duration = Duration::from_secs(1);

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 128;

/// On a path whose round trip is shorter than this, BBR costs more than it brings: it paces with a
/// timer for every segment, and a loss is made good within a round trip anyway. Between two sites it
/// is rarely shorter.
const SHORT_PATH: Duration = Duration::from_millis(1);

/// Which congestion control a connection uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Congestion {
    /// CUBIC where the round trip is shorter than a millisecond when a connection is taken into
    /// use; else BBR, or the kernel's default where it has no BBR.
    Auto,
    /// The kernel's default.
    Default,
    /// By name; an error when the kernel doesn't have it.
    Named(String),
}

/// How a tunnel's connections leave the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The address that dialled connections come from.
    pub source: Option<IpAddr>,
    /// The interface (or VRF) that connections are bound to.
    pub device: Option<String>,
    /// The mark that policy routing and filters see.
    pub fwmark: Option<u32>,
    /// The DSCP of every outer packet, 0 to 63.
    pub dscp: Option<u8>,
    /// The congestion control.
    pub congestion: Congestion,
    /// How long sent bytes may stay unacknowledged before the kernel gives the connection up.
    pub unacknowledged_limit: Duration,
}

/// Connects to `peer`.
///
/// # Errors
/// Those of socket(2), bind(2), connect(2) and of the options that were asked for.
pub async fn dial(peer: SocketAddr, options: &Options) -> io::Result<TcpStream> {
    let socket = socket(peer, options)?;
    if let Some(source) = options.source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    tune(SockRef::from(&socket), options)?;
    TcpSocket::from_std_stream(socket.into()).connect(peer).await
}

/// Listens on `address`, which need not exist yet.
///
/// # Errors
/// Those of socket(2), bind(2), listen(2) and of the options that were asked for; `AddrInUse` when
/// somebody else listens there.
pub fn listen(address: SocketAddr, options: &Options) -> io::Result<TcpListener> {
    TcpSocket::from_std_stream(bind(address, options, false)?.into()).listen(BACKLOG)
}

/// Sets the options on a connection that was accepted: not all are inherited from the listener.
///
/// # Errors
/// The connection is gone, or an option was refused.
pub fn tune_accepted(stream: &TcpStream, options: &Options) -> io::Result<()> {
    tune(SockRef::from(stream), options)
}

/// Chooses the congestion control, where that is left to us, when a few round trips have been
/// measured.
pub(super) fn suit_path(socket: SockRef<'_>, options: &Options) {
    if options.congestion != Congestion::Auto {
        return;
    }
    // The kernel calls a round trip that it has not measured yet very long.
    let info = sys::tcp::info(socket.as_fd());
    if is_long(info.ok().map(|info| info.least_round_trip)) {
        socket.set_tcp_congestion(b"bbr").or_else(|_| set_default_congestion(&socket)).ok();
    }
}

fn is_long(least_round_trip: Option<Duration>) -> bool {
    least_round_trip.is_none_or(|least| least >= SHORT_PATH)
}

/// A socket may have been given another one before, or have it from its listener.
fn set_default_congestion(socket: &SockRef<'_>) -> io::Result<()> {
    let name = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")?;
    socket.set_tcp_congestion(name.trim_end().as_bytes())
}

/// Listens on `address` in place of `old`, which may listen on a part of it and goes on until it is
/// dropped.
///
/// # Errors
/// Those of [`listen`]: `AddrInUse` when somebody else listens there.
pub fn listen_in_place_of(
    old: &TcpListener,
    address: SocketAddr,
    options: &Options,
) -> io::Result<TcpListener> {
    match listen(address, options) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
        other => return other,
    }
    // Two listeners of one user share a port if both say so. Nothing else does, but for a third
    // one of this user that says so too.
    SockRef::from(old).set_reuse_port(true)?;
    let listener = bind(address, options, true).and_then(|socket| {
        let listener = TcpSocket::from_std_stream(socket.into()).listen(BACKLOG)?;
        SockRef::from(&listener).set_reuse_port(false)?;
        Ok(listener)
    });
    let _ = SockRef::from(old).set_reuse_port(false);
    listener
}

/// Whether sockets with these options can be had at all: the device is there, and the kernel has
/// the congestion control.
///
/// # Errors
/// Those of the options that were asked for.
pub fn probe(options: &Options) -> io::Result<()> {
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0);
    let socket = match socket(any, options) {
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            socket(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0), options)
        }
        other => other,
    }?;
    tune(SockRef::from(&socket), options)
}

fn bind(address: SocketAddr, options: &Options, share: bool) -> io::Result<Socket> {
    let socket = socket(address, options)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    // At boot the address may appear after us.
    if address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_freebind_v6(true)?;
        socket.set_only_v6(false)?;
    }
    tune(SockRef::from(&socket), options)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Takes over a socket that listens already, and sets the options on it. Gives its address as well.
///
/// # Errors
/// `InvalidInput` when it does not listen; those of the options that were asked for.
pub fn take_listener(socket: OwnedFd, options: &Options) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::from(socket);
    if !socket.is_listener()? || socket.r#type()? != Type::STREAM {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen for TCP"));
    }
    let device = options.device.as_deref().map(str::as_bytes);
    if socket.device()?.as_deref() != device {
        let name = options.device.as_deref().unwrap_or("(none)");
        socket.bind_device(device).map_err(of("link.device", name))?;
    }
    if let Some(mark) = options.fwmark {
        socket.set_mark(mark).map_err(of("link.fwmark", mark))?;
    }
    tune(SockRef::from(&socket), options)?;
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from_std(socket.into())?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Whether a listener is bound to the device of this name, or to none if none is named. It is bound
/// to the interface that had the name then.
pub fn is_on_device(listener: &TcpListener, options: &Options) -> bool {
    let device = SockRef::from(listener).device();
    device.is_ok_and(|device| device.as_deref() == options.device.as_deref().map(str::as_bytes))
}

fn socket(address: SocketAddr, options: &Options) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    if let Some(device) = &options.device {
        socket.bind_device(Some(device.as_bytes())).map_err(of("link.device", device))?;
    }
    if let Some(mark) = options.fwmark {
        socket.set_mark(mark).map_err(of("link.fwmark", mark))?;
    }
    Ok(socket)
}

/// An error that names the option it came from: the kernel's own words are the same for all.
fn of(key: &str, value: impl Display) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{key} {value}: {error}"))
}

fn tune(socket: SockRef<'_>, options: &Options) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT_LIMIT)?;
    socket.set_tcp_user_timeout(Some(options.unacknowledged_limit))?;
    match &options.congestion {
        // `suit_path` follows. A connection that began with BBR would be paced for good.
        Congestion::Auto => socket.set_tcp_congestion(b"cubic").unwrap_or_default(),
        Congestion::Default => set_default_congestion(&socket).unwrap_or_default(),
        Congestion::Named(name) => {
            socket.set_tcp_congestion(name.as_bytes()).map_err(of("link.congestion", name))?;
        }
    }
    if let Some(dscp) = options.dscp {
        let class = u32::from(dscp) << 2;
        // An IPv6 socket may carry IPv4 as well, and takes both.
        let v4 = socket.set_tos_v4(class);
        let v6 = socket.set_tclass_v6(class);
        v4.or(v6).map_err(of("link.dscp", dscp))?;
    }
    // Before Linux 6.15 there is no such option: a stalled stream is then replaced by a new one.
    let limited = sys::tcp::set_max_retransmission_timeout(socket.as_fd(), RETRANSMIT_WITHIN);
    match limited {
        Err(error) if error.raw_os_error() != Some(libc::ENOPROTOOPT) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            source: None,
            device: None,
            fwmark: None,
            dscp: Some(46),
            congestion: Congestion::Auto,
            unacknowledged_limit: Duration::from_secs(30),
        }
    }

    async fn pair(listen_on: &str) -> (TcpStream, TcpStream) {
        let listener = listen(listen_on.parse().unwrap(), &options()).unwrap();
        let dialled = dial(listener.local_addr().unwrap(), &options()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        tune_accepted(&accepted, &options()).unwrap();
        (dialled, accepted)
    }

    #[tokio::test]
    async fn both_ends_send_at_once_and_keep_little_unsent() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (dialled, accepted) = pair(address).await;
            for stream in [&dialled, &accepted] {
                let socket = SockRef::from(stream);
                assert!(socket.tcp_nodelay().unwrap());
                assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT_LIMIT);
                assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(30)));
                let class = if address.starts_with('[') {
                    socket.tclass_v6().unwrap()
                } else {
                    socket.tos_v4().unwrap()
                };
                assert_eq!(class >> 2, 46);
            }
        }
    }

    #[test]
    fn a_path_is_long_from_a_millisecond_on_or_when_nothing_is_known() {
        let micros = |count| is_long(Some(Duration::from_micros(count)));
        assert_eq!(
            [micros(10), micros(999), micros(1000), is_long(None)],
            [false, false, true, true]
        );
        let unmeasured = Duration::from_micros(u32::MAX.into());
        assert!(is_long(Some(unmeasured)));
    }

    #[tokio::test]
    async fn an_address_that_is_not_there_yet_can_be_listened_on() {
        assert!(listen("192.0.2.7:0".parse().unwrap(), &options()).is_ok());
        assert!(listen("[2001:db8::7]:0".parse().unwrap(), &options()).is_ok());
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_told_apart() {
        let taken = listen("127.0.0.1:0".parse().unwrap(), &options()).unwrap();
        let error = listen(taken.local_addr().unwrap(), &options()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn a_listener_makes_way_for_its_successor_and_for_nobody_else() {
        let old = listen("127.0.0.1:0".parse().unwrap(), &options()).unwrap();
        let port = old.local_addr().unwrap().port();
        let wider = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
        assert!(listen(wider, &options()).is_err());
        let new = listen_in_place_of(&old, wider, &options()).unwrap();
        drop(old);
        let (dialled, accepted) = tokio::join!(TcpStream::connect(wider), new.accept());
        assert!(dialled.is_ok() && accepted.is_ok());
        assert!(listen(wider, &options()).is_err(), "it shares its port with nobody");

        let other = listen("127.0.0.2:0".parse().unwrap(), &options()).unwrap();
        let taken =
            SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), other.local_addr().unwrap().port());
        let error = listen_in_place_of(&new, taken, &options()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(listen(wider, &options()).is_err(), "it goes on as before");
    }

    #[tokio::test]
    async fn a_congestion_control_that_does_not_exist_is_an_error_only_when_named() {
        let named = Options { congestion: Congestion::Named("nosuch".into()), ..options() };
        let error = listen("127.0.0.1:0".parse().unwrap(), &named).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(probe(&named).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(probe(&options()).is_ok());
    }
}
