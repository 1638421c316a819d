//! Routes through the interface: read, compare, add, replace, remove.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType, RouteVia,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::apply::Extras;
use super::error::{Error, errno, io_error};
use super::{MAIN_TABLE, PROTOCOL, link};

/// The metric that IPv6 routes get which name none, `IP6_RT_PRIO_USER`.
const IPV6_METRIC: u32 = 1024;

/// A route through the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route {
    /// Where to; `::/0` and `0.0.0.0/0` are default routes.
    pub destination: IpNet,
    /// The gateway, within a prefix of the interface. An IPv4 route may have an IPv6 one.
    pub via: Option<IpAddr>,
    /// Lower wins. `None` is the kernel's choice: 0 for IPv4, 1024 for IPv6.
    pub metric: Option<u32>,
    /// The routing table, [`MAIN_TABLE`] unless policy rules look elsewhere.
    pub table: u32,
    /// The source address that packets of this host get which have none yet.
    pub source: Option<IpAddr>,
}

impl Route {
    /// Two routes with equal keys can't both be in the kernel.
    fn key(&self) -> (IpNet, u32, u32) {
        (self.destination.trunc(), self.table, self.effective_metric())
    }

    fn effective_metric(&self) -> u32 {
        match self.destination {
            IpNet::V4(_) => self.metric.unwrap_or(0),
            IpNet::V6(_) => self.metric.filter(|metric| *metric != 0).unwrap_or(IPV6_METRIC),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.destination)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(metric) = self.metric {
            write!(f, " metric {metric}")?;
        }
        if self.table != MAIN_TABLE {
            write!(f, " table {}", self.table)?;
        }
        if let Some(source) = self.source {
            write!(f, " source {source}")?;
        }
        Ok(())
    }
}

/// A unicast route that is in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub route: Route,
    pub protocol: u8,
    /// `None` for one with several next hops.
    pub interface: Option<u32>,
}

impl Found {
    /// Whether it would contend with `route` for the same place.
    pub(super) fn contends_with(&self, route: &Route) -> bool {
        self.route.key() == route.key()
    }

    /// Whether it does what `route` asks for, whoever made it.
    pub(super) fn serves(&self, route: &Route, index: u32) -> bool {
        let same_source = self.route.source == route.source
            // The kernel's own route to an address's prefix carries that address as its source.
            || (route.source.is_none() && self.protocol != PROTOCOL);
        self.contends_with(route)
            && self.interface == Some(index)
            && self.route.via == route.via
            && same_source
    }
}

/// What to do about one route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Remove(Route),
    Add(Route),
    Replace(Route),
}

/// What sets the interface's routes right. Removals come first, for they may free a place; then
/// routes without a gateway, which routes with one may need.
pub(super) fn steps(desired: &[Route], present: &[Found], index: u32, extras: Extras) -> Vec<Step> {
    let mut steps = Vec::new();
    if extras == Extras::Remove {
        let ours = present.iter().filter(|found| found.protocol == PROTOCOL);
        let unlisted = ours.filter(|found| !desired.iter().any(|route| found.contends_with(route)));
        steps.extend(unlisted.map(|found| Step::Remove(found.route)));
    }
    let (through_gateway, direct): (Vec<&Route>, Vec<&Route>) =
        desired.iter().partition(|route| route.via.is_some());
    for route in direct.into_iter().chain(through_gateway) {
        let mut rivals = present.iter().filter(|found| found.contends_with(route));
        if rivals.clone().any(|found| found.serves(route, index)) {
            continue;
        }
        // Only a route of our own is replaced: adding fails beside somebody else's, and the admin
        // is told, instead of their route being taken away.
        let ours = rivals.any(|found| found.protocol == PROTOCOL);
        steps.push(if ours { Step::Replace(*route) } else { Step::Add(*route) });
    }
    steps
}

/// The unicast routes through the interface, in all tables.
pub(super) async fn present(handle: &Handle, index: u32) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut filter = RouteMessage::default();
        filter.header.address_family = family;
        filter.header.kind = RouteType::Unicast;
        filter.attributes.push(RouteAttribute::Oif(index));
        found.extend(dump(handle, family, filter).await?);
    }
    found.retain(|route| route.interface == Some(index));
    Ok(found)
}

