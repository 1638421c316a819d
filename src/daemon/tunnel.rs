//! The main loop of a tunnel: everything that happens, and what is done about it.

use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::config::{Ready, Settings};
use crate::link::negotiate::{Agreed, Ours};
use crate::link::peers::{Peers, TurnedAway};
use crate::link::session::{self, Action, Dial, Identity, Session, StreamId};
use crate::metrics::Counters;
use crate::netlink;
use crate::packet::offload::Accepts;
use crate::service::messages;
use crate::service::notify::Notifier;
use crate::service::repeat::Repeats;
use crate::time::Time;
use crate::transport::{Protection, Stream, tcp};
use crate::tun::device::Opened;
use crate::tun::sanitise::Sanitiser;
use crate::wire::bye::{self, Reason};
use crate::wire::frame::{Kind, MAX_PACKET};
use crate::wire::hello::{Hello, Instance, SessionId};
use crate::{note, report};

use super::interface::Interface;
use super::introduction::{Dialler, Failure, Introduced, greet, plaintext_identity};
use super::worker::{self, Command, Event, Handle};
use super::{Error, parameters};

/// The pause before a port that is taken is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);

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
    listener: Option<TcpListener>,
    listen_at: Option<Time>,
    arrivals: Arrivals,
    next_stream: StreamId,
    carrier: bool,
    ready: bool,
    watchdog: Option<Watchdog>,
    notifier: Notifier,
    repeats: Repeats<(&'static str, IpAddr)>,
    complaint: String,
}

/// Where what happens comes from.
struct Arrivals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    workers: UnboundedReceiver<Event>,
    /// Kept so that a worker's end never closes the channel.
    _reports: UnboundedSender<Event>,
    greeted: JoinSet<(SocketAddr, Result<Introduced, Failure>)>,
    dialled: JoinSet<(Dial, Result<Introduced, Failure>)>,
}

/// What happened.
enum Happened {
    Stop,
    Hangup,
    Connected(io::Result<(TcpStream, SocketAddr)>),
    Greeted(SocketAddr, Result<Introduced, Failure>),
    Dialled(Dial, Result<Introduced, Failure>),
    Worker(Event),
    Interface(netlink::Event),
    Due,
}

