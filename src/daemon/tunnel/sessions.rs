//! The session's ups and downs, and what they mean for workers, interface and admin.

use std::net::SocketAddr;

use crate::daemon::worker::{Command, Loss};
use crate::link::negotiate::Agreed;
use crate::link::session::{Action, StreamId};
use crate::service::messages;
use crate::service::repeat::Print;
use crate::time::Time;
use crate::wire::bye::Reason;
use crate::{note, report};

use super::{Complaint, Tunnel};

impl Tunnel {
    /// Does what the session wants done after a connection to `peer` was taken, which may not be
    /// where the session began. `told_mtu` is what the peer was told in our HELLO; it may have been
    /// said before a reload.
    pub(super) async fn carry_out(
        &mut self,
        actions: Vec<Action>,
        peer: SocketAddr,
        told_mtu: u16,
    ) {
        self.peer = Some(peer);
        let replaced = actions.contains(&Action::Down);
        if replaced {
            self.counters.sessions_lost.one();
        }
        for action in actions {
            match action {
                Action::Close(id, reason) => {
                    self.connections.remove(&id);
                    for worker in &self.workers {
                        worker.tell(Command::Close(id, reason));
                    }
                }
                Action::Up(agreed) => {
                    self.session_up(&agreed, peer, replaced).await;
                    if std::mem::replace(&mut self.told_mtu, told_mtu) != told_mtu {
                        self.reconfigure_workers();
                    }
                }
                // The next session is there already.
                Action::Down | Action::Dial(_) => {}
            }
        }
        self.update_carrier(Time::now());
    }

    /// A connection is gone.
    pub(super) fn lost(&mut self, id: StreamId, loss: &Loss) {
        let now = Time::now();
        let peer = self.connections.remove(&id).map(|connection| connection.peer);
        if matches!(loss, Loss::Bye(bye) if bye.reason == Reason::Restarting) {
            self.session.peer_restarts(now);
        }
        let index = (0..).take(self.workers.len()).find(|i| self.session.stream(*i) == Some(id));
        let Some(index) = index else { return };
        self.counters.streams_lost.one();
        let actions = self.session.stream_down(now, id);
        if actions.contains(&Action::Down) {
            return match loss {
                Loss::Bye(bye) if bye.reason == Reason::Superseded => self.session_left(),
                _ => self.session_down(&loss.to_string()),
            };
        }
        if let Some(peer) = peer {
            let complaint = (Complaint::StreamDown(index), peer.ip());
            if let Some(repeats) = self.repeats.happened(complaint, now) {
                report!(
                    messages::STREAM_DOWN,
                    stream = index,
                    peer = peer,
                    reason = loss,
                    repeats = repeats
                );
            }
        }
        // Without any stream, packets wait where they are.
        if (0..).take(self.workers.len()).any(|other| self.session.stream(other).is_some()) {
            self.workers[usize::from(index)].tell(Command::Enable(false));
        }
    }

    /// The session has come to its end.
    pub(super) fn session_down(&mut self, reason: &str) {
        self.counters.sessions_lost.one();
        let peer = self.peer.take().map(|peer| peer.to_string()).unwrap_or_default();
        self.lost_because = Some(reason.to_owned());
        self.history.session_down(Time::now(), reason);
        if self.flap.changed(Time::now()) {
            let traffic = &self.counters;
            report!(messages::SESSION_DOWN, peer = peer, reason = reason, traffic = traffic);
        } else {
            note!(DEBUG, "session down", peer = peer, reason = reason);
        }
    }

    /// The peer has begun another session, whose first connection is on its way to us.
    fn session_left(&mut self) {
        self.counters.sessions_lost.one();
        let peer = self.peer.take().map(|peer| peer.to_string()).unwrap_or_default();
        self.lost_because = None;
        self.history.session_down(Time::now(), "the peer has left it for a newer one");
        if self.flap.changed(Time::now()) {
            report!(messages::SESSION_LEFT, peer = peer);
        }
    }

    async fn session_up(&mut self, agreed: &Agreed, peer: SocketAddr, replaced: bool) {
        self.counters.sessions.one();
        self.up_since = Time::now();
        self.lost_because = None;
        self.dialling.is_over();
        self.history.session_up();
        let session = self.session.id().unwrap_or_default();
        let &Agreed { streams, mtu, .. } = agreed;
        if !self.flap.changed(Time::now()) {
            note!(DEBUG, "session up", peer = peer, session = session);
        } else if replaced {
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
        self.interface.set_mtu(mtu).await;
        // Streams that the peer does not have can't carry anything.
        for (index, worker) in self.workers.iter().enumerate().skip(1) {
            let up = u8::try_from(index).is_ok_and(|index| self.session.stream(index).is_some());
            worker.tell(Command::Enable(up));
        }
        if !self.ready {
            self.tell_ready();
        }
    }

    /// After ups and downs that were too many to tell: how things are.
    pub(super) fn sum_up(&mut self, now: Time) {
        let Some(untold) = self.flap.settled(now) else { return };
        let repeats = Print { repeats: untold, others: 0 };
        if let (Some(session), Some(peer)) = (self.session.id(), self.peer) {
            report!(messages::SESSION_UP, peer = peer, session = session, repeats = repeats);
        } else {
            let reason = self.state().disconnected.unwrap_or_default().to_owned();
            report!(messages::SESSION_DOWN, reason = reason, repeats = repeats);
        }
    }

    /// Without a session for longer than `dead_after` the interface loses its carrier, so that
    /// senders are told instead of left waiting.
    pub(super) fn update_carrier(&mut self, now: Time) {
        let dead_after = self.settings.link.dead_after;
        // Only a session gives it back: the process before may have lost it.
        let patient = |since| self.carrier && now - since < dead_after;
        let carrier = self.session.down_since().is_none_or(patient);
        if carrier == self.carrier {
            return;
        }
        self.carrier = carrier;
        if carrier {
            report!(messages::CARRIER_GAINED, interface = self.interface.name());
        } else {
            report!(messages::CARRIER_LOST, interface = self.interface.name());
        }
        for worker in &self.workers {
            worker.tell(Command::Carrier(carrier));
        }
    }
}
