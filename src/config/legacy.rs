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
    let last_line = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()).count().max(1);
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
    /// A key that isn't there; the line is the last one.
    #[error("{0}: missing (add a line {0}=…)")]
    Missing(String),
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

# The old program knew its peer by the address alone; this keeps it so. Who can
# send from that address, or listens on the way, is in: trusted networks only.
# If the peer's connections come from another address (NAT), add that one.
[security]
mode = \"plaintext\"
peer_addresses = [{peer}]
",
            source = source.display().to_string().replace(char::is_control, "?"),
            name = quote(interface),
            listen = quote(&listen.to_string()),
            connect = quote(&connect.to_string()),
            peer = quote(&IpNet::from(connect.ip()).to_string()),
        )
    }
}
