//! The real binary over real files: what an administrator sees of the configuration.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const VALID: &str = "\
[link]
connect = \"172.16.2.163\"
[security]
mode = \"plaintext\"
peer_addresses = [\"172.16.2.163\"]
";

const OLD: &str = "\
tun=tun0
inip=172.16.2.131
inport=123
options=empty
outip=172.16.2.163
outport=123
";

struct Host {
    root: TempDir,
}

impl Host {
    fn new(files: &[(&str, &str)]) -> Self {
        let host = Self { root: TempDir::new().expect("a temporary directory") };
        for (name, text) in files {
            host.write(name, text);
        }
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("its directory");
        fs::write(path, text).expect("the file");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tunnel64d"));
        command.env_clear();
        command.arg("--config-dir").arg(self.path("etc"));
        command.arg("--vendor-dir").arg(self.path("vendor"));
        command.args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Seen {
        Seen::new(self.command(arguments).output().expect("the binary runs"), self.root.path())
    }
}

struct Seen {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Seen {
    /// What the terminal shows, without the temporary directory's path.
    fn new(output: Output, root: &Path) -> Self {
        let prefix = format!("{}/", root.display());
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8").replace(&prefix, "");
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

fn mtu_and_its_comment(printed: &str) -> (u32, String) {
    let line = printed.lines().position(|line| line.starts_with("mtu = ")).expect("the mtu");
    let lines: Vec<_> = printed.lines().collect();
    let (value, comment) = match lines[line].split_once("# ") {
        Some((value, comment)) => (value, comment),
        // A long path stands on the line above.
        None => (lines[line], lines[line - 1].trim_start_matches("# ").trim_end_matches(':')),
    };
    let value = value.trim_start_matches("mtu = ").trim();
    (value.parse().expect("a number"), comment.to_owned())
}

#[test]
fn each_layer_overrides_the_one_below_and_is_named_as_the_origin() {
    let host = Host::new(&[("etc/tun0.toml", VALID)]);
    let expect = |arguments: &[&str], environment: bool, value: u32, origin: &str| {
        let mut command = host.command(&["check", "tun0", "--print"]);
        command.args(arguments);
        if environment {
            command.env("TUNNEL64D_INTERFACE__MTU", "2007");
        }
        let seen = Seen::new(command.output().expect("it runs"), host.root.path());
        assert_eq!(seen.code, Some(0), "{}", seen.stderr);
        assert_eq!(mtu_and_its_comment(&seen.stdout), (value, origin.to_owned()));
    };
    expect(&[], false, 1500, "built-in");
    let mtu = |value: u32| format!("[interface]\nmtu = {value}\n");
    let layers = [
        "vendor/10.toml",
        "etc/tunnel64d.toml",
        "etc/tunnel64d.d/10.toml",
        "etc/tun0.toml",
        "etc/tun0.d/10.toml",
        "etc/tun0.d/20.toml",
    ];
    for (value, name) in (2001..).zip(layers) {
        let own = if name == "etc/tun0.toml" { VALID } else { "" };
        host.write(name, &format!("{}{own}", mtu(value)));
        expect(&[], false, value, &format!("{name}:2"));
    }
    expect(&[], true, 2007, "environment TUNNEL64D_INTERFACE__MTU");
    expect(&["--set", "interface.mtu=2008"], true, 2008, "--set");
}

#[test]
fn an_unknown_key_is_named_with_file_line_and_the_nearest_key() {
    let host = Host::new(&[("etc/tun0.toml", "")]);
    host.write(
        "etc/tun0.toml",
        "# 1\n# 2\n# 3\n# 4\n[security]\nmode = \"plaintext\"\npeer_addresses = [\"10.0.0.1\"]\n\
         # 8\n[link]\n\nlisten = \"::\"\nconect = \"172.16.2.163:4641\"\n",
    );
    let seen = host.run(&["check", "tun0"]);
    assert_eq!(seen.code, Some(78));
    assert_eq!(
        seen.stderr,
        "etc/tun0.toml:12: link.conect: unknown key (did you mean \"connect\"?)\n"
    );
    assert_eq!(seen.stdout, "");
}

#[test]
fn all_errors_come_at_once() {
    let host = Host::new(&[
        ("etc/tunnel64d.toml", "[log]\nlevel = \"loud\"\n"),
        ("etc/tun0.toml", "[interface]\nmtu = 1\n[link]\nlisten = \"nowhere\"\n"),
        ("etc/tun0.d/10.toml", "[queue\n"),
    ]);
    let mut command = host.command(&["check", "tun0", "--set", "link.dscp=99"]);
    command.env("TUNNEL64D_LINK__STREAMS", "99").env("TUNNEL64D_MTU", "1500");
    let seen = Seen::new(command.output().expect("it runs"), host.root.path());
    let places: Vec<_> = seen
        .stderr
        .lines()
        .map(|line| line.split(": ").take(2).collect::<Vec<_>>().join(": "))
        .collect();
    assert_eq!(
        places,
        [
            "etc/tun0.d/10.toml:1: not valid TOML",
            "etc/tun0.toml:2: interface.mtu",
            "etc/tun0.toml:4: link.listen",
            "etc/tunnel64d.toml:2: log.level",
            "environment TUNNEL64D_LINK__STREAMS: link.streams",
            "environment TUNNEL64D_MTU: not a key (did you mean TUNNEL64D_INTERFACE__MTU?; variables are named TUNNEL64D_SECTION__KEY)",
            "--set link.dscp=99: link.dscp",
        ]
    );
    assert_eq!(seen.code, Some(78));
}

#[test]
fn an_unreadable_file_is_an_error_and_never_skipped() {
    let host = Host::new(&[("etc/tun0.toml", VALID)]);
    assert_eq!(host.run(&["check"]).stdout, "tun0: ok\n");
    fs::create_dir_all(host.path("vendor/x.toml")).expect("a directory named as a file");
    symlink("nowhere", host.path("etc/tunnel64d.toml")).expect("a dangling link");
    let seen = host.run(&["check"]);
    assert_eq!(seen.code, Some(78));
    assert_eq!(seen.stderr.lines().count(), 2, "{}", seen.stderr);
    assert!(
        seen.stderr.contains("etc/tunnel64d.toml: can't be read: it is a link that leads nowhere")
    );
    assert!(seen.stderr.contains("vendor/x.toml: can't be read: Is a directory"));
}

#[test]
fn check_without_names_checks_every_instance_and_says_a_shared_error_once() {
    let host = Host::new(&[
        ("etc/tun0.toml", VALID),
        ("etc/tun1.d/10.toml", VALID),
        ("etc/tunnel64d.toml", "[log]\nlevel = \"info\"\n"),
    ]);
    let seen = host.run(&["check"]);
    assert_eq!((seen.code, seen.stdout.as_str()), (Some(0), "tun0: ok\ntun1: ok\n"));
    host.write("etc/tunnel64d.toml", "[log]\nlevel = \"loud\"\n");
    let seen = host.run(&["check"]);
    assert_eq!((seen.code, seen.stderr.lines().count()), (Some(78), 1), "{}", seen.stderr);
}

#[test]
fn one_wrong_instance_does_not_hide_that_another_is_right() {
    let host = Host::new(&[("etc/tun0.toml", VALID), ("etc/tun1.toml", "")]);
    let seen = host.run(&["check"]);
    assert_eq!((seen.code, seen.stdout.as_str()), (Some(78), "tun0: ok\n"));
    assert!(seen.stderr.contains("etc/tun1.toml: link: neither listen nor connect is set"));
}

#[test]
fn a_check_of_nothing_does_not_look_like_a_success() {
    let host = Host::new(&[]);
    let seen = host.run(&["check"]);
    assert_eq!((seen.code, seen.stdout.as_str()), (Some(78), ""));
    assert!(seen.stderr.contains("no tunnel is configured"), "{}", seen.stderr);
}

#[test]
fn what_print_shows_can_be_used_as_the_configuration() {
    let host = Host::new(&[(
        "etc/tun0.toml",
        &format!(
            "{VALID}[interface]\naddresses = [\"fc00:1234:ffff::1/64\", \"10.64.0.1/24\"]\n\
             [interface.routes]\n\"fc00:1234:4::/64\" = {{ via = \"fc00:1234:ffff::10\" }}\n"
        ),
    )]);
    let first = host.run(&["check", "tun0", "--print"]);
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    host.write("printed.toml", &first.stdout);
    let file = host.path("printed.toml");
    let again = host.run(&["check", "tun0", "--print", "--config", &file.to_string_lossy()]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    let values = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split("  #").next().unwrap_or(line).trim().to_owned())
            .collect()
    };
    assert_eq!(values(&first.stdout), values(&again.stdout));
}

#[test]
fn print_of_several_instances_is_a_usage_error() {
    let host = Host::new(&[("etc/tun0.toml", VALID), ("etc/tun1.toml", VALID)]);
    assert_eq!(host.run(&["check", "--print"]).code, Some(2));
}

#[test]
fn exit_statuses_tell_usage_from_configuration() {
    let host = Host::new(&[("etc/tun0.toml", VALID), ("etc/tun1.toml", "x")]);
    for (arguments, code) in [
        (&["--help"][..], 0),
        (&["--version"], 0),
        (&["check", "tun0"], 0),
        (&[], 2),
        (&["fly"], 2),
        (&["run"], 2),
        (&["check", "--loud"], 2),
        (&["run", "tun1"], 78),
        (&["run", "tunnel64d"], 78),
        (&["check", "tun1"], 78),
        (&["check", "../etc/tun0"], 78),
        (&["check", "tun0", "--config", "/nonexistent/tun0.toml"], 78),
        (&["import", "/nonexistent/old"], 1),
    ] {
        let seen = host.run(arguments);
        assert_eq!(seen.code, Some(code), "{arguments:?}: {}", seen.stderr);
    }
}

#[test]
fn tls_is_the_default_and_needs_the_peers_key() {
    let host = Host::new(&[("etc/tun0.toml", "[link]\nlisten = \"::\"\n")]);
    let seen = host.run(&["check"]);
    assert_eq!(seen.code, Some(78));
    assert!(
        seen.stderr.contains("security.mode: mode = \"tls\" needs peer_public_keys"),
        "{}",
        seen.stderr
    );
    assert_eq!(seen.stderr.lines().count(), 1);
}

#[test]
fn the_old_file_is_imported_and_accepted() {
    let host = Host::new(&[("old", OLD)]);
    let file = host.path("old");
    let imported = host.run(&["import", &file.to_string_lossy()]);
    assert_eq!(imported.code, Some(0), "{}", imported.stderr);
    host.write("etc/tun0.toml", &imported.stdout);
    let seen = host.run(&["check", "tun0", "--print"]);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    assert!(seen.stdout.contains("listen = \"172.16.2.131:123\""), "{}", seen.stdout);
    assert!(seen.stdout.contains("connect = [\"172.16.2.163:123\"]"), "{}", seen.stdout);
}

#[test]
fn import_reads_stdin_and_names_every_mistake_in_it() {
    let host = Host::new(&[]);
    let mut child = host
        .command(&["import", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("its stdin");
    stdin.write_all(OLD.replace("options=empty", "options=x\nmtu=1").as_bytes()).expect("written");
    drop(stdin);
    let seen = Seen::new(child.wait_with_output().expect("it ends"), host.root.path());
    assert_eq!((seen.code, seen.stdout.as_str()), (Some(78), ""));
    let places: Vec<_> = seen.stderr.lines().filter_map(|line| line.split(": ").next()).collect();
    assert_eq!(places, ["stdin:4", "stdin:5"]);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let host = Host::new(&[("etc/tun0.toml", VALID)]);
    let mut child = host
        .command(&["check", "tun0", "--print"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}
