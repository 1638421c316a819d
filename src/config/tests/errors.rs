//! What is wrong, and its place.

use super::*;

/// The one error that `line` causes when it is added to `section` of a valid file, without its place.
fn error_of(section: &str, line: &str) -> String {
    let text = if VALID.contains(&format!("[{section}]")) {
        VALID.replace(&format!("[{section}]\n"), &format!("[{section}]\n{line}\n"))
    } else {
        format!("{VALID}[{section}]\n{line}\n")
    };
    let errors = errors_of(&text);
    assert_eq!(errors.len(), 1, "{line}: {errors:#?}");
    errors[0].clone()
}

#[test]
fn an_instance_that_nothing_configures_says_where_it_looked() {
    let files = Files::new(&[]);
    let errors = files.errors(&files.sources());
    let all = errors.join("\n");
    for name in ["vendor/*.toml", "etc/tunnel64d.toml", "etc/tun0.toml", "etc/tun0.d/*.toml"] {
        assert!(all.contains(name), "{all}");
    }
    assert!(all.contains("etc/tun0.toml: link: neither listen nor connect is set"), "{all}");
}

#[test]
fn a_wrong_name_is_refused_before_any_file_is_opened() {
    let files = own("broken");
    for name in ["", "..", "a/b", "a b", "../etc/x", "sixteen-bytes-xx", ".x", "tunnel64d"] {
        let sources = Sources { name: name.to_owned(), ..files.sources() };
        let errors = files.errors(&sources);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].starts_with(&format!("instance {name:?}: ")), "{errors:?}");
    }
}

#[test]
fn what_exists_but_can_not_be_read_is_an_error_wherever_it_is() {
    let files = own(VALID);
    let etc = files.directory.path().join("etc");
    fs::create_dir_all(etc.join("tunnel64d.toml")).unwrap();
    fs::create_dir_all(etc.join("tun0.d/10.toml")).unwrap();
    std::os::unix::fs::symlink("nowhere", etc.join("tun0.d/20.toml")).unwrap();
    std::os::unix::fs::symlink("nowhere", etc.join("tun0.d/.#30.toml")).unwrap();
    fs::write(etc.join("tunnel64d.d"), "").unwrap();
    let errors = files.errors(&files.sources());
    let places: Vec<_> = errors.iter().map(|e| e.split(": ").next().unwrap_or("")).collect();
    assert_eq!(
        places,
        ["etc/tun0.d/10.toml", "etc/tun0.d/20.toml", "etc/tunnel64d.d", "etc/tunnel64d.toml"]
    );
    assert!(errors[1].contains("a link that leads nowhere"), "{errors:?}");
}

#[test]
fn the_own_file_as_a_dangling_link_is_not_a_missing_file() {
    let files = Files::new(&[("etc/tunnel64d.toml", VALID)]);
    std::os::unix::fs::symlink("nowhere", files.path("etc/tun0.toml")).unwrap();
    std::os::unix::fs::symlink("nowhere", files.path("etc/tun0.d")).unwrap();
    assert_eq!(files.errors(&files.sources()).len(), 2);
}

#[test]
fn all_errors_of_all_layers_come_at_once_with_their_lines() {
    let files = Files::new(&[
        ("etc/tunnel64d.toml", "[log]\nlevel = \"loud\"\n[lnik]\nx = 1\n"),
        (
            "etc/tun0.toml",
            "# the tunnel\n[interface]\nmtu = 100\naddresses = [\n  \"fc00::1/64\",\n  \"fc00::1\",\n]\n\
             [link]\nlisten = 4641\nlisten.x = 1\n",
        ),
        (
            "etc/tun0.d/10.toml",
            "interface.mtu = 1279\n[link]\nconect = \"a\"\nlisten = 4641\nkeepalive = 10\n\
             [link.reconnect]\nmin = \"40s\"\n[interface.routes.\"10.0.0.1/8\"]\n",
        ),
    ]);
    let mut sources = files.sources();
    sources.environment = vec![
        ("TUNNEL64D_QUEUE__ECN".into(), "maybe".into()),
        ("TUNNEL64D_LINK_LISTEN".into(), "::".into()),
        ("OTHER".into(), "x".into()),
    ];
    sources.set = vec!["link.dscp=64".into(), "link.dscp".into(), "queue.taget=1ms".into()];
    let errors = files.errors(&sources);
    let begins: Vec<_> = errors.iter().map(|e| e.split(" (").next().unwrap_or("")).collect();
    assert_eq!(
        begins,
        [
            "etc/tun0.d/10.toml:3: link.conect: unknown key",
            "etc/tun0.d/10.toml:1: interface.mtu: 1279 is not accepted",
        ]
        .iter()
        .rev()
        .copied()
        .chain([
            "etc/tun0.d/10.toml:4: link.listen: 4641 is not accepted",
            "etc/tun0.d/10.toml:5: link.keepalive: 10 is not accepted",
            "etc/tun0.d/10.toml:7: link.reconnect.min: 40s must be at most link.reconnect.max, which is 30s",
            "etc/tun0.d/10.toml:8: interface.routes.\"10.0.0.1/8\": \"10.0.0.1/8\" has bits set behind the prefix length",
            "etc/tun0.toml:10: not valid TOML: cannot extend value of type integer with a dotted key",
            "etc/tunnel64d.toml:2: log.level: \"loud\" is not accepted",
            "etc/tunnel64d.toml:3: lnik: unknown section",
            "environment TUNNEL64D_LINK_LISTEN: not a key",
            "environment TUNNEL64D_QUEUE__ECN: queue.ecn: \"maybe\" is not accepted",
            "--set link.dscp: not understood",
            "--set link.dscp=64: link.dscp: 64 is not accepted",
            "--set queue.taget=1ms: queue.taget: unknown key",
        ])
        .collect::<Vec<_>>()
    );
}

