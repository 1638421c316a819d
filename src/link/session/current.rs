//! The session that is up: whom it is held with, and the streams in their places.

use std::time::Duration;

use crate::link::negotiate::Agreed;
use crate::time::Time;
use crate::wire::hello::SessionId;

use super::StreamId;

/// The peer learns within a round trip that a stream is alive again.
const JUST: Duration = Duration::from_secs(1);

/// What a session that is up knows.
pub(super) struct Current {
    pub id: SessionId,
    pub dialled_by_us: bool,
    pub agreed: Agreed,
    pub streams: Vec<Option<Member>>,
}

/// One stream in its place.
pub(super) struct Member {
    pub id: StreamId,
    pub since: Time,
    pub stalled: bool,
    /// When it was last heard again after it had stalled.
    pub recovered: Option<Time>,
}

impl Current {
    /// Whether it has this name and is held with this process.
    pub fn is(&self, id: SessionId, agreed: &Agreed) -> bool {
        self.id == id && self.agreed.peer == agreed.peer
    }

    /// Whether it keeps its place against a session that the peer dialled: it does while it is
    /// alive and the peer is still the same process.
    pub fn holds_against(&self, other: &Agreed) -> bool {
        self.dialled_by_us
            && self.agreed.peer == other.peer
            && self.streams.iter().flatten().any(|member| !member.stalled)
    }

    /// Whether the stream with this index has been heard again so lately that whoever dialled to
    /// replace it could not know yet.
    pub fn has_just_recovered(&self, stream: u8, now: Time) -> bool {
        let member = self.streams.get(usize::from(stream)).and_then(Option::as_ref);
        let recovered = member.filter(|member| !member.stalled).and_then(|member| member.recovered);
        recovered.is_some_and(|recovered| now - recovered < JUST)
    }

    /// The stream with this name, and its index.
    pub fn member(&mut self, id: StreamId) -> Option<(u8, &mut Member)> {
        (0..)
            .zip(&mut self.streams)
            .find_map(|(stream, member)| Some((stream, member.as_mut().filter(|m| m.id == id)?)))
    }

    /// Takes the stream with this name out of its place.
    pub fn remove(&mut self, id: StreamId) -> Option<(u8, Member)> {
        let (stream, _) = self.member(id)?;
        Some((stream, self.streams[usize::from(stream)].take()?))
    }

    /// Whether it has no stream.
    pub fn is_empty(&self) -> bool {
        self.streams.iter().all(Option::is_none)
    }
}