pub(super) async fn add(
    handle: &Handle,
    interface: &str,
    index: u32,
    route: &Route,
    replace: bool,
) -> Result<(), Error> {
    let mut request = handle.route().add(message(route, index)?);
    if replace {
        request = request.replace();
    }
    let error = match request.execute().await {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    if errno(&error) == Some(libc::EEXIST) {
        let rival = rival(handle, route).await;
        // A dump that the kernel had to interrupt may have left out what is there.
        if rival.is_some_and(|rival| rival.serves(route, index)) {
            return Ok(());
        }
        return Err(Error::RouteTaken { route: *route, holder: holder(handle, rival).await });
    }
    Err(failure(interface, route, error))
}

pub(super) async fn remove(
    handle: &Handle,
    interface: &str,
    index: u32,
    route: &Route,
) -> Result<(), Error> {
    match handle.route().del(message(route, index)?).execute().await {
        // Gone meanwhile, which is what we want.
        Err(error) if errno(&error) == Some(libc::ESRCH) => Ok(()),
        other => other.map_err(|error| failure(interface, route, error)),
    }
}

/// Reads a route message; `None` for what is not a plain IP route: local, multicast, blackhole,
/// cached.
pub(super) fn parse(message: &RouteMessage) -> Option<Found> {
    let header = &message.header;
    if header.kind != RouteType::Unicast {
        return None;
    }
    let mut destination = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let (mut via, mut source, mut metric) = (None, None, None);
    let mut table = u32::from(header.table);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Gateway(address) => via = ip(address),
            RouteAttribute::Via(RouteVia::Inet6(address)) => via = Some(IpAddr::V6(*address)),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Priority(priority) => metric = Some(*priority),
            RouteAttribute::Table(id) => table = *id,
            _ => {}
        }
    }
    let destination = IpNet::new(destination, header.destination_prefix_length).ok()?;
    Some(Found {
        route: Route { destination, via, metric, table, source },
        protocol: header.protocol.into(),
        interface: output_interface(message),
    })
}

/// The index in RTA_OIF.
pub(super) fn output_interface(message: &RouteMessage) -> Option<u32> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn message(route: &Route, index: u32) -> Result<RouteMessage, Error> {
    let destination = route.destination.trunc();
    let direct_ipv4 = route.via.is_none() && matches!(destination, IpNet::V4(_));
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(destination.addr(), destination.prefix_len())
        .map_err(|_| Error::RouteInvalid(*route))?
        .output_interface(index)
        .table_id(route.table)
        .protocol(RouteProtocol::Other(PROTOCOL))
        // IPv4 finds the gateways of other routes only through routes of this scope.
        .scope(if direct_ipv4 { RouteScope::Link } else { RouteScope::Universe });
    if let Some(via) = route.via {
        builder = builder.gateway(via).map_err(|_| Error::RouteInvalid(*route))?;
    }
    if let Some(source) = route.source {
        builder = builder.pref_source(source).map_err(|_| Error::RouteInvalid(*route))?;
    }
    if let Some(metric) = route.metric {
        builder = builder.priority(metric);
    }
    Ok(builder.build())
}

async fn dump(
    handle: &Handle,
    family: AddressFamily,
    filter: RouteMessage,
) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    let mut answers = std::pin::pin!(handle.route().get(filter).execute());
    loop {
        match answers.try_next().await {
            Ok(Some(message)) if message.header.address_family == family => {
                found.extend(parse(&message));
            }
            Ok(Some(_)) => {}
            Ok(None) => return Ok(found),
            // No such table, or a kernel without this family: no routes.
            Err(error) if matches!(errno(&error), Some(libc::ENOENT | libc::EOPNOTSUPP)) => {
                return Ok(found);
            }
            Err(error) => return Err(Error::from_kernel(|| "listing routes".to_owned(), error)),
        }
    }
}

/// The route that has the place of this one.
async fn rival(handle: &Handle, route: &Route) -> Option<Found> {
    let family = match route.destination {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    };
    let mut filter = RouteMessage::default();
    filter.header.address_family = family;
    filter.attributes.push(RouteAttribute::Table(route.table));
    let routes = dump(handle, family, filter).await.unwrap_or_default();
    routes.into_iter().find(|found| found.contends_with(route))
}

