//! One session with one peer: who dials what and when, which connection is taken, and which of
//! two sessions wins.
//!
//! What happens is told to a [`Session`] by its methods; what is to be done comes back as
//! [`Action`]s. It keeps these rules:
//!
//! - The end that dials names the session with stream 0; further streams join it by that name.
//! - A new session from the same peer replaces the old one: the peer would not dial otherwise.
//! - Unless both dialled (glare): then the session of the dialler with the smaller identity wins,
//!   and a process that already holds such a session turns the other one away.
//! - Nobody dials while the other end's session is up.

use std::time::Duration;

use crate::time::Time;
use crate::wire::bye::Reason;
use crate::wire::hello::{Hello, SessionId};

use super::backoff::Backoff;
use super::negotiate::{Agreed, Ours};

/// How long a connection attempt may take, name resolution and HELLO included.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The same while a stream has stalled: the path may come back any moment.
const PATIENCE_STALLED: Duration = Duration::from_secs(2);

/// The longest pause between two attempts to replace a stalled stream.
const PAUSE_STALLED: Duration = Duration::from_millis(500);

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
}

struct Current {
    id: SessionId,
    dialled_by_us: bool,
    agreed: Agreed,
    streams: Vec<Option<Member>>,
}

struct Member {
    id: StreamId,
    since: Time,
    stalled: bool,
}

struct Dialler {
    backoff: Backoff,
    state: State,
}

enum State {
    Idle { not_before: Time },
    Pending { attempt: u64, session: SessionId },
}

impl Session {
    /// A session that is down.
    pub fn new(parameters: Parameters, now: Time) -> Self {
        let diallers = (0..parameters.ours.streams)
            .map(|stream| Dialler {
                backoff: Backoff::new(
                    parameters.reconnect_min,
                    parameters.reconnect_max,
                    parameters.seed.wrapping_add(stream.into()),
                ),
                state: State::Idle { not_before: now },
            })
            .collect();
        Self { parameters, current: None, diallers, attempts: 0, down_since: now }
    }

    /// The attempts that are due, and the end of a session whose last hope was an attempt that
    /// failed.
    pub fn poll(&mut self, now: Time) -> Vec<Action> {
        let mut actions: Vec<_> = self.end_if_deserted(now).into_iter().collect();
        for stream in 0..self.parameters.ours.streams {
            let Some(patience) = self.wanted(stream) else { continue };
            let dialler = &mut self.diallers[usize::from(stream)];
            if !matches!(dialler.state, State::Idle { not_before } if not_before <= now) {
                continue;
            }
            let session = match &self.current {
                Some(current) => current.id,
                None => (self.parameters.name)(),
            };
            self.attempts += 1;
            let attempt = self.attempts;
            dialler.state = State::Pending { attempt, session };
            actions.push(Action::Dial(Dial { attempt, session, stream, patience }));
        }
        actions
    }

