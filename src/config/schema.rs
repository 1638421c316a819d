//! Every key, once: its type, default, range, effect, and what a reload does with it.
//!
//! Layers ask this table which keys exist, validation quotes its ranges, `check --print` follows its
//! order, and unknown keys get their suggestion from it.

use std::fmt;

/// What a key takes; decides how the text of an environment variable or of `--set` is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text, also where it looks like a number.
    Text,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Flag,
    /// Text or a whole number.
    TextOrInteger,
    /// A list of texts.
    List,
    /// One text, or a list of texts.
    TextOrList,
}

/// What a reload does with a key that has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// It is in force when the reload is done.
    Now,
    /// Connections made from then on heed it; those that are up stay as they are.
    NewConnections,
    /// The reload is refused; with the reason, to follow "because".
    Restart(&'static str),
}

impl fmt::Display for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => f.write_str("at once"),
            Self::NewConnections => f.write_str("for new connections"),
            Self::Restart(why) => write!(f, "needs a restart, because {why}"),
        }
    }
}

/// One key of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// `section.key`; `*` stands for any name, here a route's destination.
    pub path: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// The built-in value as TOML; `None` when the key is unset by default.
    pub default: Option<&'static str>,
    /// Type, unit and range, to follow the word "expected".
    pub range: &'static str,
    /// What it does.
    pub effect: &'static str,
    /// What a reload does with it.
    pub reload: Reload,
}

const fn key(
    path: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    range: &'static str,
    effect: &'static str,
    reload: Reload,
) -> Key {
    Key { path, kind, default, range, effect, reload }
}

