//! Settings and where they came from → TOML that gives the same settings again.

use std::fmt::Write;
use std::time::Duration;

use super::document::key_name;
use super::error::Origin;
use super::schema;
use super::settings::{
    Congestion, Level, LogFormat, Mode, Offload, Ready, Route, Settings, Streams,
};

/// Comments start in this column at the latest; longer lines get theirs above.
const COMMENT_COLUMN: usize = 44;
const WIDTH: usize = 80;

/// One key with its effective value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Section, key, and what lies between; a route's destination is one segment.
    pub path: Vec<String>,
    /// The value as TOML; `None` when unset.
    pub value: Option<String>,
    /// Where the value was written.
    pub origin: Origin,
}

impl Leaf {
    /// The path as it is written in a file.
    pub fn key(&self) -> String {
        key_name(&self.path)
    }

    /// What a reload does with it.
    pub fn reload(&self) -> schema::Reload {
        let path: Vec<_> = self.path.iter().map(String::as_str).collect();
        // Leaves come from the table.
        schema::find(&path).map_or(schema::Reload::Now, |key| key.reload)
    }
}

/// Every key in the order of the schema; keys of routes once for each route, and only those that are set.
pub(super) fn leaves(settings: &Settings, origin: impl Fn(&[&str]) -> Origin) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    let mut push = |path: Vec<&str>, value: Option<String>| {
        let origin = origin(&path);
        leaves.push(Leaf { path: path.into_iter().map(str::to_owned).collect(), value, origin });
    };
    let mut routes_done = false;
    for key in schema::KEYS {
        if !key.path.contains('*') {
            push(key.path.split('.').collect(), value(settings, key.path));
        } else if !routes_done {
            routes_done = true;
            for route in &settings.interface.routes {
                let destination = route.destination.to_string();
                for name in schema::children(&["interface", "routes", "*"]) {
                    if let Some(value) = route_value(route, name) {
                        push(vec!["interface", "routes", &destination, name], Some(value));
                    }
                }
            }
        }
    }
    leaves
}

/// The leaves as TOML, each with a comment that says where it came from; at most 80 columns where
/// values and paths allow it.
pub fn to_toml(leaves: &[Leaf]) -> String {
    let mut text = String::new();
    for section in leaves.chunk_by(|a, b| table_of(a) == table_of(b)) {
        if !text.is_empty() {
            text.push('\n');
        }
        let table = table_of(&section[0]);
        let _ = writeln!(text, "[{}]", key_name(table));
        let lines: Vec<_> = section.iter().map(|leaf| line_of(leaf, table.len())).collect();
        let column = lines
            .iter()
            .map(|(line, _)| first_line(line).chars().count() + 2)
            .filter(|column| *column <= COMMENT_COLUMN)
            .max()
            .unwrap_or(0);
        for (line, comment) in &lines {
            let first = first_line(line);
            let rest = &line[first.len()..];
            let width = first.chars().count().max(column.saturating_sub(2)) + 4;
            if width + comment.chars().count() > WIDTH && first.chars().count() + 2 > column {
                let _ = writeln!(text, "# {comment}:\n{first}{rest}");
            } else {
                let padding = column.saturating_sub(first.chars().count()).max(2);
                let _ = writeln!(text, "{first}{:padding$}# {comment}{rest}", "");
            }
        }
    }
    text
}

fn table_of(leaf: &Leaf) -> &[String] {
    let is_route = leaf.path.len() == 4;
    &leaf.path[..if is_route { 3 } else { 1 }]
}

fn line_of(leaf: &Leaf, depth: usize) -> (String, String) {
    let key = key_name(&leaf.path[depth..]);
    match &leaf.value {
        None => (format!("# {key}"), "not set".to_owned()),
        Some(value) => {
            let comment = match &leaf.origin {
                Origin::Argument(_) => "--set".to_owned(),
                other => other.to_string().replace(char::is_control, "?"),
            };
            (format!("{key} = {value}"), comment)
        }
    }
}

