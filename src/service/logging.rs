//! One line per state change, to the journal or to stderr.
//!
//! The rule for call sites: no sentences built by hand, and no other macros than these two.
//!
//! ```
//! use tunnel64d::service::messages::SESSION_UP;
//! # let (peer, streams, attempt) = ("172.16.2.163:4641", 4, 7);
//! // A state change, with its MESSAGE_ID, level and text from `messages`:
//! tunnel64d::report!(SESSION_UP, peer = peer, streams = streams);
//! // Anything else, mostly DEBUG and TRACE:
//! tunnel64d::note!(DEBUG, "dialling", peer = peer, attempt = attempt);
//! ```
//! Values are anything that is `Display`. The line reads the same everywhere,
//! `session up peer=172.16.2.163:4641 streams=4`, because `journalctl` shows nothing but MESSAGE
//! by default. Each value is also a field of its own: `T64_PEER=` in the journal, `"peer":` in
//! JSON. Values are quoted and escaped in the line, so that a peer cannot forge one; an empty
//! value leaves its field out of the line.
//!
//! The journal's socket blocks when journald is slow: nothing is logged on the data path, and
//! what a peer can cause goes through [`Repeats`](super::repeat::Repeats):
//!
//! ```
//! # use std::time::Duration;
//! # use tunnel64d::{service::{messages::CONNECTION_REFUSED, repeat::Repeats}, time::Time};
//! # let (address, now) = (std::net::Ipv4Addr::LOCALHOST, Time::now());
//! # let mut refused = Repeats::new(Duration::from_secs(60), 16);
//! if let Some(repeats) = refused.happened(address, now) {
//!     tunnel64d::report!(CONNECTION_REFUSED, address = address, repeats = repeats);
//! }
//! ```

use std::io::{self, IsTerminal};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use super::line::Line;

pub use super::line::Sentence;

/// Logs a state change from [`messages`](crate::service::messages):
/// `report!(SESSION_UP, peer = address)`.
#[macro_export]
macro_rules! report {
    ($message:expr $(, $field:ident = $value:expr)* $(,)?) => {
        match ($(&$value,)*) {
            ($($field,)*) => ::tracing::event!(
                $message.level,
                message_id = $message.id,
                message = ::tracing::field::display($crate::service::logging::Sentence {
                    text: $message.text,
                    fields: &[$((::core::stringify!($field), $field)),*],
                })
                $(, { ::core::concat!("t64_", ::core::stringify!($field)) } =
                    ::tracing::field::display($field))*
            ),
        }
    };
}

/// Logs what is no state change: `note!(DEBUG, "dialling", attempt = 7)`.
#[macro_export]
macro_rules! note {
    ($level:ident, $text:literal $(, $field:ident = $value:expr)* $(,)?) => {
        match ($(&$value,)*) {
            ($($field,)*) => ::tracing::event!(
                ::tracing::Level::$level,
                message = ::tracing::field::display($crate::service::logging::Sentence {
                    text: $text,
                    fields: &[$((::core::stringify!($field), $field)),*],
                })
                $(, { ::core::concat!("t64_", ::core::stringify!($field)) } =
                    ::tracing::field::display($field))*
            ),
        }
    };
}

/// Where the log goes and what it looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// The journal when stderr is connected to it, else text.
    #[default]
    Auto,
    /// The journal, with fields.
    Journal,
    /// Lines on stderr.
    Text,
    /// One JSON object a line on stderr.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "journal" => Ok(Self::Journal),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("{text:?} is none of auto, journal, text, json")),
        }
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal was asked for and is not there.
    #[error(
        "cannot log to the journal ({0}); is systemd-journald running? log.format = \"text\" works without"
    )]
    Journal(#[source] io::Error),
    /// The process logs already.
    #[error("logging is set up twice")]
    Twice,
}

/// Changes the level of the running log.
#[derive(Debug, Clone)]
pub struct LevelHandle(reload::Handle<LevelFilter, Registry>);