/// All keys, in the order in which they are documented and printed.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("interface.name", Kind::Text, None,
        "an interface name: 1 to 15 bytes without blanks, '/', ':' or '%', and not \".\", \"..\", \"all\" or \"default\"",
        "Name of the TUN interface; the instance's name when unset.",
        Reload::Restart("the interface keeps its name for as long as it lives")),
    key("interface.addresses", Kind::List, Some("[]"),
        "a list of addresses with prefix length, such as [\"fc00:1234:ffff::1/64\"]",
        "Addresses of the interface.",
        Reload::Now),
    key("interface.mtu", Kind::Integer, Some("1500"),
        "a whole number of bytes from 1280 to 65535",
        "Largest inner packet; of both ends' the smaller one counts. One that is raised over what the peer was told holds from the next session on.",
        Reload::Now),
    key("interface.offload", Kind::Text, Some("\"auto\""),
        "\"auto\" or \"off\"",
        "Whether the kernel hands over super-packets; auto probes what it can do.",
        Reload::Restart("it is settled when the queues of the interface are opened")),
    key("interface.routes.*.via", Kind::Text, None,
        "an IP address, such as \"fc00:1234:ffff::10\"",
        "Gateway of the route; without it the destination is on the link.",
        Reload::Now),
    key("interface.routes.*.metric", Kind::Integer, None,
        "a whole number from 0 to 4294967295",
        "Priority of the route; the lowest wins. The kernel's choice when unset.",
        Reload::Now),
    key("interface.routes.*.table", Kind::Integer, None,
        "a whole number from 1 to 4294967295",
        "Routing table; 254, the main table, when unset.",
        Reload::Now),
    key("interface.routes.*.source", Kind::Text, None,
        "an IP address, such as \"fc00:1234:ffff::1\"",
        "Preferred source address of packets that this host sends along the route.",
        Reload::Now),
    key("link.listen", Kind::Text, None,
        "an IP address with or without a port, such as \"0.0.0.0\" or \"[::]:4641\"",
        "Where the peer's connections are accepted; port 4641 when none is given.",
        Reload::Now),
    key("link.connect", Kind::TextOrList, None,
        "\"host:port\", or a list of them tried in turn, such as \"172.16.2.163:4641\" or \"[2001:db8::1]:4641\"",
        "Where the peer listens; names are resolved at every dial, port 4641 when none is given. Of several the one that worked last is tried first, and after a failure or a stall the next one.",
        Reload::NewConnections),
    key("link.source", Kind::Text, None,
        "an IP address, such as \"172.16.2.131\"",
        "Local address of outgoing connections; the kernel's choice when unset.",
        Reload::NewConnections),
    key("link.device", Kind::Text, None,
        "an interface name: 1 to 15 bytes without blanks, '/', ':' or '%'",
        "Interface that the link is bound to.",
        Reload::NewConnections),
    key("link.fwmark", Kind::Integer, None,
        "a whole number from 0 to 4294967295",
        "Mark on the link's packets, for policy routing.",
        Reload::NewConnections),
    key("link.dscp", Kind::Integer, None,
        "a whole number from 0 to 63",
        "DSCP value of the link's packets.",
        Reload::NewConnections),
    key("link.streams", Kind::TextOrInteger, Some("\"auto\""),
        "\"auto\" or a whole number from 1 to 16",
        "TCP connections of a session, each with a TUN queue of its own; auto is 1, more help on lines of several Gbit/s.",
        Reload::Restart("each stream has a queue of the interface, which is opened at the start")),
    key("link.congestion", Kind::Text, Some("\"auto\""),
        "\"auto\", \"default\" or a name of 1 to 15 characters of a-z, 0-9, '_' and '-'",
        "TCP congestion control; auto: bbr where the kernel has it, cubic on a path under 1 ms.",
        Reload::NewConnections),
    key("link.keepalive", Kind::Text, Some("\"10s\""),
        "a duration from 1s to 1h, such as \"10s\"",
        "How long the link may be silent before it is probed; at most half of link.dead_after, so that an answer that is late or lost is not the end.",
        Reload::Now),
    key("link.dead_after", Kind::Text, Some("\"30s\""),
        "a duration from 2s to 24h, such as \"30s\"",
        "How long the peer may be silent before the connection is given up; at least twice link.keepalive.",
        Reload::Now),
    key("link.reconnect.min", Kind::Text, Some("\"200ms\""),
        "a duration from 10ms to 1h, such as \"200ms\"",
        "Upper bound of the first wait before dialling again (full jitter).",
        Reload::Now),
    key("link.reconnect.max", Kind::Text, Some("\"30s\""),
        "a duration from 10ms to 1h, such as \"30s\"",
        "Upper bound of every wait before dialling again.",
        Reload::Now),
    key("link.ready", Kind::Text, Some("\"interface\""),
        "\"interface\" or \"connected\"",
        "When systemd is told that the service is ready.",
        Reload::Now),
    key("security.mode", Kind::Text, Some("\"tls\""),
        "\"tls\" or \"plaintext\"",
        "How the peer is authenticated and packets are protected; plaintext does neither.",
        Reload::Restart("no session outlives the change")),
    key("security.private_key_file", Kind::Text, None,
        "an absolute path, such as \"/etc/tunnel64d/tun0.key\"",
        "File with this end's private key; the credential tunnel64d.key when unset, which systemd reads at the start of the service only.",
        Reload::Now),
    key("security.peer_public_keys", Kind::List, Some("[]"),
        "a list of public keys, each 32 bytes in base64 (44 characters)",
        "Keys that the peer may prove; several during a rotation.",
        Reload::Now),
    key("security.peer_addresses", Kind::List, Some("[]"),
        "a list of addresses or prefixes, such as [\"172.16.2.163/32\"]",
        "Outer addresses that may connect at all; empty means any, which plaintext refuses. In plaintext no other address is dialled either; with tls it is the key that counts where link.connect leads.",
        Reload::Now),
    key("security.allowed_sources", Kind::List, None,
        "a list of addresses or prefixes, such as [\"fc00:1234:4::/64\"]",
        "Inner source addresses accepted from the peer; what routes and addresses imply when unset.",
        Reload::Now),
    key("queue.target", Kind::Text, Some("\"5ms\""),
        "a duration from 100us to 1s, such as \"5ms\"",
        "Wait in the queue that is fine for as long as it takes.",
        Reload::Now),
    key("queue.interval", Kind::Text, Some("\"100ms\""),
        "a duration from 1ms to 10s, such as \"100ms\"",
        "How long the wait may exceed the target before packets are marked or dropped.",
        Reload::Now),
    key("queue.limit", Kind::TextOrInteger, Some("\"8MiB\""),
        "a size from 64KiB to 1GiB, such as \"8MiB\" or 8388608",
        "Memory that waiting packets may take.",
        Reload::Now),
    key("queue.ecn", Kind::Flag, Some("true"),
        "true or false",
        "Whether packets that allow it are marked instead of dropped.",
        Reload::Now),
    key("log.level", Kind::Text, Some("\"info\""),
        "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
        "The least important messages that are logged.",
        Reload::Now),
    key("log.format", Kind::Text, Some("\"auto\""),
        "\"auto\", \"journal\", \"text\" or \"json\"",
        "Form of the log; auto is journal under systemd, text elsewhere.",
        Reload::Restart("the log is opened at the start")),
    key("metrics.listen", Kind::Text, None,
        "a loopback address with a port, such as \"127.0.0.1:9641\", or \"unix:\" and an absolute path",
        "Where metrics are served to Prometheus; nowhere when unset. The unit lets the daemon make a socket below /run/tunnel64d only.",
        Reload::Now),
];