/// Feeds systemd's watchdog for as long as every worker answers.
struct Watchdog {
    interval: Duration,
    next: Time,
    alive: Vec<bool>,
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
        let (reports, events) = unbounded_channel();
        let workers = start_workers(settings, queues, accepts, &counters, &reports)?;
        let ours = ours(settings, streams, accepts)?;
        let watchdog = notifier.watchdog_interval().map(|interval| Watchdog {
            interval,
            next: now,
            alive: vec![true; workers.len()],
        });
        let mut tunnel = Self {
            settings: settings.clone(),
            tcp: parameters::tcp(settings),
            session: Session::new(session_parameters(settings, &protection, ours.clone())?, now),
            protection,
            ours,
            interface,
            workers,
            counters,
            peers: Peers::new(parameters::peers(settings)),
            listener: None,
            listen_at: settings.link.listen.map(|_| now),
            arrivals: Arrivals::new(events, reports)?,
            next_stream: 0,
            carrier: true,
            ready: false,
            watchdog,
            notifier,
            repeats: Repeats::new(REPEATS_WITHIN, REPEATS_OF),
            complaint: String::new(),
        };
        if parameters::plaintext(settings) {
            report!(messages::PLAINTEXT);
        }
        tunnel.listen(now);
        if settings.link.ready == Ready::Interface {
            tunnel.tell_ready();
        }
        Ok(tunnel)
    }

    /// Carries packets until it is told to stop.
    pub async fn carry(&mut self) {
        loop {
            self.dial_what_is_due();
            match self.next().await {
                Happened::Stop => return,
                Happened::Hangup => {
                    note!(WARN, "reloading is not built yet: restart to apply a new configuration");
                }
                Happened::Connected(result) => self.connected(result),
                Happened::Greeted(peer, result) => self.greeted(peer, result).await,
                Happened::Dialled(dial, result) => self.dialled(dial, result).await,
                Happened::Worker(event) => self.worker(event).await,
                Happened::Interface(netlink::Event::Changed) => {
                    self.interface.disturbed(Time::now());
                }
                Happened::Interface(netlink::Event::Gone) => self.recreate_interface().await,
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
            sleep_until(Instant::now() + Duration::from_millis(5)).await;
        }
    }

    /// Waits for the next thing to happen.
    async fn next(&mut self) -> Happened {
        let due = self.next_due();
        let Self { arrivals, listener, interface, .. } = self;
        let timer = async {
            match due {
                Some(due) => sleep_until(Instant::now() + (due - Time::now())).await,
                None => pending().await,
            }
        };
        let accept = async {
            match listener {
                Some(listener) => listener.accept().await,
                None => pending().await,
            }
        };
        tokio::select! {
            _ = arrivals.terminate.recv() => Happened::Stop,
            _ = arrivals.interrupt.recv() => Happened::Stop,
            _ = arrivals.hangup.recv() => Happened::Hangup,
            Some(event) = arrivals.workers.recv() => Happened::Worker(event),
            Some(Ok((dial, result))) = arrivals.dialled.join_next() => {
                Happened::Dialled(dial, result)
            }
            Some(Ok((peer, result))) = arrivals.greeted.join_next() => {
                Happened::Greeted(peer, result)
            }
            event = interface.changed() => Happened::Interface(event),
            accepted = accept => Happened::Connected(accepted),
            () = timer => Happened::Due,
        }
    }

    fn next_due(&self) -> Option<Time> {
        let carrier = self.session.down_since().filter(|_| self.carrier);
        [
            self.session.next_poll(),
            carrier.map(|since| since + self.settings.link.dead_after),
            self.listen_at,
            self.interface.due(),
            self.watchdog.as_ref().map(|watchdog| watchdog.next),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    async fn do_what_is_due(&mut self) {
        let now = Time::now();
        self.listen(now);
        if self.interface.due().is_some_and(|due| due <= now) {
            if self.interface.is_gone() {
                self.recreate_interface().await;
            } else {
                self.interface.restore(now).await;
            }
        }
        self.update_carrier(now);
        self.feed_watchdog(now);
    }

    fn listen(&mut self, now: Time) {
        let (Some(address), Some(at)) = (self.settings.link.listen, self.listen_at) else { return };
        if at > now {
            return;
        }
        match tcp::listen(address, &self.tcp) {
            Ok(listener) => {
                report!(messages::LISTENING, address = address);
                self.listener = Some(listener);
                self.listen_at = None;
                self.complaint.clear();
            }
            Err(error) => {
                let complaint = error.to_string();
                if self.complaint != complaint {
                    report!(messages::LISTEN_FAILED, address = address, error = complaint);
                    self.notifier.status(&format!("cannot listen on {address}: {complaint}"));
                    self.complaint = complaint;
                }
                self.listen_at = Some(now + LISTEN_AGAIN);
            }
        }
    }

    fn dial_what_is_due(&mut self) {
        for action in self.session.poll(Time::now()) {
            let dial = match action {
                Action::Dial(dial) => dial,
                Action::Down => {
                    self.session_down("the last stream could not be replaced");
                    continue;
                }
                Action::Up(_) | Action::Close(..) => continue,
            };
            let hello = self.ours.hello(dial.session, dial.stream);
            let dialler = Dialler {
                endpoints: self.settings.link.connect.clone(),
                options: self.tcp.clone(),
                protection: self.protection.clone(),
                netlink: self.interface.netlink().clone(),
                interface: self.interface.index(),
            };
            self.arrivals
                .dialled
                .spawn(async move { (dial, dialler.dial(&hello, dial.patience).await) });
        }
    }

    fn connected(&mut self, result: io::Result<(TcpStream, SocketAddr)>) {
        let (tcp, peer) = match result {
            Ok(connection) => connection,
            Err(error) => {
                // Out of descriptors, mostly: without a pause this would spin.
                self.listener = None;
                self.listen_at = Some(Time::now() + LISTEN_AGAIN);
                return self.complain_of_listening(&error);
            }
        };
        if let Err(turned_away) = self.peers.enter(peer.ip()) {
            let kind = match turned_away {
                TurnedAway::Address => "address",
                TurnedAway::Crowded => "crowded",
            };
            return self.refuse(kind, peer, &turned_away);
        }
        if tcp::tune_accepted(&tcp, &self.tcp).is_err() {
            return self.peers.leave(peer.ip());
        }
        let protection = self.protection.clone();
        self.arrivals.greeted.spawn(async move { (peer, greet(tcp, peer, &protection).await) });
    }

    async fn greeted(&mut self, peer: SocketAddr, result: Result<Introduced, Failure>) {
        self.peers.leave(peer.ip());
        let Introduced { mut stream, hello, identity } = match result {
            Ok(introduced) => introduced,
            Err(failure) => return self.misbehaved(peer, &failure),
        };
        let id = self.name_stream();
        match self.session.accepted(Time::now(), id, &hello, identity) {
            Ok((reply, actions)) => {
                stream.push_control(Kind::Hello, &reply.to_body());
                self.attach(id, stream, &hello);
                self.carry_out(actions, peer).await;
            }
            Err(reason) => self.turn_away(stream, reason),
        }
    }

    async fn dialled(&mut self, dial: Dial, result: Result<Introduced, Failure>) {
        let now = Time::now();
        let Introduced { stream, hello, identity } = match result {
            Ok(introduced) => introduced,
            Err(failure) => {
                self.session.dial_failed(now, dial.attempt);
                return self.dial_failed(&failure);
            }
        };
        let id = self.name_stream();
        let peer = stream.peer();
        match self.session.dialled(now, dial.attempt, id, &hello, identity) {
            Ok(actions) => {
                self.attach(id, stream, &hello);
                self.carry_out(actions, peer).await;
            }
            Err(reason) => self.turn_away(stream, reason),
        }
    }

    /// Hands a connection to the worker of its stream.
    fn attach(&mut self, id: StreamId, stream: Stream, hello: &Hello) {
        let Some(worker) = self.workers.get(usize::from(hello.stream)) else { return };
        let peer = stream.peer();
        report!(messages::STREAM_UP, stream = hello.stream, peer = peer);
        let limits = crate::datapath::outbound::PeerLimits {
            accepts: Accepts::from_bits_truncate(hello.features),
            max_packet: usize::try_from(hello.max_packet).unwrap_or(MAX_PACKET),
        };
        match stream.park() {
            Ok(parked) => {
                worker.tell(Command::Attach(id, Box::new(parked), limits));
                worker.tell(Command::Enable(true));
            }
            Err(error) => {
                let _ = self.arrivals._reports.send(Event::Lost(id, error.into()));
            }
        }
    }

    /// Closes a connection that is not wanted, and says why.
    fn turn_away(&mut self, mut stream: Stream, reason: Reason) {
        note!(DEBUG, "turning a connection away", peer = stream.peer(), reason = reason);
        if matches!(reason, Reason::Version | Reason::Protocol | Reason::Myself) {
            self.refuse("refused", stream.peer(), &format_args!("{}", refusal(reason)));
        }
        stream.push_control(Kind::Bye, &bye::body(reason, ""));
        let _ = stream.flush(&mut crate::packet::buffer::Pool::default());
    }

    async fn carry_out(&mut self, actions: Vec<Action>, peer: SocketAddr) {
        for action in actions {
            match action {
                Action::Close(id, reason) => {
                    for worker in &self.workers {
                        worker.tell(Command::Close(id, reason));
                    }
                }
                Action::Up(agreed) => self.session_up(&agreed, peer).await,
                Action::Down => self.session_down("a new session takes its place"),
                Action::Dial(_) => {}
            }
        }
        self.update_carrier(Time::now());
    }

    async fn session_up(&mut self, agreed: &Agreed, peer: SocketAddr) {
        report!(
            messages::SESSION_UP,
            peer = peer,
            session = self.session.id().unwrap_or_default(),
            streams = agreed.streams,
            mtu = agreed.mtu
        );
        self.complaint.clear();
        self.interface.set_mtu(agreed.mtu).await;
        // Streams that the peer does not have can't carry anything.
        for (index, worker) in self.workers.iter().enumerate().skip(1) {
            let up = u8::try_from(index).is_ok_and(|index| self.session.stream(index).is_some());
            worker.tell(Command::Enable(up));
        }
        let status = format!("connected to {peer}, {} stream(s)", agreed.streams);
        if self.ready {
            self.notifier.status(&status);
        } else {
            self.tell_ready();
            self.notifier.status(&status);
        }
    }

    fn session_down(&mut self, reason: &str) {
        report!(messages::SESSION_DOWN, reason = reason, traffic = self.counters);
        self.notifier.status(&format!("not connected: {reason}"));
    }

    async fn worker(&mut self, event: Event) {
        match event {
            Event::Lost(id, loss) => self.lost(id, &loss).await,
            Event::Stalled(id) => {
                note!(DEBUG, "stream stalled", stream = id);
                self.session.stalled(Time::now(), id);
            }
            Event::Recovered(id) => self.session.recovered(id),
            Event::InterfaceGone => self.recreate_interface().await,
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
                    watchdog.alive[index] = true;
                }
            }
        }
    }

    async fn lost(&mut self, id: StreamId, loss: &worker::Loss) {
        let index = (0..).take(self.workers.len()).find(|i| self.session.stream(*i) == Some(id));
        let Some(index) = index else { return };
        let actions = self.session.stream_down(Time::now(), id);
        if actions.contains(&Action::Down) {
            self.session_down(&loss.to_string());
        } else {
            report!(messages::STREAM_DOWN, stream = index, reason = loss);
            // Without any stream, packets wait where they are.
            if (0..).take(self.workers.len()).any(|other| self.session.stream(other).is_some()) {
                self.workers[usize::from(index)].tell(Command::Enable(false));
            }
        }
    }

    async fn recreate_interface(&mut self) {
        if let Some(queues) = self.interface.recreate().await {
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
        let Some(watchdog) = &mut self.watchdog else { return };
        if watchdog.next > now {
            return;
        }
        watchdog.next = now + watchdog.interval;
        if let Some(stalled) = watchdog.alive.iter().position(|alive| !alive) {
            report!(messages::WORKER_STALLED, worker = stalled);
        } else {
            self.notifier.watchdog();
            watchdog.alive.fill(false);
        }
        for worker in &self.workers {
            worker.tell(Command::Beat);
        }
    }

    fn tell_ready(&mut self) {
        self.ready = true;
        report!(messages::READY, interface = self.interface.name());
        let link = &self.settings.link;
        let status = match (&link.listen, link.connect.first()) {
            (_, Some(endpoint)) => format!("connecting to {endpoint}"),
            (Some(address), None) => format!("waiting for the peer on {address}"),
            (None, None) => String::new(),
        };
        self.notifier.ready(&status);
    }

    fn dial_failed(&mut self, failure: &Failure) {
        let complaint = failure.to_string();
        if self.session.id().is_none() && self.complaint != complaint {
            match failure {
                Failure::Loop(_) => report!(messages::DIAL_LOOP, error = complaint),
                _ => report!(messages::DIAL_FAILED, error = complaint),
            }
            self.notifier.status(&format!("not connected: {complaint}"));
            self.complaint = complaint;
        } else {
            note!(DEBUG, "cannot connect", error = complaint);
        }
    }

    fn complain_of_listening(&mut self, error: &io::Error) {
        report!(messages::LISTEN_FAILED, error = error);
    }

    fn misbehaved(&mut self, peer: SocketAddr, failure: &Failure) {
        if let Some(print) = self.repeats.happened(("misbehaved", peer.ip()), Time::now()) {
            report!(
                messages::PEER_MISBEHAVED,
                peer = peer,
                error = failure,
                repeats = print.repeats
            );
        }
    }

    fn refuse(&mut self, kind: &'static str, peer: SocketAddr, why: &dyn std::fmt::Display) {
        if let Some(print) = self.repeats.happened((kind, peer.ip()), Time::now()) {
            report!(
                messages::CONNECTION_REFUSED,
                peer = peer,
                reason = why,
                repeats = print.repeats
            );
        }
    }

    fn name_stream(&mut self) -> StreamId {
        self.next_stream += 1;
        self.next_stream
    }
}

impl Arrivals {
    fn new(
        workers: UnboundedReceiver<Event>,
        reports: UnboundedSender<Event>,
    ) -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(Error::system("waiting for signals"));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
            workers,
            _reports: reports,
            greeted: JoinSet::new(),
            dialled: JoinSet::new(),
        })
    }
}

