//! `tunnel64d run NAME`: the daemon, in the foreground.

use std::path::Path;

use super::{Exit, Options, complain};
use crate::config::{self, Settings};

/// Runs the instance `name` until it is told to stop.
pub fn run(options: &Options, name: &str) -> Exit {
    match config::load(&options.sources(name)) {
        Ok(loaded) => daemon(loaded.settings, &options.runtime_dir),
        Err(errors) => {
            complain(&errors.to_string());
            Exit::Configuration
        }
    }
}

fn daemon(settings: Settings, _runtime_dir: &Path) -> Exit {
    complain(&format!("{}: this build has no daemon (only check and import work)", settings.name));
    Exit::Failed
}
