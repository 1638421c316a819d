//! The old configuration file: mistakes that can be shown, or a new one that means the same.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::load_text;
use tunnel64d::config::{Mode, legacy};

/// Tries one input.
pub fn run(data: &[u8]) {
    match legacy::import(Path::new("old"), data) {
        Ok(text) => {
            let loaded = load_text(text.as_bytes(), Vec::new(), Vec::new());
            let settings = loaded.unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}")).settings;
            let (here, there) = (address(data, "in"), address(data, "out"));
            assert_eq!(settings.interface.name, value(data, "tun"));
            assert_eq!(settings.link.listen, Some(here));
            assert_eq!(settings.link.connect.len(), 1);
            assert_eq!(settings.link.connect[0].host.parse(), Ok(there.ip()));
            assert_eq!(settings.link.connect[0].port, there.port());
            assert_eq!(settings.security.mode, Mode::Plaintext);
            // An accepted IPv4 peer has its IPv4 address, however it is written here.
            assert_eq!(settings.security.peer_addresses, [there.ip().to_canonical().into()]);
        }
        Err(mistakes) => {
            let shown = mistakes.to_string();
            assert!(!shown.is_empty());
            assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
        }
    }
}

fn address(data: &[u8], end: &str) -> SocketAddr {
    let ip: IpAddr = value(data, &format!("{end}ip")).parse().expect("an address");
    let port = value(data, &format!("{end}port")).parse().expect("a port");
    SocketAddr::new(ip, port)
}

/// Read as simply as can be.
fn value(data: &[u8], key: &str) -> String {
    let text = std::str::from_utf8(data).expect("imported, so it is text");
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
    value.expect("imported, so it is there").to_owned()
}
