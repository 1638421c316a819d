//! The TUN interface as the kernel sees it: MTU, addresses, routes, and keeping them so.
//!
//! [`Netlink::apply`] makes the kernel agree with a [`Desired`] and touches only what differs, so
//! that it may run at any time and as often as one likes. [`Watch`] says when somebody else changed
//! something of ours (systemd-networkd deletes routes that it does not know), and [`Patience`] how
//! long to wait before putting it back, so that two daemons that disagree don't spin:
//!
//! ```no_run
//! # async fn keep(desired: tunnel64d::netlink::Desired) -> Result<(), tunnel64d::netlink::Error> {
//! use tunnel64d::time::Time;
//! use tunnel64d::netlink::{Event, Netlink, Patience};
//!
//! let (netlink, mut watch) = Netlink::open()?;
//! let index = netlink.index_of(&desired.interface).await?.expect("the TUN is open");
//! netlink.apply(&desired).await;
//! let mut patience = Patience::default();
//! while watch.changed(index, &desired).await == Event::Changed {
//!     tokio::time::sleep(patience.pause(Time::now())).await;
//!     let applied = netlink.apply(&desired).await;
//!     if !applied.changes.is_empty() {
//!         patience.restored(Time::now());
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Everything is done in one order, because each step needs the one before: MTU (below 1280 there
//! is no IPv6), what the carrier means, address generation, up, addresses, routes.

mod addresses;
mod apply;
mod error;
mod link;
mod patience;
mod replace;
mod routes;
mod watch;

use std::fmt;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::Handle;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType,
};

pub use apply::Applied;
pub use error::Error;
pub use patience::Patience;
pub use routes::Route;
pub use watch::{Event, Watch};

/// The number in `rtm_protocol` that marks a route as ours, as in `ip route show proto 64`.
///
/// Linux `include/uapi/linux/rtnetlink.h`, iproute2's `rt_protos` and FRR leave it free.
pub const PROTOCOL: u8 = 64;

/// The routing table where routes go that name no other, `RT_TABLE_MAIN`.
pub const MAIN_TABLE: u32 = 254;

/// What the interface should look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// The interface's name; it must exist.
    pub interface: String,
    /// Bytes; the kernel drops IPv6 from an interface below 1280.
    pub mtu: u16,
    /// Addresses with their prefixes: `fc00:1234:ffff::1/64`.
    pub addresses: Vec<IpNet>,
    /// Routes through the interface.
    pub routes: Vec<Route>,
}

/// How an interface is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Present {
    /// Its index.
    pub index: u32,
    /// Bytes.
    pub mtu: u32,
    /// Whether it has a carrier.
    pub carrier: bool,
}

/// One thing that was different in the kernel and has been set right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The MTU was set to this many bytes.
    Mtu(u16),
    /// The kernel no longer makes up a link-local address of its own.
    AddressGenerationOff,
    /// Routes of this family, `ipv4` or `ipv6`, are passed over while there is no carrier.
    CarrierHeeded(&'static str),
    /// The interface was down and is up.
    Up,
    /// An address was added.
    AddressAdded(IpNet),
    /// An address that should not be there was removed.
    AddressRemoved(IpNet),
    /// A route was added.
    RouteAdded(Route),
    /// A route of ours to the same destination, but by another way, was replaced by this one.
    RouteReplaced(Route),
    /// A route of ours that should not be there was removed.
    RouteRemoved(Route),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mtu(mtu) => write!(f, "mtu {mtu}"),
            Self::AddressGenerationOff => f.write_str("address generation off"),
            Self::CarrierHeeded(family) => write!(f, "{family} heeds the carrier"),
            Self::Up => f.write_str("up"),
            Self::AddressAdded(address) => write!(f, "address {address} added"),
            Self::AddressRemoved(address) => write!(f, "address {address} removed"),
            Self::RouteAdded(route) => write!(f, "route {route} added"),
            Self::RouteReplaced(route) => write!(f, "route {route} replaced"),
            Self::RouteRemoved(route) => write!(f, "route {route} removed"),
        }
    }
}

/// A question to the kernel's routing: which way would a packet go?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lookup {
    /// Where the packet goes.
    pub destination: IpAddr,
    /// The address that it comes from, when bound to one.
    pub source: Option<IpAddr>,
    /// The socket's SO_MARK.
    pub mark: Option<u32>,
    /// The index of the interface that the socket is bound to.
    pub device: Option<u32>,
}

