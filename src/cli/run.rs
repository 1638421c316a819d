//! `tunnel64d run NAME`: the daemon, in the foreground.

use super::{Exit, Options, complain};
use crate::config::{self, Level, LogFormat, Settings};
use crate::daemon;
use crate::service::logging;

/// Runs the instance `name` until it is told to stop.
pub fn run(options: &Options, name: &str) -> Exit {
    match config::load(&options.sources(name)) {
        Ok(loaded) => carry(&loaded.settings),
        Err(errors) => {
            complain(&errors.to_string());
            Exit::Configuration
        }
    }
}

fn carry(settings: &Settings) -> Exit {
    let log = settings.log;
    if let Err(error) = logging::init(&settings.name, level(log.level), format(log.format)) {
        complain(&format!("{}: {error}", settings.name));
        return Exit::Failed;
    }
    match daemon::run(settings) {
        Ok(()) => Exit::Fine,
        Err(error) => {
            complain(&format!("{}: {error}", settings.name));
            if error.is_configuration() {
                Exit::Configuration
            } else if error.is_permission() {
                Exit::Permission
            } else {
                Exit::Failed
            }
        }
    }
}

fn level(level: Level) -> tracing::Level {
    match level {
        Level::Error => tracing::Level::ERROR,
        Level::Warn => tracing::Level::WARN,
        Level::Info => tracing::Level::INFO,
        Level::Debug => tracing::Level::DEBUG,
        Level::Trace => tracing::Level::TRACE,
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
