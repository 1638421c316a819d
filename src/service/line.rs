//! The form of a line on stderr: text for people, JSON for machines.

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// The form of a line on stderr.
pub(super) struct Line {
    /// The instance's name.
    pub tunnel: String,
    pub json: bool,
    /// Whether stderr is connected to the journal, which has a clock of its own and reads the
    /// priority off the line.
    pub in_journal: bool,
}

impl Line {
    /// Writes such lines to `writer`.
    pub(super) fn layer<S, W>(self, colours: bool, writer: W) -> impl Layer<S> + Send + Sync
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
        W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
    {
        tracing_subscriber::fmt::layer().event_format(self).with_ansi(colours).with_writer(writer)
    }
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = *event.metadata().level();
        if self.json {
            self.object(writer, level, &fields)
        } else {
            self.text(writer, level, &fields)
        }
    }
}

impl Line {
    fn text(&self, mut writer: Writer<'_>, level: Level, fields: &Fields) -> fmt::Result {
        let colours = writer.has_ansi_escapes();
        if self.in_journal {
            write!(writer, "<{}>", syslog_priority(level))?;
        } else {
            write!(writer, "{} ", now())?;
        }
        match level {
            Level::ERROR if colours => write!(writer, "\x1b[31m{level}\x1b[0m")?,
            Level::WARN if colours => write!(writer, "\x1b[33m{level}\x1b[0m")?,
            _ => write!(writer, "{level}")?,
        }
        write!(writer, " {}: ", self.tunnel)?;
        for c in fields.message.chars() {
            if c.is_control() {
                write!(writer, "{}", c.escape_default())?
            } else {
                writer.write_char(c)?
            }
        }
        for (name, value) in &fields.others {
            // Ours stand in the message already.
            if !name.starts_with("t64_") {
                write!(writer, " {name}={}", Quoted(value))?;
            }
        }
        writeln!(writer)
    }

    fn object(&self, mut writer: Writer<'_>, level: Level, fields: &Fields) -> fmt::Result {
        write!(writer, "{{\"timestamp\":\"{}\",\"level\":\"{level}\"", now())?;
        let others = fields
            .others
            .iter()
            .map(|(name, value)| (name.strip_prefix("t64_").unwrap_or(name), value.as_str()));
        let first = [("tunnel", self.tunnel.as_str()), ("message", fields.message.as_str())];
        for (name, value) in first
            .into_iter()
            .chain(fields.message_id.as_deref().map(|id| ("message_id", id)))
            .chain(others)
        {
            write!(writer, ",{}:{}", JsonString(name), JsonString(value))?;
        }
        writeln!(writer, "}}")
    }
}

/// A message with its fields behind it: `session down peer=… reason="timed out"`.
pub struct Sentence<'a> {
    /// What happened.
    pub text: &'a str,
    /// Names and values; what displays as nothing is left out.
    pub fields: &'a [(&'a str, &'a dyn fmt::Display)],
}

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)?;
        for (name, value) in self.fields {
            let value = value.to_string();
            if !value.is_empty() {
                write!(f, " {name}={}", Quoted(&value))?;
            }
        }
        Ok(())
    }
}

/// A value as one word: quoted, and with control characters escaped, unless it is plain.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| {
            c.is_alphanumeric() || (c.is_ascii_punctuation() && !matches!(c, '"' | '\\' | '='))
        };
        if self.0.chars().all(plain) { f.write_str(self.0) } else { write!(f, "{:?}", self.0) }
    }
}

/// The numbers of `<syslog.h>`, as sd-daemon(3) wants them before a line.
fn syslog_priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

fn now() -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_seconds(SystemTime::now())
}

#[derive(Default)]
struct Fields {
    message: String,
    message_id: Option<String>,
    others: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            "message_id" => self.message_id = Some(value.to_owned()),
            name => self.others.push((name, value.to_owned())),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// A JSON string (RFC 8259, section 7).
struct JsonString<'a>(&'a str);

impl fmt::Display for JsonString<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\0'..='\x1f' => write!(f, "\\u{:04x}", u32::from(c))?,
                _ => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::service::messages::{CARRIER_GAINED, SESSION_DOWN};

    #[derive(Clone, Default)]
    pub struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub fn writer(&self) -> impl Fn() -> Self + Send + Sync + use<> {
            let captured = self.clone();
            move || captured.clone()
        }

        pub fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool, in_journal: bool, colours: bool, log: impl FnOnce()) -> String {
        let captured = Captured::default();
        let line = Line { tunnel: "tun0".to_owned(), json, in_journal };
        let layer = line.layer(colours, captured.writer());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        captured.text()
    }

    fn session_down() {
        let peer: std::net::SocketAddr = "172.16.2.163:4641".parse().unwrap();
        crate::report!(SESSION_DOWN, peer = peer, reason = "timed out", after = 30_u32);
    }

    #[test]
    fn a_line_has_the_time_the_level_the_tunnel_and_the_fields() {
        let line = logged(false, false, false, session_down);
        let (time, rest) = line.split_at("2026-11-20T16:00:00Z".len());
        assert!(humantime::parse_rfc3339(time).is_ok(), "{line}");
        assert_eq!(
            rest,
            " WARN tun0: session down peer=172.16.2.163:4641 reason=\"timed out\" after=30\n"
        );
    }

    #[test]
    fn the_journal_gets_a_priority_instead_of_a_time() {
        let line = logged(false, true, false, || crate::report!(CARRIER_GAINED));
        assert_eq!(line, "<6>INFO tun0: carrier gained\n");
    }

    #[test]
    fn colours_mark_the_level_only() {
        let line = logged(false, true, true, || crate::note!(ERROR, "broken"));
        assert_eq!(line, "<3>\x1b[31mERROR\x1b[0m tun0: broken\n");
    }

    #[test]
    fn a_value_cannot_forge_a_line_or_a_field() {
        let evil = "x\n2026-11-20T16:00:00Z INFO tun0: session up peer=\x1b[2J";
        let line = logged(false, true, false, || crate::note!(WARN, "refused", name = evil));
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.contains(r#"name="x\n2026"#), "{line}");
        assert!(!line.contains('\x1b'), "{line}");
        let line = logged(false, true, false, || tracing::warn!("{evil}"));
        assert_eq!(line.lines().count(), 1, "{line}");
    }

    #[test]
    fn an_empty_value_is_left_out_of_the_line() {
        let line = logged(false, true, false, || crate::note!(INFO, "up", a = "", b = 1));
        assert_eq!(line, "<6>INFO tun0: up b=1\n");
    }

    #[test]
    fn json_has_each_field_under_its_own_name() {
        let line = logged(true, false, false, session_down);
        let expected = format!(
            concat!(
                r#","level":"WARN","tunnel":"tun0","#,
                r#""message":"session down peer=172.16.2.163:4641 reason=\"timed out\" after=30","#,
                r#""message_id":"{}","peer":"172.16.2.163:4641","reason":"timed out","after":"30"}}"#,
            ),
            SESSION_DOWN.id
        );
        assert!(line.ends_with(&format!("{expected}\n")), "{line}");
        assert_eq!(JsonString("a\"\\\n\u{e9}").to_string(), "\"a\\\"\\\\\\u000a\u{e9}\"");
    }

    #[test]
    fn events_of_libraries_keep_their_fields() {
        let line = logged(false, true, false, || tracing::info!(count = 3, "hello"));
        assert_eq!(line, "<6>INFO tun0: hello count=3\n");
    }
}