/// The names that may follow `prefix`, in the table's order; empty when `prefix` is a key or unknown.
pub fn children(prefix: &[&str]) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for key in KEYS {
        let segments: Vec<_> = key.path.split('.').collect();
        if segments.len() > prefix.len() && starts_with(&segments, prefix) {
            let name = segments[prefix.len()];
            if names.last() != Some(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// The key that `path` leads to.
pub fn find(path: &[&str]) -> Option<&'static Key> {
    KEYS.iter().find(|key| {
        let segments: Vec<_> = key.path.split('.').collect();
        segments.len() == path.len() && starts_with(&segments, path)
    })
}

fn starts_with(segments: &[&str], prefix: &[&str]) -> bool {
    segments.iter().zip(prefix).all(|(have, want)| *have == "*" || have == want)
}

/// What to say about the unknown `name` below `prefix`: the nearest name, or all there are.
pub fn suggestion(prefix: &[&str], name: &str) -> String {
    let names = children(prefix);
    let nearest = names
        .iter()
        .filter(|candidate| **candidate != "*")
        .map(|candidate| (strsim::damerau_levenshtein(candidate, name), *candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(name.len()) / 3);
    if let Some((_, nearest)) = nearest {
        return format!("did you mean {nearest:?}?");
    }
    let elsewhere: Vec<_> =
        KEYS.iter().filter(|key| key.path.rsplit('.').next() == Some(name)).collect();
    if let [only] = elsewhere[..] {
        return format!("did you mean {:?}?", only.path);
    }
    format!("known: {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_by_its_own_path_and_has_its_texts() {
        for key in KEYS {
            let path: Vec<_> = key.path.split('.').collect();
            assert_eq!(find(&path), Some(key));
            assert!(key.effect.ends_with('.') && !key.range.is_empty(), "{}", key.path);
            let reload = key.reload.to_string();
            assert!(!reload.ends_with(['.', ' ']), "{}: {reload}", key.path);
        }
    }

    #[test]
    fn children_follow_the_table() {
        assert_eq!(children(&[]), ["interface", "link", "security", "queue", "log", "metrics"]);
        assert_eq!(children(&["link", "reconnect"]), ["min", "max"]);
        assert_eq!(
            children(&["interface", "routes", "10.0.0.0/8"]),
            ["via", "metric", "table", "source"]
        );
        assert!(children(&["link", "listen"]).is_empty());
    }

    #[test]
    fn an_unknown_name_gets_the_nearest_or_the_section_it_belongs_to_or_the_list() {
        assert_eq!(suggestion(&["link"], "conect"), "did you mean \"connect\"?");
        assert_eq!(suggestion(&["link"], "dead-after"), "did you mean \"dead_after\"?");
        assert_eq!(suggestion(&["link"], "mtu"), "did you mean \"interface.mtu\"?");
        assert_eq!(suggestion(&[], "mtu"), "did you mean \"interface.mtu\"?");
        assert_eq!(suggestion(&["log"], "colour"), "known: level, format");
    }
}
