//! The interface itself: index, name, MTU, up, and what the kernel does with it by itself.

use std::fmt::Display;
use std::time::Duration;
use std::{fs, io};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InetDevConf, InfoKind, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::{Handle, LinkGetRequest, LinkMessageBuilder, LinkUnspec};
use tokio::time::timeout;

use super::error::{Error, errno, io_error};

/// The kernel answers at once, unless somebody else keeps its configuration locked.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the kernel says of an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub index: u32,
    pub name: String,
    pub is_tun: bool,
    pub mtu: u32,
    pub up: bool,
    pub carrier: bool,
    /// Whether the kernel gives the interface a link-local address; `None` without IPv6.
    pub generates_address: Option<bool>,
    /// Whether IPv4 routes through it are passed over while it has no carrier; `None` without
    /// IPv4.
    pub ipv4_heeds_carrier: Option<bool>,
    /// The same of IPv6.
    pub ipv6_heeds_carrier: Option<bool>,
}

/// How an interface is; `None` when there is none of that name.
pub(super) async fn state(handle: &Handle, interface: &str) -> Result<Option<Link>, Error> {
    look_up(handle.link().get().match_name(interface.to_owned()), interface).await
}

/// The name of the interface with this index; `None` when there is no such interface.
pub(super) async fn name(handle: &Handle, index: u32) -> Result<Option<String>, Error> {
    let link = look_up(handle.link().get().match_index(index), index).await?;
    Ok(link.map(|link| link.name))
}

/// An answer that can't be parsed is dropped before it gets here, and no other one follows.
async fn look_up(request: LinkGetRequest, which: impl Display) -> Result<Option<Link>, Error> {
    let what = || format!("looking up interface {which}");
    match timeout(PATIENCE, request.execute().try_next()).await {
        Ok(Ok(message)) => Ok(message.as_ref().map(parse)),
        Ok(Err(error)) if errno(&error) == Some(libc::ENODEV) => Ok(None),
        Ok(Err(error)) => Err(Error::from_kernel(what, error)),
        Err(_) => Err(Error::Unanswered(what())),
    }
}

/// Gives the interface with this index another name. Before Linux 6.2 that needs it to be down.
pub(super) async fn rename(handle: &Handle, index: u32, name: &str) -> Result<(), Error> {
    let change = |message| handle.link().change(message).execute();
    let rename = || change(LinkUnspec::new_with_index(index).name(name).build());
    let renamed = match rename().await {
        Err(error) if errno(&error) == Some(libc::EBUSY) => {
            match change(LinkUnspec::new_with_index(index).down().build()).await {
                Ok(()) => rename().await,
                failed => failed,
            }
        }
        other => other,
    };
    renamed.map_err(|error| Error::from_kernel(|| format!("renaming an interface {name}"), error))
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

/// Has the kernel pass over IPv4 routes through the interface while it has no carrier
/// (Linux `net/ipv4/devinet.c`, `inet_set_link_af`).
pub(super) async fn have_ipv4_heed_carrier(
    handle: &Handle,
    interface: &str,
    index: u32,
) -> Result<(), Error> {
    let mut settings = InetDevConf::default();
    settings.ignore_routes_with_linkdown = 1;
    let settings = vec![AfSpecInet::DevConfRequest(settings)];
    let message = LinkMessageBuilder::<LinkUnspec>::default()
        .index(index)
        .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(settings)]))
        .build();
    handle.link().change(message).execute().await.map_err(|error| Error::CarrierNotHeeded {
        interface: interface.to_owned(),
        family: "ipv4",
        error: io_error(error),
    })
}

/// The same of IPv6, where netlink has no such setting. The kernel lets CAP_NET_ADMIN write it; a
/// unit with ProtectKernelTunables= may not.
pub(super) fn have_ipv6_heed_carrier(interface: &str) -> Result<(), Error> {
    let file = format!("/proc/sys/net/ipv6/conf/{interface}/ignore_routes_with_linkdown");
    fs::write(file, "1").map_err(|error: io::Error| Error::CarrierNotHeeded {
        interface: interface.to_owned(),
        family: "ipv6",
        error,
    })
}

pub(super) fn parse(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Carrier(carrier) => link.carrier = *carrier != 0,
            LinkAttribute::LinkInfo(parts) => {
                link.is_tun = parts.contains(&LinkInfo::Kind(InfoKind::Tun));
            }
            LinkAttribute::AfSpecUnspec(families) => {
                families.iter().for_each(|family| link.note(family));
            }
            _ => {}
        }
    }
    link
}

impl Link {
    fn note(&mut self, family: &AfSpecUnspec) {
        match family {
            AfSpecUnspec::Inet(attributes) => {
                for attribute in attributes {
                    if let AfSpecInet::DevConf(settings) = attribute {
                        self.ipv4_heeds_carrier = Some(settings.ignore_routes_with_linkdown != 0);
                    }
                }
            }
            AfSpecUnspec::Inet6(attributes) => {
                for attribute in attributes {
                    match attribute {
                        AfSpecInet6::AddrGenMode(mode) => {
                            self.generates_address = Some(*mode != In6AddrGenMode::None);
                        }
                        AfSpecInet6::DevConf(settings) => {
                            self.ipv6_heeds_carrier =
                                Some(settings.ignore_routes_with_linkdown != 0);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}
