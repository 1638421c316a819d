//! Whatever is read and printed.

use std::path::Path;

use proptest::prelude::*;

use super::printed::printed_and_loaded_again;
use super::*;
use crate::transport::keys::PublicKey;

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "(\\[(link|interface|interface\\.routes|security)\\]\n|(mtu|listen|routes|connect|\"10\\.0\\.0\\.0/8\"|x) = (1|\"a\"|\\[1, \"b\"\\]|\\{ via = \"::\" \\}|1979-05-27|1e9|inf)\n){0,8}",
    ]
}

fn any_address() -> impl Strategy<Value = std::net::IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(Into::into), any::<[u8; 16]>().prop_map(Into::into),]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_file_makes_the_parser_panic(bytes in any::<Vec<u8>>(), text in any_text()) {
        for bytes in [&bytes[..], text.as_bytes()] {
            let mut errors = Vec::new();
            document::file(Path::new("x.toml"), bytes, &mut errors);
            let files = own("");
            fs::write(files.path("etc/tun0.toml"), bytes).expect("the file");
            let _ = load(&files.sources());
        }
    }

    #[test]
    fn no_variable_or_argument_makes_the_parser_panic(name in "[A-Z_]{0,20}", text in any_text()) {
        let (_files, mut sources) = with_environment(&[]);
        sources.environment = schema::KEYS
            .iter()
            .map(|key| format!("TUNNEL64D_{}", key.path.replace('.', "__").to_uppercase()))
            .chain([format!("TUNNEL64D_{name}"), "TUNNEL64D_INTERFACE__ROUTES".to_owned()])
            .map(|name| (name, text.clone()))
            .collect();
        sources.set = vec![text.clone(), format!("link.listen={text}"), format!("{text}=1")];
        let _ = load(&sources);
    }

    #[test]
    fn what_is_printed_gives_the_same_settings(
        addresses in proptest::collection::vec(any_address(), 0..4),
        routes in proptest::collection::btree_map(any_address(), (0u8..=32, any::<Option<u32>>()), 0..4),
        mtu in 1280u32..=65535,
        streams in 1u8..=16,
        dscp in proptest::option::of(0u8..=63),
        keepalive in 1_000u64..=1_800_000,
        limit in 65_536usize..=1 << 30,
        key in any::<[u8; 32]>(),
        path in "/[^\0/]{1,12}",
        ecn in any::<bool>(),
        host in "[a-z][a-z0-9]{0,9}(\\.[a-z]{1,9}){0,3}",
        port in 1u16..,
    ) {
        let (_files, mut sources) = with_environment(&[]);
        let mut addresses: Vec<_> = addresses
            .into_iter()
            .filter(|a| !a.is_multicast() && !a.is_unspecified())
            .map(|a| format!("{a}/20"))
            .collect();
        addresses.sort();
        addresses.dedup();
        sources.set = vec![
            format!("interface.addresses=[{}]", addresses.join(",")),
            format!("interface.mtu={mtu}"),
            format!("link.streams={streams}"),
            format!("link.listen=[::]:{port}"),
            format!("link.connect={host}:{port},{host}.x,[::1]:{port}"),
            format!("link.keepalive={keepalive}ms"),
            format!("link.dead_after={}ms", 2 * keepalive),
            format!("queue.limit={limit}"),
            format!("queue.ecn={ecn}"),
            format!("security.peer_public_keys=[\"{}\"]", PublicKey(key)),
            format!("security.peer_addresses=::1"),
            format!("security.allowed_sources=::/0,10.0.0.0/8"),
            format!("security.private_key_file={}", print::quote(&path)),
            format!("metrics.listen={}", print::quote(&format!("unix:{path}"))),
        ];
        sources.set.extend(dscp.map(|dscp| format!("link.dscp={dscp}")));
        for (address, (length, metric)) in routes {
            let network = ipnet::IpNet::new(address, length).expect("a length").trunc();
            sources.set.push(format!("interface.routes.\"{network}\".via={address}"));
            sources.set.extend(
                metric.map(|metric| format!("interface.routes.\"{network}\".metric={metric}")),
            );
        }
        if path == "/." || path == "/.." {
            return Ok(());
        }
        let (first, again) = printed_and_loaded_again(&sources);
        prop_assert_eq!(first, again);
    }
}
