//! Making the kernel agree with what is desired, step by step.

use rtnetlink::Handle;

use super::error::Error;
use super::routes::Step;
use super::{Change, Desired, addresses, link, routes};

/// What became of an [`apply`](super::Netlink::apply).
#[derive(Debug, Default)]
#[must_use = "what failed is worth a line in the log and a later try"]
pub struct Applied {
    /// What differed and is now as desired; empty when everything already was.
    pub changes: Vec<Change>,
    /// What still differs, and why. Worth a later try even without an event: not everything that
    /// clears an obstacle, a sysctl for one, is announced. [`Error::NoInterface`] among them means
    /// the same as [`Event::Gone`](super::Event::Gone).
    pub failures: Vec<Error>,
    /// What could not be had and is no reason to try again: the tunnel works without.
    pub shortcomings: Vec<Error>,
}

/// What to do with addresses and routes of ours that are not listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extras {
    Keep,
    Remove,
}

pub(super) async fn agree(handle: &Handle, desired: &Desired, extras: Extras) -> Applied {
    let mut applied = Applied::default();
    if let Err(error) = all(handle, desired, extras, &mut applied).await {
        applied.failures.push(error);
    }
    applied
}

async fn all(
    handle: &Handle,
    desired: &Desired,
    extras: Extras,
    applied: &mut Applied,
) -> Result<(), Error> {
    let index = agree_link(handle, desired, applied).await?;
    agree_addresses(handle, desired, index, extras, applied).await?;
    agree_routes(handle, desired, index, extras, applied).await
}

async fn agree_link(
    handle: &Handle,
    desired: &Desired,
    applied: &mut Applied,
) -> Result<u32, Error> {
    let name = &desired.interface;
    let missing = || Error::NoInterface(name.clone());
    let mut link = link::state(handle, name).await?.ok_or_else(missing)?;
    if link.mtu != u32::from(desired.mtu) {
        link::set_mtu(handle, name, link.index, desired.mtu).await?;
        applied.changes.push(Change::Mtu(desired.mtu));
        // Crossing 1280 bytes gives the interface an IPv6 of its own, or takes it away.
        link = link::state(handle, name).await?.ok_or_else(missing)?;
    }
    applied.heed_carrier(handle, &link).await;
    if link.generates_address == Some(true) {
        link::stop_address_generation(handle, name, link.index).await?;
        applied.changes.push(Change::AddressGenerationOff);
    }
    if !link.up {
        link::set_up(handle, name, link.index).await?;
        applied.changes.push(Change::Up);
    }
    Ok(link.index)
}

async fn agree_addresses(
    handle: &Handle,
    desired: &Desired,
    index: u32,
    extras: Extras,
    applied: &mut Applied,
) -> Result<(), Error> {
    let name = &desired.interface;
    // Switched off on an interface that was up, or by an MTU that gave it back its IPv6, the
    // generation has left its address behind.
    let generated = applied.changes.contains(&Change::AddressGenerationOff);
    let mut present = addresses::present(handle, index).await?;
    let unwanted = addresses::to_remove(&desired.addresses, &present, extras, generated);
    for address in &unwanted {
        let done = addresses::remove(handle, name, index, *address).await;
        applied.note(done, Change::AddressRemoved(*address))?;
    }
    if !unwanted.is_empty() {
        // With an IPv4 primary address its secondaries are gone as well.
        present = addresses::present(handle, index).await?;
    }
    for address in addresses::to_add(&desired.addresses, &present) {
        let done = addresses::add(handle, name, index, address).await;
        applied.note(done, Change::AddressAdded(address))?;
    }
    Ok(())
}

async fn agree_routes(
    handle: &Handle,
    desired: &Desired,
    index: u32,
    extras: Extras,
    applied: &mut Applied,
) -> Result<(), Error> {
    let name = &desired.interface;
    let present = routes::present(handle, index).await?;
    for step in routes::steps(&desired.routes, &present, index, extras) {
        let (done, change) = match step {
            Step::Remove(route) => {
                (routes::remove(handle, name, index, &route).await, Change::RouteRemoved(route))
            }
            Step::Add(route) => {
                (routes::add(handle, name, index, &route, false).await, Change::RouteAdded(route))
            }
            Step::Replace(route) => {
                (routes::add(handle, name, index, &route, true).await, Change::RouteReplaced(route))
            }
        };
        applied.note(done, change)?;
    }
    Ok(())
}

impl Applied {
    /// By default the kernel goes on sending into an interface without carrier, and nobody learns
    /// that what is sent gets nowhere.
    async fn heed_carrier(&mut self, handle: &Handle, link: &link::Link) {
        if link.ipv4_heeds_carrier == Some(false) {
            let done = link::have_ipv4_heed_carrier(handle, &link.name, link.index).await;
            self.note_shortcoming(done, Change::CarrierHeeded("ipv4"));
        }
        if link.ipv6_heeds_carrier == Some(false) {
            let done = link::have_ipv6_heed_carrier(&link.name);
            self.note_shortcoming(done, Change::CarrierHeeded("ipv6"));
        }
    }

    fn note_shortcoming(&mut self, done: Result<(), Error>, change: Change) {
        match done {
            Ok(()) => self.changes.push(change),
            Err(error) => self.shortcomings.push(error),
        }
    }

    /// One address or route that fails must not keep out the others, unless none can succeed.
    pub(super) fn note(&mut self, done: Result<(), Error>, change: Change) -> Result<(), Error> {
        match done {
            Ok(()) => self.changes.push(change),
            Err(error) if error.is_final() => return Err(error),
            Err(error) => self.failures.push(error),
        }
        Ok(())
    }
}
