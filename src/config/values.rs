//! One value at a time: figment's value → the type that the daemon uses.
//!
//! A parser either gives the typed value, or says that the value doesn't fit (then the key's range from
//! the schema is quoted), or names a particular problem.

use crate::transport::keys::PublicKey;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::value::Value;
use ipnet::IpNet;

use super::error::Problem;
use super::settings::{Congestion, Endpoint, MetricsListen, Streams};

/// The port of a tunnel, where none is given.
pub const DEFAULT_PORT: u16 = 4641;

/// Why a value is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Wrong type, range or form: the schema says what is expected.
    Unfit,
    /// Something that deserves its own words.
    Problem(Problem),
}

/// What every parser returns.
pub type Parsed<T> = Result<T, Refusal>;

/// Text, as it stands.
pub fn text(value: &Value) -> Parsed<&str> {
    value.as_str().ok_or(Refusal::Unfit)
}

/// `true` or `false`.
pub fn flag(value: &Value) -> Parsed<bool> {
    value.to_bool().ok_or(Refusal::Unfit)
}

/// A whole number within `low..=high`.
pub fn integer(value: &Value, low: u32, high: u32) -> Parsed<u32> {
    let number = value.to_i128().ok_or(Refusal::Unfit)?;
    u32::try_from(number).ok().filter(|n| (low..=high).contains(n)).ok_or(Refusal::Unfit)
}

/// One of the words in `choices`.
pub fn choice<T: Copy>(value: &Value, choices: &[(&str, T)]) -> Parsed<T> {
    let word = text(value)?;
    choices.iter().find(|(name, _)| *name == word).map(|(_, choice)| *choice).ok_or(Refusal::Unfit)
}

/// A duration such as `1m30s`, within `low..=high`.
pub fn duration(value: &Value, low: Duration, high: Duration) -> Parsed<Duration> {
    let duration = humantime::parse_duration(text(value)?.trim()).map_err(|_| Refusal::Unfit)?;
    if (low..=high).contains(&duration) { Ok(duration) } else { Err(Refusal::Unfit) }
}

/// A size: a whole number of bytes, or text with one of the units B, kB, KB, KiB, MB, MiB, GB, GiB.
pub fn size(value: &Value, low: usize, high: usize) -> Parsed<usize> {
    let bytes = match value.to_i128() {
        Some(number) => usize::try_from(number).ok(),
        None => size_from_text(text(value)?),
    };
    bytes.filter(|bytes| (low..=high).contains(bytes)).ok_or(Refusal::Unfit)
}

fn size_from_text(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim_start() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(factor)
}

/// A name that the kernel accepts for an interface of ours.
pub fn interface_name(value: &Value) -> Parsed<String> {
    let name = text(value)?;
    if is_interface_name(name) && !matches!(name, "all" | "default") {
        Ok(name.to_owned())
    } else {
        Err(Refusal::Unfit)
    }
}

/// The name of an interface that somebody else made.
pub fn device_name(value: &Value) -> Parsed<String> {
    text(value).and_then(|name| {
        if is_interface_name(name) { Ok(name.to_owned()) } else { Err(Refusal::Unfit) }
    })
}

/// What `dev_valid_name` of net/core/dev.c accepts, without `%`, which asks the kernel to number the name.
pub fn is_interface_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && !name
            .contains(|c: char| matches!(c, '/' | ':' | '%') || c.is_whitespace() || c.is_control())
}

/// An IP address.
pub fn address(value: &Value) -> Parsed<IpAddr> {
    text(value)?.parse().map_err(|_| Refusal::Unfit)
}

/// An interface address with its prefix length.
pub fn interface_address(value: &Value) -> Parsed<IpNet> {
    let net: IpNet = text(value)?.parse().map_err(|_| Refusal::Unfit)?;
    if net.addr().is_unspecified() || net.addr().is_multicast() {
        return Err(Refusal::Unfit);
    }
    Ok(net)
}

/// A network without host bits; a bare address is the network of that one host.
pub fn prefix(text: &str) -> Parsed<IpNet> {
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| Refusal::Unfit)?,
    };
    if net.trunc() != net {
        return Err(Refusal::Problem(Problem::HostBits {
            found: format!("{text:?}"),
            network: net.trunc().to_string(),
            host: IpNet::from(net.addr()).to_string(),
        }));
    }
    Ok(net)
}

/// Where to listen: an IP address, with or without a port.
pub fn listen(value: &Value) -> Parsed<SocketAddr> {
    let text = text(value)?;
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 { Err(Refusal::Unfit) } else { Ok(address) };
    }
    let (host, port) = host_and_port(text).ok_or(Refusal::Unfit)?;
    let address: IpAddr = host.parse().map_err(|_| Refusal::Unfit)?;
    Ok(SocketAddr::new(address, port))
}

/// Where to connect: `host:port`, the port and the brackets of a lone IPv6 address being optional.
pub fn endpoint(value: &Value) -> Parsed<Endpoint> {
    let (host, port) = host_and_port(text(value)?).ok_or(Refusal::Unfit)?;
    let host = host_name(host).ok_or(Refusal::Unfit)?;
    Ok(Endpoint { host, port })
}

