//! One turn of a connection: packets move both ways, as far as nothing has to be waited for, PINGs
//! are answered, and the peer is asked whether it is still there.

use tokio::sync::mpsc::UnboundedSender;

use crate::datapath::InterfaceGone;
use crate::datapath::inbound::{Control, Inbound};
use crate::datapath::outbound::Outbound;
use crate::link::liveness::Verdict;
use crate::time::Time;
use crate::tun::device::Queue;
use crate::wire::frame::Kind;

use super::{Connection, Event, Loss, Parameters, Worker};

impl Worker {
    /// Moves packets between queue, connection and interface.
    pub(super) fn exchange(&mut self) -> Result<Moved, Loss> {
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
}

/// What one turn of a connection moved.
#[derive(Default)]
pub(super) struct Moved {
    pub(super) busy: bool,
    pub(super) gone: Option<InterfaceGone>,
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