#[test]
fn an_element_of_a_list_has_its_own_line() {
    let errors = errors_of(&format!(
        "{VALID}[interface]\naddresses = [\n  \"fc00::1/64\",\n  \"fc00::1\",\n  \"fc00::1/64\",\n]\n"
    ));
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(errors[0].starts_with("etc/tun0.toml:9: interface.addresses: \"fc00::1\" is not"));
    assert!(
        errors[1]
            .starts_with("etc/tun0.toml:10: interface.addresses: \"fc00::1/64\" is given twice")
    );
}

#[test]
fn text_that_is_not_utf8_or_not_toml_is_named_with_its_line() {
    let files = own("");
    fs::write(files.path("etc/tun0.toml"), b"[link]\n# caf\xe9\n").unwrap();
    fs::create_dir(files.path("etc/tun0.d")).unwrap();
    fs::write(files.path("etc/tun0.d/10.toml"), "[link]\n\nlisten = 0.0.0.0\n").unwrap();
    fs::write(files.path("etc/tun0.d/20.toml"), "[link]\n[link]\n").unwrap();
    let errors = files.errors(&files.sources());
    let places: Vec<_> = errors.iter().map(|e| e.split(": ").next().unwrap_or("")).collect();
    assert_eq!(places, ["etc/tun0.d/10.toml:3", "etc/tun0.d/20.toml:2", "etc/tun0.toml:2"]);
}

#[test]
fn tls_without_a_peer_key_is_one_error_whether_it_is_written_or_left_at_the_default() {
    let written = errors_of("[link]\nlisten = \"::\"\n[security]\nmode = \"tls\"\n");
    assert_eq!(
        written,
        ["etc/tun0.toml:4: security.mode: mode = \"tls\" needs peer_public_keys (set \
          security.peer_public_keys to what `tunnel64d pubkey` prints for the other end's key)"]
    );
    let default = errors_of("[link]\nlisten = \"::\"\n");
    assert_eq!(default, [written[0].replace("toml:4", "toml")]);
}

#[test]
fn what_is_missing_is_named_beside_what_is_wrong() {
    let errors =
        errors_of("[link]\ndscp = 64\n[security]\nmode = \"tls\"\npeer_addresses = [\"x\"]\n");
    assert_eq!(errors.len(), 4, "{errors:#?}");
    assert!(errors[0].starts_with("etc/tun0.toml: link: neither"), "{errors:#?}");
    assert!(errors[2].contains("needs peer_public_keys"), "{errors:#?}");
}

#[test]
fn what_may_be_in_a_line_that_is_wrong_is_not_called_missing() {
    assert_eq!(errors_of("[link]\nconect = \"a\"\n[security]\nmood = \"plaintext\"\n").len(), 2);
    assert_eq!(errors_of("[link\n").len(), 1);
}

#[test]
fn plaintext_needs_to_know_its_peer() {
    let errors = errors_of("[link]\nlisten = \"::\"\n[security]\nmode = \"plaintext\"\n");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("etc/tun0.toml:4: security.mode: "), "{errors:?}");
}

#[test]
fn plaintext_names_every_address_that_it_would_not_dial_and_no_name() {
    let text = |connect: &str, mode: &str| {
        format!(
            "[link]\nconnect = {connect}\n[security]\nmode = {mode:?}\npeer_public_keys = \
             [\"JBqfnNZiJyJBm4nexqXFZC0sxPOBaYdQmYp7Ou/uGsA=\"]\npeer_addresses = \
             [\"192.0.2.0/24\", \"fe80::/10\"]\n"
        )
    };
    let all = "[\n\"192.0.2.1\",\n\"vm3.example\",\n\"198.51.100.1:5\",\n\"::ffff:192.0.2.1\",\n\
               \"[2001:db8::1%eth0]\",\n\"fe80::1%eth0\"]";
    let errors = errors_of(&text(all, "plaintext"));
    assert_eq!(errors.len(), 2, "{errors:#?}");
    let way_out = "add it there if it is the peer's, or correct it here";
    for (error, (line, address)) in errors.iter().zip([(5, "198.51.100.1"), (7, "2001:db8::1")]) {
        let start =
            format!("etc/tun0.toml:{line}: link.connect: {address} is not in security.peer");
        assert!(error.starts_with(&start) && error.contains(way_out), "{error}");
    }
    let errors = errors_of(&text("\"198.51.100.1\"", "plaintext"));
    assert!(matches!(&errors[..], [one] if one.starts_with("etc/tun0.toml:2: ")), "{errors:#?}");
    assert_eq!(errors_of(&text(all, "tls")), [""; 0], "the key tells who it is");
}

