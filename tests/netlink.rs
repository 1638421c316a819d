//! The netlink room against a real kernel, each test in a network namespace of its own:
//!
//! ```text
//!   namespace of the test:   tun0 (a real TUN queue, nobody at the other end)   other (a second one)
//! ```
//! Needs root, for the namespace and the TUN.

#![allow(clippy::unwrap_used)] // All of it is test code, also outside the test functions.

use std::ffi::OsStr;
use std::future::Future;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use tokio::time::timeout;
use tunnel64d::netlink::{
    Applied, Change, Desired, Error, Event, Lookup, MAIN_TABLE, Netlink, PROTOCOL, Patience, Route,
    Watch,
};
use tunnel64d::sys::tun;
use tunnel64d::time::Time;

const SOON: Duration = Duration::from_secs(5);
const NEVER: Duration = Duration::from_millis(200);

#[test]
fn the_interface_gets_everything_at_once_and_nothing_the_second_time() {
    in_namespace(|lab| async move {
        let desired = gateway();
        let applied = lab.netlink.apply(&desired).await;
        assert!(applied.failures.is_empty(), "{:?}", applied.failures);
        assert_eq!(
            words(&applied),
            [
                "mtu 1400",
                "ipv4 heeds the carrier",
                "ipv6 heeds the carrier",
                "address generation off",
                "up",
                "address fc00:1234:ffff::1/64 added",
                "address 10.99.0.1/24 added",
                "route fc00:1234:4::/64 via fc00:1234:ffff::10 added",
                "route 10.4.0.0/16 via 10.99.0.10 metric 50 added",
            ]
        );
        assert!(ip("link show tun0").contains("mtu 1400"));
        assert!(ip("-6 addr show dev tun0").contains("inet6 fc00:1234:ffff::1/64 scope global"));
        let four = ip("-4 addr show dev tun0");
        assert!(four.contains("inet 10.99.0.1/24 scope global tun0"), "{four}");
        assert!(
            ip("-6 route show proto 64")
                .contains("fc00:1234:4::/64 via fc00:1234:ffff::10 dev tun0")
        );
        assert!(ip("-4 route show proto 64").contains("10.4.0.0/16 via 10.99.0.10 dev tun0"));

        let again = lab.netlink.apply(&desired).await;
        assert!(again.changes.is_empty() && again.failures.is_empty(), "{again:?}");
        let exactly = lab.netlink.apply_exactly(&desired).await;
        assert!(exactly.changes.is_empty() && exactly.failures.is_empty(), "{exactly:?}");
    });
}

#[test]
fn addresses_are_usable_at_once_and_the_kernel_adds_none_of_its_own() {
    in_namespace(|lab| async move {
        expect_done(&lab.netlink.apply(&gateway()).await);
        let addresses = ip("-6 addr show dev tun0");
        assert!(!addresses.contains("fe80"), "{addresses}");
        assert!(!addresses.contains("tentative"), "{addresses}");
        std::net::UdpSocket::bind("[fc00:1234:ffff::1]:0").unwrap();
    });
}

#[test]
fn an_idle_interface_sends_nothing_of_its_own() {
    in_namespace(|lab| async move {
        expect_done(&lab.netlink.apply(&gateway()).await);
        let packets = lab.packets_within(Duration::from_secs(2)).await;
        assert!(packets.is_empty(), "{packets:02x?}");
    });
}

#[test]
fn an_idle_interface_of_a_router_sends_only_its_multicast_report() {
    in_namespace(|lab| async move {
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        expect_done(&lab.netlink.apply(&gateway()).await);
        for packet in lab.packets_within(Duration::from_secs(2)).await {
            // vnet header, IPv6 header, hop-by-hop header with the router alert, then ICMPv6.
            const MLD2_REPORT: u8 = 143;
            assert_eq!(packet.get(10 + 40 + 8), Some(&MLD2_REPORT), "{packet:02x?}");
        }
    });
}

