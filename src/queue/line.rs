//! What the line under a connection is found to carry, and how much to hand it.
//!
//! Whatever stands in a buffer behind us can no longer be decided about. So the connection is
//! handed only what the line carries within the queue's target; and when packets stand in a buffer
//! at the bottleneck, which shows in a round trip longer than the shortest one seen, the connection
//! is paced a little below what the line carries, until that buffer has drained. Congestion
//! controls that are paced by what they measured, as BBR is, never drain it themselves.
//!
//! A round trip may be long for reasons that we can't help: somebody else fills the buffer, or a
//! radio link is at its moods. Pacing that has not helped within two seconds is given up for a
//! while.

use std::time::Duration;

use crate::time::Time;

/// How often to look; more often when a flow begins would see nothing.
pub const LOOK: Duration = Duration::from_millis(50);

/// What is measured over less is chance.
const WINDOW: Duration = Duration::from_millis(200);

/// How long pacing may go without effect.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long it is then given up.
const GIVEN_UP: Duration = Duration::from_secs(30);

/// Bytes handed out ahead on a fast line: enough to keep it busy.
const AHEAD_MOST: usize = 192 * 1024;

/// The same on the slowest line, a dozen packets: with less, a congestion control believes that
/// there is nothing to send, and measures wrongly.
const AHEAD_LEAST: usize = 16 * 1024;

/// What the kernel knows of the connection (`TCP_INFO`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Bytes acknowledged since the connection began.
    pub acknowledged: u64,
    /// The kernel's own estimate of what it delivers, in bytes a second; 0 while it has none.
    pub delivery_rate: u64,
    /// The smoothed round trip.
    pub round_trip: Duration,
    /// The shortest round trip in a long while.
    pub least_round_trip: Duration,
}

/// What is known of the line under one connection.
#[derive(Debug)]
pub struct Line {
    target: Duration,
    looked: Option<Time>,
    /// When the window began, and what was acknowledged then.
    window: Option<(Time, u64)>,
    ahead: usize,
    pacing: Option<u64>,
    /// Since when packets stand at the bottleneck although we pace.
    standing_since: Option<Time>,
    given_up_until: Time,
}

impl Line {
    /// A line of which nothing is known; `target` is the queue's.
    pub fn new(target: Duration) -> Self {
        Self {
            target,
            looked: None,
            window: None,
            ahead: AHEAD_MOST,
            pacing: None,
            standing_since: None,
            given_up_until: Time::default(),
        }
    }

    /// Bytes that may be out of the queue's hands and not yet sent.
    pub fn ahead(&self) -> usize {
        self.ahead
    }

    /// What the connection is to be paced to, in bytes a second; `None`: as it likes.
    pub fn pacing(&self) -> Option<u64> {
        self.pacing
    }

    /// Whether it is time for [`Self::look`].
    pub fn is_due(&self, now: Time) -> bool {
        self.looked.is_none_or(|looked| now - looked >= LOOK)
    }

    /// Looks at the line, while packets wait for it.
    pub fn look(&mut self, now: Time, seen: Seen) {
        // What was acknowledged over a pause says nothing.
        if self.looked.is_some_and(|looked| now - looked > LOOK * 3) {
            self.window = None;
        }
        self.looked = Some(now);
        let (began, before) = *self.window.get_or_insert((now, seen.acknowledged));
        let elapsed = now - began;
        if elapsed < WINDOW {
            if self.pacing.is_none() && seen.delivery_rate > 0 {
                self.hand_out(seen.delivery_rate);
            }
            return;
        }
        self.window = Some((now, seen.acknowledged));
        let carried = u128::from(seen.acknowledged.saturating_sub(before)) * 1_000_000;
        let rate = u64::try_from(carried / elapsed.as_micros().max(1)).unwrap_or(u64::MAX);
        if rate > 0 {
            self.hand_out(rate);
            self.pace(now, rate, seen.round_trip.saturating_sub(seen.least_round_trip));
        }
    }

    fn hand_out(&mut self, rate: u64) {
        let within_target = u128::from(rate) * self.target.as_micros() / 1_000_000;
        let within_target = usize::try_from(within_target).unwrap_or(AHEAD_MOST);
        self.ahead = within_target.clamp(AHEAD_LEAST, AHEAD_MOST);
    }

