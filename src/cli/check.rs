//! `tunnel64d check [NAME…] [--print]`: is the configuration valid, and what does it say?

use std::collections::HashSet;
use std::fmt::Write;
use std::io;

use super::{Exit, Options, complain, print, unreadable};
use crate::config::{self, Loaded};

/// Checks the instances `names`, or all; valid ones are named on stdout, or printed with `show`.
pub fn check(options: &Options, names: &[String], show: bool) -> Exit {
    let names = if names.is_empty() {
        match configured(options) {
            Ok(names) => names,
            Err(message) => {
                complain(&message);
                return Exit::Configuration;
            }
        }
    } else {
        names.to_vec()
    };
    if show && names.len() > 1 {
        complain(&format!(
            "--print shows one instance at a time (name one of: {})",
            names.join(", ")
        ));
        return Exit::Usage;
    }

    let mut valid = String::new();
    // What all instances share is wrong only once.
    let mut named = HashSet::new();
    let mut exit = Exit::Fine;
    for name in &names {
        match config::load(&options.sources(name)) {
            Ok(loaded) => {
                match unreadable::among(&loaded.places).filter(|_| options.are_the_units()) {
                    Some((why, remedy)) => {
                        exit = Exit::Configuration;
                        if named.insert(why.clone()) {
                            complain(&format!("{why} ({remedy})"));
                        }
                    }
                    None if show => valid.push_str(&shown(&loaded)),
                    None => drop(writeln!(valid, "{name}: ok")),
                }
            }
            Err(errors) => {
                exit = Exit::Configuration;
                for error in errors.iter().map(ToString::to_string) {
                    if named.insert(error.clone()) {
                        complain(&error);
                    }
                }
            }
        }
    }
    match print(&valid) {
        Exit::Fine => exit,
        failure => failure,
    }
}

fn shown(loaded: &Loaded) -> String {
    format!(
        "# {}: every effective value, and where it came from\n\n{}",
        loaded.settings.name,
        config::to_toml(&loaded.origins)
    )
}

/// The instances to check when none is named. That there is none is an error: a check of nothing must
/// not look like a success.
fn configured(options: &Options) -> Result<Vec<String>, String> {
    if let Some(file) = &options.config {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        return Ok(vec![stem.into_owned()]);
    }
    let directory = options.config_dir.display();
    match config::instances(&options.config_dir) {
        Ok(names) if !names.is_empty() => Ok(names),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("{directory}: can't be read: {error} (make it readable)"))
        }
        _ => Err(format!("{directory}: no tunnel is configured (write {directory}/NAME.toml)")),
    }
}