/// An alias in Latin-1: the whole answer is then dropped before it gets to us.
#[test]
fn an_answer_that_can_t_be_understood_is_not_waited_for_for_ever() {
    in_namespace(|lab| async move {
        let alias = OsStr::from_bytes(b"B\xfcro");
        let mut set = Command::new("ip");
        assert!(set.args(["link", "set", "tun0", "alias"]).arg(alias).status().unwrap().success());
        let asked = timeout(SOON, lab.netlink.name_of(lab.index)).await.expect("in time");
        assert!(matches!(asked, Err(Error::Unanswered(_))), "{asked:?}");
        let applied = timeout(SOON, lab.netlink.apply(&gateway())).await.expect("in time");
        let why = applied.failures.iter().map(ToString::to_string).collect::<String>();
        assert!(why.contains("interface tun0") && why.contains("an alias"), "{why}");

        ip("link set tun0 alias uplink");
        expect_done(&lab.netlink.apply(&gateway()).await);
    });
}

#[test]
fn tables_metrics_and_sources_reach_the_kernel() {
    in_namespace(|lab| async move {
        let mut desired = gateway();
        desired.routes = vec![
            Route { table: 1000, ..route("fc00:5::/64", Some("fc00:1234:ffff::10")) },
            Route { metric: Some(77), ..route("fc00:6::/64", None) },
            Route { source: Some(address("fc00:1234:ffff::1")), ..route("fc00:7::/64", None) },
            Route { table: 1000, metric: Some(9), ..route("10.5.0.0/16", Some("10.99.0.10")) },
            Route { source: Some(address("10.99.0.1")), ..route("10.6.0.0/16", None) },
            Route { table: 200, ..route("0.0.0.0/0", None) },
            Route { table: 200, ..route("::/0", None) },
        ];
        expect_done(&lab.netlink.apply(&desired).await);
        assert!(ip("-6 route show table 1000").contains("fc00:5::/64 via fc00:1234:ffff::10"));
        assert!(ip("-4 route show table 1000").contains("metric 9"));
        assert!(ip("-6 route show fc00:6::/64").contains("metric 77"));
        assert!(ip("-6 route show fc00:7::/64").contains("src fc00:1234:ffff::1"));
        assert!(ip("-4 route show 10.6.0.0/16").contains("src 10.99.0.1"));
        assert!(ip("-4 route show table 200").contains("default dev tun0"));
        assert!(ip("-6 route show table 200").contains("default dev tun0"));
        let again = lab.netlink.apply(&desired).await;
        assert!(again.changes.is_empty() && again.failures.is_empty(), "{again:?}");
    });
}

#[test]
fn an_ipv4_destination_may_lie_behind_an_ipv6_gateway() {
    in_namespace(|lab| async move {
        let mut desired = gateway();
        desired.routes = vec![route("10.7.0.0/16", Some("fc00:1234:ffff::10"))];
        expect_done(&lab.netlink.apply(&desired).await);
        assert!(ip("-4 route show 10.7.0.0/16").contains("via inet6 fc00:1234:ffff::10"));
        assert!(lab.netlink.apply(&desired).await.changes.is_empty());
    });
}

#[test]
fn what_others_delete_is_noticed_and_restored() {
    in_namespace(|mut lab| async move {
        let desired = gateway();
        expect_done(&lab.netlink.apply(&desired).await);
        for (damage, restored) in [
            (
                "-6 route del fc00:1234:4::/64",
                "route fc00:1234:4::/64 via fc00:1234:ffff::10 added",
            ),
            ("-4 route del 10.4.0.0/16", "route 10.4.0.0/16 via 10.99.0.10 metric 50 added"),
            ("link set tun0 mtu 1300", "mtu 1400"),
            ("-6 addr del fc00:1234:ffff::1/64 dev tun0", "address fc00:1234:ffff::1/64 added"),
            ("-4 addr del 10.99.0.1/24 dev tun0", "address 10.99.0.1/24 added"),
            ("link set tun0 down", "up"),
        ] {
            lab.expect_quiet(&desired).await;
            ip(damage);
            assert_eq!(lab.changed(&desired).await, Event::Changed, "{damage}");
            let applied = lab.netlink.apply(&desired).await;
            expect_done(&applied);
            assert!(words(&applied).iter().any(|word| word == restored), "{damage}: {applied:?}");
            let again = lab.netlink.apply(&desired).await;
            assert!(again.changes.is_empty(), "{damage}: {again:?}");
        }
    });
}

