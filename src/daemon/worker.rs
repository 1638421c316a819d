//! One thread per stream: a TUN queue, a connection, and the loop that joins them.
//!
//! A worker keeps its TUN queue for as long as the interface lives, and is handed a connection
//! whenever its stream is up. It answers PINGs and finds out by itself whether the peer is still
//! there; what becomes of the session is decided by the daemon.

mod leave;
mod measured;

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use crate::datapath::inbound::{Broken, Control, Inbound, Sources};
use crate::datapath::outbound::{HELD_BACK, Outbound, PeerLimits, QueueParameters};
use crate::datapath::{InterfaceGone, Unreadable};
use crate::link::liveness::{Liveness, Verdict};
use crate::link::session::StreamId;
use crate::metrics::Counters;
use crate::queue::Queued;
use crate::time::Time;
use crate::transport::{Parked, Stream};
use crate::tun::device::{Opened, Queue};
use crate::tun::sanitise::Sanitiser;
use crate::wire::bye::{self, Bye, Reason};
use crate::wire::frame::Kind;

use super::alarm::Alarm;
use leave::take_leave;
use measured::Question;

pub use measured::{Answer, Measured, MeasuredConnection};

/// How long a last word to the peer may take.
const FAREWELL: Duration = Duration::from_millis(200);

/// Turns that empty a TUN queue of 1000 packets, twice what the kernel holds by default.
const TURNS_OF_A_RING: usize = 16;

/// How long a TUN queue that can't be read is left alone before it is tried again.
const REST: Duration = Duration::from_millis(100);

/// What all workers of a tunnel have in common.
#[derive(Debug, Clone)]
pub struct Parameters {
    /// What may enter the TUN interface.
    pub sanitiser: Sanitiser,
    /// Where what enters may come from.
    pub sources: Sources,
    /// What may wait in each worker's queue, and for how long.
    pub queue: QueueParameters,
    /// Silence after which the peer is asked whether it is there.
    pub keepalive: Duration,
    /// Silence after which a stream is given up.
    pub dead_after: Duration,
    /// How long the kernel may wait for an acknowledgement before it gives a stream up.
    pub unacknowledged_limit: Duration,
    /// Where packets are counted.
    pub counters: Arc<Counters>,
}

/// What the daemon tells a worker.
#[derive(Debug)]
pub enum Command {
    /// Carry packets over this connection, in place of the one there was.
    Attach(StreamId, Box<Parked>, PeerLimits),
    /// Say BYE and close the connection, if it is still this one.
    Close(StreamId, Reason),
    /// Say BYE on a connection that another one is preferred to, and deliver what came over it: its
    /// peer may have taken it for the session.
    Dismiss(Box<Parked>, Reason),
    /// Take this TUN queue, in place of one that is gone.
    Interface(Opened),
    /// Take part in the kernel's flow hash, or hand back what waits and stay out of it.
    Enable(bool),
    /// Send these as well: they waited for another stream.
    Adopt(Vec<Queued>),
    /// Set or clear the carrier of the interface.
    Carrier(bool),
    /// From now on these hold, for the present connection as well.
    Reconfigure(Box<Parameters>),
    /// Answer with [`Event::Alive`].
    Beat,
    /// Say how things are.
    Measure(oneshot::Sender<Measured>),
    /// Say BYE with this reason and end.
    Stop(Reason),
}

/// What a worker tells the daemon.
#[derive(Debug)]
pub enum Event {
    /// The connection is gone.
    Lost(StreamId, Loss),
    /// The peer leaves a PING unanswered.
    Stalled(StreamId),
    /// It has been heard again.
    Recovered(StreamId),
    /// The TUN interface has been deleted.
    InterfaceGone,
    /// The worker with this index can't read its TUN queue, and goes on trying; said once, until it
    /// can.
    Unreadable(usize, io::Error),
    /// What waited when the worker was taken out of the flow hash.
    Orphans(Vec<Queued>),
    /// The worker with this index goes round its loop.
    Alive(usize),
}

