//! What the daemon and a worker tell each other, and the handle that the daemon has of it.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::datapath::inbound::Broken;
use crate::datapath::outbound::PeerLimits;
use crate::link::session::StreamId;
use crate::queue::Queued;
use crate::transport::Parked;
use crate::tun::device::Opened;
use crate::wire::bye::{Bye, Reason};

use super::Parameters;
use super::measured::{Answer, Measured, Question};

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
    pub(super) commands: UnboundedSender<Command>,
    pub(super) question: Question,
    pub(super) thread: thread::JoinHandle<()>,
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
