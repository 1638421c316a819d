//! How things are with a tunnel, for whoever asks.
//!
//! What the main loop knows is gathered at once. The workers are asked to say the rest, and have a
//! moment for it, in a task of its own: neither waits for the other.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::config::{Mode, Offload};
use crate::daemon::diagnosis;
use crate::daemon::interface::offloads;
use crate::daemon::worker::{Answer, Handle, MeasuredConnection};
use crate::link::session::StreamId;
use crate::metrics::snapshot::{
    Config, Interface, Occurrence, Problem, Queue, Session, Snapshot, State, Stream, Tcp, Traffic,
    VERSION,
};
use crate::metrics::{self, Drop};
use crate::packet::offload::Accepts;
use crate::sys;
use crate::time::Time;
use crate::transport::keys::PublicKey;
use crate::transport::{self, Protection, tls};

use super::Tunnel;

/// How long a worker may take to answer; all are asked at the same time.
const MOMENT: Duration = Duration::from_millis(500);

/// What is known of a connection from the time that it was made.
pub(super) struct Connection {
    pub peer: SocketAddr,
    local: Option<SocketAddr>,
    since: Time,
    pub key: Option<PublicKey>,
    /// Whether the peer dialled.
    pub accepted: bool,
    ciphers: Option<tls::Ciphers>,
}

impl Connection {
    /// Of a connection whose peer has proved to hold `key`.
    pub fn new(
        stream: &transport::Stream,
        key: Option<PublicKey>,
        accepted: bool,
        since: Time,
    ) -> Self {
        Self {
            peer: stream.peer(),
            local: stream.local().ok(),
            since,
            key,
            accepted,
            ciphers: stream.ciphers(),
        }
    }
}

/// A snapshot that lacks what the workers have to say.
struct Gathering {
    snapshot: Snapshot,
    clock: Clock,
    /// The streams that are up, in the order of [`Snapshot::streams`].
    ids: Vec<StreamId>,
    peer: Option<SocketAddr>,
    answers: Vec<Answer>,
}

impl Tunnel {
    /// Takes a snapshot and hands it to whoever asked.
    pub(super) fn tell_snapshot(&mut self, reply: oneshot::Sender<Snapshot>) {
        let gathering = self.gather();
        tokio::spawn(async move {
            // Whoever asked may have given up.
            let _ = reply.send(gathering.finish().await);
        });
    }

    fn gather(&mut self) -> Gathering {
        let clock = Clock::now();
        let answers = self.workers.iter_mut().map(Handle::measure).collect();
        let live: Vec<_> = (0..=u8::MAX)
            .take(self.workers.len())
            .filter_map(|index| Some((index, self.session.stream(index)?)))
            .collect();
        let stream = |(index, id): &(u8, StreamId)| {
            let connection = self.connections.get(id);
            Stream {
                index: *index,
                local: text(connection.and_then(|connection| connection.local)),
                remote: text(connection.map(|connection| connection.peer)),
                since: clock.unix(connection.map_or(self.up_since, |connection| connection.since)),
                ..Stream::default()
            }
        };
        let state = match self.session.down_since() {
            None => State::Up,
            Some(_) if self.settings.link.connect.is_empty() => State::Listening,
            Some(_) => State::Connecting,
        };
        let snapshot = Snapshot {
            version: VERSION,
            name: self.settings.name.clone(),
            daemon_version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: clock.unix(self.started),
            taken_ms: clock.milliseconds(),
            state,
            since: clock.unix(self.session.down_since().unwrap_or(self.up_since)),
            summary: self.state().to_string(),
            problems: self.problems(&clock),
            last_error: self.history.last().map(|(when, what)| clock.occurrence(when, what)),
            config: self.config(),
            session: self.session_told(&clock, live.first().map(|(_, id)| *id)),
            sessions: self.counters.sessions.value(),
            streams: live.iter().map(stream).collect(),
            sent: traffic(&self.counters.sent),
            received: traffic(&self.counters.received),
            drops: Drop::ALL
                .into_iter()
                .map(|cause| (cause.as_str().to_owned(), self.counters.drops(cause)))
                .collect(),
            queue: Queue { limit: self.settings.queue.limit as u64, ..Queue::default() },
            interface: self.interface_told(&clock),
        };
        let ids = live.into_iter().map(|(_, id)| id).collect();
        Gathering { snapshot, clock, ids, peer: self.peer, answers }
    }

