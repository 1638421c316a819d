use super::*;
use proptest::prelude::*;

fn connect(text: &str) -> Option<String> {
    endpoint(&Value::from(text)).ok().map(|endpoint| endpoint.to_string())
}

fn listen_at(text: &str) -> Option<String> {
    listen(&Value::from(text)).ok().map(|address| address.to_string())
}

#[test]
fn an_endpoint_gets_the_default_port_and_brackets_where_they_are_missing() {
    for (written, meant) in [
        ("172.16.2.163:123", "172.16.2.163:123"),
        ("172.16.2.163", "172.16.2.163:4641"),
        ("gw.example.net", "gw.example.net:4641"),
        ("gw.example.net.:1", "gw.example.net.:1"),
        ("[2001:db8::1]:65535", "[2001:db8::1]:65535"),
        ("[2001:db8::1]", "[2001:db8::1]:4641"),
        ("2001:db8:0::1", "[2001:db8::1]:4641"),
        ("[fe80::1%eth0]:5", "[fe80::1%eth0]:5"),
        ("fe80::1%e]h", "[fe80::1%e]h]:4641"),
    ] {
        assert_eq!(connect(written).as_deref(), Some(meant), "{written}");
    }
}

#[test]
fn an_endpoint_that_can_not_be_dialled_is_refused() {
    for written in [
        "",
        ":4641",
        "host:",
        "host:0",
        "host:65536",
        "host:+1",
        "host:x",
        "172.16.2.300:1",
        "1.2.3:4",
        "[gw.example.net]:1",
        "[::1",
        "[::1]4641",
        "a b",
        "a..b",
        "-a:1",
        "0.0.0.0",
        "[::]:1",
        "gw_\u{e9}:1",
        "2001:db8::1::2",
        "[fe80::1%]:5",
        "unix:/x",
        "224.0.0.1:5",
    ] {
        assert_eq!(connect(written), None, "{written}");
    }
}

#[test]
fn listening_takes_addresses_only() {
    assert_eq!(listen_at("[::]:4641").as_deref(), Some("[::]:4641"));
    assert_eq!(listen_at("0.0.0.0").as_deref(), Some("0.0.0.0:4641"));
    assert_eq!(listen_at("::").as_deref(), Some("[::]:4641"));
    for written in ["localhost", "localhost:1", "1.2.3.4:0", "1.2.3.4:99999", "4641", ":1"] {
        assert_eq!(listen_at(written), None, "{written}");
    }
}

#[test]
fn sizes_have_units_and_bounds() {
    let size_of = |value: Value| size(&value, 64 << 10, 1 << 30).ok();
    assert_eq!(size_of("8MiB".into()), Some(8 << 20));
    assert_eq!(size_of("64KiB".into()), Some(64 << 10));
    assert_eq!(size_of("1 MB".into()), Some(1_000_000));
    assert_eq!(size_of("1GiB".into()), Some(1 << 30));
    assert_eq!(size_of("100000".into()), Some(100_000));
    assert_eq!(size_of(100_000.into()), Some(100_000));
    for bad in ["", "MiB", "-1MiB", "8mib", "1.5MiB", "63KiB", "2GiB", "99999999999999999999GiB"] {
        assert_eq!(size_of(bad.into()), None, "{bad}");
    }
    assert_eq!(size_of((-1).into()), None);
    assert_eq!(size_of(65536.5.into()), None);
}

#[test]
fn durations_have_units_and_bounds() {
    let of =
        |text: &str| duration(&text.into(), Duration::from_secs(1), Duration::from_secs(3600)).ok();
    assert_eq!(of("1m30s"), Some(Duration::from_secs(90)));
    assert_eq!(of("1h"), Some(Duration::from_secs(3600)));
    for bad in ["", "10", "999ms", "61m", "-1s", "ten", "99999999999999999999999s"] {
        assert_eq!(of(bad), None, "{bad}");
    }
}

#[test]
fn interface_names_are_those_that_the_kernel_takes() {
    for good in ["tun0", "a", "fifteen-bytes-x", "tun.5", "é"] {
        assert!(is_interface_name(good), "{good}");
    }
    for bad in ["", ".", "..", "a/b", "a b", "a\tb", "a:b", "tun%d", "sixteen-bytes-xx", "a\0"] {
        assert!(!is_interface_name(bad), "{bad:?}");
    }
    assert!(interface_name(&"all".into()).is_err() && device_name(&"all".into()).is_ok());
}

#[test]
fn a_prefix_with_host_bits_says_what_it_should_be() {
    assert_eq!(prefix("10.0.0.1"), Ok("10.0.0.1/32".parse().unwrap()));
    assert_eq!(prefix("fc00::1"), Ok("fc00::1/128".parse().unwrap()));
    assert_eq!(prefix("10.0.0.0/33"), Err(Refusal::Unfit));
    let Err(Refusal::Problem(problem)) = prefix("10.0.0.1/24") else { panic!("accepted") };
    let message = problem.to_string();
    assert!(message.contains("\"10.0.0.0/24\"") && message.contains("\"10.0.0.1/32\""));
}

#[test]
fn metrics_need_a_port_or_an_absolute_path() {
    let of = |text: &str| metrics_listen(&text.into()).ok();
    assert_eq!(of("127.0.0.1:1"), Some(MetricsListen::Address("127.0.0.1:1".parse().unwrap())));
    assert_eq!(of("unix:/run/m"), Some(MetricsListen::Unix("/run/m".into())));
    for bad in [
        "127.0.0.1",
        "0.0.0.0:9641",
        "[::]:9641",
        "192.0.2.1:9641",
        "unix:m",
        "unix:",
        "unix:/",
        "127.0.0.1:0",
        "localhost:1",
        "/run/m",
    ] {
        assert_eq!(of(bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_a_parser_panic(text in any::<String>()) {
        let value = Value::from(text.as_str());
        let _ = (listen(&value), prefix(&text), congestion(&value), public_key(&value));
        let _ = (size(&value, 0, usize::MAX), duration(&value, Duration::ZERO, Duration::MAX));
        let _ = (metrics_listen(&value), interface_address(&value), quoted(&value));
        if let Ok(endpoint_once) = endpoint(&value) {
            let again = endpoint(&Value::from(endpoint_once.to_string()));
            prop_assert_eq!(again, Ok(endpoint_once));
        }
    }

    #[test]
    fn hosts_and_ports_print_as_they_parse(host in "[a-z0-9:.%\\[\\]-]{0,12}") {
        if let Ok(endpoint_once) = endpoint(&Value::from(host.as_str())) {
            let again = endpoint(&Value::from(endpoint_once.to_string()));
            prop_assert_eq!(again, Ok(endpoint_once));
        }
    }
}
