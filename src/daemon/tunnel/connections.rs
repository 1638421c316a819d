//! The connections of a tunnel: dialled or accepted, introduced, handed to a worker or turned away.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::net::TcpStream;

use crate::daemon::diagnosis;
use crate::daemon::introduction::{Dialler, Failure, Introduced, Outcome, Tried, greet};
use crate::daemon::parameters;
use crate::daemon::worker::{Command, Event};
use crate::datapath::outbound::PeerLimits;
use crate::link::peers::TurnedAway;
use crate::link::session::{Action, Dial, Identity, StreamId};
use crate::metrics::{Direction, Handshake, Refusal};
use crate::packet::buffer::Pool;
use crate::packet::offload::Accepts;
use crate::service::messages;
use crate::time::Time;
use crate::transport::keys::PublicKey;
use crate::transport::{Stream, tcp};
use crate::wire::bye::{self, Reason};
use crate::wire::frame::{Kind, MAX_PACKET};
use crate::wire::hello::Hello;
use crate::{note, report};

use super::snapshot::Connection;
use super::{Complaint, TIDY, Tunnel};

impl Tunnel {
    pub(super) fn dial_what_is_due(&mut self) {
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
                order: self.ways.order(dial.stream, &self.settings.link.connect),
                allowed: parameters::dialled(&self.settings),
                options: self.tcp.clone(),
                protection: self.protection.clone(),
                netlink: self.interface.netlink().clone(),
                interface: self.interface.index(),
                needed: Arc::new(AtomicBool::new(true)),
            };
            self.needed.insert(dial.attempt, dialler.needed.clone());
            self.arrivals
                .dialled
                .spawn(async move { (dial, dialler.dial(&hello, dial.patience).await) });
        }
    }

    pub(super) fn connected(&mut self, result: io::Result<(TcpStream, SocketAddr)>) {
        let (tcp, peer) = match result {
            Ok(connection) => connection,
            Err(error) => {
                if let Some(listening) = &mut self.listening {
                    listening.failed(Time::now(), &error);
                }
                return;
            }
        };
        if let Err(turned_away) = self.peers.enter(peer.ip(), Time::now()) {
            let (complaint, refusal) = match turned_away {
                TurnedAway::Address => (Complaint::NotAllowed, Refusal::Address),
                TurnedAway::Crowded => (Complaint::Crowded, Refusal::Crowded),
            };
            self.counters.refusals(refusal).one();
            if turned_away == TurnedAway::Address {
                let problem = diagnosis::of_address(peer, &turned_away.to_string());
                self.history.turned_away(Time::now(), problem);
            }
            return self.refuse(complaint, peer, &turned_away);
        }
        if tcp::tune_accepted(&tcp, &self.tcp).is_err() {
            return self.peers.leave(peer.ip());
        }
        self.tidy.get_or_insert(Time::now() + TIDY);
        let protection = self.protection.clone();
        self.arrivals.greeted.spawn(async move { (peer, greet(tcp, peer, &protection).await) });
    }

    pub(super) async fn greeted(&mut self, peer: SocketAddr, result: Result<Introduced, Failure>) {
        self.peers.leave(peer.ip());
        let Introduced { mut stream, hello, identity } = match result {
            Ok(introduced) => introduced,
            Err(failure) => {
                self.count(Direction::Accepted, &failure.outcomes());
                return self.not_greeted(peer, &failure);
            }
        };
        let connection = Connection::new(&stream, self.key(identity), true, Time::now());
        if self.objection(&connection).is_some() {
            return self.turn_away(stream, Reason::Unwelcome, Direction::Accepted);
        }
        let id = self.name_stream();
        match self.session.accepted(Time::now(), id, &hello, identity) {
            Ok((reply, actions)) => {
                self.count(Direction::Accepted, &[Handshake::Done]);
                stream.push_control(Kind::Hello, &reply.to_body());
                self.attach(id, stream, &hello, connection);
                self.carry_out(actions, peer, self.ours.mtu).await;
            }
            Err(reason) => {
                if let Some(problem) = diagnosis::of_hello(peer, &hello, reason) {
                    self.history.turned_away(Time::now(), problem);
                }
                self.turn_away(stream, reason, Direction::Accepted);
            }
        }
    }

    pub(super) async fn dialled(&mut self, dial: Dial, outcome: Outcome) {
        let needed = self.needed.remove(&dial.attempt).is_some();
        let now = Time::now();
        let Outcome { result, tried, told_mtu } = outcome;
        for (endpoint, address) in &tried.foreign {
            let key = (Complaint::Foreign, address.ip());
            if let Some(repeats) = self.repeats.happened(key, now) {
                report!(
                    messages::ADDRESS_PASSED_OVER,
                    endpoint = endpoint,
                    address = address,
                    key = "security.peer_addresses",
                    repeats = repeats
                );
            }
        }
        let (Introduced { stream, hello, identity }, way) = match result {
            Ok(answered) => answered,
            Err(failure) => {
                self.count(Direction::Dialled, &failure.outcomes());
                self.way_failed(dial.stream, tried, needed);
                self.session.dial_failed(now, dial.attempt);
                return self.not_dialled(dial, &failure);
            }
        };
        let peer = stream.peer();
        let connection = Connection::new(&stream, self.key(identity), false, now);
        if self.objection(&connection).is_some() {
            self.way_failed(dial.stream, tried, needed);
            self.session.dial_failed(now, dial.attempt);
            return self.turn_away(stream, Reason::Unwelcome, Direction::Dialled);
        }
        let id = self.name_stream();
        match self.session.dialled(now, dial.attempt, id, &hello, identity) {
            Ok(actions) => {
                self.count(Direction::Dialled, &[Handshake::Done]);
                self.ways.worked(dial.stream, way);
                self.dialling.is_over();
                self.attach(id, stream, &hello, connection);
                self.carry_out(actions, peer, told_mtu).await;
            }
            Err(reason) => {
                if let Some(problem) = diagnosis::of_hello(peer, &hello, reason) {
                    self.dialling.failed(&problem.text);
                    self.history.dial_failed(now, vec![problem]);
                }
                match reason {
                    Reason::Superseded | Reason::Glare => {
                        self.ways.worked(dial.stream, way);
                        self.dismiss(dial.stream, stream, reason);
                    }
                    _ => {
                        self.way_failed(dial.stream, tried, needed);
                        self.turn_away(stream, reason, Direction::Dialled);
                    }
                }
            }
        }
    }

    /// The next attempt begins elsewhere, unless this one was no longer needed: a stream that has
    /// been heard again keeps to the way that it has.
    fn way_failed(&mut self, stream: u8, tried: Tried, needed: bool) {
        if let Some(last) = tried.last.filter(|_| needed) {
            self.ways.failed(stream, last, &tried.addresses);
        }
    }

    /// The key that a peer has proved to hold, if there are keys.
    fn key(&self, identity: Identity) -> Option<PublicKey> {
        self.protection.is_tls().then_some(PublicKey(identity.0))
    }

    /// Hands a connection to the worker of its stream.
    fn attach(&mut self, id: StreamId, stream: Stream, hello: &Hello, connection: Connection) {
        let Some(worker) = self.workers.get(usize::from(hello.stream)) else { return };
        let peer = connection.peer;
        report!(messages::STREAM_UP, stream = hello.stream, peer = peer);
        self.connections.insert(id, connection);
        self.peers.met(peer.ip());
        let limits = PeerLimits {
            accepts: Accepts::from_bits_truncate(hello.features),
            max_packet: usize::try_from(hello.max_packet).unwrap_or(MAX_PACKET),
        };
        stream.suit_path(&self.tcp);
        match stream.park() {
            Ok(parked) => {
                worker.tell(Command::Attach(id, Box::new(parked), limits));
                worker.tell(Command::Enable(true));
            }
            Err(error) => {
                // The receiver is ours as well.
                let _ = self.arrivals.reports.send(Event::Lost(id, error.into()));
            }
        }
    }

    /// Closes a connection that is not wanted, and says why.
    fn turn_away(&mut self, mut stream: Stream, reason: Reason, direction: Direction) {
        self.count(direction, &[outcome(reason)]);
        note!(DEBUG, "turning a connection away", peer = stream.peer(), reason = reason);
        if matches!(reason, Reason::Version | Reason::Protocol | Reason::Myself) {
            self.refuse(Complaint::Refused, stream.peer(), &format_args!("{}", refusal(reason)));
        }
        stream.push_control(Kind::Bye, &bye::body(reason, ""));
        let _ = stream.flush(&mut Pool::default());
    }

    /// Gives up a connection whose peer has answered our HELLO, because there is another one.
    fn dismiss(&mut self, index: u8, stream: Stream, reason: Reason) {
        self.count(Direction::Dialled, &[outcome(reason)]);
        note!(DEBUG, "giving a connection up", peer = stream.peer(), reason = reason);
        if let (Some(worker), Ok(parked)) = (self.workers.get(usize::from(index)), stream.park()) {
            worker.tell(Command::Dismiss(Box::new(parked), reason));
        }
    }

    fn not_dialled(&mut self, dial: Dial, failure: &Failure) {
        // Nobody misses a stream of a session that is over, or one that was to replace a stalled
        // stream.
        let other = self.session.id().is_some_and(|session| session != dial.session);
        if other || self.session.stream(dial.stream).is_some() {
            return note!(DEBUG, "cannot connect", stream = dial.stream, error = failure);
        }
        if self.session.id().is_none() {
            self.lost_because = None;
        }
        self.history.dial_failed(Time::now(), diagnosis::of(failure));
        let text = failure.to_string();
        let news = self.dialling.failed(&text);
        let print = if news { self.wordings.happened(text, Time::now()) } else { None };
        match (failure, print) {
            // A line of its own has told of it already.
            (Failure::Foreign { .. }, _) | (_, None) => {
                note!(DEBUG, "cannot connect", stream = dial.stream, error = failure);
            }
            (Failure::Loop(_), Some(repeats)) => {
                report!(messages::DIAL_LOOP, error = failure, repeats = repeats);
            }
            (_, Some(repeats)) => {
                let stream = dial.stream;
                report!(messages::DIAL_FAILED, stream = stream, error = failure, repeats = repeats);
            }
        }
    }

    fn not_greeted(&mut self, peer: SocketAddr, failure: &Failure) {
        if failure.is_refusal() || failure.is_misbehaviour() {
            self.history.turned_away(Time::now(), diagnosis::of_greeting(peer, failure));
        }
        if failure.is_refusal() {
            return self.refuse(Complaint::Refused, peer, failure);
        }
        if !failure.is_misbehaviour() {
            return note!(DEBUG, "a connection ended before HELLO", peer = peer, error = failure);
        }
        let key = (Complaint::Misbehaved, peer.ip());
        if let Some(repeats) = self.repeats.happened(key, Time::now()) {
            report!(messages::PEER_MISBEHAVED, peer = peer, error = failure, repeats = repeats);
        }
    }

    fn refuse(&mut self, complaint: Complaint, peer: SocketAddr, why: &dyn Display) {
        if let Some(repeats) = self.repeats.happened((complaint, peer.ip()), Time::now()) {
            report!(messages::CONNECTION_REFUSED, peer = peer, reason = why, repeats = repeats);
        }
    }

    fn count(&self, direction: Direction, outcomes: &[Handshake]) {
        for outcome in outcomes {
            self.counters.handshakes(direction, *outcome).one();
        }
    }

    /// The index of a stream that was dialled from here.
    pub(super) fn dialled_stream(&self, id: StreamId) -> Option<u8> {
        self.connections.get(&id).filter(|connection| !connection.accepted)?;
        (0..).take(self.workers.len()).find(|index| self.session.stream(*index) == Some(id))
    }

    fn name_stream(&mut self) -> StreamId {
        self.next_stream += 1;
        self.next_stream
    }
}

/// What is counted for a connection that the session turns away. Where another one is as good, the
/// ends have got to know each other all the same.
fn outcome(reason: Reason) -> Handshake {
    match reason {
        Reason::Version => Handshake::Version,
        Reason::Protocol => Handshake::Protocol,
        Reason::Myself => Handshake::Loop,
        Reason::Unwelcome => Handshake::Key,
        _ => Handshake::Done,
    }
}

/// What we refuse a connection for, from our side.
fn refusal(reason: Reason) -> &'static str {
    match reason {
        Reason::Version => "no common protocol version: update the older end",
        Reason::Myself => "the endpoint in link.connect leads back to this process",
        _ => "it broke the protocol",
    }
}