    /// All that is wrong, as far as the main loop knows.
    fn problems(&self, clock: &Clock) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(down_since) = self.session.down_since() {
            let since = Some(clock.unix(down_since));
            problems.extend(self.history.problems().map(|(since, problem)| Problem {
                since: Some(clock.unix(since)),
                ..problem.clone()
            }));
            let listening =
                self.listening.as_ref().filter(|listening| listening.trouble().is_none());
            match (&self.lost_because, listening) {
                (Some(reason), _) => {
                    problems.insert(0, Problem { since, ..diagnosis::of_end(reason) });
                }
                (None, Some(listening)) if problems.is_empty() && !self.dials() => {
                    let problem = diagnosis::of_absence(listening.address());
                    problems.push(Problem { since, ..problem });
                }
                _ => {}
            }
        }
        if let Some(listening) = &self.listening {
            let trouble = listening.trouble();
            problems.extend(trouble.map(|why| diagnosis::of_listening(listening.address(), why)));
        }
        let name = self.interface.name();
        let trouble = self.interface.trouble();
        problems.extend(trouble.map(|why| diagnosis::of_interface(name, why)));
        if self.interface.is_quarrelled_over(clock.time) {
            let last = self.interface.restorations().last.as_ref();
            let last = last.map_or("", |(_, what)| what.as_str());
            problems.push(diagnosis::of_quarrel(name, last));
        }
        problems
    }

    fn dials(&self) -> bool {
        !self.settings.link.connect.is_empty()
    }

    fn config(&self) -> Config {
        let link = &self.settings.link;
        Config {
            listen: link.listen.map(|address| address.to_string()),
            connect: link.connect.iter().map(ToString::to_string).collect(),
            mode: match self.settings.security.mode {
                Mode::Tls => "tls",
                Mode::Plaintext => "plaintext",
            }
            .to_owned(),
            public_key: match &self.protection {
                Protection::Tls(endpoint) => Some(endpoint.public_key().to_string()),
                Protection::Plaintext => None,
            },
            streams: self.ours.streams,
        }
    }

    fn session_told(&self, clock: &Clock, first: Option<StreamId>) -> Option<Session> {
        let agreed = self.session.agreed()?;
        let connection = first.and_then(|id| self.connections.get(&id));
        let ciphers = connection.and_then(|connection| connection.ciphers.as_ref());
        let features = Accepts::from_bits_truncate(agreed.features);
        Some(Session {
            id: self.session.id().map(|id| id.to_string()).unwrap_or_default(),
            since: clock.unix(self.up_since),
            peer: text(self.peer),
            peer_public_key: connection.and_then(|it| it.key).map(|key| key.to_string()),
            cipher: ciphers.map(|ciphers| ciphers.suite.clone()),
            key_exchange: ciphers.map(|ciphers| ciphers.key_exchange.clone()),
            protocol: agreed.version,
            features: offloads(features).into_iter().map(str::to_owned).collect(),
            streams: agreed.streams,
            mtu: agreed.mtu,
        })
    }

    fn interface_told(&self, clock: &Clock) -> Interface {
        let restorations = self.interface.restorations();
        let last = restorations.last.as_ref();
        Interface {
            name: self.interface.name().to_owned(),
            index: self.interface.index(),
            mtu: self.interface.mtu(),
            mtu_configured: self.settings.interface.mtu,
            offload: offloads(self.interface.accepts()).into_iter().map(str::to_owned).collect(),
            offload_configured: match self.settings.interface.offload {
                Offload::Auto => "auto",
                Offload::Off => "off",
            }
            .to_owned(),
            carrier: self.carrier,
            restored: restorations.count,
            last_restored: last.map(|(when, what)| clock.occurrence(*when, what)),
        }
    }
}