    /// When [`Self::poll`] will have something to do; `None` when only an event can bring that.
    pub fn next_poll(&self) -> Option<Time> {
        (0..self.parameters.ours.streams)
            .filter(|stream| self.wanted(*stream).is_some())
            .filter_map(|stream| match self.diallers[usize::from(stream)].state {
                State::Idle { not_before } => Some(not_before),
                State::Pending { .. } => None,
            })
            .min()
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
        let actions = match &mut self.current {
            Some(current) if !current.dialled_by_us && current.id == hello.session => {
                current.place(hello.stream, id, now).ok_or(Reason::UnknownSession)?
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
        let (stream, session) = self.conclude(now, attempt).ok_or(Reason::Superseded)?;
        let result = self.take(now, stream, session, id, hello, peer);
        if result.is_err() {
            self.pause(now, stream);
        }
        result
    }

    /// An attempt came to nothing.
    pub fn dial_failed(&mut self, now: Time, attempt: u64) {
        if let Some((stream, _)) = self.conclude(now, attempt) {
            self.pause(now, stream);
        }
    }

    /// A stream is gone, whoever closed it. One that had been replaced before is no news.
    pub fn stream_down(&mut self, now: Time, id: StreamId) -> Vec<Action> {
        let Some((stream, member)) = self.current.as_mut().and_then(|current| current.remove(id))
        else {
            return Vec::new();
        };
        if now - member.since >= GOOD {
            self.diallers[usize::from(stream)].backoff.reset();
        }
        self.pause(now, stream);
        self.end_if_deserted(now).into_iter().collect()
    }

    /// A stream leaves a PING unanswered: dial for another one in its place, without giving it up.
    pub fn stalled(&mut self, now: Time, id: StreamId) {
        if let Some((stream, member)) = self.current.as_mut().and_then(|c| c.member(id)) {
            member.stalled = true;
            let state = &mut self.diallers[usize::from(stream)].state;
            if matches!(state, State::Idle { .. }) {
                *state = State::Idle { not_before: now };
            }
        }
    }

    /// A stalled stream has been heard again.
    pub fn recovered(&mut self, id: StreamId) {
        if let Some((_, member)) = self.current.as_mut().and_then(|current| current.member(id)) {
            member.stalled = false;
        }
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

    /// Whether to dial for a stream, and with how much patience.
    fn wanted(&self, stream: u8) -> Option<Duration> {
        if !self.parameters.dials {
            return None;
        }
        match &self.current {
            None => (stream == 0).then_some(PATIENCE),
            Some(current) if !current.dialled_by_us => None,
            Some(current) => match current.streams.get(usize::from(stream))? {
                None => Some(PATIENCE),
                Some(member) => member.stalled.then_some(PATIENCE_STALLED),
            },
        }
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
        match &mut self.current {
            Some(current) if current.dialled_by_us && current.id == session => {
                current.place(stream, id, now).ok_or(Reason::Superseded)
            }
            Some(current) if current.dialled_by_us => Err(Reason::Superseded),
            _ if stream != 0 => Err(Reason::Superseded),
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
        let mut streams: Vec<_> = (0..agreed.streams).map(|_| None).collect();
        streams[0] = Some(Member { id: first, since: now, stalled: false });
        actions.push(Action::Up(agreed.clone()));
        self.current = Some(Current { id, dialled_by_us, agreed, streams });
        actions
    }

    /// Ends a session that has no stream left and none on its way. One that is on its way may
    /// have been taken by the peer already, who then closed the stream that it replaces.
    fn end_if_deserted(&mut self, now: Time) -> Option<Action> {
        let current = self.current.as_ref().filter(|current| current.is_empty())?;
        let expected = |dialler: &Dialler| matches!(dialler.state, State::Pending { session, .. } if session == current.id);
        if self.diallers.iter().any(expected) {
            return None;
        }
        self.current = None;
        self.down_since = now;
        self.release(now);
        self.pause(now, 0);
        Some(Action::Down)
    }

    /// The stream and session of a pending attempt, which is over now.
    fn conclude(&mut self, now: Time, attempt: u64) -> Option<(u8, SessionId)> {
        (0..).zip(&mut self.diallers).find_map(|(stream, dialler)| match dialler.state {
            State::Pending { attempt: pending, session } if pending == attempt => {
                dialler.state = State::Idle { not_before: now };
                Some((stream, session))
            }
            _ => None,
        })
    }

    /// Forgets all pending attempts: they belong to a session that is over.
    fn release(&mut self, now: Time) {
        for dialler in &mut self.diallers {
            dialler.state = State::Idle { not_before: now };
        }
    }

    /// Puts the next attempt for a stream off, unless one is under way.
    fn pause(&mut self, now: Time, stream: u8) {
        let stalled = self.wanted(stream) == Some(PATIENCE_STALLED);
        let dialler = &mut self.diallers[usize::from(stream)];
        if matches!(dialler.state, State::Pending { .. }) {
            return;
        }
        let pause = dialler.backoff.next_delay();
        let pause = if stalled { pause.min(PAUSE_STALLED) } else { pause };
        dialler.state = State::Idle { not_before: now + pause };
    }
}

impl Current {
    /// Whether it keeps its place against a session that the peer dialled: it does while it is
    /// alive and the peer is still the same process.
    fn holds_against(&self, other: &Agreed) -> bool {
        self.dialled_by_us
            && self.agreed.peer == other.peer
            && self.streams.iter().flatten().any(|member| !member.stalled)
    }

    /// Puts a stream into its place and closes the one that had it; `None` when there is no such
    /// place.
    fn place(&mut self, stream: u8, id: StreamId, now: Time) -> Option<Vec<Action>> {
        let place = self.streams.get_mut(usize::from(stream))?;
        let old = place.replace(Member { id, since: now, stalled: false });
        Some(old.map(|old| Action::Close(old.id, Reason::Superseded)).into_iter().collect())
    }

    fn member(&mut self, id: StreamId) -> Option<(u8, &mut Member)> {
        (0..)
            .zip(&mut self.streams)
            .find_map(|(stream, member)| Some((stream, member.as_mut().filter(|m| m.id == id)?)))
    }

    fn remove(&mut self, id: StreamId) -> Option<(u8, Member)> {
        let (stream, _) = self.member(id)?;
        Some((stream, self.streams[usize::from(stream)].take()?))
    }

    fn is_empty(&self) -> bool {
        self.streams.iter().all(Option::is_none)
    }
}

#[cfg(test)]
mod tests;