/// A connection to the kernel's routing netlink. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Opens the connection, and a second one that watches. Must be called within a tokio runtime,
    /// where a task is started that ends when the last clone is dropped.
    ///
    /// # Errors
    /// [`Error::Open`] when the process may not have netlink sockets.
    pub fn open() -> Result<(Self, Watch), Error> {
        // Watching has a socket of its own: when notifications overflow a receive buffer, the
        // answer to a request must not be among what is lost.
        let watch = Watch::open()?;
        // The strict check lets the kernel filter dumps, which otherwise list every route of a
        // full routing table to find our three.
        let (connection, handle, _) =
            rtnetlink::new_connection_with_strict_check().map_err(Error::Open)?;
        tokio::spawn(connection);
        Ok((Self { handle }, watch))
    }

    /// The index of an interface, `None` when there is none of that name.
    pub async fn index_of(&self, interface: &str) -> Result<Option<u32>, Error> {
        Ok(self.present(interface).await?.map(|present| present.index))
    }

    /// How an interface is, `None` when there is none of that name.
    pub async fn present(&self, interface: &str) -> Result<Option<Present>, Error> {
        let link = link::state(&self.handle, interface).await?;
        let present = |link: link::Link| {
            let link::Link { index, mtu, carrier, .. } = link;
            Present { index, mtu, carrier }
        };
        Ok(link.map(present))
    }

    /// Makes the kernel agree with `desired`: adds and mends what is listed and leaves everything
    /// else alone. What can't be done does not keep the rest from being done.
    pub async fn apply(&self, desired: &Desired) -> Applied {
        apply::agree(&self.handle, desired, apply::Extras::Keep).await
    }

    /// As [`apply`](Self::apply), and removes what is not listed: the interface's addresses, and
    /// the routes through it with our [`PROTOCOL`]. Routes of others stay.
    pub async fn apply_exactly(&self, desired: &Desired) -> Applied {
        apply::agree(&self.handle, desired, apply::Extras::Remove).await
    }

    /// As [`apply`](Self::apply), and removes what was listed in `former` and no longer is. What
    /// somebody else has added stays. New routes are there before old ones go, so that a
    /// destination that is in both is never without.
    pub async fn replace(&self, former: &Desired, desired: &Desired) -> Applied {
        replace::replace(&self.handle, former, desired).await
    }

    /// The name of an interface, `None` when there is none of that index.
    pub async fn name_of(&self, index: u32) -> Result<Option<String>, Error> {
        link::name(&self.handle, index).await
    }

    /// Whether there is an interface of that name that is neither TUN nor TAP.
    pub async fn is_no_tun(&self, interface: &str) -> Result<bool, Error> {
        Ok(link::state(&self.handle, interface).await?.is_some_and(|link| !link.is_tun))
    }

    /// Gives the interface with this index another name. It may be down afterwards.
    pub async fn rename(&self, index: u32, name: &str) -> Result<(), Error> {
        link::rename(&self.handle, index, name).await
    }

    /// The index of the interface that packets leave through; `None` without a usable route, which
    /// covers unreachable and prohibiting ones and a source that is not ours.
    pub async fn route_to(&self, lookup: Lookup) -> Result<Option<u32>, Error> {
        let request = self.handle.route().get(lookup_message(lookup));
        let answer = match request.execute().try_next().await {
            Ok(answer) => answer,
            Err(error) => {
                return match error::errno(&error) {
                    Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL) => {
                        Ok(None)
                    }
                    _ => Err(Error::from_kernel(
                        || format!("looking up the route to {}", lookup.destination),
                        error,
                    )),
                };
            }
        };
        Ok(answer
            .filter(|route| matches!(route.header.kind, RouteType::Unicast | RouteType::Local))
            .and_then(|route| routes::output_interface(&route)))
    }
}

fn lookup_message(lookup: Lookup) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (family, bits) = match lookup.destination {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.header.address_family = family;
    message.header.protocol = RouteProtocol::Unspec;
    message.header.destination_prefix_length = bits;
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Destination(RouteAddress::from(lookup.destination)));
    if let Some(source) = lookup.source {
        message.header.source_prefix_length = bits;
        attributes.push(RouteAttribute::Source(RouteAddress::from(source)));
    }
    attributes.extend(lookup.mark.map(RouteAttribute::Mark));
    attributes.extend(lookup.device.map(RouteAttribute::Oif));
    message
}
