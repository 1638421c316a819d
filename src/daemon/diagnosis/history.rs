//! What is remembered of what went wrong.

use crate::metrics::snapshot::Problem;
use crate::time::Time;

/// What is remembered of what went wrong.
#[derive(Debug, Default)]
pub struct History {
    /// What attempts to connect have failed of, since when.
    dialling: Option<(Time, Vec<Problem>)>,
    /// Who has been turned away last since there was a session, and when.
    turned_away: Option<(Time, Problem)>,
    /// The last thing of all.
    last: Option<(Time, String)>,
    up: bool,
}

impl History {
    /// An attempt to connect has failed of these.
    pub fn dial_failed(&mut self, now: Time, problems: Vec<Problem>) {
        if problems.is_empty() {
            return;
        }
        self.happened(now, &told(&problems));
        let same = |known: &[Problem]| {
            known.iter().map(|problem| problem.kind).eq(problems.iter().map(|new| new.kind))
        };
        let since = self.dialling.take().filter(|(_, known)| same(known));
        self.dialling = Some((since.map_or(now, |(since, _)| since), problems));
    }

    /// Somebody was turned away.
    pub fn turned_away(&mut self, now: Time, problem: Problem) {
        // While the peer is there it was a stranger: nothing went wrong.
        if !self.up {
            self.happened(now, &problem.text);
            self.turned_away = Some((now, problem));
        }
    }

    /// There is a session.
    pub fn session_up(&mut self) {
        *self = Self { up: true, last: self.last.take(), ..Self::default() };
    }

    /// It has ended.
    pub fn session_down(&mut self, now: Time, reason: &str) {
        self.up = false;
        self.happened(now, &format!("the session ended: {reason}"));
    }

    /// What keeps a session from coming about, each with the time that it is known of.
    pub fn problems(&self) -> impl Iterator<Item = (Time, &Problem)> {
        let dialling = self.dialling.iter();
        let dialling = dialling.flat_map(|(since, all)| all.iter().map(|one| (*since, one)));
        dialling.chain(self.turned_away.iter().map(|(when, problem)| (*when, problem)))
    }

    /// The last thing that went wrong.
    pub fn last(&self) -> Option<(Time, &str)> {
        self.last.as_ref().map(|(when, what)| (*when, what.as_str()))
    }

    fn happened(&mut self, now: Time, what: &str) {
        self.last = Some((now, what.to_owned()));
    }
}

fn told(problems: &[Problem]) -> String {
    problems.iter().map(|problem| problem.text.as_str()).collect::<Vec<_>>().join("; ")
}
