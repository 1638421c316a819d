//! One session with one peer: who dials what and when, which connection is taken, and which of
//! two sessions wins.
//!
//! What happens is told to a [`Session`] by its methods; what is to be done comes back as
//! [`Action`]s. It keeps these rules:
//!
//! - The end that dials names the session with stream 0; further streams join it by that name.
//! - A new session from the same peer replaces the old one: the peer would not dial otherwise.
//! - Unless both dialled (glare): then the session of the dialler with the smaller identity wins,
//!   and a process that already holds such a session turns the other one away. An attempt to begin
//!   a session that is on its way when the peer's arrives is decided about when it is answered.
//! - Nobody dials while the other end's session is up.
//! - A session is held with one process. One that answers in its stead begins a new session, even
//!   under the same name.
//! - A session without a stream is over, but for the moment that the replacement of a stalled
//!   stream may still be on its way.
//!
//! Which connection is taken is decided here; when one is dialled for, in [`attempts`].

use std::time::Duration;

use crate::time::Time;
use crate::wire::bye::Reason;
use crate::wire::hello::{Hello, SessionId};

use super::backoff::Backoff;
use super::negotiate::{Agreed, Ours};

use current::{Current, Member};
use dialling::{Attempt, Dialler};

pub use attempts::PATIENCE;

mod attempts;
mod current;
mod dialling;

/// A stream that lasted this long was a good one: the next attempt follows at once.
const GOOD: Duration = Duration::from_secs(5);

/// Names a connection that has said HELLO; chosen by whoever owns the connections.
pub type StreamId = u64;

/// What both ends are ordered by when both have dialled: the public key, or in plaintext mode the
/// random name of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity(pub [u8; 32]);

/// What a session needs to know from the start.
pub struct Parameters {
    /// Whether there is an endpoint to dial.
    pub dials: bool,
    /// This end's identity.
    pub identity: Identity,
    /// What this end says in HELLO.
    pub ours: Ours,
    /// The bound of the first pause between attempts.
    pub reconnect_min: Duration,
    /// The bound of every later pause.
    pub reconnect_max: Duration,
    /// Seeds the pauses.
    pub seed: u64,
    /// Names new sessions, never the same way twice.
    pub name: Box<dyn FnMut() -> SessionId + Send>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Connect to the peer and say HELLO; answer with [`Session::dialled`] or
    /// [`Session::dial_failed`].
    Dial(Dial),
    /// Say BYE on this stream and close it.
    Close(StreamId, Reason),
    /// The session is up, with its first stream.
    Up(Agreed),
    /// The session is down: its last stream is gone.
    Down,
}

/// One attempt to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dial {
    /// Names the attempt.
    pub attempt: u64,
    /// The session that the stream begins or joins.
    pub session: SessionId,
    /// The stream's index.
    pub stream: u8,
    /// Give up after this long.
    pub patience: Duration,
}

/// The session with the peer, up or down.
pub struct Session {
    parameters: Parameters,
    current: Option<Current>,
    diallers: Vec<Dialler>,
    attempts: u64,
    down_since: Time,
    /// Until when the peer is expected back any moment.
    restarts_until: Option<Time>,
}

impl Session {
    /// A session that is down.
    pub fn new(parameters: Parameters, now: Time) -> Self {
        let diallers = (0..parameters.ours.streams)
            .map(|stream| {
                let seed = parameters.seed.wrapping_add(stream.into());
                let Parameters { reconnect_min, reconnect_max, .. } = parameters;
                Dialler::new(Backoff::new(reconnect_min, reconnect_max, seed), now)
            })
            .collect();
        Self {
            parameters,
            current: None,
            diallers,
            attempts: 0,
            down_since: now,
            restarts_until: None,
        }
    }

