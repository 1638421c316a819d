//! The environment and `--set`.

use super::*;

#[test]
fn variables_are_read_as_the_key_wants_them() {
    let (_files, sources) = with_environment(&[
        ("TUNNEL64D_INTERFACE__NAME", "12345"),
        ("TUNNEL64D_INTERFACE__ADDRESSES", "[fc00::1/64, \"10.0.0.1/24\"]"),
        ("TUNNEL64D_INTERFACE__ROUTES", "{ \"10.0.0.0/8\" = { via = \"10.1.1.1\" } }"),
        ("TUNNEL64D_LINK__LISTEN", "[::]:4641"),
        ("TUNNEL64D_LINK__CONNECT", "[2001:db8::1]:5"),
        ("TUNNEL64D_LINK__DEVICE", "1e3"),
        ("TUNNEL64D_LINK__FWMARK", "0x10"),
        ("TUNNEL64D_LINK__STREAMS", "4"),
        ("TUNNEL64D_LINK__CONGESTION", "true"),
        ("TUNNEL64D_LINK__RECONNECT", "{ min = \"1s\", max = \"9s\" }"),
        ("TUNNEL64D_LINK__RECONNECT__MIN", "2s"),
        ("TUNNEL64D_QUEUE__LIMIT", "100000"),
        ("TUNNEL64D_QUEUE__ECN", "false"),
        ("TUNNEL64D_SECURITY__PEER_ADDRESSES", "10.0.0.1, 2001:db8::1"),
        ("TUNNEL64D_LOG__LEVEL", "\"debug\""),
    ]);
    let settings = load(&sources).expect("valid").settings;
    assert_eq!(settings.interface.name, "12345");
    assert_eq!(settings.interface.addresses.len(), 2);
    assert_eq!(settings.interface.routes[0].via, Some("10.1.1.1".parse().unwrap()));
    assert_eq!(settings.link.listen, Some("[::]:4641".parse().unwrap()));
    assert_eq!(settings.link.connect[0].to_string(), "[2001:db8::1]:5");
    assert_eq!(settings.link.device.as_deref(), Some("1e3"));
    assert_eq!((settings.link.fwmark, settings.link.streams), (Some(16), Streams::Fixed(4)));
    assert_eq!(settings.link.congestion, Congestion::Named("true".to_owned()));
    assert_eq!(settings.link.reconnect.min, std::time::Duration::from_secs(2));
    assert_eq!(settings.link.reconnect.max, std::time::Duration::from_secs(9));
    assert_eq!((settings.queue.limit, settings.queue.ecn), (100_000, false));
    assert_eq!(settings.security.peer_addresses.len(), 2);
    assert_eq!(settings.log.level, Level::Debug);
}

#[test]
fn several_bracketed_endpoints_in_a_variable_are_not_mistaken_for_one_list() {
    for text in ["[::1]:1,[::2]:2", "[[::1]:1, [::2]:2]", "[\"[::1]:1\", \"[::2]:2\"]"] {
        let (_files, sources) = with_environment(&[
            ("TUNNEL64D_LINK__CONNECT", text),
            ("TUNNEL64D_SECURITY__PEER_ADDRESSES", "::1, ::2"),
        ]);
        let connect = load(&sources).expect("valid").settings.link.connect;
        let shown: Vec<_> = connect.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["[::1]:1", "[::2]:2"], "{text}");
    }
}

#[test]
fn a_stray_variable_is_named_with_the_one_that_was_meant() {
    for (name, hint) in [
        ("TUNNEL64D_LINK_LISTEN", "did you mean TUNNEL64D_LINK__LISTEN?"),
        ("TUNNEL64D_link__listen", "did you mean TUNNEL64D_LINK__LISTEN?"),
        ("TUNNEL64D_DEBUG_EVERYTHING", "unset it"),
        ("TUNNEL64D_", "unset it"),
    ] {
        let (files, sources) = with_environment(&[(name, "::")]);
        let errors = files.errors(&sources);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].starts_with(&format!("environment {name}: ")), "{errors:?}");
        assert!(errors[0].contains(hint), "{errors:?}");
    }
}

#[test]
fn set_reaches_into_routes_by_quoted_destination() {
    let files = own(VALID);
    let mut sources = files.sources();
    sources.set = vec![
        "interface.routes.\"10.0.0.0/8\".via=10.1.1.1".into(),
        "interface.routes.\"fc00:0::/64\"={}".into(),
        "link.connect=a, b:5".into(),
    ];
    let settings = load(&sources).expect("valid").settings;
    assert_eq!(settings.interface.routes[0].via, Some("10.1.1.1".parse().unwrap()));
    assert_eq!(settings.interface.routes[1].destination, "fc00::/64".parse().unwrap());
    assert_eq!(settings.link.connect[1].port, 5);
    sources.set = ["=", "x", "a.b=1", "link=1", "link.listen.x=1", "interface.routes.10=1"]
        .map(str::to_owned)
        .to_vec();
    let errors = files.errors(&sources);
    assert_eq!(errors.len(), 6, "{errors:#?}");
}