/// Splits off the port; brackets are taken off, and must then hold an IPv6 address.
fn host_and_port(text: &str) -> Option<(&str, u16)> {
    if let Some(rest) = text.strip_prefix('[') {
        // The last one: the name of a zone's interface may have others.
        let (host, rest) = rest.rsplit_once(']')?;
        if !host.contains(':') {
            return None;
        }
        let port = if rest.is_empty() { DEFAULT_PORT } else { port(rest.strip_prefix(':')?)? };
        return Some((host, port));
    }
    match text.split_once(':') {
        None => Some((text, DEFAULT_PORT)),
        Some((_, rest)) if rest.contains(':') => Some((text, DEFAULT_PORT)),
        Some((host, rest)) => Some((host, port(rest)?)),
    }
}

/// A port from 1 to 65535, in plain digits.
pub fn port(text: &str) -> Option<u16> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|port| *port != 0)
}

fn host_name(host: &str) -> Option<String> {
    if host.contains(':') {
        let (address, zone) = match host.split_once('%') {
            Some((address, zone)) => (address, Some(zone)),
            None => (host, None),
        };
        let address: Ipv6Addr = address.parse().ok()?;
        return match zone {
            _ if address.is_unspecified() || address.is_multicast() => None,
            None => Some(address.to_string()),
            Some(zone) if is_interface_name(zone) => Some(format!("{address}%{zone}")),
            Some(_) => None,
        };
    }
    let labels = host.strip_suffix('.').unwrap_or(host);
    let last = labels.rsplit('.').next()?;
    if last.bytes().all(|b| b.is_ascii_digit()) {
        let address: Ipv4Addr = host.parse().ok()?;
        return (!address.is_unspecified() && !address.is_multicast()).then(|| address.to_string());
    }
    let fits = labels.len() <= 253
        && labels.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        });
    fits.then(|| host.to_owned())
}

/// `"auto"` or a number of streams from 1 to 16.
pub fn streams(value: &Value) -> Parsed<Streams> {
    if value.as_str() == Some("auto") {
        return Ok(Streams::Auto);
    }
    let count = integer(value, 1, 16)?;
    u8::try_from(count).map(Streams::Fixed).map_err(|_| Refusal::Unfit)
}

/// `"auto"`, `"default"` or the name of a congestion control of the kernel.
pub fn congestion(value: &Value) -> Parsed<Congestion> {
    match text(value)? {
        "auto" => Ok(Congestion::Auto),
        "default" => Ok(Congestion::Default),
        name if (1..=15).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b)) =>
        {
            Ok(Congestion::Named(name.to_owned()))
        }
        _ => Err(Refusal::Unfit),
    }
}

/// An absolute path: a service has no directory that a relative one could start from.
pub fn absolute_path(value: &Value) -> Parsed<PathBuf> {
    absolute(text(value)?)
}

fn absolute(text: &str) -> Parsed<PathBuf> {
    let path = Path::new(text);
    if path.is_absolute() && !text.contains('\0') && path.file_name().is_some() {
        Ok(path.to_owned())
    } else {
        Err(Refusal::Unfit)
    }
}

/// `IP:port`, or `unix:` and an absolute path.
pub fn metrics_listen(value: &Value) -> Parsed<MetricsListen> {
    let text = text(value)?;
    if let Some(path) = text.strip_prefix("unix:") {
        return absolute(path).map(MetricsListen::Unix);
    }
    match text.parse::<SocketAddr>() {
        // They are for this host's eyes: there is no encryption, and nobody is asked who he is.
        Ok(address) if address.port() != 0 && address.ip().to_canonical().is_loopback() => {
            Ok(MetricsListen::Address(address))
        }
        _ => Err(Refusal::Unfit),
    }
}

/// A public key: 32 bytes in base64.
pub fn public_key(value: &Value) -> Parsed<PublicKey> {
    text(value)?.parse().map_err(|_| Refusal::Unfit)
}

/// A value as it is quoted in messages: short, on one line, and as TOML where possible.
pub fn quoted(value: &Value) -> String {
    const LONGEST: usize = 60;
    let shown = match value {
        Value::String(_, text) => format!("{text:?}"),
        Value::Char(_, c) => format!("{:?}", c.to_string()),
        Value::Bool(_, flag) => flag.to_string(),
        Value::Num(..) => match (value.to_i128(), value.to_f64()) {
            (Some(number), _) => number.to_string(),
            (None, Some(number)) => format!("{number:?}"),
            (None, None) => "a number".to_owned(),
        },
        Value::Empty(..) => "nothing".to_owned(),
        Value::Dict(..) => "a table".to_owned(),
        Value::Array(..) => "a list".to_owned(),
    };
    if shown.chars().count() > LONGEST {
        shown.chars().take(LONGEST).chain("…".chars()).collect()
    } else {
        shown
    }
}

#[cfg(test)]
mod tests;