    /// From now on these parameters hold. A session that is up stays, with the MTU that both ends
    /// now allow; the number of streams stays what it was.
    pub fn reconfigure(&mut self, parameters: Parameters) {
        let streams = self.parameters.ours.streams;
        for dialler in &mut self.diallers {
            dialler.set_bounds(parameters.reconnect_min, parameters.reconnect_max);
        }
        self.parameters = parameters;
        self.parameters.ours.streams = streams;
        if let Some(Current { agreed, .. }) = &mut self.current {
            agreed.mtu = agreed.peer_mtu.min(self.parameters.ours.mtu);
        }
    }

    /// A peer has connected and said HELLO. Gives the HELLO to answer with, and which stream the
    /// connection is.
    ///
    /// # Errors
    /// Why it is turned away; say so in a BYE.
    pub fn accepted(
        &mut self,
        now: Time,
        id: StreamId,
        hello: &Hello,
        peer: Identity,
    ) -> Result<(Hello, Vec<Action>), Reason> {
        let agreed = self.parameters.ours.agree(hello)?;
        let reply = self.parameters.ours.hello(hello.session, hello.stream);
        let smaller = self.parameters.identity < peer;
        let actions = match &self.current {
            Some(current) if !current.dialled_by_us && current.is(hello.session, &agreed) => {
                if current.has_just_recovered(hello.stream, now) {
                    return Err(Reason::Superseded);
                }
                self.join(now, hello.stream, id).ok_or(Reason::UnknownSession)?
            }
            _ if hello.stream != 0 => return Err(Reason::UnknownSession),
            Some(current) if smaller && current.holds_against(&agreed) => {
                return Err(Reason::Glare);
            }
            _ => self.begin(now, hello.session, false, agreed, id),
        };
        Ok((reply, actions))
    }

    /// An attempt has connected, and the peer has answered our HELLO with its own.
    ///
    /// # Errors
    /// Why the connection is not wanted any more; say so in a BYE.
    pub fn dialled(
        &mut self,
        now: Time,
        attempt: u64,
        id: StreamId,
        hello: &Hello,
        peer: Identity,
    ) -> Result<Vec<Action>, Reason> {
        let (stream, attempt) = self.conclude(now, attempt).ok_or(Reason::Superseded)?;
        let result = self.take(now, stream, attempt.session, id, hello, peer);
        if result.is_err() {
            self.pause(now, stream);
        }
        result
    }

    /// A stream is gone, whoever closed it. One that had been replaced before is no news.
    pub fn stream_down(&mut self, now: Time, id: StreamId) -> Vec<Action> {
        let Some((stream, member)) = self.current.as_mut().and_then(|current| current.remove(id))
        else {
            return Vec::new();
        };
        let good = now - member.since >= GOOD;
        if good {
            self.diallers[usize::from(stream)].forgive();
        }
        if good && self.is_deserted() {
            self.diallers[0].forgive();
            self.diallers[0].hurry(now);
        }
        let ended = self.end_if_deserted(now);
        if ended.is_none() {
            self.pause(now, stream);
        }
        ended.into_iter().collect()
    }

    /// A stream leaves a PING unanswered: dial for another one in its place, without giving it up.
    pub fn stalled(&mut self, now: Time, id: StreamId) {
        let member = self.current.as_mut().and_then(|current| current.member(id));
        if let Some((stream, member)) = member.filter(|(_, member)| !member.stalled) {
            member.stalled = true;
            self.diallers[usize::from(stream)].hurry(now);
        }
    }

    /// A stalled stream has been heard again.
    ///
    /// Gives the attempt to replace it, if one is under way: it had better come to nothing, unless
    /// the peer has been told of it. Two connections that take turns lose what is on its way.
    pub fn recovered(&mut self, now: Time, id: StreamId) -> Option<u64> {
        let current = self.current.as_mut()?;
        let session = current.id;
        let (stream, member) = current.member(id)?;
        member.stalled = false;
        member.recovered = Some(now);
        let attempt = self.diallers[usize::from(stream)].pending()?;
        (attempt.session == session).then_some(attempt.number)
    }

