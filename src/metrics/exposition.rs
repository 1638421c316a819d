//! The metrics as text, in the two forms that Prometheus reads.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::families::{self as f, Family, Type};
use super::snapshot::Snapshot;
use super::{Counters, Direction, Drop, Handshake, Refusal, Reload};

/// A tunnel at the moment of a scrape.
#[derive(Debug, Clone)]
pub struct Scrape {
    /// What has been counted.
    pub counters: Arc<Counters>,
    /// How it is now.
    pub now: Snapshot,
}

impl Scrape {
    /// As OpenMetrics 1.0 has it.
    ///
    /// # Errors
    /// None but what writing to a string may bring.
    pub fn open_metrics(self) -> Result<String, fmt::Error> {
        let label = ("tunnel".into(), self.now.name.clone().into());
        let mut registry = Registry::with_labels([label].into_iter());
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }

    /// As Prometheus's own text format 0.0.4 has it: without units, and counters under the name of
    /// their sample.
    ///
    /// # Errors
    /// As [`Self::open_metrics`].
    pub fn text(self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        for line in self.open_metrics()?.lines() {
            let Some(comment) = line.strip_prefix("# ") else {
                writeln!(text, "{line}")?;
                continue;
            };
            let mut words = comment.splitn(3, ' ');
            if let (Some(word @ ("HELP" | "TYPE")), Some(name), Some(rest)) =
                (words.next(), words.next(), words.next())
            {
                let counter = f::ALL
                    .iter()
                    .any(|family| family.name.strip_suffix("_total").is_some_and(|n| n == name));
                let suffix = if counter { "_total" } else { "" };
                writeln!(text, "# {word} {name}{suffix} {rest}")?;
            }
        }
        Ok(text)
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self { counters, now } = self;
        let mut page = Page(encoder);
        page.gauges(f::BUILD, [([now.daemon_version.as_str()], 1_u64)])?;
        page.gauge(f::START_TIME, now.started)?;

        page.gauge(f::SESSION_UP, u64::from(now.session.is_some()))?;
        page.counter(f::SESSIONS, counters.sessions.value())?;
        page.counter(f::SESSIONS_LOST, counters.sessions_lost.value())?;
        page.gauge(f::STREAMS, now.streams.len())?;
        let agreed = now.session.as_ref().map_or(0, |session| session.streams);
        page.gauge(f::STREAMS_AGREED, u64::from(agreed))?;
        page.counter(f::STREAMS_LOST, counters.streams_lost.value())?;
        let measured = now.streams.iter().filter(|stream| stream.tcp.rtt_us > 0);
        let round_trips: Vec<_> = measured
            .map(|stream| (stream.index.to_string(), Duration::from_micros(stream.tcp.rtt_us)))
            .collect();
        let round_trips = round_trips.iter().map(|(index, time)| ([&**index], time.as_secs_f64()));
        page.gauges(f::ROUND_TRIP, round_trips)?;

        page.counter(f::SENT_BYTES, counters.sent.bytes())?;
        page.counter(f::SENT_PACKETS, counters.sent.packets())?;
        page.counter(f::RECEIVED_BYTES, counters.received.bytes())?;
        page.counter(f::RECEIVED_PACKETS, counters.received.packets())?;
        page.counters(
            f::DROPPED,
            Drop::ALL.map(|cause| ([cause.as_str()], counters.drops(cause))),
        )?;
        page.histogram(
            f::QUEUE_DELAY,
            counters.queue_delay.sum(),
            &counters.queue_delay.buckets(),
        )?;
        page.gauge(f::QUEUE_BYTES, now.queue.bytes)?;
        page.gauge(f::QUEUE_PACKETS, now.queue.packets)?;

        let handshakes = Direction::ALL.into_iter().flat_map(|direction| {
            Handshake::ALL.map(|outcome| {
                let count = counters.handshakes(direction, outcome).value();
                ([direction.as_str(), outcome.as_str()], count)
            })
        });
        page.counters(f::HANDSHAKES, handshakes)?;
        let refusals = Refusal::ALL.map(|why| ([why.as_str()], counters.refusals(why).value()));
        page.counters(f::REFUSED, refusals)?;
        let reloads = Reload::ALL.map(|how| ([how.as_str()], counters.reloads(how)));
        page.counters(f::RELOADS, reloads)?;
        page.gauge(f::LAST_RELOAD_APPLIED, u64::from(!counters.last_reload_rejected()))
    }
}

