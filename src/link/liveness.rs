//! Whether the other end of one stream is still there.
//!
//! Only a whole frame counts as a sign of life: bytes that don't decode are none. The peer is asked
//! with a PING when it has been silent for `keepalive`, and sooner when it owes us an answer
//! because we have sent something since. A stream that leaves a PING unanswered for a while is
//! *stalled*: a replacement may be dialled, but nothing is given up before `dead_after`.

use std::time::Duration;

use crate::time::Time;

/// Silence after sending that makes us ask.
const IMPATIENT: Duration = Duration::from_secs(2);

/// How long a PING may stay unanswered before the stream counts as stalled.
const STALLED: Duration = Duration::from_secs(2);

/// What to do about a stream now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing, until this time.
    Wait(Time),
    /// Send a PING.
    Ping,
    /// It has stalled; said once, until it is heard again.
    Stalled,
    /// Give it up: nothing was heard for `dead_after`.
    Dead,
}

/// Keeps track of one stream.
#[derive(Debug)]
pub struct Liveness {
    keepalive: Duration,
    dead_after: Duration,
    heard: Time,
    sent_since: Option<Time>,
    pinged: Option<Time>,
    stalled: bool,
}

impl Liveness {
    /// A stream that has just said HELLO.
    pub fn new(keepalive: Duration, dead_after: Duration, now: Time) -> Self {
        Self { keepalive, dead_after, heard: now, sent_since: None, pinged: None, stalled: false }
    }

    /// A whole frame arrived. Says whether the stream had stalled.
    pub fn heard(&mut self, now: Time) -> bool {
        self.heard = now;
        self.sent_since = None;
        self.pinged = None;
        std::mem::take(&mut self.stalled)
    }

    /// Data was sent, which the peer's hosts may be expected to answer. Says whether this makes
    /// the next [`Self::poll`] due sooner than it said before.
    pub fn sent(&mut self, now: Time) -> bool {
        let first = self.sent_since.is_none();
        self.sent_since.get_or_insert(now);
        first && self.pinged.is_none()
    }

    /// Whether it has left a PING unanswered for a while: what is sent now may never arrive.
    pub fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// What is to be done.
    pub fn poll(&mut self, now: Time) -> Verdict {
        let dead_at = self.heard + self.dead_after;
        if now >= dead_at {
            return Verdict::Dead;
        }
        let next = match (self.pinged, self.stalled) {
            (None, _) => {
                let quiet = self.heard + self.keepalive;
                let owed = self.sent_since.map(|sent| sent + IMPATIENT.min(self.keepalive));
                let ping_at = owed.map_or(quiet, |owed| owed.min(quiet));
                if now >= ping_at {
                    self.pinged = Some(now);
                    return Verdict::Ping;
                }
                ping_at
            }
            (Some(pinged), false) => {
                if now >= pinged + STALLED {
                    self.stalled = true;
                    return Verdict::Stalled;
                }
                pinged + STALLED
            }
            (Some(_), true) => dead_at,
        };
        Verdict::Wait(next.min(dead_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEPALIVE: Duration = Duration::from_secs(10);
    const DEAD_AFTER: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Time {
        Time::since_boot(Duration::from_secs(1000 + seconds))
    }

    fn stream() -> Liveness {
        Liveness::new(KEEPALIVE, DEAD_AFTER, at(0))
    }

    #[test]
    fn a_quiet_stream_is_asked_after_keepalive_and_given_up_after_dead_after() {
        let mut stream = stream();
        assert_eq!(stream.poll(at(0)), Verdict::Wait(at(10)));
        assert_eq!(stream.poll(at(10)), Verdict::Ping);
        assert_eq!(stream.poll(at(10)), Verdict::Wait(at(12)));
        assert_eq!(stream.poll(at(12)), Verdict::Stalled);
        assert_eq!(stream.poll(at(12)), Verdict::Wait(at(30)));
        assert_eq!(stream.poll(at(30)), Verdict::Dead);
    }

    #[test]
    fn an_answer_starts_it_all_over() {
        let mut stream = stream();
        assert_eq!(stream.poll(at(10)), Verdict::Ping);
        assert_eq!(stream.poll(at(12)), Verdict::Stalled);
        assert!(stream.heard(at(13)));
        assert_eq!(stream.poll(at(13)), Verdict::Wait(at(23)));
        assert_eq!(stream.poll(at(23)), Verdict::Ping);
        assert_eq!(stream.poll(at(25)), Verdict::Stalled);
    }

    #[test]
    fn a_peer_that_owes_an_answer_is_asked_sooner() {
        let mut stream = stream();
        assert!(stream.sent(at(1)));
        assert!(!stream.sent(at(2)));
        assert_eq!(stream.poll(at(2)), Verdict::Wait(at(3)));
        assert_eq!(stream.poll(at(3)), Verdict::Ping);
        assert!(!stream.heard(at(4)));
        assert_eq!(stream.poll(at(4)), Verdict::Wait(at(14)));
    }

    #[test]
    fn sending_alone_is_no_sign_of_life() {
        let mut stream = stream();
        for second in 1..30 {
            stream.sent(at(second));
            stream.poll(at(second));
        }
        assert_eq!(stream.poll(at(30)), Verdict::Dead);
    }

    #[test]
    fn a_machine_that_slept_finds_the_stream_dead_at_once() {
        let mut stream = stream();
        assert_eq!(stream.poll(at(3600)), Verdict::Dead);
    }
}
