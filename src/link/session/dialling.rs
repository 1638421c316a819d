//! The attempts for one stream: whether one is under way, and when the next one may begin.

use std::time::Duration;

use crate::link::backoff::Backoff;
use crate::time::Time;
use crate::wire::hello::SessionId;

/// One attempt under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    /// Names it.
    pub number: u64,
    /// The session that its HELLO asks for.
    pub session: SessionId,
    /// Whether the stream was held when it began. The peer may have taken it already, and closed
    /// the stream that it replaces.
    pub replaces: bool,
}

/// Dials for one stream, an attempt at a time.
pub(super) struct Dialler {
    backoff: Backoff,
    state: State,
}

enum State {
    Idle { not_before: Time },
    Pending(Attempt),
}

impl Dialler {
    /// May dial at once.
    pub fn new(backoff: Backoff, now: Time) -> Self {
        Self { backoff, state: State::Idle { not_before: now } }
    }

    /// When the next attempt may begin; `None` while one is under way.
    pub fn next(&self) -> Option<Time> {
        match self.state {
            State::Idle { not_before } => Some(not_before),
            State::Pending(_) => None,
        }
    }

    /// The attempt under way.
    pub fn pending(&self) -> Option<&Attempt> {
        match &self.state {
            State::Idle { .. } => None,
            State::Pending(attempt) => Some(attempt),
        }
    }

    /// Begins an attempt.
    pub fn begin(&mut self, attempt: Attempt) {
        self.state = State::Pending(attempt);
    }

    /// The attempt with this number, if it is the one under way, which is over now.
    pub fn conclude(&mut self, now: Time, number: u64) -> Option<Attempt> {
        let attempt = *self.pending().filter(|attempt| attempt.number == number)?;
        self.release(now);
        Some(attempt)
    }

    /// Forgets the attempt under way, and any pause.
    pub fn release(&mut self, now: Time) {
        self.state = State::Idle { not_before: now };
    }

    /// Ends the pause, if there is one.
    pub fn hurry(&mut self, now: Time) {
        if self.next().is_some() {
            self.release(now);
        }
    }

    /// Puts the next attempt off, unless one is under way.
    pub fn pause(&mut self, now: Time, longest: Duration) {
        if self.next().is_some() {
            let pause = self.backoff.next_delay().min(longest);
            self.state = State::Idle { not_before: now + pause };
        }
    }

    /// From now on pauses are below these bounds.
    pub fn set_bounds(&mut self, min: Duration, max: Duration) {
        self.backoff.set_bounds(min, max);
    }

    /// Starts over with short pauses.
    pub fn forgive(&mut self) {
        self.backoff.reset();
    }
}
