//! What the running daemon may do, and what others may do with its files.

use crate::gateways::{SOON, tunnelled};
use crate::machine::{Machine, Release, World};

on_both_releases! {
    the_daemon_runs_as_its_own_user_with_two_capabilities,
    the_unit_is_well_formed_and_hardly_exposed,
}

on_one_release! {
    the_journal_explains_each_line,
    status_is_for_root_and_the_group_and_varlinkctl,
}

/// CAP_NET_BIND_SERVICE and CAP_NET_ADMIN.
const CAPABILITIES: u64 = 1 << 10 | 1 << 12;

fn the_daemon_runs_as_its_own_user_with_two_capabilities(release: Release) {
    let world = World::new();
    let (near, _far) = tunnelled(&world, release);
    let user = near.run("id -u tunnel64d").trim().to_owned();
    let group = near.run("id -g tunnel64d").trim().to_owned();
    let status = near.run(&format!("cat /proc/{}/status", near.pid()));
    assert_eq!(row(&status, "Uid"), [user.as_str(); 4].join("\t"));
    assert_eq!(row(&status, "Gid"), [group.as_str(); 4].join("\t"));
    assert_eq!(row(&status, "Groups"), group);
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let bits = u64::from_str_radix(row(&status, set), 16).expect("hexadecimal digits");
        assert_eq!(bits & !CAPABILITIES, 0, "{set}: {bits:#x}");
    }
    let heeds = "cat /proc/sys/net/ipv6/conf/tun0/ignore_routes_with_linkdown";
    assert_eq!(
        near.run(heeds).trim(),
        "1",
        "{}",
        near.run("journalctl --no-pager -u tunnel64d@tun0")
    );
    assert_eq!(row(&status, "NoNewPrivs"), "1");
    assert_eq!(row(&status, "Seccomp"), "2");
    assert_eq!(row(&status, "Umask"), "0077");

    let mode = |path| near.run(&format!("stat -c '%a %U:%G' {path}")).trim().to_owned();
    assert_eq!(mode("/etc/tunnel64d"), "750 root:tunnel64d");
    assert_eq!(mode("/etc/tunnel64d/tun0.toml"), "640 root:tunnel64d");
    assert_eq!(mode("/run/tunnel64d"), "755 tunnel64d:tunnel64d");
    assert_eq!(mode("/run/tunnel64d/tun0.sock"), "660 tunnel64d:tunnel64d");
    assert_eq!(
        near.run("getent passwd tunnel64d | cut -d: -f6,7").trim(),
        "/nonexistent:/usr/sbin/nologin"
    );
    assert!(writable_places(&near).is_empty(), "{:?}", writable_places(&near));
}

/// Mounts that the daemon could write to if it were root.
fn writable_places(machine: &Machine<'_>) -> Vec<String> {
    let mounts = machine.run(&format!("cat /proc/{}/mountinfo", machine.pid()));
    let mut writable: Vec<_> = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(4);
            let (place, options) = (fields.next()?, fields.next()?);
            options.split(',').any(|option| option == "rw").then(|| place.to_owned())
        })
        .collect();
    // Its own temporary directories, and file systems where the kernel's permissions are enough.
    let ours = ["/tmp", "/var/tmp", "/run", "/dev", "/proc", "/sys"];
    writable.retain(|place| {
        !ours.iter().any(|ours| place == ours || place.starts_with(&format!("{ours}/")))
    });
    writable
}

fn row<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
}

fn the_unit_is_well_formed_and_hardly_exposed(release: Release) {
    let world = World::new();
    let (near, _far) = tunnelled(&world, release);
    for unit in ["service", "socket"] {
        let verify = "systemd-analyze --man=no verify /usr/lib/systemd/system/tunnel64d@";
        assert_eq!(near.run(&format!("{verify}.{unit}")), "");
    }
    let said = near.run("systemd-analyze security --no-pager --offline=true tunnel64d@.service");
    let level = said.lines().last().and_then(|line| line.split("service: ").nth(1));
    let level: f32 = level
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_else(|| panic!("no exposure level: {said}"));
    assert!(level <= 1.9, "{said}");
}

fn the_journal_explains_each_line(release: Release) {
    let world = World::new();
    let (near, _far) = tunnelled(&world, release);
    let explained = "journalctl --sync; journalctl -x --no-pager -u tunnel64d@tun0";
    near.await_success(
        &format!("{explained} | grep 'Subject: tunnel64d@tun0.service: session up'"),
        SOON,
    );
    near.run(&format!("{explained} | grep 'The peer is connected and packets flow.'"));
}

fn status_is_for_root_and_the_group_and_varlinkctl(release: Release) {
    let world = World::new();
    let (near, _far) = tunnelled(&world, release);
    let ask = "tunnel64d status tun0";
    assert!(near.run(ask).starts_with("tun0: up for "));
    near.run(&format!("setpriv --reuid=nobody --regid=tunnel64d --clear-groups {ask}"));
    let stranger = "setpriv --reuid=nobody --regid=nogroup --clear-groups";
    let said = near.run(&format!("{stranger} {ask}; echo $?"));
    assert!(said.contains("permission denied") && said.ends_with("77\n"), "{said}");
    // systemd 252 has none.
    if near.run("command -v varlinkctl || true").contains("varlinkctl") {
        let socket = "/run/tunnel64d/tun0.sock";
        let said =
            near.run(&format!("varlinkctl call --json=short {socket} org.tunnel64d.Status '{{}}'"));
        assert!(said.contains(r#""state":"up""#), "{said}");
        let said = near.run(&format!("varlinkctl introspect {socket} org.tunnel64d"));
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("method Status() -> ( status: Tunnel )"), "{said}");
        near.run(&format!("varlinkctl info {socket} | grep org.tunnel64d"));
    }
    near.run("systemctl stop tunnel64d@tun0");
    let said = near.run(&format!("{stranger} {ask}; echo $?"));
    assert!(said.contains("tun0: not running\n") && said.ends_with("69\n"), "{said}");
    let said = near.run(&format!("{ask}; echo $?"));
    assert!(said.starts_with("tun0: not running") && said.ends_with("69\n"), "{said}");
    near.run("chmod 600 /etc/tunnel64d/tun0.key; chown root:root /etc/tunnel64d/tun0.key");
    near.run("systemctl start tunnel64d@tun0 || true");
    let said = near.run(&format!("{ask} || true"));
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("the private key can't be read by the daemon"), "{said}");
    assert!(words.contains("`chown root:tunnel64d /etc/tunnel64d/tun0.key`"), "{said}");
}