impl Gathering {
    /// Waits for the workers, as long as a moment.
    async fn finish(mut self) -> Snapshot {
        let until = tokio::time::Instant::now() + MOMENT;
        let mut connections = Vec::new();
        for (index, answer) in std::mem::take(&mut self.answers).into_iter().enumerate() {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            match timeout(left, answer).await {
                Ok(Ok(measured)) => {
                    let queue = &mut self.snapshot.queue;
                    queue.packets += measured.queue.packets as u64;
                    queue.bytes += measured.queue.bytes as u64;
                    queue.delay_us = queue.delay_us.max(microseconds(measured.queue.delay));
                    if measured.unreadable {
                        let name = &self.snapshot.interface.name;
                        let problem = diagnosis::of_unreadable(name, index);
                        self.snapshot.problems.push(problem);
                    }
                    connections.extend(measured.connection);
                }
                _ => self.snapshot.problems.push(diagnosis::of_worker(index)),
            }
        }
        for (stream, id) in self.snapshot.streams.iter_mut().zip(&self.ids) {
            if let Some(connection) = connections.iter().find(|connection| connection.id == *id) {
                fill_in(stream, connection);
            }
        }
        self.look_for_silence();
        self.snapshot
    }

    /// With all its streams stalled a session carries nothing.
    fn look_for_silence(&mut self) {
        let Self { snapshot, clock, peer, .. } = self;
        let all = snapshot.streams.iter().all(|stream| stream.stalled);
        let silent = snapshot.streams.iter().map(|stream| stream.silent_us).min();
        let (State::Up, true, Some(peer)) = (snapshot.state, all, *peer) else { return };
        // A session that has lost its last stream waits for another.
        let silent = silent.unwrap_or(0);
        snapshot.state = State::Stalled;
        snapshot.since = clock.seconds().saturating_sub(silent / 1_000_000);
        let problem = diagnosis::of_silence(peer, silent / 1_000_000);
        snapshot.problems.insert(0, Problem { since: Some(snapshot.since), ..problem });
    }
}

fn fill_in(stream: &mut Stream, measured: &MeasuredConnection) {
    stream.stalled = measured.stalled;
    stream.silent_us = microseconds(measured.silent);
    stream.unsent = measured.unsent as u64;
    stream.tcp = measured.tcp.as_ref().map(tcp).unwrap_or_default();
}

fn tcp(info: &sys::tcp::Info) -> Tcp {
    Tcp {
        rtt_us: microseconds(info.round_trip),
        min_rtt_us: microseconds(info.least_round_trip),
        retransmits: info.retransmits.into(),
        delivery_rate: info.delivery_rate,
        congestion_window: info.congestion_window,
        unsent: info.unsent as u64,
        sent: info.acknowledged,
        received: info.received,
    }
}

fn traffic(traffic: &metrics::Traffic) -> Traffic {
    Traffic { packets: traffic.packets(), bytes: traffic.bytes() }
}

fn text(address: Option<SocketAddr>) -> String {
    address.map(|address| address.to_string()).unwrap_or_default()
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The same moment on both clocks.
#[derive(Debug, Clone, Copy)]
struct Clock {
    time: Time,
    unix: Duration,
}

impl Clock {
    fn now() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { time: Time::now(), unix }
    }

    /// An earlier point in time, in Unix seconds.
    fn unix(&self, time: Time) -> u64 {
        self.unix.saturating_sub(self.time - time).as_secs()
    }

    fn seconds(&self) -> u64 {
        self.unix.as_secs()
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.unix.as_millis()).unwrap_or(u64::MAX)
    }

    fn occurrence(&self, when: Time, what: &str) -> Occurrence {
        Occurrence { time: self.unix(when), text: what.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::daemon::worker::Measured;
    use crate::metrics::snapshot::Kind;
    use crate::queue::Depth;

    #[tokio::test]
    async fn a_worker_that_reads_nothing_is_a_problem_and_so_is_one_that_has_ended() {
        let answer = |unreadable| {
            let (reply, answer) = oneshot::channel();
            reply.send(Measured { queue: Depth::default(), unreadable, connection: None }).unwrap();
            answer.shared()
        };
        let ended = oneshot::channel().1.shared();
        let answers = vec![answer(false), answer(true), ended];
        let interface = Interface { name: "tun7".to_owned(), ..Interface::default() };
        let snapshot = Snapshot { interface, ..Snapshot::default() };
        let gathering =
            Gathering { snapshot, clock: Clock::now(), ids: Vec::new(), peer: None, answers };
        let problems = gathering.finish().await.problems;
        let kinds: Vec<_> = problems.iter().map(|problem| problem.kind).collect();
        assert_eq!(kinds, [Kind::Interface, Kind::Worker], "{problems:?}");
        assert_eq!(problems[0].text, "stream 1 can read nothing from interface tun7");
    }
}