impl LevelHandle {
    /// From now on events of this level and graver ones are logged.
    pub fn set(&self, level: Level) {
        // Fails only when the log is gone, and then there is nothing to set.
        let _ = self.0.reload(LevelFilter::from_level(level));
    }

    /// The handle of a log that is gone.
    #[cfg(test)]
    pub(crate) fn of_no_log() -> Self {
        Self(reload::Layer::new(LevelFilter::OFF).1)
    }
}

/// Starts the log of the whole process; `tunnel` is the instance's name.
///
/// # Errors
/// When the journal was asked for and can't be reached, or on a second call.
pub fn init(tunnel: &str, level: Level, format: Format) -> Result<LevelHandle, Error> {
    let in_journal = stderr_is_the_journal();
    let journal = match format {
        Format::Journal => Some(journal_layer(tunnel).map_err(Error::Journal)?),
        Format::Auto if in_journal => journal_layer(tunnel).ok(),
        _ => None,
    };
    let native = journal.is_some();
    let sink: Sink = match journal {
        Some(journal) => journal.boxed(),
        None => {
            let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let line = Line { tunnel: tunnel.to_owned(), json: format == Format::Json, in_journal };
            line.layer(colours, io::stderr).boxed()
        }
    };
    let (filter, handle) = reload::Layer::new(LevelFilter::from_level(level));
    let subscriber = tracing_subscriber::registry().with(filter).with(sink);
    subscriber.try_init().map_err(|_| Error::Twice)?;
    NATIVE.store(native, Relaxed);
    Ok(LevelHandle(handle))
}

/// Whether journald gets the log through its own socket.
static NATIVE: AtomicBool = AtomicBool::new(false);

/// Whether the log goes to the journal as messages, and not as lines on stderr, of which journald
/// knows from the start whose they are.
pub fn is_in_journal() -> bool {
    NATIVE.load(Relaxed)
}

type Filtered = Layered<reload::Layer<LevelFilter, Registry>, Registry>;
type Sink = Box<dyn Layer<Filtered> + Send + Sync>;

fn journal_layer(tunnel: &str) -> io::Result<tracing_journald::Layer> {
    let mappings = PriorityMappings {
        info: Priority::Informational,
        debug: Priority::Debug,
        ..Default::default()
    };
    // Any prefix would also go before MESSAGE_ID; the macros put ours before all other fields.
    Ok(tracing_journald::Layer::new()?
        .with_field_prefix(None)
        .with_syslog_identifier("tunnel64d".to_owned())
        .with_custom_fields([("T64_TUNNEL", tunnel)])
        .with_priority_mappings(mappings))
}

/// Whether systemd has connected stderr to the journal (systemd.exec(5), `$JOURNAL_STREAM`).
pub fn stderr_is_the_journal() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    nix::sys::stat::fstat(io::stderr())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::line::tests::Captured;

    #[test]
    fn the_level_changes_while_running() {
        let captured = Captured::default();
        let (filter, handle) = reload::Layer::new(LevelFilter::WARN);
        let handle = LevelHandle(handle);
        let line = Line { tunnel: "tun0".to_owned(), json: false, in_journal: true };
        let layer = line.layer(false, captured.writer());
        let subscriber = tracing_subscriber::registry().with(filter).with(layer);
        tracing::subscriber::with_default(subscriber, || {
            for level in [Level::DEBUG, Level::ERROR] {
                crate::note!(INFO, "dialling");
                handle.set(level);
            }
            crate::note!(INFO, "dialling");
        });
        let log = captured.text();
        assert_eq!(log, "<6>INFO tun0: dialling\n");
    }

    #[test]
    fn formats_are_named_as_in_the_configuration() {
        assert_eq!("journal".parse(), Ok(Format::Journal));
        assert!("xml".parse::<Format>().unwrap_err().contains("auto, journal, text, json"));
    }
}
