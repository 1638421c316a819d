//! The main loop of a tunnel: everything that happens, and what is done about it.
//!
//! [`Tunnel::carry`] is the loop. What becomes of connections is in [`connections`], what the
//! session's ups and downs mean for the workers, the interface and the admin in [`sessions`], what
//! is told of them on the control socket in [`snapshot`], what a new configuration means in
//! [`reload`], what the workers tell in [`workers`].

mod connections;
mod reload;
mod sessions;
mod snapshot;
mod workers;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep};

use crate::config::{Ready, Settings};
use crate::control::requests::Request;
use crate::link::negotiate::Ours;
use crate::link::peers::Peers;
use crate::link::session::{Session, StreamId};
use crate::metrics::Counters;
use crate::report;
use crate::service::flap::Flap;
use crate::service::inherited::{self, Inherited};
use crate::service::messages;
use crate::service::notify::Notifier;
use crate::service::repeat::Repeats;
use crate::service::trouble::Trouble;
use crate::sys;
use crate::time::Time;
use crate::transport::{Protection, tcp};
use crate::wire::bye::Reason;

use super::arrivals::{Arrivals, Happened};
use super::diagnosis::History;
use super::exporter::Exporter;
use super::interface::{Interface, Queues};
use super::listening::Listening;
use super::reload::{Asked, Basis, Refused, Verdicts};
use super::status::{Connected, State};
use super::watchdog::Watchdog;
use super::ways::Ways;
use super::worker::{Command, Handle};
use super::{Error, parameters};

use snapshot::Connection;
use workers::start_workers;

/// How long the workers may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

/// What peers and strangers can bring into the log: one line a minute for each complaint and
/// address, of so many; so many ups and downs of the session, and reasons why there is none.
const MINUTE: Duration = Duration::from_secs(60);
const COMPLAINTS: usize = 256;
const UPS_AND_DOWNS: usize = 10;
const WORDINGS: usize = 10;

/// So long after somebody has connected, what strangers took is given back, if none is left. Not
/// oftener: the next ones would take it again at once.
const TIDY: Duration = Duration::from_secs(1);

/// What there is to complain of about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Complaint {
    NotAllowed,
    Crowded,
    Foreign,
    Refused,
    Misbehaved,
    StreamDown(u8),
}

/// One tunnel.
pub struct Tunnel {
    settings: Settings,
    basis: Basis,
    tcp: tcp::Options,
    protection: Protection,
    ours: Ours,
    interface: Interface,
    session: Session,
    /// The attempts under way, and whether they are still needed.
    needed: HashMap<u64, Arc<AtomicBool>>,
    workers: Vec<Handle>,
    counters: Arc<Counters>,
    peers: Peers,
    listening: Option<Listening>,
    arrivals: Arrivals,
    ways: Ways,
    next_stream: StreamId,
    /// The connections of streams.
    connections: HashMap<StreamId, Connection>,
    /// The far end of the session, while there is one.
    peer: Option<SocketAddr>,
    /// The MTU that the peer of the present session was told, which may no longer be ours.
    told_mtu: u16,
    /// When the last session began.
    up_since: Time,
    carrier: bool,
    watchdog: Option<Watchdog>,
    notifier: Notifier,
    exporter: Option<Exporter>,
    ready: bool,
    /// What systemd has been told last.
    status: String,
    /// Why the last session ended, until an attempt to begin another has failed.
    lost_because: Option<String>,
    dialling: Trouble,
    /// What has been said of it: who answers may see to it that it is something else each time.
    wordings: Repeats<String>,
    history: History,
    verdicts: Verdicts,
    started: Time,
    repeats: Repeats<(Complaint, IpAddr)>,
    /// What has been said of workers that can't read their queues.
    unreadable: Repeats<usize>,
    flap: Flap,
    /// When memory is given back at the earliest, if anybody has connected since it last was.
    tidy: Option<Time>,
}