/// Why a connection is gone.
#[derive(Debug, thiserror::Error)]
pub enum Loss {
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer said BYE.
    #[error("{}{}{}", .0.reason, if .0.text.is_empty() { "" } else { ": " }, .0.text)]
    Bye(Bye),
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Protocol(#[from] Broken),
    /// The peer was silent for too long.
    #[error("nothing was heard from the peer for {} s", .0.as_secs())]
    Silent(Duration),
    /// A new configuration does not take the peer any more.
    #[error("{0}")]
    Unwelcome(&'static str),
}

/// A running worker, as the daemon holds it.
pub struct Handle {
    commands: UnboundedSender<Command>,
    question: Question,
    thread: thread::JoinHandle<()>,
}

impl Handle {
    /// Tells the worker something. One that has ended hears nothing, which its missing
    /// [`Event::Alive`] tells.
    pub fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// Asks the worker how things are. Those who ask before it has answered share its answer.
    pub fn measure(&mut self) -> Answer {
        let Self { commands, question, .. } = self;
        // One that has ended drops the question, which is an answer as well.
        question.ask(|reply| drop(commands.send(Command::Measure(reply))))
    }

    /// Whether its thread has ended.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Starts the worker with this index; its queue is out of the flow hash unless it is the first, or
/// packets wait in it.
///
/// # Errors
/// The kernel gives no thread, or no event queue.
pub fn start(
    index: usize,
    queue: Opened,
    parameters: Parameters,
    events: UnboundedSender<Event>,
) -> io::Result<Handle> {
    let (commands, inbox) = unbounded_channel();
    let enabled = index == 0 || queue.may_hold_packets();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = thread::Builder::new().name(format!("stream-{index}")).spawn(move || {
        let worker = Worker::new(index, enabled, parameters, events);
        runtime.block_on(worker.run(queue, inbox));
    })?;
    Ok(Handle { commands, question: Question::default(), thread })
}

struct Worker {
    index: usize,
    parameters: Parameters,
    tun: Option<Arc<Queue>>,
    /// While the TUN queue can't be read: when it is tried again.
    rests_until: Option<Time>,
    enabled: bool,
    connection: Option<Connection>,
    outbound: Outbound,
    inbound: Inbound,
    events: UnboundedSender<Event>,
}

struct Connection {
    id: StreamId,
    stream: Stream,
    peer: PeerLimits,
    liveness: Liveness,
    next_check: Time,
}

impl Worker {
    fn new(
        index: usize,
        enabled: bool,
        parameters: Parameters,
        events: UnboundedSender<Event>,
    ) -> Self {
        let counters = &parameters.counters;
        let sources = parameters.sources.clone();
        Self {
            index,
            outbound: Outbound::new(parameters.queue, counters.clone()),
            inbound: Inbound::new(parameters.sanitiser, sources, counters.clone()),
            parameters,
            tun: None,
            rests_until: None,
            enabled,
            connection: None,
            events,
        }
    }

    async fn run(mut self, queue: Opened, mut inbox: UnboundedReceiver<Command>) {
        let mut alarm = Alarm::new();
        self.take_interface(queue);
        loop {
            let mut busy = self.turn();
            while let Ok(command) = inbox.try_recv() {
                busy = true;
                if let Some(reason) = self.obey(command) {
                    return self.stop(reason).await;
                }
            }
            if busy {
                // Lets the runtime look at all descriptors, so that neither direction starves.
                yield_now().await;
                continue;
            }
            self.outbound.tidy(Time::now());
            tokio::select! {
                command = inbox.recv() => {
                    let reason = command.map_or(Some(Reason::Stopping), |command| self.obey(command));
                    if let Some(reason) = reason {
                        return self.stop(reason).await;
                    }
                }
                () = self.something_to_move(&mut alarm) => {}
            }
        }
    }

    /// Moves packets in both directions, as far as nothing has to be waited for. Says whether
    /// there may be more.
    fn turn(&mut self) -> bool {
        let mut busy = self.read(Time::now());
        match self.exchange() {
            Ok(Moved { busy: more, gone }) => {
                busy |= more;
                if gone.is_some() {
                    self.lose_interface();
                }
            }
            Err(loss) => self.lose_connection(loss),
        }
        busy
    }

    /// Takes packets from the TUN queue, if there is one that can be read.
    fn read(&mut self, now: Time) -> bool {
        let rests = self.rests_until.is_some_and(|until| now < until);
        let Some(tun) = self.tun.as_ref().filter(|_| !rests) else { return false };
        match self.outbound.read(tun, now) {
            Ok(some) => {
                self.rests_until = None;
                return some;
            }
            Err(Unreadable::Gone(InterfaceGone)) => self.lose_interface(),
            Err(Unreadable::Failing(error)) => {
                if self.rests_until.replace(now + REST).is_none() {
                    self.report(Event::Unreadable(self.index, error));
                }
            }
        }
        false
    }

    /// Moves packets between queue, connection and interface.
    fn exchange(&mut self) -> Result<Moved, Loss> {
        let Some(connection) = &mut self.connection else { return Ok(Moved::default()) };
        let turn = Turn {
            connection,
            outbound: &mut self.outbound,
            inbound: &self.inbound,
            tun: self.tun.as_deref(),
            events: &self.events,
            parameters: &self.parameters,
        };
        turn.take()
    }

    /// Waits until there is something to move, or to check.
    async fn something_to_move(&self, alarm: &mut Alarm) {
        let packet = async {
            match (&self.tun, self.rests_until) {
                // It may well be ready all the time.
                (Some(_), Some(until)) => sleep(until - Time::now()).await,
                (Some(tun), None) => tun.readable().await,
                (None, _) => pending().await,
            }
        };
        tokio::select! {
            () = packet => {}
            () = self.connection_moves(alarm) => {}
        }
    }

    /// Waits until the connection has something to do; for ever without one.
    async fn connection_moves(&self, alarm: &mut Alarm) {
        let Some(Connection { stream, next_check, liveness, .. }) = &self.connection else {
            return pending().await;
        };
        let room = async {
            if stream.unsent() > 0 {
                drop(stream.writable().await);
            } else if self.outbound.is_held_back(stream) && !liveness.is_stalled() {
                sleep(HELD_BACK).await;
            } else {
                pending::<()>().await;
            }
        };
        tokio::select! {
            _ = stream.readable() => {}
            () = room => {}
            () = alarm.at(*next_check) => {}
        }
    }

    /// Does what it is told; gives the reason when it is told to stop.
    fn obey(&mut self, command: Command) -> Option<Reason> {
        match command {
            Command::Attach(id, parked, peer) => self.attach(id, *parked, peer),
            Command::Close(id, reason) => {
                let named = |connection: &mut Connection| connection.id == id;
                if let Some(connection) = self.connection.take_if(named) {
                    self.close(connection, reason);
                }
            }
            Command::Dismiss(parked, reason) => {
                if let Ok(stream) = parked.resume() {
                    self.dismiss(stream, reason);
                }
            }
            Command::Interface(queue) => self.take_interface(queue),
            Command::Enable(enabled) => self.enable(enabled),
            Command::Adopt(packets) => {
                packets.into_iter().for_each(|packet| self.outbound.enqueue(packet));
            }
            Command::Carrier(carrier) => {
                // A kernel without carriers for TUN keeps it on; one that is gone has none.
                let _ = self.tun.as_ref().map(|tun| tun.set_carrier(carrier));
                if !carrier {
                    self.outbound.clear();
                }
            }
            Command::Reconfigure(parameters) => self.reconfigure(*parameters),
            Command::Measure(reply) => {
                // Whoever asked may have given up.
                let _ = reply.send(self.measure(Time::now()));
            }
            Command::Beat => self.report(Event::Alive(self.index)),
            Command::Stop(reason) => return Some(reason),
        }
        None
    }

    fn reconfigure(&mut self, parameters: Parameters) {
        self.inbound.reconfigure(parameters.sanitiser, parameters.sources.clone());
        self.outbound.reconfigure(parameters.queue);
        if let Some(connection) = &mut self.connection {
            connection.liveness.set_times(parameters.keepalive, parameters.dead_after);
            connection.next_check = Time::now();
            connection.stream.limit_unacknowledged(parameters.unacknowledged_limit);
        }
        self.parameters = parameters;
    }

    fn measure(&self, now: Time) -> Measured {
        let connection = self.connection.as_ref().map(|connection| MeasuredConnection {
            id: connection.id,
            tcp: connection.stream.info(),
            unsent: connection.stream.unsent(),
            stalled: connection.liveness.is_stalled(),
            silent: connection.liveness.silent(now),
        });
        Measured { queue: self.outbound.depth(now), connection }
    }

    fn attach(&mut self, id: StreamId, parked: Parked, peer: PeerLimits) {
        let now = Time::now();
        let old = self.connection.take();
        self.outbound.connected(&peer);
        match parked.resume() {
            Ok(mut stream) => {
                // Our HELLO may still wait. It has to be under way before the old connection is
                // closed: the peer may hold on to the session for its sake.
                let _ = self.outbound.flush(&mut stream);
                let Parameters { keepalive, dead_after, unacknowledged_limit, .. } =
                    self.parameters;
                // It may have been made before these parameters were in force.
                stream.limit_unacknowledged(unacknowledged_limit);
                let liveness = Liveness::new(keepalive, dead_after, now);
                self.connection = Some(Connection { id, stream, peer, liveness, next_check: now });
            }
            Err(error) => self.report(Event::Lost(id, error.into())),
        }
        if let Some(old) = old {
            self.close(old, Reason::Superseded);
        }
    }

    /// Says BYE on a connection that is over, beside everything else, and delivers what was on its
    /// way. What has not been sent waits for the next one.
    fn close(&mut self, mut connection: Connection, reason: Reason) {
        self.outbound.take_back(&mut connection.stream, Time::now());
        self.dismiss(connection.stream, reason);
    }

    fn dismiss(&self, stream: Stream, reason: Reason) {
        let (inbound, tun) = (self.inbound.clone(), self.tun.clone());
        drop(tokio::spawn(timeout(FAREWELL, async move {
            match reason {
                // Nothing more is to be had from such a peer.
                Reason::Protocol | Reason::Unwelcome => {
                    stream.finish(Kind::Bye, bye::body(reason, "")).await;
                }
                _ => drop(take_leave(stream, reason, &inbound, tun.as_deref()).await),
            }
        })));
    }

    fn take_interface(&mut self, queue: Opened) {
        self.rests_until = None;
        match queue.watch() {
            Ok(tun) if self.enabled || tun.attach(false).is_ok() => {
                self.tun = Some(Arc::new(tun));
            }
            _ => self.lose_interface(),
        }
    }

    fn lose_interface(&mut self) {
        self.tun = None;
        self.report(Event::InterfaceGone);
    }

    fn enable(&mut self, enabled: bool) {
        if self.enabled == enabled {
            return;
        }
        self.enabled = enabled;
        let Some(tun) = &self.tun else { return };
        if !enabled {
            // What is still in the ring would be dropped with the next call. More may come all the
            // while, but not for ever.
            for _ in 0..TURNS_OF_A_RING {
                if !self.outbound.read(tun, Time::now()).unwrap_or(false) {
                    break;
                }
            }
        }
        if tun.attach(enabled).is_err() {
            return self.lose_interface();
        }
        if !enabled {
            let orphans = self.outbound.take_queue();
            if !orphans.is_empty() {
                self.report(Event::Orphans(orphans));
            }
        }
    }

    fn lose_connection(&mut self, loss: Loss) {
        if let Some(mut connection) = self.connection.take() {
            let id = connection.id;
            match &loss {
                Loss::Protocol(_) => self.close(connection, Reason::Protocol),
                Loss::Silent(_) => self.close(connection, Reason::Silent),
                Loss::Io(_) | Loss::Unwelcome(_) => {
                    self.outbound.take_back(&mut connection.stream, Time::now())
                }
                Loss::Bye(_) => {
                    self.outbound.take_back(&mut connection.stream, Time::now());
                    // The peer reads until we close; what is sealed can go nowhere else.
                    let _ = self.outbound.flush(&mut connection.stream);
                }
            }
            self.report(Event::Lost(id, loss));
        }
    }

    fn report(&self, event: Event) {
        // The daemon outlives its workers; when it is gone nobody needs to know.
        let _ = self.events.send(event);
    }
}

/// What one turn of a connection moved.
#[derive(Default)]
struct Moved {
    busy: bool,
    gone: Option<InterfaceGone>,
}

/// One turn of a connection, with all it touches.
struct Turn<'a> {
    connection: &'a mut Connection,
    outbound: &'a mut Outbound,
    inbound: &'a Inbound,
    tun: Option<&'a Queue>,
    events: &'a UnboundedSender<Event>,
    parameters: &'a Parameters,
}

impl Turn<'_> {
    fn take(mut self) -> Result<Moved, Loss> {
        let now = Time::now();
        let mut moved = Moved { busy: false, gone: None };
        // Whole frames may have come with HELLO, or be left from the turn before.
        moved.busy = self.deliver(now, &mut moved)?;
        if !moved.busy && self.connection.stream.read()? {
            self.deliver(now, &mut moved)?;
            moved.busy = true;
        }
        let Connection { stream, peer, liveness, next_check, .. } = &mut *self.connection;
        // On a stalled stream packets wait in the queue: another stream may take its place, and
        // what the kernel holds for this one would be lost with it.
        let sent = if liveness.is_stalled() {
            self.outbound.flush(stream)?;
            false
        } else {
            self.outbound.send(stream, peer, now)?
        };
        if sent && liveness.sent(now) {
            *next_check = now;
        }
        self.check(now)?;
        Ok(moved)
    }

    /// Delivers a turn's worth of what has been read. Says whether there was any.
    fn deliver(&mut self, now: Time, moved: &mut Moved) -> Result<bool, Loss> {
        let mut any = false;
        loop {
            let stream = &mut self.connection.stream;
            let delivery = self.inbound.deliver(stream, self.tun)?;
            moved.gone = moved.gone.or(delivery.gone);
            any |= delivery.heard;
            if delivery.heard && self.connection.liveness.heard(now) {
                let _ = self.events.send(Event::Recovered(self.connection.id));
            }
            match delivery.control {
                None => return Ok(any),
                Some(Control::Ping(body)) => {
                    self.connection.stream.push_control(Kind::Pong, &body);
                }
                Some(Control::Pong) => {}
                Some(Control::Bye(bye)) => return Err(Loss::Bye(bye)),
            }
        }
    }

    fn check(&mut self, now: Time) -> Result<(), Loss> {
        if now < self.connection.next_check {
            return Ok(());
        }
        let Connection { id, stream, liveness, next_check, .. } = &mut *self.connection;
        if liveness.wants_progress(now) {
            if let Some(bytes) = stream.acknowledged() {
                liveness.acknowledged(now, bytes);
            }
        }
        loop {
            match liveness.poll(now) {
                Verdict::Wait(until) => {
                    *next_check = until;
                    return Ok(());
                }
                Verdict::Ping => {
                    stream.push_control(Kind::Ping, &id.to_be_bytes());
                    self.outbound.flush(stream)?;
                }
                Verdict::Stalled => {
                    let _ = self.events.send(Event::Stalled(*id));
                }
                Verdict::Dead => return Err(Loss::Silent(self.parameters.dead_after)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
