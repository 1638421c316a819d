//! What journald receives, seen from journald's side of the socket.
//!
//! What logs is started in a mount namespace where this test's socket is
//! `/run/systemd/journal/socket`. Needs root for that.

#![allow(clippy::unwrap_used)] // All of it is test code, also outside the test functions.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, ExitStatus};

use tunnel64d::service::logging::{self, Format};
use tunnel64d::service::messages::{CONFIGURATION_REJECTED, SESSION_UP};

const CHILD: &str = "TEST_JOURNAL_CHILD";

#[test]
fn the_journal_gets_the_message_id_and_prefixed_fields() {
    if std::env::var_os(CHILD).is_some() {
        return log_something();
    }
    let (status, entries) = journal_of(&[
        std::env::current_exe().unwrap().as_os_str(),
        "--exact".as_ref(),
        "the_journal_gets_the_message_id_and_prefixed_fields".as_ref(),
    ]);
    assert!(status.success(), "{status}");
    assert_eq!(entries.len(), 2, "{entries:?}");
    let up = &entries[0];
    let field = |name: &str| up.get(name).map(String::as_str);
    assert_eq!(field("MESSAGE"), Some("session up peer=[fc00::1]:4641 via=\"the uplink\""));
    assert_eq!(field("MESSAGE_ID"), Some(SESSION_UP.id));
    assert_eq!(field("PRIORITY"), Some("6"));
    assert_eq!(field("SYSLOG_IDENTIFIER"), Some("tunnel64d"));
    assert_eq!(field("T64_TUNNEL"), Some("tun0"));
    assert_eq!(field("T64_PEER"), Some("[fc00::1]:4641"));
    assert_eq!(field("T64_VIA"), Some("the uplink"));
    assert_eq!(entries[1]["MESSAGE"], "dialling attempt=7");
    assert_eq!(entries[1]["PRIORITY"], "7");
    assert_eq!(entries[1].get("MESSAGE_ID"), None);
}

#[test]
fn a_wrong_configuration_is_an_entry_for_each_error() {
    let directory = tempfile::tempdir().unwrap();
    let wrong = "[link]\nconect = \"vm3\"\nlisten = 7\n";
    std::fs::write(directory.path().join("tun0.toml"), wrong).unwrap();
    let (status, entries) = journal_of(&[
        env!("CARGO_BIN_EXE_tunnel64d").as_ref(),
        "run".as_ref(),
        "tun0".as_ref(),
        "--config-dir".as_ref(),
        directory.path().as_os_str(),
    ]);
    assert_eq!(status.code(), Some(78));
    assert!(entries.len() > 1, "{entries:?}");
    for entry in &entries {
        assert_eq!(entry["MESSAGE_ID"], CONFIGURATION_REJECTED.id);
        assert_eq!(entry["PRIORITY"], "3");
        assert_eq!(entry["T64_TUNNEL"], "tun0");
    }
    let names_it = |error: &str| error.contains("tun0.toml:2: link.conect: unknown key");
    assert!(entries.iter().any(|entry| names_it(&entry["T64_ERROR"])), "{entries:?}");
}

#[test]
fn the_journal_has_the_last_words_wherever_stderr_leads() {
    let directory = tempfile::tempdir().unwrap();
    let configure = |format| {
        let text = format!(
            "[link]\nlisten = \"127.0.0.1\"\n[log]\nformat = \"{format}\"\n[security]\n\
             peer_public_keys = [\"JBqfnNZiJyJBm4nexqXFZC0sxPOBaYdQmYp7Ou/uGsA=\"]\n"
        );
        std::fs::write(directory.path().join("tun0.toml"), text).unwrap();
    };
    let command = [
        env!("CARGO_BIN_EXE_tunnel64d").as_ref(),
        "run".as_ref(),
        "tun0".as_ref(),
        "--config-dir".as_ref(),
        directory.path().as_os_str(),
    ];
    for (format, stderr_leads_there, asked) in
        [("journal", false, 1), ("journal", true, 1), ("text", true, 0)]
    {
        configure(format);
        let heard = journal_of_either(&command, stderr_leads_there);
        assert_eq!(heard.status.code(), Some(78), "there is no key: {}", heard.said);
        assert_eq!(heard.empty, asked, "{format} {stderr_leads_there}: whether all was read");
        assert_eq!(heard.entries.is_empty(), format == "text");
    }
}

