//! When a stream is dialled for, and how long the pause is after an attempt that failed.

use std::time::Duration;

use crate::time::Time;

use super::dialling::Attempt;
use super::{Action, Dial, Session};

/// How long a connection attempt may take, name resolution and HELLO included.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The same while a stream has stalled: the path may come back any moment.
pub(super) const PATIENCE_STALLED: Duration = Duration::from_secs(2);

/// The longest pause between two attempts to replace a stalled stream.
pub(super) const PAUSE_STALLED: Duration = Duration::from_millis(100);

/// How long a peer that restarts is expected back any moment, and the longest pause between two
/// attempts meanwhile.
const RESTART: Duration = Duration::from_secs(5);
pub(super) const PAUSE_RESTART: Duration = Duration::from_millis(100);

/// Why a stream is dialled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Nothing holds its place.
    Missing,
    /// What holds its place has stalled.
    Replacement,
}

impl Session {
    /// The attempts that are due, and the end of a session whose last hope was an attempt that
    /// failed.
    pub fn poll(&mut self, now: Time) -> Vec<Action> {
        let mut actions: Vec<_> = self.end_if_deserted(now).into_iter().collect();
        for stream in 0..self.parameters.ours.streams {
            let Some(wanted) = self.wanted(stream) else { continue };
            let dialler = &mut self.diallers[usize::from(stream)];
            if dialler.next().is_none_or(|next| next > now) {
                continue;
            }
            let session = match &self.current {
                Some(current) => current.id,
                None => (self.parameters.name)(),
            };
            self.attempts += 1;
            let attempt = self.attempts;
            let replaces = wanted == Wanted::Replacement;
            dialler.begin(Attempt { number: attempt, session, replaces });
            let patience = if replaces { PATIENCE_STALLED } else { PATIENCE };
            actions.push(Action::Dial(Dial { attempt, session, stream, patience }));
        }
        actions
    }

    /// When [`Self::poll`] will have something to do, which may lie in the past; `None` when only
    /// an event can bring that.
    pub fn next_poll(&self) -> Option<Time> {
        if self.is_deserted() {
            return Some(Time::default());
        }
        (0..self.parameters.ours.streams)
            .filter(|stream| self.wanted(*stream).is_some())
            .filter_map(|stream| self.diallers[usize::from(stream)].next())
            .min()
    }

    /// An attempt came to nothing.
    pub fn dial_failed(&mut self, now: Time, attempt: u64) {
        if let Some((stream, _)) = self.conclude(now, attempt) {
            self.pause(now, stream);
        }
    }

    /// The peer has said that it restarts: the streams that are about to go are dialled again in
    /// short intervals.
    pub fn peer_restarts(&mut self, now: Time) {
        self.restarts_until = Some(now + RESTART);
    }

    /// Forgets all attempts, which whoever makes them has given up, and every pause.
    pub fn start_over(&mut self, now: Time) {
        for dialler in &mut self.diallers {
            dialler.release(now);
            dialler.forgive();
        }
    }

    /// Whether to dial for a stream, and why.
    fn wanted(&self, stream: u8) -> Option<Wanted> {
        if !self.parameters.dials {
            return None;
        }
        match &self.current {
            None => (stream == 0).then_some(Wanted::Missing),
            Some(current) if !current.dialled_by_us || current.is_empty() => None,
            Some(current) => match current.streams.get(usize::from(stream))? {
                None => Some(Wanted::Missing),
                Some(member) => member.stalled.then_some(Wanted::Replacement),
            },
        }
    }

    /// The stream of a pending attempt, which is over now.
    pub(super) fn conclude(&mut self, now: Time, number: u64) -> Option<(u8, Attempt)> {
        (0..)
            .zip(&mut self.diallers)
            .find_map(|(stream, dialler)| Some((stream, dialler.conclude(now, number)?)))
    }

    /// Forgets the attempts to join a session that is over. One for stream 0 may still begin a
    /// session: the peer may have taken it already.
    pub(super) fn release(&mut self, now: Time) {
        self.diallers.iter_mut().skip(1).for_each(|dialler| dialler.release(now));
    }

    /// Puts the next attempt for a stream off, unless one is under way.
    pub(super) fn pause(&mut self, now: Time, stream: u8) {
        let restarts = self.restarts_until.is_some_and(|until| now < until);
        let stalled = self.wanted(stream) == Some(Wanted::Replacement);
        let dialler = &mut self.diallers[usize::from(stream)];
        let longest = match (restarts, stalled) {
            (true, _) => {
                dialler.forgive();
                PAUSE_RESTART
            }
            (false, true) => PAUSE_STALLED,
            (false, false) => Duration::MAX,
        };
        dialler.pause(now, longest);
    }
}
