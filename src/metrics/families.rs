//! Every metric, once: its name, type, labels and meaning.
//!
//! The exposition writes these and no others; the manual lists them; dashboards and alert rules are
//! checked against them. Names and units are Prometheus's conventions: base units, `_total` for
//! what only grows.

use super::labels::{Direction, Drop, Handshake, Refusal, Reload};

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// It only grows, from 0 at the start of the process.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How many were in each bucket, and their sum.
    Histogram,
}

/// One metric, with all its labels. Every one has the label `tunnel` as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// As it is queried.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Type,
    /// The labels besides `tunnel`.
    pub labels: &'static [&'static str],
    /// What it tells, in a sentence.
    pub help: &'static str,
}

impl Family {
    /// The words that one of its labels can have, and what each stands for; none where they are not
    /// known beforehand.
    pub fn words(&self, label: &str) -> Vec<(&'static str, &'static str)> {
        match label {
            "cause" => Drop::ALL.map(|cause| (cause.as_str(), cause.about())).into(),
            "direction" => Direction::ALL.map(|end| (end.as_str(), end.about())).into(),
            "reason" => Refusal::ALL.map(|why| (why.as_str(), why.about())).into(),
            "result" if *self == HANDSHAKES => {
                Handshake::ALL.map(|outcome| (outcome.as_str(), outcome.about())).into()
            }
            "result" => Reload::ALL.map(|outcome| (outcome.as_str(), outcome.about())).into(),
            _ => Vec::new(),
        }
    }

    /// The name without the suffix that says that it is a counter, or its unit.
    pub(super) fn stem(&self) -> &'static str {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        self.unit()
            .and_then(|unit| name.strip_suffix(unit))
            .map_or(name, |name| name.strip_suffix('_').unwrap_or(name))
    }

    /// The unit that is part of the name, if it has one.
    pub(super) fn unit(&self) -> Option<&'static str> {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(&format!("_{unit}")))
    }
}

/// Declares the families and the list of them all.
macro_rules! families {
    ($($constant:ident $kind:ident $name:literal [$($label:literal)*] $help:literal)*) => {
        $(
            #[doc = $help]
            pub const $constant: Family = Family {
                name: $name,
                kind: Type::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )*

        /// All of them, in the order of the exposition.
        pub const ALL: &[Family] = &[$($constant),*];
    };
}

families! {
    BUILD Gauge "tunnel64d_build_info" ["version"]
        "Always 1; the label names the version that runs."
    START_TIME Gauge "process_start_time_seconds" []
        "When the process started, in seconds since 1970."
    SESSION_UP Gauge "tunnel64d_session_up" []
        "1 while there is a session with the peer, else 0."
    SESSIONS Counter "tunnel64d_sessions_total" []
        "Sessions that came up; all but the first are reconnects."
    SESSIONS_LOST Counter "tunnel64d_sessions_lost_total" []
        "Sessions that ended, whatever came after them."
    STREAMS Gauge "tunnel64d_streams" []
        "TCP connections of the session that are up."
    STREAMS_AGREED Gauge "tunnel64d_streams_agreed" []
        "TCP connections that the session has when it is whole."
    STREAMS_LOST Counter "tunnel64d_streams_lost_total" []
        "TCP connections of a session that ended."
    ROUND_TRIP Gauge "tunnel64d_stream_round_trip_seconds" ["stream"]
        "Smoothed round-trip time of each TCP connection, as the kernel measures it."
    SENT_BYTES Counter "tunnel64d_sent_bytes_total" []
        "Bytes of packets sent to the peer, inner IP headers included."
    SENT_PACKETS Counter "tunnel64d_sent_packets_total" []
        "Packets sent to the peer; a super-packet counts once."
    RECEIVED_BYTES Counter "tunnel64d_received_bytes_total" []
        "Bytes of packets from the peer that the kernel has taken, inner IP headers included."
    RECEIVED_PACKETS Counter "tunnel64d_received_packets_total" []
        "Packets from the peer that the kernel has taken; a super-packet counts once."
    DROPPED Counter "tunnel64d_dropped_packets_total" ["cause"]
        "Packets that were dropped, by cause."
    QUEUE_DELAY Histogram "tunnel64d_queue_delay_seconds" []
        "How long packets waited in the queue before they were sent to the peer."
    QUEUE_BYTES Gauge "tunnel64d_queue_bytes" []
        "Memory that packets take which wait for their turn to be sent."
    QUEUE_PACKETS Gauge "tunnel64d_queue_packets" []
        "Packets that wait for their turn to be sent."
    HANDSHAKES Counter "tunnel64d_handshakes_total" ["direction" "result"]
        "Attempts to get to know the peer, by who dialled and how they ended; ok is the only success."
    REFUSED Counter "tunnel64d_connections_refused_total" ["reason"]
        "Connections that were closed before a word was said: from an address that may not connect, or too many at a time."
    RELOADS Counter "tunnel64d_reloads_total" ["result"]
        "Reloads of the configuration, by how they ended."
    LAST_RELOAD_APPLIED Gauge "tunnel64d_last_reload_applied" []
        "0 after a reload that was rejected, until another one is applied; else 1."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        for (index, family) in ALL.iter().enumerate() {
            let Family { name, kind, help, .. } = family;
            let ours = name.starts_with("tunnel64d_") || name.starts_with("process_");
            assert!(
                ours && name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_')),
                "{name}"
            );
            assert_eq!(*kind == Type::Counter, name.ends_with("_total"), "{name}");
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}");
            assert!(!ALL[..index].iter().any(|other| other.name == *name), "{name}");
        }
    }

    #[test]
    fn a_name_is_made_of_stem_unit_and_suffix() {
        for (family, stem, unit) in [
            (SENT_BYTES, "tunnel64d_sent", Some("bytes")),
            (SESSIONS, "tunnel64d_sessions", None),
            (QUEUE_DELAY, "tunnel64d_queue_delay", Some("seconds")),
            (STREAMS, "tunnel64d_streams", None),
        ] {
            assert_eq!((family.stem(), family.unit()), (stem, unit));
        }
    }
}