    /// Since when the session has been down; `None` while it is up.
    pub fn down_since(&self) -> Option<Time> {
        self.current.is_none().then_some(self.down_since)
    }

    /// What was agreed with the peer, while the session is up.
    pub fn agreed(&self) -> Option<&Agreed> {
        self.current.as_ref().map(|current| &current.agreed)
    }

    /// The session's name, while it is up.
    pub fn id(&self) -> Option<SessionId> {
        self.current.as_ref().map(|current| current.id)
    }

    /// The stream that holds this index, if it is up.
    pub fn stream(&self, stream: u8) -> Option<StreamId> {
        let member = self.current.as_ref()?.streams.get(usize::from(stream))?;
        member.as_ref().map(|member| member.id)
    }

    /// Decides about a connection that we dialled.
    fn take(
        &mut self,
        now: Time,
        stream: u8,
        session: SessionId,
        id: StreamId,
        hello: &Hello,
        peer: Identity,
    ) -> Result<Vec<Action>, Reason> {
        if hello.session != session || hello.stream != stream {
            return Err(Reason::Protocol);
        }
        let agreed = self.parameters.ours.agree(hello)?;
        let smaller = self.parameters.identity < peer;
        match &self.current {
            Some(current) if current.dialled_by_us && current.is(session, &agreed) => {
                self.join(now, stream, id).ok_or(Reason::Superseded)
            }
            _ if stream != 0 => Err(Reason::Superseded),
            // Another process answers for the one that the session was held with.
            Some(current) if current.dialled_by_us => {
                Ok(self.begin(now, session, true, agreed, id))
            }
            Some(current) if !smaller && current.agreed.peer == agreed.peer => Err(Reason::Glare),
            _ => Ok(self.begin(now, session, true, agreed, id)),
        }
    }

    /// Starts a session with its first stream, in place of the one there was.
    fn begin(
        &mut self,
        now: Time,
        id: SessionId,
        dialled_by_us: bool,
        agreed: Agreed,
        first: StreamId,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(old) = self.current.take() {
            let members = old.streams.into_iter().flatten();
            actions.extend(members.map(|member| Action::Close(member.id, Reason::Superseded)));
            actions.push(Action::Down);
        }
        self.release(now);
        self.restarts_until = None;
        self.diallers[0].hurry(now);
        let mut streams: Vec<_> = (0..agreed.streams).map(|_| None).collect();
        streams[0] = Some(Member { id: first, since: now, stalled: false, recovered: None });
        actions.push(Action::Up(agreed.clone()));
        self.current = Some(Current { id, dialled_by_us, agreed, streams });
        actions
    }

    /// Puts a stream of the current session into its place and closes the one that had it; `None`
    /// when there is no such place.
    fn join(&mut self, now: Time, stream: u8, id: StreamId) -> Option<Vec<Action>> {
        let place = self.current.as_mut()?.streams.get_mut(usize::from(stream))?;
        let Some(old) = place.replace(Member { id, since: now, stalled: false, recovered: None })
        else {
            return Some(Vec::new());
        };
        if now - old.since >= GOOD {
            self.diallers[usize::from(stream)].forgive();
        }
        Some(vec![Action::Close(old.id, Reason::Superseded)])
    }

    /// Whether the session has no stream left, and none that replaces one is on its way.
    fn is_deserted(&self) -> bool {
        let Some(current) = self.current.as_ref().filter(|current| current.is_empty()) else {
            return false;
        };
        let expected = |attempt: &Attempt| attempt.replaces && attempt.session == current.id;
        !self.diallers.iter().filter_map(Dialler::pending).any(expected)
    }

    fn end_if_deserted(&mut self, now: Time) -> Option<Action> {
        if !self.is_deserted() {
            return None;
        }
        self.current = None;
        self.down_since = now;
        self.release(now);
        if self.diallers[0].next().is_some_and(|next| next <= now) {
            self.pause(now, 0);
        }
        Some(Action::Down)
    }
}

#[cfg(test)]
mod tests;