#[test]
fn a_burst_of_changes_is_one_event() {
    in_namespace(|mut lab| async move {
        let desired = gateway();
        expect_done(&lab.netlink.apply(&desired).await);
        lab.expect_quiet(&desired).await;
        ip("-6 route flush dev tun0 proto 64");
        ip("-4 route flush dev tun0 proto 64");
        assert_eq!(lab.changed(&desired).await, Event::Changed);
        assert_eq!(lab.netlink.apply(&desired).await.changes.len(), 2);
        lab.expect_quiet(&desired).await;
    });
}

#[test]
fn a_caller_that_keeps_giving_up_waiting_hears_of_a_change_all_the_same() {
    in_namespace(|mut lab| async move {
        let desired = gateway();
        expect_done(&lab.netlink.apply(&desired).await);
        lab.expect_quiet(&desired).await;
        ip("-6 route flush dev tun0 proto 64");
        let end = Time::now() + Duration::from_secs(1);
        loop {
            assert!(Time::now() < end, "no event for a caller that never waits for 50 ms");
            let patience = Duration::from_millis(10);
            if timeout(patience, lab.watch.changed(lab.index, &desired)).await.is_ok() {
                break;
            }
        }
        lab.expect_quiet(&desired).await;
    });
}

#[test]
fn a_lost_notification_counts_as_a_change() {
    in_namespace(|mut lab| async move {
        let desired = gateway();
        expect_done(&lab.netlink.apply(&desired).await);
        lab.expect_quiet(&desired).await;
        let mut batch = String::new();
        for _ in 0..3 {
            for n in 0..2000 {
                let (high, low) = (n / 250, n % 250);
                batch += &format!("route replace 10.{}.{low}.0/24 dev lo\n", 100 + high);
            }
        }
        ip("link set lo up");
        ip_batch(&batch);
        assert_eq!(lab.changed(&desired).await, Event::Changed);
        lab.expect_quiet(&desired).await;
    });
}

#[test]
fn a_lost_carrier_takes_nothing_away_and_keeps_nothing_from_being_restored() {
    in_namespace(|mut lab| async move {
        let desired = gateway();
        tun::set_carrier(lab.queue.as_fd(), false).unwrap();
        expect_done(&lab.netlink.apply(&desired).await);
        tun::set_carrier(lab.queue.as_fd(), true).unwrap();
        lab.expect_quiet(&desired).await;
        tun::set_carrier(lab.queue.as_fd(), false).unwrap();
        lab.expect_quiet(&desired).await;
        assert!(lab.netlink.apply(&desired).await.changes.is_empty());

        ip("-6 addr del fc00:1234:ffff::1/64 dev tun0");
        assert_eq!(lab.changed(&desired).await, Event::Changed);
        expect_done(&lab.netlink.apply(&desired).await);
        let addresses = ip("-6 addr show dev tun0");
        assert!(addresses.contains("fc00:1234:ffff::1/64"), "{addresses}");
        assert!(!addresses.contains("tentative"), "{addresses}");
        let again = lab.netlink.apply(&desired).await;
        assert!(again.changes.is_empty(), "{again:?}");
    });
}

