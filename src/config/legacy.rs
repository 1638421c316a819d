//! The old `key=value` file → TOML.
//!
//! ```text
//! tun=tun0              the interface
//! inip=172.16.2.131     where this end listens
//! inport=123
//! options=empty         nothing else was ever meant
//! outip=172.16.2.163    where the other end listens
//! outport=123
//! ```
//!
//! The old format has no comments, no quotes and no blanks around `=`; empty lines are skipped.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use ipnet::IpNet;
use thiserror::Error as ThisError;

use super::print::quote;
use super::values;

const KEYS: [&str; 6] = ["tun", "inip", "inport", "options", "outip", "outport"];

/// The file as this program wants it, with comments for the one who has to finish it.
///
/// # Errors
/// Everything that is wrong with the file, each with its line. `name` is how the file is called there.
pub fn import(name: &Path, bytes: &[u8]) -> Result<String, Mistakes> {
    let mut mistakes = Vec::new();
    let entries = entries(bytes, &mut mistakes);
    let lines = (1..).zip(bytes.split(|byte| *byte == b'\n'));
    let last_line =
        lines.filter(|(_, line)| !line.is_empty()).last().map_or(1, |(number, _)| number);
    for key in KEYS.iter().filter(|key| !entries.contains_key(**key)) {
        mistakes.push((last_line, Mistake::Missing((*key).to_owned())));
    }
    let tunnel = tunnel(&entries, &mut mistakes);
    match tunnel {
        Some(tunnel) if mistakes.is_empty() => Ok(tunnel.to_toml(name)),
        _ => {
            mistakes.sort();
            Err(Mistakes { file: name.display().to_string(), list: mistakes })
        }
    }
}

/// What is wrong with an old file, one mistake a line as `FILE:LINE: message (way out)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    file: String,
    list: Vec<(usize, Mistake)>,
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (line, mistake)) in self.list.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{line}: {mistake}", self.file)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// One mistake in an old file, and the way out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, ThisError)]
pub enum Mistake {
    /// Bytes that are not UTF-8.
    #[error("not UTF-8 text (retype the line)")]
    NotUtf8,
    /// Line ends of another system; named once, for the first line that has one.
    #[error("the line ends with CR LF (convert the file with: sed -i 's/\\r$//' FILE)")]
    CrLf,
    /// A comment.
    #[error("the old format has no comments (remove the line)")]
    Comment,
    /// Neither a key and a value nor empty.
    #[error("{0} is no key=value line (mend or remove it)")]
    NoEquals(String),
    /// A key that the old program didn't have.
    #[error("{0}: unknown key ({1})")]
    Unknown(String, String),
    /// The same key again.
    #[error("{0}: given before in line {1} (keep one of the two)")]
    Duplicate(String, usize),
    /// A value that doesn't fit.
    #[error("{key}: {found} is not accepted (expected {expected})")]
    Unfit {
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// Options were never more than this word.
    #[error("options: {0} is not supported (only options=empty can be imported)")]
    Options(String),
    /// A key that isn't there; the line is the last one.
    #[error("{0}: missing (add a line {0}=…)")]
    Missing(String),
}

type Entries<'t> = BTreeMap<&'static str, (usize, &'t str)>;

fn entries<'t>(bytes: &'t [u8], mistakes: &mut Vec<(usize, Mistake)>) -> Entries<'t> {
    let mut entries = Entries::new();
    let mut crlf_named = false;
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let Ok(line) = std::str::from_utf8(line) else {
            mistakes.push((number, Mistake::NotUtf8));
            continue;
        };
        let content = line.strip_suffix('\r').unwrap_or(line);
        if content.len() < line.len() && !crlf_named {
            crlf_named = true;
            mistakes.push((number, Mistake::CrLf));
        }
        if content.is_empty() {
            continue;
        }
        if content.trim_start().starts_with(['#', ';']) {
            mistakes.push((number, Mistake::Comment));
            continue;
        }
        let Some((key, value)) = content.split_once('=') else {
            mistakes.push((number, Mistake::NoEquals(format!("{content:?}"))));
            continue;
        };
        match KEYS.iter().find(|known| **known == key) {
            None => {
                let shown = key.escape_debug().to_string();
                mistakes.push((number, Mistake::Unknown(shown, nearest(key))));
            }
            Some(key) => match entries.get(key) {
                Some((first, _)) => {
                    mistakes.push((number, Mistake::Duplicate((*key).to_owned(), *first)));
                }
                None => {
                    entries.insert(key, (number, value));
                }
            },
        }
    }
    entries
}