/// The text as it grows, a family at a time.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counter(&mut self, family: Family, value: u64) -> fmt::Result {
        self.counters(family, [([], value)])
    }

    fn counters<'a, const N: usize>(
        &mut self,
        family: Family,
        samples: impl IntoIterator<Item = ([&'a str; N], impl EncodeCounterValue)>,
    ) -> fmt::Result {
        self.samples(family, samples, |mut encoder, value| {
            encoder.encode_counter::<NoLabelSet, _, f64>(&value, None)
        })
    }

    fn gauge(&mut self, family: Family, value: impl EncodeGaugeValue) -> fmt::Result {
        self.gauges(family, [([], value)])
    }

    fn gauges<'a, const N: usize>(
        &mut self,
        family: Family,
        samples: impl IntoIterator<Item = ([&'a str; N], impl EncodeGaugeValue)>,
    ) -> fmt::Result {
        self.samples(family, samples, |mut encoder, value| encoder.encode_gauge(&value))
    }

    fn histogram(&mut self, family: Family, sum: Duration, buckets: &[(f64, u64)]) -> fmt::Result {
        let count = buckets.iter().map(|(_, count)| count).sum();
        self.samples(family, [([], ())], |mut encoder, ()| {
            encoder.encode_histogram::<NoLabelSet>(sum.as_secs_f64(), count, buckets, None)
        })
    }

    fn samples<'a, const N: usize, V>(
        &mut self,
        family: Family,
        samples: impl IntoIterator<Item = ([&'a str; N], V)>,
        write: impl Fn(MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let kind = match family.kind {
            Type::Counter => MetricType::Counter,
            Type::Gauge => MetricType::Gauge,
            Type::Histogram => MetricType::Histogram,
        };
        let unit = family.unit().map(|unit| Unit::Other(unit.to_owned()));
        let (stem, unit) = (family.stem(), unit.as_ref());
        let mut encoder = self.0.encode_descriptor(stem, family.help, unit, kind)?;
        for (values, value) in samples {
            let labels: Vec<_> = family.labels.iter().copied().zip(values).collect();
            if labels.is_empty() {
                write(encoder, value)?;
                return Ok(());
            }
            write(encoder.encode_family(&labels.as_slice())?, value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Batch;
    use crate::metrics::snapshot::{Queue, Session, Stream, Tcp};

    fn scrape() -> Scrape {
        let counters = Counters::default();
        counters.sent.add(1500);
        counters.dropped(Drop::ForeignSource);
        counters.handshakes(Direction::Accepted, Handshake::Key).add(7);
        let mut batch = Batch::default();
        batch.waited(Duration::from_millis(3));
        counters.queue_delay.add(&mut batch);
        let stream = |index, rtt_us| Stream {
            index,
            tcp: Tcp { rtt_us, ..Tcp::default() },
            ..Stream::default()
        };
        let now = Snapshot {
            name: "tun0".to_owned(),
            daemon_version: "1.2.3".to_owned(),
            started: 1_700_000_000,
            session: Some(Session { streams: 3, ..Session::default() }),
            streams: vec![stream(0, 1500), stream(1, 0)],
            queue: Queue { packets: 2, bytes: 4096, ..Queue::default() },
            ..Snapshot::default()
        };
        Scrape { counters: Arc::new(counters), now }
    }

    #[test]
    fn samples_have_the_tunnel_their_labels_and_base_units() {
        let text = scrape().open_metrics().unwrap();
        for line in [
            "# TYPE tunnel64d_sent_bytes counter",
            "# UNIT tunnel64d_sent_bytes bytes",
            "tunnel64d_sent_bytes_total{tunnel=\"tun0\"} 1500",
            "tunnel64d_build_info{tunnel=\"tun0\",version=\"1.2.3\"} 1",
            "process_start_time_seconds{tunnel=\"tun0\"} 1700000000",
            "tunnel64d_session_up{tunnel=\"tun0\"} 1",
            "tunnel64d_streams{tunnel=\"tun0\"} 2",
            "tunnel64d_streams_agreed{tunnel=\"tun0\"} 3",
            "tunnel64d_stream_round_trip_seconds{tunnel=\"tun0\",stream=\"0\"} 0.0015",
            "tunnel64d_dropped_packets_total{tunnel=\"tun0\",cause=\"foreign_source\"} 1",
            "tunnel64d_handshakes_total{tunnel=\"tun0\",direction=\"accepted\",result=\"key\"} 7",
            "tunnel64d_queue_delay_seconds_bucket{tunnel=\"tun0\",le=\"0.0025\"} 0",
            "tunnel64d_queue_delay_seconds_bucket{tunnel=\"tun0\",le=\"0.005\"} 1",
            "tunnel64d_queue_delay_seconds_bucket{tunnel=\"tun0\",le=\"+Inf\"} 1",
            "tunnel64d_queue_bytes{tunnel=\"tun0\"} 4096",
            "tunnel64d_queue_packets{tunnel=\"tun0\"} 2",
            "tunnel64d_last_reload_applied{tunnel=\"tun0\"} 1",
            "tunnel64d_queue_delay_seconds_sum{tunnel=\"tun0\"} 0.003",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        assert!(!text.contains("stream=\"1\""), "nothing is known of it\n{text}");
    }

    #[test]
    fn every_family_is_written_and_no_other() {
        let text = scrape().text().unwrap();
        let types: Vec<_> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
        let expected: Vec<_> = f::ALL
            .iter()
            .map(|family| {
                let kind = match family.kind {
                    Type::Counter => "counter",
                    Type::Gauge => "gauge",
                    Type::Histogram => "histogram",
                };
                (family.name, kind)
            })
            .collect();
        assert_eq!(types, expected);
        assert!(!text.contains("# UNIT") && !text.contains("# EOF"), "{text}");
    }
}
