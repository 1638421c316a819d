//! The main loop of a tunnel: everything that happens, and what is done about it.
//!
//! [`Tunnel::carry`] is the loop. What becomes of connections is in [`connections`]; what the
//! session's ups and downs mean for the interface and the admin is here.

mod connections;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep};

use crate::config::{Ready, Settings};
use crate::link::negotiate::{Agreed, Ours};
use crate::link::peers::Peers;
use crate::link::session::{Action, Session, StreamId};
use crate::metrics::Counters;
use crate::packet::offload::Accepts;
use crate::service::messages;
use crate::service::notify::Notifier;
use crate::service::repeat::Repeats;
use crate::service::trouble::Trouble;
use crate::time::Time;
use crate::transport::{Protection, tcp};
use crate::tun::device::Opened;
use crate::wire::bye::Reason;
use crate::{note, report};

use super::arrivals::{Arrivals, Happened};
use super::interface::Interface;
use super::listening::Listening;
use super::status::{Connected, State};
use super::watchdog::{Verdict, Watchdog};
use super::worker::{self, Command, Event, Handle};
use super::{Error, parameters};

/// How long the workers may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

/// What can be said of strangers in a log, per kind of trouble and address.
const REPEATS_WITHIN: Duration = Duration::from_secs(60);
const REPEATS_OF: usize = 256;