fn start_workers(
    settings: &Settings,
    queues: Vec<Opened>,
    accepts: Accepts,
    counters: &Arc<Counters>,
    reports: &UnboundedSender<Event>,
) -> Result<Vec<Handle>, Error> {
    let parameters = worker::Parameters {
        sanitiser: Sanitiser { mtu: settings.interface.mtu, accepts },
        sources: parameters::sources(settings),
        queue: parameters::queue(settings, queues.len()),
        keepalive: settings.link.keepalive,
        dead_after: settings.link.dead_after,
        counters: counters.clone(),
    };
    (0..)
        .zip(queues)
        .map(|(index, queue)| worker::start(index, queue, parameters.clone(), reports.clone()))
        .collect::<io::Result<_>>()
        .map_err(Error::system("starting a worker"))
}

fn ours(settings: &Settings, streams: u8, accepts: Accepts) -> Result<Ours, Error> {
    let mut instance = Instance::default();
    random(&mut instance.0)?;
    Ok(Ours {
        streams,
        instance,
        features: accepts.bits(),
        mtu: settings.interface.mtu,
        keepalive: settings.link.keepalive,
        max_packet: u32::try_from(MAX_PACKET).unwrap_or(u32::MAX),
    })
}

fn session_parameters(
    settings: &Settings,
    protection: &Protection,
    ours: Ours,
) -> Result<session::Parameters, Error> {
    let mut seed = [0; 8];
    random(&mut seed)?;
    Ok(session::Parameters {
        dials: !settings.link.connect.is_empty(),
        identity: match protection {
            Protection::Plaintext => plaintext_identity(ours.instance),
            Protection::Tls(endpoint) => Identity(endpoint.public_key().0),
        },
        ours,
        reconnect_min: settings.link.reconnect.min,
        reconnect_max: settings.link.reconnect.max,
        seed: u64::from_ne_bytes(seed),
        name: Box::new(|| {
            let mut id = SessionId::default();
            // It has worked at start-up; the kernel doesn't take randomness back.
            random(&mut id.0).expect("the kernel gives random bytes");
            id
        }),
    })
}

fn random(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes)
        .map_err(|error| Error::system("asking for random bytes")(io::Error::other(error)))
}

/// What we refuse a connection for, from our side.
fn refusal(reason: Reason) -> &'static str {
    match reason {
        Reason::Version => "no common protocol version: update the older end",
        Reason::Myself => "the endpoint in link.connect leads back to this process",
        _ => "it broke the protocol",
    }
}