impl Tunnel {
    /// Creates the interface, starts the workers, listens, and says so.
    ///
    /// # Errors
    /// What a tunnel can't be without: the interface, netlink, threads.
    pub async fn set_up(
        settings: &Settings,
        basis: Basis,
        notifier: Notifier,
        mut inherited: Inherited,
    ) -> Result<Self, Error> {
        let now = Time::now();
        // A signal that comes meanwhile waits, instead of ending the process.
        let arrivals = Arrivals::new()?;
        let streams = parameters::streams(settings);
        let protection = parameters::protection(settings)?;
        let (interface, queues) = Interface::create(
            parameters::desired(settings),
            streams,
            parameters::offload(settings),
            inherited.queues(),
            &notifier,
        )
        .await?;
        let Queues { opened, accepts, carrier } = queues;
        let counters = Arc::new(Counters::default());
        let workers = start_workers(settings, opened, accepts, &counters, &arrivals.reports)?;
        let ours = parameters::ours(settings, streams, accepts)?;
        let tcp = parameters::tcp(settings);
        let listening = Listening::of(settings.link.listen, &tcp, &mut inherited, &notifier, now);
        let watchdog =
            notifier.watchdog_limit().map(|limit| Watchdog::new(limit, workers.len(), now));
        let mut tunnel = Self {
            settings: settings.clone(),
            basis,
            needed: HashMap::new(),
            session: Session::new(parameters::session(settings, &protection, ours.clone())?, now),
            tcp,
            protection,
            ours,
            interface,
            workers,
            counters,
            peers: Peers::new(parameters::peers(settings)),
            listening,
            arrivals,
            ways: Ways::new(streams.into()),
            next_stream: 0,
            connections: HashMap::new(),
            peer: None,
            told_mtu: settings.interface.mtu,
            up_since: now,
            carrier,
            watchdog,
            notifier,
            exporter: None,
            ready: false,
            status: String::new(),
            lost_because: None,
            dialling: Trouble::default(),
            wordings: Repeats::new(MINUTE, WORDINGS),
            history: History::default(),
            verdicts: Verdicts::default(),
            started: now,
            repeats: Repeats::new(MINUTE, COMPLAINTS),
            unreadable: Repeats::new(MINUTE, streams.into()),
            flap: Flap::new(MINUTE, UPS_AND_DOWNS),
            tidy: None,
        };
        if parameters::plaintext(settings) {
            report!(messages::PLAINTEXT);
        }
        if !carrier {
            // Opening another queue has set it.
            tunnel.workers[0].tell(Command::Carrier(false));
        }
        tunnel.listen(now);
        tunnel.serve_metrics().await;
        if settings.link.ready == Ready::Interface {
            tunnel.tell_ready();
        }
        Ok(tunnel)
    }

    /// Carries packets until it is told to stop.
    pub async fn carry(&mut self) {
        loop {
            self.dial_what_is_due();
            self.tell_status();
            let due = self.next_due();
            let Self { arrivals, listening, interface, .. } = &mut *self;
            match arrivals.next(listening.as_mut(), interface, due).await {
                Happened::Stop => return,
                Happened::Hangup => drop(self.reload(Asked::BySignal).await),
                Happened::Connected(result) => self.connected(result),
                Happened::Greeted(peer, result) => self.greeted(peer, result).await,
                Happened::Dialled(dial, outcome) => self.dialled(dial, outcome).await,
                Happened::Asked(request) => self.asked(request).await,
                Happened::Worker(event) => self.worker(event),
                Happened::Interface(_) => self.interface.disturbed(Time::now()),
                Happened::Due => {}
            }
            self.do_what_is_due().await;
        }
    }

