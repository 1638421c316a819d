//! What a worker does when it is told something.

use crate::datapath::outbound::PeerLimits;
use crate::link::liveness::Liveness;
use crate::link::session::StreamId;
use crate::time::Time;
use crate::transport::Parked;
use crate::wire::bye::Reason;

use super::{Command, Connection, Event, Measured, MeasuredConnection, Parameters, Worker};

/// Turns that empty a TUN queue of 1000 packets, twice what the kernel holds by default.
const TURNS_OF_A_RING: usize = 16;

impl Worker {
    /// Does what it is told; gives the reason when it is told to stop.
    pub(super) fn obey(&mut self, command: Command) -> Option<Reason> {
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

    pub(super) fn measure(&self, now: Time) -> Measured {
        let connection = self.connection.as_ref().map(|connection| MeasuredConnection {
            id: connection.id,
            tcp: connection.stream.info(),
            unsent: connection.stream.unsent(),
            stalled: connection.liveness.is_stalled(),
            silent: connection.liveness.silent(now),
        });
        let unreadable = self.tun.is_some() && self.retry_at.is_some();
        Measured { queue: self.outbound.depth(now), unreadable, connection }
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
}