#[test]
fn routes_are_passed_over_without_a_carrier() {
    in_namespace(|lab| async move {
        let desired = gateway();
        expect_done(&lab.netlink.apply(&desired).await);
        for (family, way) in [("-4", "10.4.1.1"), ("-6", "fc00:1234:4::36")] {
            let destination =
                Lookup { destination: address(way), source: None, mark: None, device: None };
            for carrier in [true, false, true] {
                tun::set_carrier(lab.queue.as_fd(), carrier).unwrap();
                let expected = carrier.then_some(lab.index);
                let mut found = None;
                // Carriers are told of by a work queue of the kernel's.
                for _ in 0..50 {
                    found = lab.netlink.route_to(destination).await.unwrap();
                    if found == expected {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                assert_eq!(found, expected, "{family} with carrier {carrier}");
            }
        }
    });
}

#[test]
fn a_carrier_that_cannot_be_heeded_is_a_shortcoming_and_no_failure() {
    in_namespace(|lab| async move {
        // As ProtectKernelTunables= does it, for this thread alone.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let mount = |arguments: &str| {
            let done = Command::new("mount").args(arguments.split_whitespace()).status();
            assert!(done.unwrap().success(), "mount {arguments}");
        };
        mount("--make-rprivate /");
        mount("--bind /proc/sys /proc/sys");
        mount("-o remount,bind,ro /proc/sys");
        let applied = lab.netlink.apply(&gateway()).await;
        expect_done(&applied);
        let [error @ Error::CarrierNotHeeded { .. }] = &applied.shortcomings[..] else {
            panic!("{applied:?}")
        };
        let what_to_do = "net.ipv6.conf.tun0.ignore_routes_with_linkdown=1";
        assert!(error.to_string().contains(what_to_do), "{error}");
    });
}

#[test]
fn a_renamed_interface_is_noticed_and_takes_its_name_back() {
    in_namespace(|mut lab| async move {
        let desired = gateway();
        expect_done(&lab.netlink.apply(&desired).await);
        lab.expect_quiet(&desired).await;
        ip("link set tun0 down");
        ip("link set tun0 name wan0");
        ip("link set wan0 up");
        assert_eq!(lab.changed(&desired).await, Event::Changed);
        assert_eq!(lab.netlink.name_of(lab.index).await.unwrap().as_deref(), Some("wan0"));
        lab.netlink.rename(lab.index, "tun0").await.unwrap();
        assert_eq!(lab.netlink.index_of("tun0").await.unwrap(), Some(lab.index));
        expect_done(&lab.netlink.apply(&desired).await);
        assert!(ip("-6 route show proto 64").contains("fc00:1234:4::/64"));
        assert!(ip("link show tun0").contains("UP"));
        assert_eq!(lab.netlink.name_of(9999).await.unwrap(), None);
    });
}

#[test]
fn a_tun_is_told_from_other_interfaces() {
    in_namespace(|lab| async move {
        for (name, is_no_tun) in [("tun0", false), ("lo", true), ("none0", false)] {
            assert_eq!(lab.netlink.is_no_tun(name).await.unwrap(), is_no_tun, "{name}");
        }
    });
}

#[test]
fn without_the_capability_the_error_names_it() {
    const CHILD: &str = "TEST_NETLINK_CHILD";
    if std::env::var_os(CHILD).is_none() {
        assert!(nix::unistd::geteuid().is_root(), "run as root: this test drops privileges");
        let child = Command::new("unshare")
            .args(["--net", "setpriv", "--reuid=65534", "--clear-groups", "--"])
            .arg("/proc/self/fd/0")
            .args(["--exact", "without_the_capability_the_error_names_it"])
            .stdin(std::fs::File::open(std::env::current_exe().unwrap()).unwrap())
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert!(child.status.success(), "{child:?}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (netlink, _watch) = Netlink::open().unwrap();
        let desired = Desired { interface: "lo".to_owned(), ..gateway() };
        let applied = netlink.apply(&desired).await;
        let [error @ Error::Permission(_)] = &applied.failures[..] else { panic!("{applied:?}") };
        assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
    });
}

#[test]
fn a_deleted_interface_is_gone() {
    in_namespace(|mut lab| async move {
        let desired = gateway();
        expect_done(&lab.netlink.apply(&desired).await);
        ip("link del tun0");
        assert_eq!(lab.changed(&desired).await, Event::Gone);
        assert_eq!(lab.netlink.index_of("tun0").await.unwrap(), None);
        let applied = lab.netlink.apply(&desired).await;
        assert!(matches!(applied.failures[..], [Error::NoInterface(_)]), "{applied:?}");
    });
}

#[test]
fn routes_of_others_are_untouched_and_a_taken_place_is_named() {
    in_namespace(|mut lab| async move {
        let _other = tun::open_queue("other", true).unwrap();
        ip("link set other up");
        ip("-6 route add fc00:1234:4::/64 dev other");
        ip("-4 route add 10.4.0.0/16 dev other metric 50 proto static");
        let desired = gateway();
        let applied = lab.netlink.apply(&desired).await;
        let failures: Vec<String> = applied.failures.iter().map(ToString::to_string).collect();
        assert_eq!(
            failures,
            [
                "route fc00:1234:4::/64 via fc00:1234:ffff::10: there is already one dev other \
                 proto boot; remove that, or give ours another metric",
                "route 10.4.0.0/16 via 10.99.0.10 metric 50: there is already one dev other \
                 proto static; remove that, or give ours another metric",
            ]
        );
        assert!(ip("-6 route show fc00:1234:4::/64").contains("dev other"));
        lab.expect_quiet(&desired).await;

        ip("-6 route del fc00:1234:4::/64 dev other");
        assert_eq!(lab.changed(&desired).await, Event::Changed);
        let applied = lab.netlink.apply(&desired).await;
        assert_eq!(words(&applied), ["route fc00:1234:4::/64 via fc00:1234:ffff::10 added"]);
        assert!(ip("-4 route show 10.4.0.0/16").contains("dev other"));
    });
}

#[test]
fn a_route_replaced_by_somebody_else_is_noticed() {
    in_namespace(|mut lab| async move {
        let desired = gateway();
        expect_done(&lab.netlink.apply(&desired).await);
        lab.expect_quiet(&desired).await;
        ip("-6 route replace fc00:1234:4::/64 via fc00:1234:ffff::66 dev tun0 proto 64");
        assert_eq!(lab.changed(&desired).await, Event::Changed);
        let applied = lab.netlink.apply(&desired).await;
        assert_eq!(words(&applied), ["route fc00:1234:4::/64 via fc00:1234:ffff::10 replaced"]);
        assert!(!ip("-6 route show").contains("::66"));
    });
}

#[test]
fn only_an_exact_apply_removes_what_is_no_longer_listed() {
    in_namespace(|lab| async move {
        let mut desired = gateway();
        expect_done(&lab.netlink.apply(&desired).await);
        ip("-6 route add fc00:9::/64 dev tun0 proto static");
        desired.addresses.remove(1);
        desired.routes.remove(1);
        let kept = lab.netlink.apply(&desired).await;
        assert!(kept.changes.is_empty(), "{kept:?}");
        let exactly = lab.netlink.apply_exactly(&desired).await;
        expect_done(&exactly);
        // The IPv4 route went with the address of its gateway.
        assert_eq!(words(&exactly), ["address 10.99.0.1/24 removed"]);
        desired.routes.clear();
        let exactly = lab.netlink.apply_exactly(&desired).await;
        assert_eq!(
            words(&exactly),
            ["route fc00:1234:4::/64 via fc00:1234:ffff::10 metric 1024 removed"]
        );
        assert!(ip("-6 route show").contains("fc00:9::/64"));
        assert!(ip("-6 addr show dev tun0").contains("fc00:1234:ffff::1/64"));
    });
}

#[test]
fn a_replacement_adds_first_removes_what_was_ours_and_leaves_others_alone() {
    in_namespace(|lab| async move {
        let former = gateway();
        expect_done(&lab.netlink.apply(&former).await);
        ip("addr add 10.77.0.1/24 dev tun0");
        ip("route add 10.78.0.0/16 dev tun0 proto 64");
        let mut desired = former.clone();
        desired.addresses = vec!["fc00:1234:ffff::2/64".parse().unwrap()];
        desired.addresses.push("10.99.0.1/24".parse().unwrap());
        desired.routes[0].metric = Some(7);
        let replaced = lab.netlink.replace(&former, &desired).await;
        expect_done(&replaced);
        assert_eq!(
            words(&replaced),
            [
                "address fc00:1234:ffff::2/64 added",
                "route fc00:1234:4::/64 via fc00:1234:ffff::10 metric 7 added",
                "route fc00:1234:4::/64 via fc00:1234:ffff::10 metric 1024 removed",
                "address fc00:1234:ffff::1/64 removed",
            ]
        );
        assert!(ip("addr show dev tun0").contains("10.77.0.1/24"));
        assert!(ip("-4 route show proto 64").contains("10.78.0.0/16"));
        let again = lab.netlink.replace(&desired, &desired).await;
        assert!(again.changes.is_empty() && again.failures.is_empty(), "{again:?}");
    });
}

#[test]
fn what_the_kernel_takes_away_with_an_old_address_and_is_still_wanted_comes_back() {
    in_namespace(|lab| async move {
        // The second address is the first one's secondary, and goes with it.
        std::fs::write("/proc/sys/net/ipv4/conf/tun0/promote_secondaries", "0").unwrap();
        let mut former = gateway();
        former.addresses.push("10.99.0.2/24".parse().unwrap());
        expect_done(&lab.netlink.apply(&former).await);
        let mut desired = former.clone();
        desired.addresses.remove(1);
        expect_done(&lab.netlink.replace(&former, &desired).await);
        let four = ip("-4 addr show dev tun0");
        assert!(four.contains("10.99.0.2/24") && !four.contains("10.99.0.1/24"), "{four}");
        assert!(ip("-4 route show proto 64").contains("10.4.0.0/16 via 10.99.0.10 dev tun0"));
    });
}

#[test]
fn an_address_with_another_prefix_length_is_replaced() {
    in_namespace(|lab| async move {
        let mut desired = gateway();
        expect_done(&lab.netlink.apply(&desired).await);
        desired.addresses =
            vec!["fc00:1234:ffff::1/48".parse().unwrap(), "10.99.0.1/16".parse().unwrap()];
        expect_done(&lab.netlink.apply(&desired).await);
        let six = ip("-6 addr show dev tun0");
        assert!(six.contains("::1/48") && !six.contains("::1/64"), "{six}");
        let four = ip("-4 addr show dev tun0");
        assert!(four.contains(".1/16") && !four.contains(".1/24"), "{four}");
    });
}

#[test]
fn a_gateway_out_of_reach_says_what_to_do_and_keeps_nothing_else_out() {
    in_namespace(|lab| async move {
        let mut desired = gateway();
        desired.routes.insert(0, route("fc00:5::/64", Some("fd00::1")));
        desired.routes.insert(0, route("10.5.0.0/16", Some("192.0.2.1")));
        let applied = lab.netlink.apply(&desired).await;
        assert!(
            matches!(
                applied.failures[..],
                [Error::GatewayUnreachable(_), Error::GatewayUnreachable(_)]
            ),
            "{applied:?}"
        );
        assert!(ip("-6 route show").contains("fc00:1234:4::/64"));
    });
}

#[test]
fn a_source_of_somebody_else_is_named_as_invalid() {
    in_namespace(|lab| async move {
        let mut desired = gateway();
        desired.routes = vec![
            Route { source: Some(address("fd00::5")), ..route("fc00:5::/64", None) },
            Route { source: Some(address("192.0.2.5")), ..route("10.5.0.0/16", None) },
        ];
        let applied = lab.netlink.apply(&desired).await;
        assert!(
            matches!(applied.failures[..], [Error::RouteInvalid(_), Error::RouteInvalid(_)]),
            "{applied:?}"
        );
    });
}

#[test]
fn ipv6_switched_off_on_the_interface_is_named() {
    in_namespace(|lab| async move {
        std::fs::write("/proc/sys/net/ipv6/conf/tun0/disable_ipv6", "1").unwrap();
        let mut desired = gateway();
        desired.routes.clear();
        let applied = lab.netlink.apply(&desired).await;
        let [error @ Error::Ipv6Disabled { .. }] = &applied.failures[..] else {
            panic!("{applied:?}")
        };
        assert!(error.to_string().contains("net.ipv6.conf.tun0.disable_ipv6=0"), "{error}");
        assert!(ip("-4 addr show dev tun0").contains("10.99.0.1/24"));
    });
}

#[test]
fn an_mtu_is_raised_back_over_what_ipv6_needs() {
    in_namespace(|lab| async move {
        let mut desired = gateway();
        expect_done(&lab.netlink.apply(&desired).await);
        ip("link set tun0 mtu 1000");
        assert!(!ip("-6 addr show dev tun0").contains("inet6"));
        desired.mtu = u16::MAX;
        expect_done(&lab.netlink.apply(&desired).await);
        let addresses = ip("-6 addr show dev tun0");
        assert!(addresses.contains("fc00:1234:ffff::1/64"), "{addresses}");
        assert!(!addresses.contains("fe80"), "{addresses}");
        assert!(ip("link show tun0").contains("mtu 65535"));
        desired.mtu = 20;
        let applied = lab.netlink.apply(&desired).await;
        assert!(matches!(applied.failures[..], [Error::Mtu { .. }]), "{applied:?}");
    });
}

#[test]
fn a_destination_behind_the_tunnel_is_found_to_be() {
    in_namespace(|lab| async move {
        let _other = tun::open_queue("other", true).unwrap();
        ip("link set other up");
        ip("addr add 192.0.2.1/24 dev other");
        ip("route add 198.51.100.0/24 via 192.0.2.9");
        ip("rule add fwmark 5 table 500");
        ip("-6 route add unreachable fc00:66::/64");
        ip("-4 route add prohibit 203.0.113.0/24");
        expect_done(&lab.netlink.apply(&gateway()).await);
        ip("route add 198.51.100.0/24 dev tun0 table 500");
        let other = lab.netlink.index_of("other").await.unwrap();
        let tun = Some(lab.index);
        let plain = |destination| Lookup {
            destination: address(destination),
            source: None,
            mark: None,
            device: None,
        };
        let from = |source: &str, lookup| Lookup { source: Some(address(source)), ..lookup };
        for (lookup, expected) in [
            (plain("198.51.100.1"), other),
            (Lookup { mark: Some(5), ..plain("198.51.100.1") }, tun),
            (from("192.0.2.1", plain("198.51.100.1")), other),
            (from("192.0.2.77", plain("198.51.100.1")), None),
            (plain("10.4.1.1"), tun),
            (Lookup { device: other, ..plain("192.0.2.7") }, other),
            (plain("fc00:1234:4::36"), tun),
            (from("fc00:1234:ffff::1", plain("fc00:1234:4::36")), tun),
            (plain("fc00:66::1"), None),
            (plain("fd00::1"), None),
            (plain("203.0.113.1"), None),
            (plain("8.8.8.8"), None),
        ] {
            assert_eq!(lab.netlink.route_to(lookup).await.unwrap(), expected, "{lookup:?}");
        }
    });
}

#[test]
fn a_quarrel_with_another_daemon_slows_down() {
    in_namespace(|mut lab| async move {
        let desired = gateway();
        expect_done(&lab.netlink.apply(&desired).await);
        let mut patience = Patience::default();
        let end = Time::now() + Duration::from_secs(3);
        let mut rounds = 0;
        while Time::now() < end {
            ip("-6 route del fc00:1234:4::/64");
            assert_eq!(lab.changed(&desired).await, Event::Changed);
            tokio::time::sleep(patience.pause(Time::now())).await;
            assert_eq!(lab.netlink.apply(&desired).await.changes.len(), 1);
            patience.restored(Time::now());
            rounds += 1;
        }
        assert!((3..=6).contains(&rounds), "{rounds} rounds in three seconds");
        assert!(patience.is_quarrel(Time::now()));
    });
}

struct Lab {
    netlink: Netlink,
    watch: Watch,
    index: u32,
    queue: OwnedFd,
}

impl Lab {
    async fn packets_within(&self, time: Duration) -> Vec<Vec<u8>> {
        tokio::time::sleep(time).await;
        let mut packets = Vec::new();
        let mut buffer = [0; 2048];
        while let Ok(length) = nix::unistd::read(self.queue.as_fd(), &mut buffer) {
            packets.push(buffer[..length].to_vec());
        }
        packets
    }

    async fn changed(&mut self, desired: &Desired) -> Event {
        timeout(SOON, self.watch.changed(self.index, desired)).await.expect("no event in time")
    }

    async fn expect_quiet(&mut self, desired: &Desired) {
        // Swallow what may be left of what the test itself did.
        let _ = timeout(NEVER, self.watch.changed(self.index, desired)).await;
        let event = timeout(NEVER, self.watch.changed(self.index, desired)).await;
        assert!(event.is_err(), "an event, but nobody changed anything");
    }
}

/// Runs a test in a fresh network namespace with a TUN; both go away with the thread.
fn in_namespace<F, Fut>(test: F)
where
    F: FnOnce(Lab) -> Fut + Send + 'static,
    Fut: Future<Output = ()>,
{
    assert!(nix::unistd::geteuid().is_root(), "run as root: this test makes a network namespace");
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of our own");
        let queue = tun::open_queue("tun0", true).expect("a TUN");
        // The interface lives as long as this, also when the test has no use for the queue.
        let _alive = queue.try_clone().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let (netlink, watch) = Netlink::open().unwrap();
            let index = netlink.index_of("tun0").await.unwrap().unwrap();
            test(Lab { netlink, watch, index, queue }).await;
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// VM1 of the six hosts, and IPv4 beside it.
fn gateway() -> Desired {
    Desired {
        interface: "tun0".to_owned(),
        mtu: 1400,
        addresses: vec!["fc00:1234:ffff::1/64".parse().unwrap(), "10.99.0.1/24".parse().unwrap()],
        routes: vec![
            route("fc00:1234:4::/64", Some("fc00:1234:ffff::10")),
            Route { metric: Some(50), ..route("10.4.0.0/16", Some("10.99.0.10")) },
        ],
    }
}

fn route(destination: &str, via: Option<&str>) -> Route {
    Route {
        destination: destination.parse().unwrap(),
        via: via.map(address),
        metric: None,
        table: MAIN_TABLE,
        source: None,
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn words(applied: &Applied) -> Vec<String> {
    applied.changes.iter().map(Change::to_string).collect()
}

#[track_caller]
fn expect_done(applied: &Applied) {
    assert!(applied.failures.is_empty(), "{:?}", applied.failures);
    assert_eq!(PROTOCOL, 64, "the tests and the manual name it");
}

#[track_caller]
fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn ip_batch(commands: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, commands.as_bytes()).unwrap();
    ip(&format!("-batch {}", file.path().display()));
}