    /// `standing` is how long packets wait at the bottleneck.
    fn pace(&mut self, now: Time, rate: u64, standing: Duration) {
        if now < self.given_up_until {
            return;
        }
        if standing > self.target * 2 {
            let since = *self.standing_since.get_or_insert(now);
            self.pacing = Some(rate - rate / 10);
            if now - since > PATIENCE {
                self.pacing = None;
                self.standing_since = None;
                self.given_up_until = now + GIVEN_UP;
            }
            return;
        }
        self.standing_since = None;
        // Feels its way up again: the line may have become faster, and what is far above it is no
        // pacing at all.
        if standing <= self.target {
            let faster = self.pacing.map(|pacing| pacing + pacing / 20);
            self.pacing = faster.filter(|pacing| *pacing < rate.saturating_mul(2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(5);

    /// A bottleneck of `rate` bytes a second behind a sender that keeps its buffer as full as it
    /// may, as a congestion control with too high an opinion of the line does.
    struct Bottleneck {
        rate: u64,
        appetite: u64,
        others: Duration,
        buffered: u64,
        acknowledged: u64,
        now: Time,
    }

    impl Bottleneck {
        fn new(rate: u64, appetite: u64) -> Self {
            let now = Time::since_boot(Duration::from_secs(100));
            Self { rate, appetite, others: Duration::ZERO, buffered: 0, acknowledged: 0, now }
        }

        fn run(&mut self, line: &mut Line, seconds: u64) {
            for _ in 0..seconds * 20 {
                self.now += LOOK;
                let offered = line.pacing().map_or(self.appetite, |pace| pace.min(self.appetite));
                self.buffered = (self.buffered + offered / 20).min(500_000);
                let sent = self.buffered.min(self.rate / 20);
                self.buffered -= sent;
                self.acknowledged += sent;
                line.look(self.now, self.seen());
            }
        }

        fn seen(&self) -> Seen {
            let least_round_trip = Duration::from_millis(20);
            let standing = Duration::from_micros(self.buffered * 1_000_000 / self.rate);
            Seen {
                acknowledged: self.acknowledged,
                delivery_rate: self.rate,
                round_trip: least_round_trip + standing + self.others,
                least_round_trip,
            }
        }
    }

    #[test]
    fn a_buffer_that_stands_is_drained_and_the_line_stays_busy() {
        let mut line = Line::new(TARGET);
        let mut bottleneck = Bottleneck::new(2_500_000, 2_700_000);
        bottleneck.run(&mut line, 5);
        let before = bottleneck.acknowledged;
        bottleneck.run(&mut line, 20);
        assert!(bottleneck.buffered < 60_000, "{} bytes stand", bottleneck.buffered);
        let share = (bottleneck.acknowledged - before) * 100 / (20 * 2_500_000);
        assert!(share >= 93, "{share} % of the line");
    }

    #[test]
    fn only_what_the_line_carries_within_the_target_is_handed_out() {
        for (rate, ahead) in [(500_000, AHEAD_LEAST), (10_000_000, 50_000), (1 << 40, AHEAD_MOST)] {
            let mut line = Line::new(TARGET);
            Bottleneck::new(rate, rate).run(&mut line, 2);
            assert_eq!(line.ahead(), ahead, "at {rate} bytes a second");
        }
    }

    #[test]
    fn a_line_without_a_standing_buffer_is_not_paced() {
        let mut line = Line::new(TARGET);
        Bottleneck::new(2_500_000, 2_400_000).run(&mut line, 60);
        assert_eq!(line.pacing(), None);
    }

    #[test]
    fn a_wait_that_others_cause_does_not_slow_us_for_long() {
        let mut line = Line::new(TARGET);
        let mut bottleneck = Bottleneck::new(2_500_000, 2_400_000);
        bottleneck.others = Duration::from_millis(80);
        bottleneck.run(&mut line, 60);
        let share = bottleneck.acknowledged * 100 / (60 * 2_400_000);
        assert!(share >= 90, "{share} %");
    }

    #[test]
    fn a_line_that_becomes_faster_is_followed() {
        let mut line = Line::new(TARGET);
        let mut bottleneck = Bottleneck::new(2_500_000, 30_000_000);
        bottleneck.run(&mut line, 5);
        assert!(line.pacing().is_some());
        bottleneck.rate = 25_000_000;
        bottleneck.run(&mut line, 20);
        let pacing = line.pacing().unwrap_or(u64::MAX);
        assert!(pacing > 15_000_000, "{pacing}");
    }
}