fn nearest(key: &str) -> String {
    KEYS.iter()
        .map(|known| (strsim::damerau_levenshtein(known, key), known))
        .filter(|(distance, known)| *distance <= known.len() / 2)
        .min()
        .map_or_else(
            || format!("known: {}", KEYS.join(", ")),
            |(_, known)| format!("did you mean \"{known}\"?"),
        )
}

struct Tunnel {
    interface: String,
    listen: SocketAddr,
    connect: SocketAddr,
}

fn tunnel(entries: &Entries, mistakes: &mut Vec<(usize, Mistake)>) -> Option<Tunnel> {
    const ADDRESS: &str = "an IP address, such as 172.16.2.131";
    const PORT: &str = "a port from 1 to 65535";
    let mut read = Values { entries, mistakes };
    let interface = read.one(
        "tun",
        "an interface name: 1 to 15 bytes without blanks, '/', ':' or '%'",
        |text| values::interface_name(&text.into()).ok(),
    );
    let inner = read.one("inip", ADDRESS, |text| text.parse::<IpAddr>().ok().filter(is_unicast));
    let in_port = read.one("inport", PORT, values::port);
    let outer =
        read.one("outip", "the IP address of the other end, such as 172.16.2.163", |text| {
            text.parse::<IpAddr>().ok().filter(|ip| is_unicast(ip) && !ip.is_unspecified())
        });
    let out_port = read.one("outport", PORT, values::port);
    if let Some((line, options)) = entries.get("options").filter(|(_, text)| *text != "empty") {
        mistakes.push((*line, Mistake::Options(format!("{options:?}"))));
    }
    Some(Tunnel {
        interface: interface?,
        listen: SocketAddr::new(inner?, in_port?),
        connect: SocketAddr::new(outer?, out_port?),
    })
}

fn is_unicast(address: &IpAddr) -> bool {
    !address.is_multicast()
}

struct Values<'a, 't> {
    entries: &'a Entries<'t>,
    mistakes: &'a mut Vec<(usize, Mistake)>,
}

impl Values<'_, '_> {
    fn one<T>(
        &mut self,
        key: &str,
        expected: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let (line, text) = self.entries.get(key)?;
        let value = parse(text);
        if value.is_none() {
            let (key, found) = (key.to_owned(), format!("{text:?}"));
            self.mistakes.push((*line, Mistake::Unfit { key, found, expected }));
        }
        value
    }
}

