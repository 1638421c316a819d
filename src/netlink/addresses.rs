//! Addresses of the interface: read, compare, add, remove.

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::{AddressMessageBuilder, Handle};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::apply::Extras;
use super::error::{Error, errno, io_error};

/// The interface's addresses, IPv4 first.
pub(super) async fn present(handle: &Handle, index: u32) -> Result<Vec<IpNet>, Error> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = handle.address().get().set_link_index_filter(index);
        request.message_mut().header.family = family;
        request.message_mut().header.index = index;
        let mut answers = std::pin::pin!(request.execute());
        loop {
            match answers.try_next().await {
                Ok(Some(message)) if message.header.family == family => {
                    found.extend(parse(&message));
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                // A kernel without this family has no addresses of it.
                Err(error) if matches!(errno(&error), Some(libc::EOPNOTSUPP | libc::ENODEV)) => {
                    break;
                }
                Err(error) => {
                    return Err(Error::from_kernel(|| "listing addresses".to_owned(), error));
                }
            }
        }
    }
    Ok(found)
}

/// What to remove before anything is added: the same address with another prefix length, which
/// IPv6 refuses beside it; link-local ones that the kernel `generated` until now; and with
/// [`Extras::Remove`] whatever is not listed.
pub(super) fn to_remove(
    desired: &[IpNet],
    present: &[IpNet],
    extras: Extras,
    generated: bool,
) -> Vec<IpNet> {
    let unwanted = |address: &&IpNet| {
        let other_prefix = desired.iter().any(|wanted| wanted.addr() == address.addr());
        !desired.contains(address)
            && (other_prefix || extras == Extras::Remove || (generated && is_link_local(address)))
    };
    present.iter().filter(unwanted).copied().collect()
}

/// What to add, in the order listed, which decides the IPv4 primary address.
pub(super) fn to_add(desired: &[IpNet], present: &[IpNet]) -> Vec<IpNet> {
    desired.iter().filter(|address| !present.contains(address)).copied().collect()
}

pub(super) async fn add(
    handle: &Handle,
    interface: &str,
    index: u32,
    address: IpNet,
) -> Result<(), Error> {
    let mut request = handle.address().add(index, address.addr(), address.prefix_len()).replace();
    let attributes = &mut request.message_mut().attributes;
    // A broadcast address would make the kernel swallow packets to the prefix's last address;
    // a tunnel has no broadcast.
    attributes.retain(|attribute| !matches!(attribute, AddressAttribute::Broadcast(_)));
    if address.addr().is_ipv6() {
        // Two ends and no neighbours: nobody could answer duplicate address detection, and
        // without it the address is usable at once.
        attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    request.execute().await.map_err(|error| failure(interface, address, error))
}

pub(super) async fn remove(
    handle: &Handle,
    interface: &str,
    index: u32,
    address: IpNet,
) -> Result<(), Error> {
    let message = match address.addr() {
        IpAddr::V4(ip) => AddressMessageBuilder::<Ipv4Addr>::new()
            .index(index)
            .address(ip, address.prefix_len())
            .build(),
        IpAddr::V6(ip) => AddressMessageBuilder::<Ipv6Addr>::new()
            .index(index)
            .address(ip, address.prefix_len())
            .build(),
    };
    match handle.address().del(message).execute().await {
        // Gone meanwhile, which is what we want.
        Err(error) if errno(&error) == Some(libc::EADDRNOTAVAIL) => Ok(()),
        other => other.map_err(|error| failure(interface, address, error)),
    }
}

/// The address and prefix in a message. On a point-to-point link with a peer address,
/// IFA_ADDRESS is the peer's and IFA_LOCAL ours.
pub(super) fn parse(message: &AddressMessage) -> Option<IpNet> {
    let mut local = None;
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    IpNet::new(local.or(address)?, message.header.prefix_len).ok()
}

fn failure(interface: &str, address: IpNet, error: rtnetlink::Error) -> Error {
    match errno(&error) {
        Some(libc::EACCES) if address.addr().is_ipv6() => Error::Ipv6Disabled {
            interface: interface.to_owned(),
            what: format!("address {address}"),
        },
        Some(libc::EPERM) | None => Error::from_kernel(|| format!("address {address}"), error),
        Some(_) => Error::Address { address, error: io_error(error) },
    }
}

fn is_link_local(address: &IpNet) -> bool {
    matches!(address, IpNet::V6(net) if net.addr().is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn only_missing_addresses_are_added_in_the_order_listed() {
        let desired = nets(&["10.0.0.2/24", "10.0.0.1/24", "fc00::1/64"]);
        assert_eq!(to_add(&desired, &[]), desired);
        assert_eq!(to_add(&desired, &nets(&["10.0.0.1/24"])), nets(&["10.0.0.2/24", "fc00::1/64"]));
    }

    #[test]
    fn addresses_of_others_stay_unless_asked_for() {
        let desired = nets(&["fc00::1/64"]);
        let present = nets(&["fc00::1/64", "fc00::99/64", "fe80::5/64", "10.9.9.9/24"]);
        assert_eq!(to_remove(&desired, &present, Extras::Keep, false), []);
        assert_eq!(to_remove(&desired, &present, Extras::Remove, false), present[1..]);
    }

    #[test]
    fn a_generated_address_goes_with_its_generation_unless_it_is_listed() {
        let present = nets(&["fc00::99/64", "fe80::5/64"]);
        assert_eq!(to_remove(&[], &present, Extras::Keep, true), nets(&["fe80::5/64"]));
        assert_eq!(to_remove(&nets(&["fe80::5/64"]), &present, Extras::Keep, true), []);
    }

    #[test]
    fn an_address_with_another_prefix_length_makes_way() {
        let present = nets(&["fc00::1/128"]);
        assert_eq!(to_remove(&nets(&["fc00::1/64"]), &present, Extras::Keep, false), present);
    }
}
