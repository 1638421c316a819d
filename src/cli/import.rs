//! `tunnel64d import FILE`: an old key=value file → TOML on stdout.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use super::{Exit, complain, print};
use crate::config::legacy;

/// Far more than six lines need; a wrong file is not read to its end.
const LONGEST: u64 = 1 << 20;

/// Translates `file`, or stdin for `-`.
pub fn import(file: &Path) -> Exit {
    let is_stdin = file == Path::new("-");
    let name = if is_stdin { Path::new("stdin") } else { file };
    let mut bytes = Vec::new();
    let read = if is_stdin {
        io::stdin().lock().take(LONGEST).read_to_end(&mut bytes)
    } else {
        fs::File::open(file).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes))
    };
    if let Err(error) = read {
        complain(&format!("{}: can't be read: {error} (name a readable file)", name.display()));
        return match error.kind() {
            io::ErrorKind::PermissionDenied => Exit::Permission,
            _ => Exit::Failed,
        };
    }
    match legacy::import(name, &bytes) {
        Ok(text) => print(&text),
        Err(mistakes) => {
            complain(&mistakes.to_string());
            Exit::Configuration
        }
    }
}