fn first_line(text: &str) -> &str {
    text.split('\n').next().unwrap_or(text)
}

fn value(settings: &Settings, key: &str) -> Option<String> {
    let Settings { interface, link, security, queue, log, metrics, .. } = settings;
    Some(match key {
        "interface.name" => quote(&interface.name),
        "interface.addresses" => list(interface.addresses.iter()),
        "interface.mtu" => interface.mtu.to_string(),
        "interface.offload" => quote(match interface.offload {
            Offload::Auto => "auto",
            Offload::Off => "off",
        }),
        "link.listen" => quote(&link.listen?.to_string()),
        "link.connect" if link.connect.is_empty() => return None,
        "link.connect" => list(link.connect.iter()),
        "link.source" => quote(&link.source?.to_string()),
        "link.device" => quote(link.device.as_ref()?),
        "link.fwmark" => link.fwmark?.to_string(),
        "link.dscp" => link.dscp?.to_string(),
        "link.streams" => match link.streams {
            Streams::Auto => quote("auto"),
            Streams::Fixed(count) => count.to_string(),
        },
        "link.congestion" => quote(match &link.congestion {
            Congestion::Auto => "auto",
            Congestion::Default => "default",
            Congestion::Named(name) => name,
        }),
        "link.keepalive" => duration(link.keepalive),
        "link.dead_after" => duration(link.dead_after),
        "link.reconnect.min" => duration(link.reconnect.min),
        "link.reconnect.max" => duration(link.reconnect.max),
        "link.ready" => quote(match link.ready {
            Ready::Interface => "interface",
            Ready::Connected => "connected",
        }),
        "security.mode" => quote(match security.mode {
            Mode::Tls => "tls",
            Mode::Plaintext => "plaintext",
        }),
        "security.private_key_file" => {
            quote(&security.private_key_file.as_ref()?.display().to_string())
        }
        "security.peer_public_keys" => list(security.peer_public_keys.iter()),
        "security.peer_addresses" => list(security.peer_addresses.iter()),
        "security.allowed_sources" => list(security.allowed_sources.as_ref()?.iter()),
        "queue.target" => duration(queue.target),
        "queue.interval" => duration(queue.interval),
        "queue.limit" => size(queue.limit),
        "queue.ecn" => queue.ecn.to_string(),
        "log.level" => quote(match log.level {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }),
        "log.format" => quote(match log.format {
            LogFormat::Auto => "auto",
            LogFormat::Journal => "journal",
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }),
        "metrics.listen" => quote(&metrics.listen.as_ref()?.to_string()),
        _ => return None,
    })
}

fn route_value(route: &Route, key: &str) -> Option<String> {
    match key {
        "via" => route.via.map(|via| quote(&via.to_string())),
        "metric" => route.metric.map(|metric| metric.to_string()),
        "table" => Some(route.table.to_string()),
        "source" => route.source.map(|source| quote(&source.to_string())),
        _ => None,
    }
}

/// A TOML basic string, always on one line.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// On one line if it leaves room for the comment, else one element a line.
fn list(elements: impl Iterator<Item = impl ToString>) -> String {
    let elements: Vec<_> = elements.map(|element| quote(&element.to_string())).collect();
    let line = format!("[{}]", elements.join(", "));
    if elements.is_empty() || line.len() <= 28 {
        line
    } else {
        format!("[\n  {},\n]", elements.join(",\n  "))
    }
}

fn duration(duration: Duration) -> String {
    quote(&humantime::format_duration(duration).to_string().replace(' ', ""))
}

fn size(bytes: usize) -> String {
    const UNITS: [(usize, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(factor, _)| bytes % factor == 0) {
        Some((factor, unit)) => quote(&format!("{}{unit}", bytes / factor)),
        None => bytes.to_string(),
    }
}
