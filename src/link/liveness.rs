//! Whether the other end of one stream is still there.
//!
//! Only a whole frame counts as a sign of life: bytes that don't decode are none. The peer is asked
//! with a PING when it has been silent for `keepalive`, and sooner when it owes us an answer
//! because we have sent something since. A stream that leaves a PING unanswered for a while is
//! *stalled*: a replacement may be dialled, but nothing is given up before `dead_after`.
//!
//! On a thin line a PING waits behind what the kernel already holds, for longer than that. What
//! tells such a stream from a broken one is that the peer's kernel goes on acknowledging bytes: see
//! [`Liveness::wants_progress`].

use std::time::Duration;

use crate::time::Time;

/// Silence after sending that makes us ask.
const IMPATIENT: Duration = Duration::from_secs(2);

/// How long a PING may stay unanswered, and nothing be acknowledged, before the stream counts as
/// stalled.
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
    acknowledged: Option<u64>,
    progress: Time,
    stalled: bool,
}

impl Liveness {
    /// A stream that has just said HELLO.
    pub fn new(keepalive: Duration, dead_after: Duration, now: Time) -> Self {
        Self {
            keepalive,
            dead_after,
            heard: now,
            sent_since: None,
            pinged: None,
            acknowledged: None,
            progress: now,
            stalled: false,
        }
    }

    /// From now on these times hold, also for the silence that there is.
    pub fn set_times(&mut self, keepalive: Duration, dead_after: Duration) {
        (self.keepalive, self.dead_after) = (keepalive, dead_after);
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

    /// How long nothing has been heard.
    pub fn silent(&self, now: Time) -> Duration {
        now - self.heard
    }

    /// Whether it has left a PING unanswered for a while: what is sent now may never arrive.
    pub fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Whether the next [`Self::poll`] depends on what the peer's kernel has acknowledged: it will
    /// send a PING, or find the stream stalled. Then ask the kernel, and call
    /// [`Self::acknowledged`] first. That is at most once in two seconds, and never while frames
    /// keep coming.
    pub fn wants_progress(&self, now: Time) -> bool {
        !self.stalled && now >= self.next()
    }

    /// How many bytes the peer's kernel has acknowledged since the connection began
    /// (`tcpi_bytes_acked` of `TCP_INFO`, RFC 4898 `tcpEStatsAppHCThruOctetsAcked`).
    ///
    /// While that grows from one call to the next the stream does not stall; a stream whose path
    /// breaks is found stalled within four seconds of the last byte acknowledged instead of two.
    /// It is no sign of life: a kernel acknowledges for a process that hangs, until its buffer is
    /// full. A stream that has stalled stays so until it is heard. Without this call only the
    /// unanswered PING counts.
    pub fn acknowledged(&mut self, now: Time, bytes: u64) {
        if self.acknowledged.replace(bytes).is_some_and(|before| bytes > before) {
            self.progress = now;
        }
    }

    /// What is to be done.
    pub fn poll(&mut self, now: Time) -> Verdict {
        let dead_at = self.heard + self.dead_after;
        if now >= dead_at {
            return Verdict::Dead;
        }
        let next = self.next();
        if self.stalled || now < next {
            return Verdict::Wait(next.min(dead_at));
        }
        if self.pinged.is_none() {
            self.pinged = Some(now);
            return Verdict::Ping;
        }
        self.stalled = true;
        Verdict::Stalled
    }

    /// When to send a PING, or the stream is found stalled, or dead if it has stalled already.
    fn next(&self) -> Time {
        match self.pinged {
            _ if self.stalled => self.heard + self.dead_after,
            None => {
                let quiet = self.heard + self.keepalive;
                let owed = self.sent_since.map(|sent| sent + IMPATIENT.min(self.keepalive));
                owed.map_or(quiet, |owed| owed.min(quiet))
            }
            Some(pinged) => pinged.max(self.progress) + STALLED,
        }
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
    fn new_times_hold_for_the_silence_that_there_is() {
        let mut stream = stream();
        stream.set_times(Duration::from_secs(3), Duration::from_secs(60));
        assert_eq!(stream.poll(at(1)), Verdict::Wait(at(3)));
        assert_eq!(stream.poll(at(3)), Verdict::Ping);
        assert_eq!(stream.poll(at(5)), Verdict::Stalled);
        assert_eq!(stream.poll(at(30)), Verdict::Wait(at(60)));
        stream.set_times(KEEPALIVE, Duration::from_secs(20));
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

    /// Polls as a worker does, every half second: with the bytes that are acknowledged by then.
    fn run(stream: &mut Liveness, acked: impl Fn(Time) -> u64) -> Vec<(Time, Verdict)> {
        let mut said = Vec::new();
        for step in 0..=60 {
            let now = at(0) + Duration::from_millis(500) * step;
            stream.sent(now);
            if stream.wants_progress(now) {
                stream.acknowledged(now, acked(now));
            }
            let verdict = stream.poll(now);
            if !matches!(verdict, Verdict::Wait(_)) {
                said.push((now, verdict));
            }
        }
        said
    }

    #[test]
    fn a_thin_line_that_goes_on_acknowledging_does_not_stall_but_dies_unheard() {
        let said = run(&mut stream(), |now| u64::try_from((now - at(0)).as_millis()).unwrap());
        assert_eq!(said, [(at(2), Verdict::Ping), (at(30), Verdict::Dead)]);
    }

    #[test]
    fn a_line_that_stops_acknowledging_stalls_within_four_seconds() {
        for stop in 2..20 {
            let acked = |now: Time| u64::try_from((now.min(at(stop)) - at(0)).as_millis()).unwrap();
            let said = run(&mut stream(), acked);
            let [(_, Verdict::Ping), (stalled, Verdict::Stalled), (_, Verdict::Dead)] = said[..]
            else {
                panic!("{said:?}")
            };
            assert!(at(stop + 2) <= stalled && stalled <= at(stop + 4), "{stop}: {stalled:?}");
        }
    }

    #[test]
    fn what_was_acknowledged_before_the_ping_does_not_put_a_stall_off() {
        let mut stream = stream();
        stream.acknowledged(at(1), 10);
        assert!(!stream.wants_progress(at(9)));
        assert!(stream.wants_progress(at(10)));
        stream.acknowledged(at(10), 5000);
        assert_eq!(stream.poll(at(10)), Verdict::Ping);
        assert!(!stream.wants_progress(at(11)));
        assert!(stream.wants_progress(at(12)));
        stream.acknowledged(at(12), 5000);
        assert_eq!(stream.poll(at(12)), Verdict::Stalled);
        stream.acknowledged(at(13), 9000);
        assert!(stream.is_stalled() && !stream.wants_progress(at(14)));
        assert_eq!(stream.poll(at(14)), Verdict::Wait(at(30)));
    }

    #[test]
    fn a_machine_that_slept_finds_the_stream_dead_at_once() {
        let mut stream = stream();
        assert_eq!(stream.poll(at(3600)), Verdict::Dead);
    }
}
