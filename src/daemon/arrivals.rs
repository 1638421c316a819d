//! Everything that can happen to a tunnel, and the one place where it is waited for.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::control::requests::{Request, requests};
use crate::link::session::Dial;
use crate::netlink;
use crate::time::Time;

use super::Error;
use super::interface::Interface;
use super::introduction::{Failure, Introduced, Outcome};
use super::listening::Listening;
use super::worker::Event;

/// The runtime's timers stand still while the machine is suspended, [`Time`] does not: so long
/// after it wakes up, what has become due meanwhile is done at the latest.
pub(super) const NAP: Duration = Duration::from_secs(5);

/// What happened.
pub enum Happened {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Hangup,
    /// Somebody connected, or could not be accepted.
    Connected(io::Result<(TcpStream, SocketAddr)>),
    /// Somebody who connected has said HELLO, or did not.
    Greeted(SocketAddr, Result<Introduced, Failure>),
    /// An attempt to connect has ended.
    Dialled(Dial, Outcome),
    /// Somebody asks something of the daemon.
    Asked(Request),
    /// A worker has something to say.
    Worker(Event),
    /// Somebody else has changed the interface.
    Interface(netlink::Event),
    /// Something may be due.
    Due,
}

/// Where what happens comes from.
pub struct Arrivals {
    /// Connections that have yet to say HELLO.
    pub greeted: JoinSet<(SocketAddr, Result<Introduced, Failure>)>,
    /// Attempts to connect.
    pub dialled: JoinSet<(Dial, Outcome)>,
    /// What workers report through; one is kept, so that the end of a worker never closes it.
    pub reports: UnboundedSender<Event>,
    /// The way in for requests; one is kept, so that the end of a server never closes it.
    pub ask: Sender<Request>,
    workers: UnboundedReceiver<Event>,
    requests: Receiver<Request>,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Arrivals {
    /// Nothing has happened yet. Must be called within a runtime.
    ///
    /// # Errors
    /// Signals can't be waited for.
    pub fn new() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(Error::system("waiting for signals"));
        let (reports, workers) = unbounded_channel();
        let (ask, requests) = requests();
        Ok(Self {
            greeted: JoinSet::new(),
            dialled: JoinSet::new(),
            reports,
            ask,
            workers,
            requests,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the next thing to happen, until `due` at the most.
    pub async fn next(
        &mut self,
        listening: Option<&mut Listening>,
        interface: &mut Interface,
        due: Option<Time>,
    ) -> Happened {
        let wait = due.map_or(NAP, |due| (due - Time::now()).min(NAP));
        let accept = async {
            match listening {
                Some(listening) => listening.accept().await,
                None => pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Happened::Stop,
            _ = self.interrupt.recv() => Happened::Stop,
            _ = self.hangup.recv() => Happened::Hangup,
            Some(event) = self.workers.recv() => Happened::Worker(event),
            Some(Ok((dial, outcome))) = self.dialled.join_next() => Happened::Dialled(dial, outcome),
            Some(Ok((peer, result))) = self.greeted.join_next() => Happened::Greeted(peer, result),
            Some(request) = self.requests.recv() => Happened::Asked(request),
            event = interface.changed() => Happened::Interface(event),
            accepted = accept => Happened::Connected(accepted),
            () = sleep(wait) => Happened::Due,
        }
    }
}
