//! Configuration: whatever the text, either settings that mean the same when they are printed and
//! read again, or mistakes that can be shown.
//!
//! Input: a file; after a NUL, `--set` arguments; after another, values of environment variables,
//! each on a line.

use super::load_text;
use tunnel64d::config::to_toml;

/// Tries one input.
pub fn run(data: &[u8]) {
    let mut parts = data.splitn(3, |byte| *byte == 0);
    let file = parts.next().unwrap_or_default();
    let mut lines = || {
        let part = String::from_utf8_lossy(parts.next().unwrap_or_default());
        part.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let set = lines();
    let environment = lines();
    let environment = environment.iter().filter_map(|line| line.split_once('='));
    let environment =
        environment.map(|(name, value)| (format!("TUNNEL64D_{name}"), value.to_owned())).collect();
    match load_text(file, set, environment) {
        Ok(loaded) => {
            let printed = to_toml(&loaded.origins);
            match load_text(printed.as_bytes(), Vec::new(), Vec::new()) {
                Ok(again) => assert_eq!(again.settings, loaded.settings, "{printed}"),
                Err(mistakes) => panic!("{mistakes}\n{printed}"),
            }
        }
        Err(mistakes) => assert!(!mistakes.is_empty()),
    }
}