#[test]
fn every_bound_is_named_when_it_is_passed() {
    for (section, line, expected) in [
        ("interface", "mtu = 1279", "1280 to 65535"),
        ("interface", "mtu = 65536", "1280 to 65535"),
        ("interface", "mtu = \"1500\"", "1280 to 65535"),
        ("interface", "mtu = 1500.5", "1280 to 65535"),
        ("interface", "mtu = 2026-11-01", "date or time"),
        ("interface", "name = \"a/b\"", "1 to 15 bytes"),
        ("interface", "name = 5", "1 to 15 bytes"),
        ("interface", "offload = \"on\"", "\"auto\" or \"off\""),
        ("interface", "addresses = \"fc00::1/64\"", "a list of addresses"),
        ("interface", "addresses = [\"ff02::1/64\"]", "a list of addresses"),
        ("interface", "addresses = [\"fc00::1/64\", \"fc00::1/128\"]", "given twice"),
        ("interface", "routes = \"fc00::/64\"", "a table belongs"),
        ("interface", "routes.x = {}", "a destination"),
        ("interface", "routes.\"fc00::1/64\" = {}", "write \"fc00::/64\""),
        ("interface", "routes.\"10.0.0.0/8\" = \"10.0.0.1\"", "a table belongs"),
        ("interface", "routes.\"10.0.0.0/8\".via = \"fc00::1\"", "different families"),
        ("interface", "routes.\"10.0.0.0/8\".source = \"fc00::1\"", "different families"),
        ("interface", "routes.\"10.0.0.0/8\".metric = 4294967296", "0 to 4294967295"),
        ("interface", "routes.\"10.0.0.0/8\".table = 0", "1 to 4294967295"),
        ("interface", "routes.\"10.0.0.0/8\".gateway = \"10.0.0.1\"", "unknown key"),
        ("link", "listen = \"gw.example.net:1\"", "an IP address"),
        ("link", "source = \"fc00::1\"", "different families"),
        ("link", "device = \"\"", "1 to 15 bytes"),
        ("link", "fwmark = -1", "0 to 4294967295"),
        ("link", "dscp = 64", "0 to 63"),
        ("link", "streams = 0", "1 to 16"),
        ("link", "streams = 17", "1 to 16"),
        ("link", "streams = \"many\"", "1 to 16"),
        ("link", "congestion = \"BBR\"", "a-z"),
        ("link", "keepalive = \"999ms\"", "1s to 1h"),
        (
            "link",
            "keepalive = \"16s\"",
            "16s must be at most half of link.dead_after, which is 30s (lower this one, or raise \
             link.dead_after)",
        ),
        ("link", "dead_after = \"19s\"", "link.keepalive: 10s must be at most half of"),
        ("link", "dead_after = \"25h\"", "2s to 24h"),
        ("link", "reconnect = \"1s\"", "{ min = …, max = … }"),
        ("link", "reconnect = { min = \"1ms\" }", "10ms to 1h"),
        ("link", "reconnect = { max = \"100ms\" }", "at most link.reconnect.max"),
        ("link", "ready = \"now\"", "\"interface\" or \"connected\""),
        ("security", "private_key_file = \"tun0.key\"", "an absolute path"),
        ("security", "peer_public_keys = [\"AAAA\"]", "32 bytes in base64"),
        ("security", "allowed_sources = []", "drop every packet"),
        ("security", "allowed_sources = [\"fc00::1/64\"]", "\"fc00::/64\""),
        ("queue", "target = \"100ms\"", "less than queue.interval"),
        ("queue", "target = \"2s\"", "100us to 1s"),
        ("queue", "interval = \"11s\"", "1ms to 10s"),
        ("queue", "limit = \"63KiB\"", "64KiB to 1GiB"),
        ("queue", "ecn = 1", "true or false"),
        ("log", "level = \"notice\"", "\"warn\""),
        ("log", "format = \"xml\"", "\"journal\""),
        ("metrics", "listen = \"127.0.0.1\"", "\"127.0.0.1:9641\""),
        ("metrics", "listen = [\"127.0.0.1:1\"]", "\"127.0.0.1:9641\""),
    ] {
        let error = error_of(section, line);
        assert!(error.contains(expected), "{line}: {error}");
        assert!(error.starts_with("etc/tun0.toml:"), "{line}: {error}");
    }
}