/// What came of a command whose journal is ours.
struct Heard {
    status: ExitStatus,
    /// What is on its stderr.
    said: String,
    entries: Vec<HashMap<String, String>>,
    /// How many empty messages came after them: sent to see whether they have been read.
    empty: usize,
}

/// Runs a command in a mount namespace where the journal is ours, and its stderr connected to it.
/// Gives how it ended and what the journal got; panics when anything else is on stderr.
fn journal_of(command: &[&OsStr]) -> (ExitStatus, Vec<HashMap<String, String>>) {
    let heard = journal_of_either(command, true);
    assert_eq!(heard.said, "", "with a journal there is nothing on stderr");
    (heard.status, heard.entries)
}

/// The same, with stderr connected to the journal or elsewhere.
fn journal_of_either(command: &[&OsStr], stderr_leads_there: bool) -> Heard {
    assert!(nix::unistd::geteuid().is_root(), "run as root: this test makes a mount namespace");
    let directory = tempfile::tempdir().unwrap();
    let journal = UnixDatagram::bind(directory.path().join("socket")).unwrap();
    journal.set_nonblocking(true).unwrap();
    let stderr = File::create(directory.path().join("stderr")).unwrap();
    let stat = stderr.metadata().unwrap();
    let stream = format!("{}:{}", stat.dev(), stat.ino());
    let script = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal \
                  && mount --bind \"$0\" /run/systemd/journal && exec \"$@\"";
    let child = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(directory.path())
        .args(command)
        .env(CHILD, "1")
        .env("JOURNAL_STREAM", if stderr_leads_there { stream } else { "7:7".to_owned() })
        .stderr(stderr)
        .output()
        .unwrap();
    let said = std::fs::read_to_string(directory.path().join("stderr")).unwrap();
    let (mut entries, mut empty) = (Vec::new(), 0);
    let mut buffer = [0; 4096];
    while let Ok(length) = journal.recv(&mut buffer) {
        match length {
            0 => empty += 1,
            length => {
                empty = 0;
                entries.push(parse(&buffer[..length]));
            }
        }
    }
    Heard { status: child.status, said, entries, empty }
}

fn log_something() {
    let level = logging::init("tun0", tracing::Level::INFO, Format::Auto).unwrap();
    tunnel64d::report!(SESSION_UP, peer = "[fc00::1]:4641", via = "the uplink");
    tunnel64d::note!(DEBUG, "dialling", attempt = 6);
    level.set(tracing::Level::DEBUG);
    tunnel64d::note!(DEBUG, "dialling", attempt = 7);
    let twice = logging::init("tun0", tracing::Level::INFO, Format::Text).unwrap_err();
    assert_eq!(twice.to_string(), "logging is set up twice");
}

/// The journal's native protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>): `NAME=value`
/// lines, or `NAME`, a little-endian 64-bit length, the value, each ended by a newline.
fn parse(mut entry: &[u8]) -> HashMap<String, String> {
    let mut fields = HashMap::new();
    while !entry.is_empty() {
        let end = entry.iter().position(|byte| *byte == b'\n').unwrap();
        let line = String::from_utf8(entry[..end].to_vec()).unwrap();
        entry = &entry[end + 1..];
        if let Some((name, value)) = line.split_once('=') {
            fields.insert(name.to_owned(), value.to_owned());
        } else {
            let (length, rest) = entry.split_at(8);
            let length = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
            fields.insert(line, String::from_utf8(rest[..length].to_vec()).unwrap());
            entry = &rest[length + 1..];
        }
    }
    fields
}
