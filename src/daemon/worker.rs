//! One thread per stream: a TUN queue, a connection, and the loop that joins them.
//!
//! A worker keeps its TUN queue for as long as the interface lives, and is handed a connection
//! whenever its stream is up. It answers PINGs and finds out by itself whether the peer is still
//! there; what becomes of the session is decided by the daemon.
//!
//! [`Worker::run`] is the loop. What goes to the daemon and comes from it is in [`messages`], what
//! a worker does when it is told something in [`obey`], what it does with its connection in
//! [`turn`], and how that ends in [`leave`].

mod leave;
mod measured;
mod messages;
mod obey;
mod turn;

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::datapath::inbound::{Inbound, Sources};
use crate::datapath::outbound::{HELD_BACK, Outbound, PeerLimits, QueueParameters};
use crate::datapath::{InterfaceGone, Unreadable};
use crate::link::liveness::Liveness;
use crate::link::session::StreamId;
use crate::metrics::Counters;
use crate::time::Time;
use crate::transport::Stream;
use crate::tun::device::{Opened, Queue};
use crate::tun::sanitise::Sanitiser;
use crate::wire::bye::Reason;

use super::alarm::Alarm;
use measured::Question;
use turn::Moved;

pub use measured::{Answer, Measured, MeasuredConnection};
pub use messages::{Command, Event, Handle, Loss};

/// How long a TUN queue that can't be read is left alone before it is tried again.
const RETRY: Duration = Duration::from_millis(100);

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
    retry_at: Option<Time>,
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
            retry_at: None,
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
        let waits = self.retry_at.is_some_and(|until| now < until);
        let Some(tun) = self.tun.as_ref().filter(|_| !waits) else { return false };
        match self.outbound.read(tun, now) {
            Ok(some) => {
                self.retry_at = None;
                return some;
            }
            Err(Unreadable::Gone(InterfaceGone)) => self.lose_interface(),
            Err(Unreadable::Failing(error)) => {
                if self.retry_at.replace(now + RETRY).is_none() {
                    self.report(Event::Unreadable(self.index, error));
                }
            }
        }
        false
    }

    /// Waits until there is something to move, or to check.
    async fn something_to_move(&self, alarm: &mut Alarm) {
        let packet = async {
            match (&self.tun, self.retry_at) {
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

    fn take_interface(&mut self, queue: Opened) {
        self.retry_at = None;
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

#[cfg(test)]
mod tests;
