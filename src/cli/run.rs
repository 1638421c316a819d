//! `tunnel64d run NAME`: the daemon, in the foreground.

use std::path::Path;
use std::time::Duration;

use super::{Exit, Options, complain};
use crate::config::{self, Errors, Loaded, LogFormat, Sources};
use crate::daemon::parameters::level;
use crate::daemon::reload::Basis;
use crate::service::notify::Notifier;
use crate::service::{journal, logging, messages};
use crate::{daemon, report};

/// How long journald may take to read why we end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Runs the instance `name` until it is told to stop.
pub fn run(options: &Options, name: &str) -> Exit {
    let sources = options.sources(name);
    let exit = match config::load(&sources) {
        Ok(loaded) => carry(loaded, sources, &options.runtime_dir),
        Err(errors) => {
            reject(name, &errors);
            Exit::Configuration
        }
    };
    if exit != Exit::Fine && logging::is_in_journal() {
        // Without journald there is nothing to wait for.
        let _ = journal::wait_until_read(LAST_WORDS);
    }
    exit
}

/// Says what is wrong with the configuration, which would have said where to log: in the journal
/// an entry for each error, else lines for people.
fn reject(name: &str, errors: &Errors) {
    let first = errors.iter().next().map(ToString::to_string).unwrap_or_default();
    let more = match errors.iter().count() {
        0 | 1 => String::new(),
        count => format!("; and {} more in the log", count - 1),
    };
    Notifier::default().status(&format!("configuration rejected: {first}{more}"));
    let (level, format) = (tracing::Level::INFO, logging::Format::Auto);
    if logging::stderr_is_the_journal() && logging::init(name, level, format).is_ok() {
        for error in errors.iter() {
            report!(messages::CONFIGURATION_REJECTED, error = error);
        }
    } else {
        complain(&errors.to_string());
    }
}

fn carry(Loaded { settings, origins, .. }: Loaded, sources: Sources, runtime_dir: &Path) -> Exit {
    let log = settings.log;
    let level = match logging::init(&settings.name, level(log.level), format(log.format)) {
        Ok(level) => level,
        Err(error) => {
            complain(&format!("{}: {error}", settings.name));
            return Exit::Failed;
        }
    };
    let basis = Basis { sources, leaves: origins, level };
    match daemon::run(&settings, basis, runtime_dir) {
        Ok(()) => Exit::Fine,
        Err(error) => {
            if error.is_configuration() {
                Notifier::default().status(&format!("configuration rejected: {error}"));
                report!(messages::CONFIGURATION_REJECTED, error = error);
                return Exit::Configuration;
            }
            Notifier::default().status(&format!("cannot start: {error}"));
            report!(messages::START_FAILED, error = error);
            if error.is_permission() { Exit::Permission } else { Exit::Failed }
        }
    }
}

fn format(format: LogFormat) -> logging::Format {
    match format {
        LogFormat::Auto => logging::Format::Auto,
        LogFormat::Journal => logging::Format::Journal,
        LogFormat::Text => logging::Format::Text,
        LogFormat::Json => logging::Format::Json,
    }
}
