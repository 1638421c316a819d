use std::fs;

use tempfile::TempDir;

use super::*;
use crate::config::schema::KEYS;

const BASE: &str = r#"
[interface]
addresses = ["fc00:1234:ffff::1/64"]
routes."fc00:1234:4::/64" = { via = "fc00:1234:ffff::10" }
[link]
listen = "172.16.2.131:4641"
connect = "172.16.2.163:4641"
[security]
private_key_file = "/etc/tunnel64d/tun0.key"
peer_public_keys = ["JBqfnNZiJyJBm4nexqXFZC0sxPOBaYdQmYp7Ou/uGsA="]
peer_addresses = ["172.16.2.163/32"]
"#;

/// Every key with another value than [`BASE`] has.
const OTHERS: &[(&str, &str)] = &[
    ("interface.name", "\"tun1\""),
    ("interface.addresses", "[\"fc00:1234:ffff::2/64\"]"),
    ("interface.mtu", "1400"),
    ("interface.offload", "\"off\""),
    ("interface.routes.*.via", "\"fc00:1234:ffff::11\""),
    ("interface.routes.*.metric", "50"),
    ("interface.routes.*.table", "100"),
    ("interface.routes.*.source", "\"fc00:1234:3::1\""),
    ("link.listen", "\"0.0.0.0\""),
    ("link.connect", "\"vm3.example\""),
    ("link.source", "\"172.16.2.131\""),
    ("link.device", "\"eth1\""),
    ("link.fwmark", "64"),
    ("link.dscp", "10"),
    ("link.streams", "4"),
    ("link.congestion", "\"reno\""),
    ("link.keepalive", "\"3s\""),
    ("link.dead_after", "\"20s\""),
    ("link.reconnect.min", "\"100ms\""),
    ("link.reconnect.max", "\"5s\""),
    ("link.ready", "\"connected\""),
    ("security.mode", "\"plaintext\""),
    ("security.private_key_file", "\"/etc/tunnel64d/new.key\""),
    ("security.peer_public_keys", "[\"4kNAmoS/UN7+S1Vv/hqdaNG7mYFmqmom+sS9hfp5UE0=\"]"),
    ("security.peer_addresses", "[\"172.16.2.0/24\"]"),
    ("security.allowed_sources", "[\"fc00::/16\"]"),
    ("queue.target", "\"10ms\""),
    ("queue.interval", "\"200ms\""),
    ("queue.limit", "\"4MiB\""),
    ("queue.ecn", "false"),
    ("log.level", "\"debug\""),
    ("log.format", "\"json\""),
    ("metrics.listen", "\"127.0.0.1:9641\""),
];

/// The configuration of a daemon that was started with [`BASE`].
struct Started {
    directory: TempDir,
    basis: Basis,
}

impl Started {
    fn new() -> Self {
        Self::with(&[], &[])
    }

    fn with(environment: &[(&str, &str)], set: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("tun0.toml"), BASE).unwrap();
        let own = |text: &&str| (*text).to_owned();
        let sources = Sources {
            vendor_dir: directory.path().join("vendor"),
            config_dir: directory.path().to_owned(),
            environment: environment.iter().map(|(name, value)| (own(name), own(value))).collect(),
            set: set.iter().map(own).collect(),
            ..Sources::new("tun0")
        };
        let leaves = config::load(&sources).unwrap().origins;
        Self { directory, basis: Basis { sources, leaves, level: LevelHandle::of_no_log() } }
    }

    fn read_with(&self, drop_in: &str) -> Result<Vec<String>, Vec<String>> {
        let drop_ins = self.directory.path().join("tun0.d");
        fs::create_dir_all(&drop_ins).unwrap();
        fs::write(drop_ins.join("new.toml"), drop_in).unwrap();
        let root = format!("{}/", self.directory.path().display());
        match self.basis.read() {
            Ok((loaded, changed)) => {
                assert_eq!(loaded, config::load(&self.basis.sources).unwrap());
                Ok(changed)
            }
            Err(Refused(reasons)) => {
                Err(reasons.iter().map(|reason| reason.to_string().replace(&root, "")).collect())
            }
        }
    }
}

