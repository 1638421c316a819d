//! From one desired state to another: what is new first, then away with what is no longer listed.

use ipnet::IpNet;
use rtnetlink::Handle;

use super::apply::{Applied, Extras, agree};
use super::routes::Found;
use super::{Change, Desired, PROTOCOL, Route, addresses, link, routes};

pub(super) async fn replace(handle: &Handle, former: &Desired, desired: &Desired) -> Applied {
    let mut applied = agree(handle, desired, Extras::Keep).await;
    let changes = applied.changes.len();
    if let Err(error) = retire(handle, former, desired, &mut applied).await {
        applied.failures.push(error);
    }
    if applied.changes[changes..].iter().any(|change| matches!(change, Change::AddressRemoved(_))) {
        // An IPv4 address may have taken others and routes with it that are still wanted.
        let again = agree(handle, desired, Extras::Keep).await;
        applied.changes.extend(again.changes);
        applied.failures = again.failures;
    }
    applied
}

async fn retire(
    handle: &Handle,
    former: &Desired,
    desired: &Desired,
    applied: &mut Applied,
) -> Result<(), super::Error> {
    let name = &desired.interface;
    let Some(link) = link::state(handle, name).await? else { return Ok(()) };
    for route in retired_routes(former, desired, &routes::present(handle, link.index).await?) {
        let done = routes::remove(handle, name, link.index, &route).await;
        applied.note(done, Change::RouteRemoved(route))?;
    }
    let present = addresses::present(handle, link.index).await?;
    for address in retired_addresses(former, desired, &present) {
        let done = addresses::remove(handle, name, link.index, address).await;
        applied.note(done, Change::AddressRemoved(address))?;
    }
    Ok(())
}

fn retired_routes(former: &Desired, desired: &Desired, present: &[Found]) -> Vec<Route> {
    let ours = present.iter().filter(|found| found.protocol == PROTOCOL);
    ours.filter(|found| former.routes.iter().any(|route| found.contends_with(route)))
        .filter(|found| !desired.routes.iter().any(|route| found.contends_with(route)))
        .map(|found| found.route)
        .collect()
}

fn retired_addresses(former: &Desired, desired: &Desired, present: &[IpNet]) -> Vec<IpNet> {
    let retired = former.addresses.iter().filter(|address| !desired.addresses.contains(address));
    retired.filter(|address| present.contains(address)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::super::MAIN_TABLE;
    use super::*;

    const TUN: u32 = 7;

    fn route(destination: &str, metric: u32) -> Route {
        let destination = destination.parse().unwrap();
        Route { destination, via: None, metric: Some(metric), table: MAIN_TABLE, source: None }
    }

    fn state(addresses: &[&str], routes: &[Route]) -> Desired {
        Desired {
            interface: "tun0".into(),
            mtu: 1500,
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            routes: routes.to_vec(),
        }
    }

    #[test]
    fn only_what_was_ours_and_is_no_longer_listed_is_retired() {
        let [kept, moved, dropped, foreign] =
            [("fc00::/64", 1), ("fc01::/64", 1), ("fc02::/64", 1), ("fc03::/64", 1)]
                .map(|(destination, metric)| route(destination, metric));
        let before = state(&["fc00::1/64", "fc00::2/64"], &[kept, moved, dropped]);
        let after = state(&["fc00::1/64"], &[kept, route("fc01::/64", 2)]);
        let found = |route, protocol| Found { route, protocol, interface: Some(TUN) };
        let present = [
            found(kept, PROTOCOL),
            found(moved, PROTOCOL),
            found(dropped, PROTOCOL),
            found(foreign, PROTOCOL),
            found(dropped, PROTOCOL + 1),
        ];
        assert_eq!(retired_routes(&before, &after, &present), [moved, dropped]);
        let present: Vec<IpNet> =
            ["fc00::1/64", "fc00::2/64", "fc00::3/64"].map(|net| net.parse().unwrap()).to_vec();
        assert_eq!(retired_addresses(&before, &after, &present), present[1..2]);
        assert_eq!(retired_addresses(&before, &after, &[]), []);
    }
}
