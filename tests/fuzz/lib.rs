//! The fuzz targets, and what several of them have in common.
//!
//! `fuzz_targets` makes programs of them for libFuzzer; `tests/seeds.rs` tries their seeds without.

pub mod config;
pub mod frame;
pub mod hello;
pub mod import;
pub mod packet;
pub mod segment;
pub mod tls;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use tunnel64d::config::{Loaded, Sources, load};

/// Makes the IP header, and UDP's, tell the length that the packet has: otherwise nearly every
/// mutation would be refused for its length and get no further.
pub fn put_lengths_right(packet: &mut [u8]) {
    let total = packet.len();
    let put = |field: Option<&mut [u8]>, length: usize| {
        if let (Some(field), Ok(length)) = (field, u16::try_from(length)) {
            field.copy_from_slice(&length.to_be_bytes());
        }
    };
    let (protocol, transport) = match packet.first().map(|first| first >> 4) {
        Some(4) => {
            put(packet.get_mut(2..4), total);
            (packet.get(9).copied(), usize::from(packet[0] & 0x0f) * 4)
        }
        Some(6) if total >= 40 => {
            put(packet.get_mut(4..6), total - 40);
            (packet.get(6).copied(), 40)
        }
        _ => return,
    };
    if protocol == Some(17) {
        put(packet.get_mut(transport + 4..transport + 6), total.saturating_sub(transport));
    }
}

/// Loads a configuration from text, arguments and variables; mistakes as they would be shown.
///
/// # Errors
/// All mistakes, as one text.
pub fn load_text(
    text: &[u8],
    set: Vec<String>,
    environment: Vec<(String, String)>,
) -> Result<Loaded, String> {
    // In memory where that can be had: it is written thousands of times a second.
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() { memory.to_owned() } else { env::temp_dir() };
    let path = directory.join(format!("tunnel64d-fuzz-{}.toml", process::id()));
    fs::write(&path, text).expect("room for a small file");
    let sources = Sources {
        name: "tun0".to_owned(),
        vendor_dir: PathBuf::new(),
        config_dir: PathBuf::new(),
        config_file: Some(path.clone()),
        environment,
        set,
    };
    let loaded = load(&sources).map_err(|mistakes| mistakes.to_string());
    let _ = fs::remove_file(path);
    loaded
}
