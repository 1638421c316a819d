//! The old configuration file: mistakes that can be shown, or a new one that is valid.

#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use libfuzzer_sys::fuzz_target;
use tunnel64d::config::{Sources, legacy, load};

fuzz_target!(|data: &[u8]| {
    match legacy::import(Path::new("old"), data) {
        Ok(text) => {
            let path = PathBuf::from(format!("/dev/shm/tunnel64d-fuzz-{}.toml", process::id()));
            fs::write(&path, &text).expect("room in /dev/shm");
            let sources = Sources {
                name: "tun0".to_owned(),
                vendor_dir: PathBuf::new(),
                config_dir: PathBuf::new(),
                config_file: Some(path),
                environment: Vec::new(),
                set: Vec::new(),
            };
            let loaded = load(&sources).map_err(|mistakes| mistakes.to_string());
            let _ = fs::remove_file(sources.config_file.expect("named above"));
            if let Err(mistakes) = loaded {
                panic!("{mistakes}\n{text}");
            }
        }
        Err(mistakes) => {
            let shown = mistakes.to_string();
            assert!(!shown.is_empty());
            assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
        }
    }
});
