//! Layers, places and rules, over files in a temporary directory.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::transport::keys::PublicKey;

const VALID: &str = "[link]\nconnect = \"172.16.2.163\"\n\
                     [security]\nmode = \"plaintext\"\npeer_addresses = [\"172.16.2.163\"]\n";

struct Files {
    directory: TempDir,
}

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("its directory");
            fs::write(path, text).expect("the file");
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn sources(&self) -> Sources {
        Sources {
            name: "tun0".to_owned(),
            vendor_dir: self.directory.path().join("vendor"),
            config_dir: self.directory.path().join("etc"),
            config_file: None,
            environment: Vec::new(),
            set: Vec::new(),
        }
    }

    /// The errors without the temporary directory's path.
    fn errors(&self, sources: &Sources) -> Vec<String> {
        let prefix = format!("{}/", self.directory.path().display());
        match load(sources) {
            Ok(_) => Vec::new(),
            Err(errors) => {
                errors.to_string().lines().map(|line| line.replace(&prefix, "")).collect()
            }
        }
    }
}

fn own(text: &str) -> Files {
    Files::new(&[("etc/tun0.toml", text)])
}

fn errors_of(text: &str) -> Vec<String> {
    let files = own(text);
    files.errors(&files.sources())
}

fn settings_of(text: &str) -> Settings {
    let files = own(text);
    load(&files.sources()).expect("a valid configuration").settings
}

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

fn with_environment(variables: &[(&str, &str)]) -> (Files, Sources) {
    let files = own(VALID);
    let mut sources = files.sources();
    sources.environment =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    (files, sources)
}

#[test]
fn the_defaults_are_those_of_the_documentation() {
    let settings = settings_of(VALID);
    assert_eq!(settings.interface.name, "tun0");
    assert_eq!((settings.interface.mtu, settings.interface.offload), (1500, Offload::Auto));
    assert_eq!(settings.link.connect[0].to_string(), "172.16.2.163:4641");
    assert_eq!(settings.link.keepalive, std::time::Duration::from_secs(10));
    assert_eq!(settings.link.reconnect.min, std::time::Duration::from_millis(200));
    assert_eq!((settings.queue.limit, settings.queue.ecn), (8 << 20, true));
    assert_eq!(settings.security.allowed_sources, None);
    assert_eq!(settings.metrics.listen, None);
}

#[test]
fn each_layer_overrides_the_one_below() {
    let mtu = |value: u32| format!("[interface]\nmtu = {value}\n");
    let layers = [
        ("vendor/10.toml", mtu(2001)),
        ("vendor/20.toml", mtu(2002)),
        ("etc/tunnel64d.toml", mtu(2003)),
        ("etc/tunnel64d.d/10.toml", mtu(2004)),
        ("etc/tunnel64d.d/20.toml", mtu(2005)),
        ("etc/tun0.toml", format!("{VALID}{}", mtu(2006))),
        ("etc/tun0.d/10.toml", mtu(2007)),
        ("etc/tun0.d/9.toml", mtu(2008)),
    ];
    for top in 0..layers.len() {
        let mut files: Vec<_> =
            layers[..=top].iter().map(|(name, text)| (*name, text.as_str())).collect();
        // Something has to make it valid while the instance's own file isn't there.
        let below = format!("{VALID}{}", mtu(2000));
        files.push(("vendor/00.toml", &below));
        let files = Files::new(&files);
        let loaded = load(&files.sources()).expect("a valid configuration");
        let mtu = loaded.origins.iter().find(|leaf| leaf.path[1] == "mtu").expect("mtu");
        assert_eq!(usize::from(loaded.settings.interface.mtu), 2001 + top);
        assert!(mtu.origin.to_string().starts_with(&files.path(layers[top].0)), "{mtu:?}");
    }
    let files: Vec<_> = layers.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let files = Files::new(&files);
    let mut sources = files.sources();
    sources.environment = vec![("TUNNEL64D_INTERFACE__MTU".into(), "2009".into())];
    assert_eq!(load(&sources).expect("valid").settings.interface.mtu, 2009);
    sources.set = vec!["interface.mtu=2010".into(), "interface.mtu=2011".into()];
    assert_eq!(load(&sources).expect("valid").settings.interface.mtu, 2011);
}