/// A route in words that users of `ip route` know.
async fn holder(handle: &Handle, rival: Option<Found>) -> String {
    let Some(rival) = rival else {
        return "that is not a plain unicast one".to_owned();
    };
    let mut words = Vec::new();
    if let Some(via) = rival.route.via {
        words.push(format!("via {via}"));
    }
    if let Some(index) = rival.interface {
        let name = link::name(handle, index).await.ok().flatten();
        words.push(name.map_or(format!("interface {index}"), |name| format!("dev {name}")));
    }
    words.push(format!("proto {}", RouteProtocol::from(rival.protocol)));
    words.join(" ")
}

fn failure(interface: &str, route: &Route, error: rtnetlink::Error) -> Error {
    let what = || format!("route {route}");
    match errno(&error) {
        Some(libc::EACCES) if matches!(route.destination, IpNet::V6(_)) => {
            Error::Ipv6Disabled { interface: interface.to_owned(), what: what() }
        }
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => Error::GatewayUnreachable(*route),
        Some(libc::EINVAL) => Error::RouteInvalid(*route),
        Some(libc::EPERM) | None => Error::from_kernel(what, error),
        Some(_) => Error::Route { route: *route, error: io_error(error) },
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUN: u32 = 7;

    fn route(destination: &str, via: Option<&str>) -> Route {
        Route {
            destination: destination.parse().unwrap(),
            via: via.map(|via| via.parse().unwrap()),
            metric: None,
            table: MAIN_TABLE,
            source: None,
        }
    }

    fn ours(route: Route) -> Found {
        Found { route, protocol: PROTOCOL, interface: Some(TUN) }
    }

    #[test]
    fn routes_without_a_gateway_come_first() {
        let behind = route("fc00:4::/64", Some("fc00::10"));
        let direct = route("fc00::/64", None);
        assert_eq!(
            steps(&[behind, direct], &[], TUN, Extras::Keep),
            [Step::Add(direct), Step::Add(behind)]
        );
    }

    #[test]
    fn the_metric_the_kernel_fills_in_is_no_difference() {
        let six = route("fc00:4::/64", None);
        let four = route("10.4.0.0/16", None);
        let present = [
            ours(Route { metric: Some(IPV6_METRIC), ..six }),
            ours(Route { metric: Some(0), ..four }),
        ];
        assert_eq!(steps(&[six, four], &present, TUN, Extras::Remove), []);
    }

    #[test]
    fn a_route_of_ours_is_replaced_and_one_of_others_is_not() {
        let wanted = route("fc00:4::/64", Some("fc00::10"));
        let other_way = route("fc00:4::/64", Some("fc00::11"));
        assert_eq!(
            steps(&[wanted], &[ours(other_way)], TUN, Extras::Keep),
            [Step::Replace(wanted)]
        );
        let foreign = Found { protocol: 4, ..ours(other_way) };
        assert_eq!(steps(&[wanted], &[foreign], TUN, Extras::Remove), [Step::Add(wanted)]);
    }

    #[test]
    fn a_route_that_somebody_else_made_alike_will_do() {
        let wanted = route("10.0.0.0/24", None);
        let kernels = Found {
            route: Route { source: Some("10.0.0.1".parse().unwrap()), ..wanted },
            protocol: 2,
            interface: Some(TUN),
        };
        assert_eq!(steps(&[wanted], &[kernels], TUN, Extras::Remove), []);
    }

    #[test]
    fn unlisted_routes_of_ours_go_only_when_asked_for() {
        let stale = ours(route("fc00:9::/64", None));
        let foreign = Found { protocol: 3, ..ours(route("fc00:8::/64", None)) };
        assert_eq!(steps(&[], &[stale, foreign], TUN, Extras::Keep), []);
        assert_eq!(steps(&[], &[stale, foreign], TUN, Extras::Remove), [Step::Remove(stale.route)]);
    }

    #[test]
    fn a_message_reads_back_as_the_route_it_was_built_from() {
        let routes = [
            route("0.0.0.0/0", None),
            route("::/0", Some("fc00::10")),
            Route { table: 1000, metric: Some(5), ..route("10.4.0.0/16", Some("fc00::10")) },
            Route { source: Some("10.0.0.1".parse().unwrap()), ..route("10.4.0.0/16", None) },
        ];
        for route in routes {
            assert_eq!(parse(&message(&route, TUN).unwrap()), Some(ours(route)), "{route}");
        }
    }

    #[test]
    fn a_gateway_of_another_family_than_an_ipv6_destination_is_refused() {
        let error = message(&route("fc00:4::/64", Some("10.0.0.1")), TUN).unwrap_err();
        assert!(matches!(error, Error::RouteInvalid(_)));
    }
}