    /// Says goodbye to the peer. The interface goes with the last descriptor, ours or systemd's.
    pub async fn tear_down(self) {
        report!(messages::STOPPING, traffic = self.counters);
        self.notifier.stopping("stopping");
        // A process is not told whether another one follows.
        let restarting = self.notifier.keeps();
        let reason = if restarting { Reason::Restarting } else { Reason::Stopping };
        for worker in &self.workers {
            worker.tell(Command::Stop(reason));
        }
        let until = Instant::now() + FAREWELL;
        while !self.workers.iter().all(Handle::has_ended) && Instant::now() < until {
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// The way in for requests.
    pub fn ask(&self) -> Sender<Request> {
        self.arrivals.ask.clone()
    }

    /// Serves metrics where the configuration wants them, and nowhere else.
    async fn serve_metrics(&mut self) {
        let (counters, ask) = (self.counters.clone(), self.ask());
        let listen = self.settings.metrics.listen.clone();
        if let Some(before) = self.exporter.take() {
            before.stop().await;
        }
        self.exporter = match listen {
            Some(listen) => Some(Exporter::start(listen, counters, ask).await),
            None => None,
        };
    }

    async fn asked(&mut self, request: Request) {
        match request {
            Request::Status(reply) => self.tell_snapshot(reply),
            Request::Reload(reply) => {
                let verdict = self.reload(Asked::OnSocket).await;
                // Whoever asked may have given up.
                let told = |refused: Refused| refused.told(&self.settings.name);
                let _ = reply.send(verdict.map(Into::into).map_err(told));
            }
        }
    }

    fn next_due(&self) -> Option<Time> {
        let carrier = self.session.down_since().filter(|_| self.carrier);
        [
            self.session.next_poll(),
            carrier.map(|since| since + self.settings.link.dead_after),
            self.listening.as_ref().and_then(Listening::due),
            self.interface.due(),
            self.flap.due(),
            self.tidy.filter(|_| self.arrivals.greeted.is_empty()),
            self.watchdog.as_ref().map(Watchdog::due),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    async fn do_what_is_due(&mut self) {
        let now = Time::now();
        self.listen(now);
        if self.interface.due().is_some_and(|due| due <= now) {
            self.mend_interface(now).await;
        }
        self.update_carrier(now);
        self.sum_up(now);
        self.tidy(now);
        self.feed_watchdog(now);
    }

    /// Binds the port or ends a pause, if that is due.
    fn listen(&mut self, now: Time) {
        let Some(listening) = &mut self.listening else { return };
        if listening.poll(now) {
            inherited::keep_port(&self.notifier, listening.port());
        }
    }

    /// Gives memory back that greetings have taken: the allocator would keep it.
    fn tidy(&mut self, now: Time) {
        if self.arrivals.greeted.is_empty() && self.tidy.is_some_and(|due| due <= now) {
            sys::memory::give_back();
            self.tidy = None;
        }
    }

    async fn mend_interface(&mut self, now: Time) {
        if let Some(queues) = self.interface.mend(now).await {
            inherited::keep_other_queues(&self.notifier, &queues);
            for (worker, queue) in self.workers.iter().zip(queues) {
                worker.tell(Command::Interface(queue));
            }
            self.workers[0].tell(Command::Carrier(self.carrier));
        }
    }

    fn tell_ready(&mut self) {
        self.ready = true;
        report!(messages::READY, interface = self.interface.name());
        self.status = self.state().to_string();
        self.notifier.ready(&self.status);
    }

    fn tell_status(&mut self) {
        let status = self.state().to_string();
        if self.status != status {
            self.notifier.status(&status);
            self.status = status;
        }
    }

    /// What is worth a word to the admin.
    fn state(&self) -> State<'_> {
        let connected = self.session.agreed().zip(self.peer).map(|(agreed, peer)| Connected {
            peer,
            live: (0..agreed.streams).filter(|i| self.session.stream(*i).is_some()).count(),
            agreed: agreed.streams,
        });
        State {
            connected,
            disconnected: self.lost_because.as_deref().or_else(|| self.dialling.current()),
            endpoint: self.settings.link.connect.first(),
            listen: self.listening.as_ref().map(Listening::address),
            cannot_listen: self.listening.as_ref().and_then(Listening::trouble),
            interface_trouble: self.interface.trouble(),
        }
    }
}