#[test]
fn a_change_of_any_one_key_is_named_and_only_what_a_reload_applies_is_let_through() {
    for key in KEYS {
        let other = OTHERS.iter().find(|(path, _)| *path == key.path);
        let (path, value) = other.unwrap_or_else(|| panic!("another value for {}", key.path));
        let path = path.replace('*', "\"fc00:1234:4::/64\"");
        let read = Started::new().read_with(&format!("{path} = {value}"));
        match key.reload {
            Reload::Now | Reload::NewConnections => assert_eq!(read, Ok(vec![path])),
            Reload::Restart(why) => assert_eq!(
                read,
                Err(vec![format!(
                    "tun0.d/new.toml:1: {path}: needs a restart, because {why}: \
                     systemctl restart tunnel64d@tun0"
                )])
            ),
        }
    }
    assert_eq!(OTHERS.len(), KEYS.len());
}

#[test]
fn what_says_the_same_in_other_words_is_no_change() {
    let same = "link.keepalive = \"10000ms\"\nlink.connect = [\"172.16.2.163\"]\n\
                queue.limit = 8388608\nlog.format = \"auto\"";
    assert_eq!(Started::new().read_with(same), Ok(vec![]));
}

#[test]
fn routes_that_come_and_go_are_changes() {
    let started = Started::new();
    let added = started.read_with("interface.routes.\"10.4.0.0/16\" = {}");
    assert_eq!(added, Ok(vec!["interface.routes.\"10.4.0.0/16\".table".to_owned()]));
    let without: Vec<_> = BASE.lines().filter(|line| !line.starts_with("routes")).collect();
    fs::write(started.directory.path().join("tun0.toml"), without.join("\n")).unwrap();
    let gone = ["via", "table"].map(|key| format!("interface.routes.\"fc00:1234:4::/64\".{key}"));
    assert_eq!(started.read_with(""), Ok(gone.to_vec()));
}

#[test]
fn every_key_that_needs_a_restart_is_named_and_nothing_else_is_applied() {
    let read =
        Started::new().read_with("link.streams = 4\nqueue.ecn = false\nlog.format = \"json\"");
    let refused = read.unwrap_err();
    assert_eq!(refused.len(), 2);
    assert!(refused[0].starts_with("tun0.d/new.toml:1: link.streams: needs a restart"));
    assert!(refused[1].starts_with("tun0.d/new.toml:3: log.format: needs a restart"));
}

#[test]
fn every_mistake_is_named_with_its_file_and_line() {
    let refused = Started::new().read_with("link.dscp = 64\nlink.conect = \"x\"\n").unwrap_err();
    assert_eq!(refused.len(), 2);
    assert!(refused[0].starts_with("tun0.d/new.toml:1: link.dscp: 64 is not accepted"));
    assert!(refused[1].starts_with("tun0.d/new.toml:2: link.conect: unknown key"));
}

#[test]
fn variables_and_arguments_of_the_start_still_hold() {
    let started = Started::with(&[("TUNNEL64D_QUEUE__TARGET", "7ms")], &["interface.mtu=1400"]);
    let read = started.read_with("interface.mtu = 9000\nqueue.target = \"9ms\"\nlink.dscp = 1");
    assert_eq!(read, Ok(vec!["link.dscp".to_owned()]));
}

#[test]
fn whoever_is_refused_is_told_what_to_do() {
    let started = Started::new();
    let told = |drop_in| {
        let _ = started.read_with(drop_in);
        started.basis.read().map(drop).unwrap_err().told("tun0").remedy
    };
    let restart = told("link.streams = 4");
    assert!(restart.contains("`systemctl restart tunnel64d@tun0`"), "{restart}");
    let correct = told("link.dscp = 64");
    assert!(correct.contains("`tunnel64d check tun0`"), "{correct}");
    assert!(!correct.contains("restart"), "{correct}");
    let device = Refused::from(Reason::Socket(io::ErrorKind::NotFound.into())).told("tun0").remedy;
    assert!(device.contains("reload again") && !device.contains("check"), "{device}");
}

#[test]
fn what_is_not_in_place_yet_is_told_with_its_remedy() {
    let problem = Problem { text: "text".into(), remedy: "remedy".into(), ..Problem::default() };
    let applied: Applied = Reloaded { changed: vec![], incomplete: Some(problem) }.into();
    assert_eq!(
        (applied.incomplete.as_deref(), applied.remedy.as_deref()),
        (Some("text"), Some("remedy"))
    );
}
