//! What is printed, and read back.

use super::*;

#[test]
fn what_is_printed_fits_the_terminal_and_says_where_it_came_from() {
    let (files, mut sources) = with_environment(&[("TUNNEL64D_LINK__DEAD_AFTER", "40s")]);
    sources.set = vec!["log.level=warn".into()];
    let printed = to_toml(&load(&sources).expect("valid").origins);
    for line in [
        "mtu = 1500        # built-in".to_owned(),
        "# fwmark                         # not set".to_owned(),
        format!("# {}:2", files.path("etc/tun0.toml")),
        "# environment TUNNEL64D_LINK__DEAD_AFTER".to_owned(),
        "level = \"warn\"   # --set".to_owned(),
        "limit = \"8MiB\"".to_owned(),
    ] {
        assert!(printed.contains(&line), "{line}\n{printed}");
    }
    assert!(printed.lines().all(|line| line.chars().count() <= 80), "{printed}");
}

#[test]
fn every_key_that_is_set_is_printed_and_read_back() {
    let (_files, mut sources) = with_environment(&[]);
    sources.set = [
        "interface.name=t",
        "interface.addresses=fc00::1/64",
        "interface.mtu=9000",
        "interface.offload=off",
        "interface.routes.\"fc00:4::/64\"={ via = \"fc00::9\", metric = 1, table = 2, source = \"fc00::1\" }",
        "link.listen=::",
        "link.connect=gw",
        "link.source=fc00::2",
        "link.device=eth0",
        "link.fwmark=1",
        "link.dscp=46",
        "link.streams=16",
        "link.congestion=cubic",
        "link.keepalive=1m30s",
        "link.dead_after=24h",
        "link.reconnect.min=10ms",
        "link.reconnect.max=1h",
        "link.ready=connected",
        "security.private_key_file=/k",
        "security.peer_public_keys=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "security.allowed_sources=::/0",
        "queue.target=100us",
        "queue.interval=10s",
        "queue.limit=1GiB",
        "queue.ecn=false",
        "log.level=trace",
        "log.format=json",
        "metrics.listen=[::1]:9641",
    ]
    .map(str::to_owned)
    .to_vec();
    let loaded = load(&sources).expect("valid");
    assert_eq!(loaded.origins.len(), schema::KEYS.len());
    for leaf in &loaded.origins {
        assert!(leaf.value.is_some(), "{leaf:?}");
        assert_ne!(leaf.origin, Origin::BuiltIn, "{leaf:?}");
    }
    let (first, again) = printed_and_loaded_again(&sources);
    assert_eq!(first, again);
}

pub(super) fn printed_and_loaded_again(sources: &Sources) -> (Settings, Settings) {
    let loaded = load(sources).expect("a valid configuration");
    let files = own(&to_toml(&loaded.origins));
    let again = load(&files.sources()).unwrap_or_else(|errors| {
        panic!("{errors}\n{}", to_toml(&loaded.origins));
    });
    (loaded.settings, again.settings)
}
