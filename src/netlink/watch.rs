//! Noticing that somebody else changed our interface.

use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::proto::{NetlinkCodec, NetlinkFramed};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, SocketAddr, TokioSocket};
use tokio::time::{Instant, sleep_until};

use super::error::Error;
use super::{Desired, addresses, link, routes};

type Messages = NetlinkFramed<RouteNetlinkMessage, TokioSocket, NetlinkCodec>;

const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// How long a burst of changes is collected before it is told of as one.
const BURST: Duration = Duration::from_millis(50);
/// How long to wait before opening a socket again that the kernel has closed.
const REOPEN: Duration = Duration::from_secs(1);

/// What happened to the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// Something may no longer be as desired.
    Changed,
    /// The interface was deleted, or moved to another network namespace.
    Gone,
}

/// The kernel's notifications of link, address and route changes.
///
/// They are read only while [`changed`](Self::changed) runs, so that their number is bounded by
/// the socket's receive buffer; an overflow counts as a change.
pub struct Watch {
    messages: Option<Messages>,
    /// When there may be a socket again.
    reopen: Instant,
    pending: Option<Event>,
    /// When what is pending is told of, however often the future that waits is dropped.
    burst_ends: Option<Instant>,
}

impl Watch {
    pub(super) fn open() -> Result<Self, Error> {
        let messages = Some(subscribe().map_err(Error::Open)?);
        Ok(Self { messages, reopen: Instant::now(), pending: None, burst_ends: None })
    }

    /// Waits until something happened to the interface with this index that may make it differ
    /// from `desired`, be it before this call. Changes within 50 ms are one event. What agrees
    /// with `desired`, as our own changes do, is no event. Nothing is lost when the future is
    /// dropped.
    pub async fn changed(&mut self, index: u32, desired: &Desired) -> Event {
        while self.pending.is_none() {
            self.pending = self.next(index, desired).await;
        }
        let burst_ends = *self.burst_ends.get_or_insert_with(|| Instant::now() + BURST);
        let mut burst = std::pin::pin!(sleep_until(burst_ends));
        loop {
            tokio::select! {
                biased;
                () = &mut burst => break,
                event = self.next(index, desired) => self.pending = self.pending.max(event),
            }
        }
        self.burst_ends = None;
        self.pending.take().unwrap_or(Event::Changed)
    }

    /// The next notification, as far as it concerns us.
    async fn next(&mut self, index: u32, desired: &Desired) -> Option<Event> {
        let Some(messages) = &mut self.messages else {
            sleep_until(self.reopen).await;
            self.reopen = Instant::now() + REOPEN;
            self.messages = subscribe().ok();
            return self.messages.is_some().then_some(Event::Changed);
        };
        match messages.next().await {
            Some((message, _)) => concern(&message, index, desired),
            None => {
                self.messages = None;
                self.reopen = Instant::now() + REOPEN;
                Some(Event::Changed)
            }
        }
    }
}

fn subscribe() -> io::Result<Messages> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    let groups = GROUPS.iter().fold(0, |mask, group| mask | 1 << (*group as u32 - 1));
    socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
    Ok(NetlinkFramed::new(socket))
}

fn concern(
    message: &NetlinkMessage<RouteNetlinkMessage>,
    index: u32,
    desired: &Desired,
) -> Option<Event> {
    let changed = match &message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message)) => {
            return is_ours(message, index).then_some(Event::Gone);
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => {
            let link = link::parse(message);
            let agrees =
                link.up && link.mtu == u32::from(desired.mtu) && link.name == desired.interface;
            is_ours(message, index) && !agrees
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(message)) => {
            let address = addresses::parse(message);
            message.header.index == index
                && address.is_some_and(|address| desired.addresses.contains(&address))
        }
        // The place of a route of ours is free: ours was deleted, or somebody else's that kept it
        // out.
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRoute(message)) => {
            let found = routes::parse(message);
            found.is_some_and(|found| desired.routes.iter().any(|route| found.contends_with(route)))
        }
        // Or it was taken: `ip route replace` tells of the new route only.
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(message)) => {
            let found = routes::parse(message);
            let displaces = |found: routes::Found| {
                desired
                    .routes
                    .iter()
                    .any(|route| found.contends_with(route) && !found.serves(route, index))
            };
            found.is_some_and(displaces)
        }
        // Notifications were lost.
        NetlinkPayload::Overrun(_) => true,
        _ => false,
    };
    changed.then_some(Event::Changed)
}

fn is_ours(message: &LinkMessage, index: u32) -> bool {
    // A bridge announces its ports with the same message and a family of its own.
    message.header.index == index && message.header.interface_family == AddressFamily::Unspec
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::NetlinkHeader;
    use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags};

    use super::*;

    const TUN: u32 = 7;

    fn desired() -> Desired {
        Desired { interface: "tun0".into(), mtu: 1500, addresses: vec![], routes: vec![] }
    }

    fn link(index: u32, flags: LinkFlags, mtu: u32) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = flags;
        message.attributes.push(LinkAttribute::Mtu(mtu));
        message.attributes.push(LinkAttribute::IfName("tun0".into()));
        message
    }

    fn event(payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<Event> {
        concern(&NetlinkMessage::new(NetlinkHeader::default(), payload), TUN, &desired())
    }

    #[test]
    fn an_overflow_counts_as_a_change() {
        assert_eq!(event(NetlinkPayload::Overrun(vec![])), Some(Event::Changed));
    }

    #[test]
    fn a_link_that_agrees_and_a_link_of_others_are_no_event() {
        let new =
            |index, flags, mtu| event(RouteNetlinkMessage::NewLink(link(index, flags, mtu)).into());
        assert_eq!(new(TUN, LinkFlags::Up, 1500), None);
        assert_eq!(new(TUN + 1, LinkFlags::empty(), 9000), None);
        assert_eq!(new(TUN, LinkFlags::empty(), 1500), Some(Event::Changed));
        assert_eq!(new(TUN, LinkFlags::Up, 1400), Some(Event::Changed));
        let mut renamed = link(TUN, LinkFlags::Up, 1500);
        renamed.attributes[1] = LinkAttribute::IfName("wan0".into());
        let renamed = RouteNetlinkMessage::NewLink(renamed);
        assert_eq!(event(renamed.into()), Some(Event::Changed));
    }

    #[test]
    fn a_deleted_link_is_gone_but_one_that_left_a_bridge_is_not() {
        let mut message = link(TUN, LinkFlags::Up, 1500);
        assert_eq!(event(RouteNetlinkMessage::DelLink(message.clone()).into()), Some(Event::Gone));
        message.header.interface_family = AddressFamily::Bridge;
        assert_eq!(event(RouteNetlinkMessage::DelLink(message).into()), None);
    }
}