/// One tunnel.
pub struct Tunnel {
    settings: Settings,
    tcp: tcp::Options,
    protection: Protection,
    ours: Ours,
    interface: Interface,
    session: Session,
    workers: Vec<Handle>,
    counters: Arc<Counters>,
    peers: Peers,
    listening: Option<Listening>,
    arrivals: Arrivals,
    next_stream: StreamId,
    /// Where the connections of streams lead.
    addresses: HashMap<StreamId, SocketAddr>,
    /// The far end of the session, while there is one.
    peer: Option<SocketAddr>,
    carrier: bool,
    watchdog: Option<Watchdog>,
    notifier: Notifier,
    ready: bool,
    /// What systemd has been told last.
    status: String,
    /// Why the last session ended, until an attempt to begin another has failed.
    lost_because: Option<String>,
    dialling: Trouble,
    repeats: Repeats<(&'static str, IpAddr)>,
}

impl Tunnel {
    /// Creates the interface, starts the workers, listens, and says so.
    ///
    /// # Errors
    /// What a tunnel can't be without: the interface, netlink, threads.
    pub async fn set_up(settings: &Settings, notifier: Notifier) -> Result<Self, Error> {
        let now = Time::now();
        let streams = parameters::streams(settings);
        let protection = parameters::protection(settings)?;
        let (interface, queues, accepts) = Interface::create(
            parameters::desired(settings),
            streams,
            parameters::offload(settings),
        )
        .await?;
        let counters = Arc::new(Counters::default());
        let arrivals = Arrivals::new()?;
        let workers = start_workers(settings, queues, accepts, &counters, &arrivals.reports)?;
        let ours = parameters::ours(settings, streams, accepts)?;
        let tcp = parameters::tcp(settings);
        let listening =
            settings.link.listen.map(|address| Listening::new(address, tcp.clone(), now));
        let watchdog =
            notifier.watchdog_limit().map(|limit| Watchdog::new(limit, workers.len(), now));
        let mut tunnel = Self {
            settings: settings.clone(),
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
            next_stream: 0,
            addresses: HashMap::new(),
            peer: None,
            carrier: true,
            watchdog,
            notifier,
            ready: false,
            status: String::new(),
            lost_because: None,
            dialling: Trouble::default(),
            repeats: Repeats::new(REPEATS_WITHIN, REPEATS_OF),
        };
        if parameters::plaintext(settings) {
            report!(messages::PLAINTEXT);
        }
        if let Some(listening) = &mut tunnel.listening {
            listening.poll(now);
        }
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
                Happened::Hangup => {
                    note!(WARN, "reloading is not built yet: restart to apply a new configuration");
                }
                Happened::Connected(result) => self.connected(result),
                Happened::Greeted(peer, result) => self.greeted(peer, result).await,
                Happened::Dialled(dial, result) => self.dialled(dial, result).await,
                Happened::Worker(event) => self.worker(event).await,
                Happened::Interface(_) => self.interface.disturbed(Time::now()),
                Happened::Due => {}
            }
            self.do_what_is_due().await;
        }
    }

    /// Says goodbye to the peer and takes the interface away.
    pub async fn tear_down(self) {
        report!(messages::STOPPING, traffic = self.counters);
        self.notifier.stopping("stopping");
        for worker in &self.workers {
            worker.tell(Command::Stop(Reason::Stopping));
        }
        let until = Instant::now() + FAREWELL;
        while !self.workers.iter().all(Handle::has_ended) && Instant::now() < until {
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn next_due(&self) -> Option<Time> {
        let carrier = self.session.down_since().filter(|_| self.carrier);
        [
            self.session.next_poll(),
            carrier.map(|since| since + self.settings.link.dead_after),
            self.listening.as_ref().and_then(Listening::due),
            self.interface.due(),
            self.watchdog.as_ref().map(Watchdog::due),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    async fn do_what_is_due(&mut self) {
        let now = Time::now();
        if let Some(listening) = &mut self.listening {
            listening.poll(now);
        }
        if self.interface.due().is_some_and(|due| due <= now) {
            self.mend_interface(now).await;
        }
        self.update_carrier(now);
        self.feed_watchdog(now);
    }

    async fn carry_out(&mut self, actions: Vec<Action>, peer: SocketAddr) {
        let replaced = actions.contains(&Action::Down);
        for action in actions {
            match action {
                Action::Close(id, reason) => {
                    self.addresses.remove(&id);
                    for worker in &self.workers {
                        worker.tell(Command::Close(id, reason));
                    }
                }
                Action::Up(agreed) => self.session_up(&agreed, peer, replaced).await,
                // The next session is there already.
                Action::Down | Action::Dial(_) => {}
            }
        }
        self.update_carrier(Time::now());
    }

    async fn session_up(&mut self, agreed: &Agreed, peer: SocketAddr, replaced: bool) {
        let session = self.session.id().unwrap_or_default();
        let &Agreed { streams, mtu, .. } = agreed;
        if replaced {
            report!(
                messages::SESSION_REPLACED,
                peer = peer,
                session = session,
                streams = streams,
                mtu = mtu
            );
        } else {
            report!(
                messages::SESSION_UP,
                peer = peer,
                session = session,
                streams = streams,
                mtu = mtu
            );
        }
        self.peer = Some(peer);
        self.lost_because = None;
        self.dialling.is_over();
        self.interface.set_mtu(agreed.mtu).await;
        // Streams that the peer does not have can't carry anything.
        for (index, worker) in self.workers.iter().enumerate().skip(1) {
            let up = u8::try_from(index).is_ok_and(|index| self.session.stream(index).is_some());
            worker.tell(Command::Enable(up));
        }
        if !self.ready {
            self.tell_ready();
        }
    }

    fn session_down(&mut self, peer: Option<SocketAddr>, reason: &str) {
        report!(
            messages::SESSION_DOWN,
            peer = peer.map(|peer| peer.to_string()).unwrap_or_default(),
            reason = reason,
            traffic = self.counters
        );
        self.lost_because = Some(reason.to_owned());
        self.peer = None;
    }

    async fn worker(&mut self, event: Event) {
        match event {
            Event::Lost(id, loss) => self.lost(id, &loss).await,
            Event::Stalled(id) => {
                note!(DEBUG, "stream stalled", stream = id);
                self.session.stalled(Time::now(), id);
            }
            Event::Recovered(id) => self.session.recovered(id),
            Event::InterfaceGone => self.interface.disturbed(Time::now()),
            Event::Orphans(packets) => {
                let heir = (0..)
                    .zip(&self.workers)
                    .find(|(stream, _)| self.session.stream(*stream).is_some());
                if let Some((_, worker)) = heir {
                    worker.tell(Command::Adopt(packets));
                }
            }
            Event::Alive(index) => {
                if let Some(watchdog) = &mut self.watchdog {
                    watchdog.answered(index, Time::now());
                }
            }
        }
    }

    async fn lost(&mut self, id: StreamId, loss: &worker::Loss) {
        let index = (0..).take(self.workers.len()).find(|i| self.session.stream(*i) == Some(id));
        let Some(index) = index else { return };
        let peer = self.addresses.remove(&id);
        let actions = self.session.stream_down(Time::now(), id);
        if actions.contains(&Action::Down) {
            self.session_down(peer, &loss.to_string());
        } else {
            let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
            report!(messages::STREAM_DOWN, stream = index, peer = peer, reason = loss);
            // Without any stream, packets wait where they are.
            if (0..).take(self.workers.len()).any(|other| self.session.stream(other).is_some()) {
                self.workers[usize::from(index)].tell(Command::Enable(false));
            }
        }
    }

    async fn mend_interface(&mut self, now: Time) {
        if let Some(queues) = self.interface.mend(now).await {
            for (worker, queue) in self.workers.iter().zip(queues) {
                worker.tell(Command::Interface(queue));
            }
            self.workers[0].tell(Command::Carrier(self.carrier));
        }
    }

    /// Without a session for longer than `dead_after` the interface loses its carrier, so that
    /// senders are told instead of left waiting.
    fn update_carrier(&mut self, now: Time) {
        let dead_after = self.settings.link.dead_after;
        let carrier = self.session.down_since().is_none_or(|since| now - since < dead_after);
        if carrier == self.carrier {
            return;
        }
        self.carrier = carrier;
        if carrier {
            report!(messages::CARRIER_GAINED, interface = self.interface.name());
        } else {
            report!(messages::CARRIER_LOST, interface = self.interface.name());
        }
        self.workers[0].tell(Command::Carrier(carrier));
    }

    fn feed_watchdog(&mut self, now: Time) {
        let Some(verdict) = self.watchdog.as_mut().and_then(|watchdog| watchdog.poll(now)) else {
            return;
        };
        match verdict {
            Verdict::Feed => self.notifier.watchdog(),
            Verdict::Withhold { worker, news: true } => {
                report!(messages::WORKER_STALLED, worker = worker);
            }
            Verdict::Withhold { news: false, .. } => {}
        }
        for worker in &self.workers {
            worker.tell(Command::Beat);
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

fn start_workers(
    settings: &Settings,
    queues: Vec<Opened>,
    accepts: Accepts,
    counters: &Arc<Counters>,
    reports: &UnboundedSender<Event>,
) -> Result<Vec<Handle>, Error> {
    let parameters = parameters::worker(settings, queues.len(), accepts, counters);
    (0..)
        .zip(queues)
        .map(|(index, queue)| worker::start(index, queue, parameters.clone(), reports.clone()))
        .collect::<io::Result<_>>()
        .map_err(Error::system("starting a worker"))
}
