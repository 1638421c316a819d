//! The interface itself: index, MTU, up, and whether the kernel makes up addresses for it.

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags, LinkMessage,
};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec};

use super::error::{Error, errno, io_error};

/// What the kernel says of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub index: u32,
    pub mtu: u32,
    pub up: bool,
    /// Whether the kernel gives the interface a link-local address; `None` without IPv6.
    pub generates_address: Option<bool>,
}

pub(super) async fn state(handle: &Handle, interface: &str) -> Result<Option<Link>, Error> {
    let request = handle.link().get().match_name(interface);
    match request.execute().try_next().await {
        Ok(message) => Ok(message.as_ref().map(parse)),
        Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(None),
        Err(error) => {
            Err(Error::from_kernel(|| format!("looking up interface {interface}"), error))
        }
    }
}

/// The name of the interface with this index, or the index as text.
pub(super) async fn name(handle: &Handle, index: u32) -> String {
    let answer = handle.link().get().match_index(index).execute().try_next().await;
    let attributes = answer.ok().flatten().map(|link| link.attributes).unwrap_or_default();
    let name = attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name),
        _ => None,
    });
    name.unwrap_or_else(|| format!("interface {index}"))
}

pub(super) async fn set_mtu(
    handle: &Handle,
    interface: &str,
    index: u32,
    mtu: u16,
) -> Result<(), Error> {
    let message = LinkUnspec::new_with_index(index).mtu(mtu.into()).build();
    handle.link().change(message).execute().await.map_err(|error| match errno(&error) {
        Some(libc::EINVAL | libc::ERANGE) => {
            Error::Mtu { interface: interface.to_owned(), mtu, error: io_error(error) }
        }
        _ => Error::from_kernel(|| format!("setting the MTU of {interface}"), error),
    })
}

/// Keeps the kernel from adding a link-local address of its own: nobody needs one on a link with
/// two ends, and with it come router solicitations and duplicate address detection, packets that
/// nobody configured. Must precede `up`, which is when the kernel makes the address.
pub(super) async fn stop_address_generation(
    handle: &Handle,
    interface: &str,
    index: u32,
) -> Result<(), Error> {
    let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let message = LinkMessageBuilder::<LinkUnspec>::default()
        .index(index)
        .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![none])]))
        .build();
    let what = || format!("switching off address generation on {interface}");
    handle.link().change(message).execute().await.map_err(|error| Error::from_kernel(what, error))
}

pub(super) async fn set_up(handle: &Handle, interface: &str, index: u32) -> Result<(), Error> {
    let message = LinkUnspec::new_with_index(index).up().build();
    let what = || format!("setting {interface} up");
    handle.link().change(message).execute().await.map_err(|error| Error::from_kernel(what, error))
}

pub(super) fn parse(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        generates_address: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::AfSpecUnspec(families) => {
                link.generates_address = families.iter().find_map(generates_address);
            }
            _ => {}
        }
    }
    link
}

fn generates_address(family: &AfSpecUnspec) -> Option<bool> {
    let AfSpecUnspec::Inet6(attributes) = family else { return None };
    attributes.iter().find_map(|attribute| match attribute {
        AfSpecInet6::AddrGenMode(mode) => Some(*mode != In6AddrGenMode::None),
        _ => None,
    })
}
