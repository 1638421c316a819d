//! What can go wrong between us and the kernel, each with what to do about it.

use std::io;

use ipnet::IpNet;

use super::Route;

/// Why the kernel's network configuration could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No netlink socket.
    #[error(
        "cannot open a netlink socket ({0}); the unit needs RestrictAddressFamilies=AF_NETLINK"
    )]
    Open(#[source] io::Error),
    /// The connection's task has ended.
    #[error("{0}: the netlink connection is closed")]
    Closed(String),
    /// The process lacks the capability.
    #[error("{0}: not permitted; it needs CAP_NET_ADMIN in the interface's network namespace")]
    Permission(String),
    /// The interface is not there, or no longer.
    #[error("there is no interface {0}")]
    NoInterface(String),
    /// The driver does not take this MTU.
    #[error(
        "{interface} cannot have an MTU of {mtu} bytes ({error}); choose a smaller interface.mtu"
    )]
    Mtu {
        /// The interface's name.
        interface: String,
        /// Bytes.
        mtu: u16,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// IPv6 is off on the interface, so it takes no IPv6 address or route.
    #[error(
        "{what}: IPv6 is switched off on {interface}; set net.ipv6.conf.{interface}.disable_ipv6=0 and net.ipv6.conf.default.disable_ipv6=0"
    )]
    Ipv6Disabled {
        /// The interface's name.
        interface: String,
        /// What was tried.
        what: String,
    },
    /// Routes through the interface stay in use while it has no carrier.
    #[error(
        "{family} goes on sending into {interface} while it has no carrier ({error}); set \
         net.{family}.conf.{interface}.ignore_routes_with_linkdown=1"
    )]
    CarrierNotHeeded {
        /// The interface's name.
        interface: String,
        /// `ipv4` or `ipv6`.
        family: &'static str,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// The address could not be added or removed.
    #[error("address {address}: {error}")]
    Address {
        /// The address and its prefix.
        address: IpNet,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// `via` is not reachable without another gateway.
    #[error(
        "route {0}: via is not within a prefix of the interface; add one that covers it to interface.addresses, or leave via out"
    )]
    GatewayUnreachable(Route),
    /// Somebody else has a route with the same destination, table and metric.
    #[error(
        "route {route}: there is already one {holder}; remove that, or give ours another metric"
    )]
    RouteTaken {
        /// The route that we wanted.
        route: Route,
        /// Where the other one leads and who made it.
        holder: String,
    },
    /// The kernel finds a contradiction in the route.
    #[error(
        "route {0}: not valid; source must be an address of this host, via must not be one, and both must be of the destination's family"
    )]
    RouteInvalid(Route),
    /// The route could not be added or removed for another reason.
    #[error("route {route}: {error}")]
    Route {
        /// The route.
        route: Route,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// The kernel has said nothing, or nothing that is understood.
    #[error(
        "{0}: the kernel's answer is not understood; see whether `ip -d link` shows something odd, such as an alias that is not UTF-8"
    )]
    Unanswered(String),
    /// Anything else that the kernel refused.
    #[error("{what}: {error}")]
    Refused {
        /// What was tried.
        what: String,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
}

impl Error {
    /// Whether nothing else will work either.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Open(_) | Self::Closed(_) | Self::Permission(_))
    }

    /// The variants that any request can meet; `what` says what was tried.
    pub(super) fn from_kernel(what: impl FnOnce() -> String, error: rtnetlink::Error) -> Self {
        match (&error, errno(&error)) {
            (rtnetlink::Error::RequestFailed, _) => Self::Closed(what()),
            (_, Some(libc::EPERM)) => Self::Permission(what()),
            _ => Self::Refused { what: what(), error: io_error(error) },
        }
    }
}

/// The positive error number, when the kernel sent one.
pub(super) fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(message.raw_code().abs()),
        _ => None,
    }
}

/// The kernel's answer as the standard library words it.
pub(super) fn io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}