impl Tunnel {
    fn to_toml(&self, source: &Path) -> String {
        let Self { interface, listen, connect } = self;
        format!(
            "\
# Imported from {source}.
# The old file said nothing about addresses and routes: fill them in below.

[interface]
name = {name}
# The addresses of this end of the tunnel:
# addresses = [\"fc00:1234:ffff::1/64\"]
# What lies behind the other end, and the other end's tunnel address:
# [interface.routes]
# \"fc00:1234:4::/64\" = {{ via = \"fc00:1234:ffff::10\" }}

# Each end listened and dialled, so both are here; one connection is enough, and
# the two ends agree on which one stays.
[link]
listen = {listen}
connect = {connect}

# The old program knew its peer by the address alone, and this keeps it so. Whoever
# holds that address, or sits on the way, can join in: trusted networks only.
# If the peer's connections come from another address (NAT), add that one.
[security]
mode = \"plaintext\"
peer_addresses = [{peer}]
",
            source = source.display().to_string().replace(char::is_control, "?"),
            name = quote(interface),
            listen = quote(&listen.to_string()),
            connect = quote(&connect.to_string()),
            peer = quote(&IpNet::from(connect.ip().to_canonical()).to_string()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OLD: &str =
        "tun=tun0\ninip=172.16.2.131\ninport=123\noptions=empty\noutip=172.16.2.163\noutport=123\n";

    fn mistakes(text: &str) -> Vec<String> {
        match import(Path::new("old"), text.as_bytes()) {
            Ok(_) => Vec::new(),
            Err(mistakes) => mistakes.to_string().lines().map(str::to_owned).collect(),
        }
    }

    #[test]
    fn the_old_file_becomes_both_ends_of_the_link() {
        let text = import(Path::new("old"), OLD.as_bytes()).expect("an old file");
        for line in [
            "# Imported from old.",
            "name = \"tun0\"",
            "listen = \"172.16.2.131:123\"",
            "connect = \"172.16.2.163:123\"",
            "mode = \"plaintext\"",
            "peer_addresses = [\"172.16.2.163/32\"]",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\n{text}");
        }
    }

    #[test]
    fn empty_lines_and_a_missing_last_line_end_are_fine() {
        assert_eq!(mistakes(&format!("\n{}\n\n", OLD.trim_end())), [""; 0]);
        assert_eq!(mistakes(OLD.trim_end()), [""; 0]);
    }

    #[test]
    fn every_mistake_is_named_with_its_line() {
        let text = "# mine\ntun=a b\ninnip=1.2.3.4\ninip=1.2.3\nnonsense\ninport=0\ninport=+1\n\
                    options=crypt\noutip=0.0.0.0\n";
        assert_eq!(
            mistakes(text),
            [
                "old:1: the old format has no comments (remove the line)",
                "old:2: tun: \"a b\" is not accepted (expected an interface name: 1 to 15 bytes \
                 without blanks, '/', ':' or '%')",
                "old:3: innip: unknown key (did you mean \"inip\"?)",
                "old:4: inip: \"1.2.3\" is not accepted (expected an IP address, such as \
                 172.16.2.131)",
                "old:5: \"nonsense\" is no key=value line (mend or remove it)",
                "old:6: inport: \"0\" is not accepted (expected a port from 1 to 65535)",
                "old:7: inport: given before in line 6 (keep one of the two)",
                "old:8: options: \"crypt\" is not supported (only options=empty can be imported)",
                "old:9: outip: \"0.0.0.0\" is not accepted (expected the IP address of the other \
                 end, such as 172.16.2.163)",
                "old:9: outport: missing (add a line outport=…)",
            ]
        );
    }

    #[test]
    fn carriage_returns_are_named_once_and_hide_nothing_else() {
        let text = OLD.replace('\n', "\r\n").replace("options=empty", "options=x");
        let mistakes = mistakes(&text);
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
        assert!(mistakes[0].starts_with("old:1: the line ends with CR LF (convert"));
        assert!(mistakes[1].starts_with("old:4: options: \"x\""));
    }

    #[test]
    fn an_ipv4_address_as_ipv6_has_it_is_listed_as_what_it_is() {
        let text = OLD.replace("outip=", "outip=::ffff:");
        let text = import(Path::new("old"), text.as_bytes()).expect("an old file");
        assert!(text.contains("peer_addresses = [\"172.16.2.163/32\"]"), "{text}");
    }

    #[test]
    fn an_empty_file_lacks_every_key() {
        assert_eq!(mistakes("").len(), KEYS.len());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(
            bytes in any::<Vec<u8>>(),
            text in "((tun|inip|inport|outip|x)?=?[a-z0-9.:]{0,5}\r?\n){0,8}",
        ) {
            let _ = import(Path::new("old"), &bytes);
            let _ = import(Path::new("old"), text.as_bytes());
        }

        #[test]
        fn what_is_imported_is_a_valid_configuration(
            inner in any::<std::net::Ipv4Addr>(),
            outer in any::<std::net::Ipv4Addr>(),
            ports in (1u16.., 1u16..),
            tun in "[a-z\"'\\\\]{1,15}",
        ) {
            let old = format!(
                "tun={tun}\ninip={inner}\ninport={}\noptions=empty\noutip={outer}\noutport={}",
                ports.0, ports.1,
            );
            if let Ok(text) = import(Path::new("old"), old.as_bytes()) {
                let directory = tempfile::TempDir::new().expect("a directory");
                let file = directory.path().join("new.toml");
                std::fs::write(&file, &text).expect("the file");
                let sources = super::super::Sources {
                    config_file: Some(file),
                    environment: Vec::new(),
                    ..super::super::Sources::new("x")
                };
                let loaded = super::super::load(&sources);
                prop_assert!(loaded.is_ok(), "{:?}\n{}", loaded, text);
            }
        }
    }
}
