//! The end of a connection, and of a worker: nothing is lost that can still be sent or delivered.

use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::timeout;

use crate::daemon::alarm::Alarm;
use crate::datapath::inbound::Inbound;
use crate::time::Time;
use crate::transport::Stream;
use crate::tun::device::Queue;
use crate::wire::bye::{self, Reason};
use crate::wire::frame::Kind;

use super::{Connection, Loss, Worker};

/// How long a last word to the peer may take.
const FAREWELL: Duration = Duration::from_millis(200);

/// How long what waits may take to be sent before the last word.
const CLEARANCE: Duration = Duration::from_millis(200);

impl Worker {
    /// Says BYE on a connection that is over, beside everything else, and delivers what was on its
    /// way. What has not been sent waits for the next one.
    pub(super) fn close(&mut self, mut connection: Connection, reason: Reason) {
        self.outbound.take_back(&mut connection.stream, Time::now());
        self.dismiss(connection.stream, reason);
    }

    pub(super) fn dismiss(&self, stream: Stream, reason: Reason) {
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

    /// Sends what waits and says BYE, as far as the peer takes it without delay, and delivers what
    /// was on its way meanwhile. What is in the TUN queue stays there, for the process that takes
    /// it over.
    pub(super) async fn stop(mut self, reason: Reason) {
        // Errors are the end of the connection: nothing is left to be done then.
        let _ = timeout(CLEARANCE, self.clear_out()).await;
        if let Some(Connection { stream, .. }) = self.connection.take() {
            let leave = take_leave(stream, reason, &self.inbound, self.tun.as_deref());
            let _ = timeout(FAREWELL, leave).await;
        }
    }

    /// Goes on with the connection alone, until nothing waits any more.
    async fn clear_out(&mut self) -> Result<(), Loss> {
        let mut alarm = Alarm::new();
        loop {
            let moved = self.exchange()?;
            let Some(connection) = &self.connection else { return Ok(()) };
            if !self.outbound.has_packets() && connection.stream.unsent() == 0 {
                return Ok(());
            }
            if moved.busy {
                yield_now().await;
            } else {
                self.connection_moves(&mut alarm).await;
            }
        }
    }
}

/// Says BYE and delivers packets until the peer has closed its end. Must be bounded in time by the
/// caller.
async fn take_leave(
    mut stream: Stream,
    reason: Reason,
    inbound: &Inbound,
    tun: Option<&Queue>,
) -> Result<(), Loss> {
    stream.say_last(Kind::Bye, bye::body(reason, "")).await?;
    loop {
        while inbound.deliver(&mut stream, tun)?.heard {}
        if stream.read()? {
            // A peer that never stops sending must not keep the worker, nor the bound, waiting.
            yield_now().await;
        } else {
            stream.readable().await?;
        }
    }
}