#[test]
fn lists_are_replaced_and_routes_merged_by_destination_however_it_is_spelt() {
    let files = Files::new(&[
        (
            "etc/tunnel64d.toml",
            "[interface]\naddresses = [\"fc00::1/64\"]\n[interface.routes]\n\
             \"fc00:4::/64\" = { via = \"fc00::10\", metric = 5 }\n\"10.0.0.0/8\" = {}\n",
        ),
        (
            "etc/tun0.toml",
            &format!(
                "{VALID}[interface]\naddresses = [\"fc00::2/64\", \"10.0.0.1/24\"]\n\
                 [interface.routes.\"fc00:4:0:0::/64\"]\nmetric = 7\n"
            ),
        ),
    ]);
    let loaded = load(&files.sources()).expect("valid");
    let interface = &loaded.settings.interface;
    assert_eq!(interface.addresses.len(), 2);
    let route = interface.routes.iter().find(|r| r.destination.to_string() == "fc00:4::/64");
    let route = route.expect("the route");
    assert_eq!(route.via, Some("fc00::10".parse().unwrap()));
    assert_eq!((route.metric, route.table, interface.routes.len()), (Some(7), 254, 2));
    let printed = to_toml(&loaded.origins);
    assert!(printed.contains("etc/tunnel64d.toml:4"), "{printed}");
    assert!(printed.contains("etc/tun0.toml:9"), "{printed}");
}

#[test]
fn a_file_of_its_own_replaces_all_others() {
    let files = Files::new(&[
        ("vendor/10.toml", "broken"),
        ("etc/tun0.toml", "broken"),
        ("elsewhere/x.toml", VALID),
    ]);
    let mut sources = files.sources();
    sources.config_file = Some(files.path("elsewhere/x.toml").into());
    assert!(load(&sources).is_ok());
    sources.config_file = Some(files.path("elsewhere/y.toml").into());
    assert_eq!(
        files.errors(&sources),
        ["elsewhere/y.toml: can't be read: there is no such file (make it readable, or remove it)"]
    );
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

#[test]
fn connect_is_one_text_or_a_list_without_repetitions() {
    let text = |connect: &str| {
        format!(
            "[link]\nconnect = {connect}\n[security]\nmode = \"plaintext\"\npeer_addresses = [\"::/0\"]\n"
        )
    };
    let connect = settings_of(&text("[\"a\", \"[fc00::1]:5\"]")).link.connect;
    assert_eq!((connect[0].port, connect[1].to_string().as_str()), (4641, "[fc00::1]:5"));
    assert!(errors_of(&text("[\"a\", \"a:4641\"]"))[0].contains("given twice"));
    assert!(errors_of(&text("5"))[0].contains("host:port"));
    assert!(errors_of(&text("[]"))[0].contains("neither listen nor connect"));
}

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
        ("TUNNEL64D_SECURITY__PEER_ADDRESSES", "10.0.0.1, 10.0.0.2"),
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
        let (_files, sources) = with_environment(&[("TUNNEL64D_LINK__CONNECT", text)]);
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

#[test]
fn instances_are_the_files_and_the_directories_that_have_one() {
    let files = Files::new(&[
        ("etc/tunnel64d.toml", ""),
        ("etc/tunnel64d.d/10.toml", ""),
        ("etc/tun1.toml", ""),
        ("etc/tun0.toml", ""),
        ("etc/tun0.d/10.toml", ""),
        ("etc/tun2.d/10.toml", ""),
        ("etc/notes.d/readme", ""),
        ("etc/.hidden.toml", ""),
        ("etc/tun0.key", ""),
    ]);
    let etc = files.directory.path().join("etc");
    assert_eq!(instances(&etc).unwrap(), ["tun0", "tun1", "tun2"]);
}

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

fn printed_and_loaded_again(sources: &Sources) -> (Settings, Settings) {
    let loaded = load(sources).expect("a valid configuration");
    let files = own(&to_toml(&loaded.origins));
    let again = load(&files.sources()).unwrap_or_else(|errors| {
        panic!("{errors}\n{}", to_toml(&loaded.origins));
    });
    (loaded.settings, again.settings)
}

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
