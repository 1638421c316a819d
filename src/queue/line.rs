//! What is known of the line that the queue is in front of, and how much of what waits it is given.
//!
//! A congestion control that looks for loss fills the buffer at the bottleneck, and one that looks
//! for the rate (BBR) keeps up to twice in flight of what the line holds. Either way packets wait
//! where nobody decides about them. So on a slow line the bytes in flight are kept to what it
//! carries in its shortest round trip and a little more:
//!
//! ```text
//!   window = rate × (shortest round trip + slack)
//! ```
//!
//! The slack is a queue that stands at the bottleneck: short, but never empty, so that the rate
//! that is measured is the line's own and not an echo of the window. Of the acknowledgements, one for
//! every other segment, the last is always still to come.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Time;

use super::rest::Rest;

pub use super::rest::Probes;

/// Bytes handed to the connection ahead of what the kernel sends, on a fast line. Enough to keep it
/// busy; the rest waits in the queue, where it can still be decided about.
const AHEAD_MOST: usize = 192 * 1024;

/// The same on the slowest line: three packets.
const AHEAD_LEAST: usize = 4 * 1024;

/// The same before anything is known: about what a connection sends before the first
/// acknowledgement (RFC 6928). A longer piece is under way for seconds on the slowest lines, and the
/// peer hears nothing before all of it is there.
const AHEAD_FIRST: usize = 16 * 1024;

/// How often a line is looked at that is fast, or of which nothing is known.
const LOOK: Duration = Duration::from_millis(50);

/// How often a line is glanced at. An answer to a lone packet is seen then, unless it has come
/// sooner; no line that short runs BBR.
const GLANCE: Duration = Duration::from_millis(1);

/// What the line carries in this time may always wait in the kernel: it is twice as long as the
/// pause between two looks may be, so that a connection that becomes faster is not held back.
const READY: Duration = Duration::from_millis(4);

/// How long the rate is measured at a time, and over how many times the highest counts: a moment
/// that was lost to something else must not slow the line down.
const MEASURED: Duration = Duration::from_millis(200);
const MEASUREMENTS: u32 = 10;

/// How long the round trip may stay longer than the window explains: longer than a slower line
/// takes to be noticed. Then it is not our queue that makes it so, but somebody else's, or a longer
/// path.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long the window is left open then.
const OPEN: Duration = Duration::from_secs(30);

/// How long a queue must be seen to stand at the bottleneck before it is believed.
const STANDS: Duration = LOOK;

/// The least window: four packets, as with BBR (`bbr_cwnd_min_target`). A line's round trip may be
/// too short to measure.
const WINDOW_LEAST: usize = 6 * 1024;

/// What the peer acknowledges at once: every other segment. Before, they count as on their way.
const ACKNOWLEDGED: usize = 2 * 1448;

/// With fewer bytes on their way, nothing is learnt of the line.
const MUCH: usize = 16 * 1024;

/// What the kernel knows of the connection.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Bytes that the peer has acknowledged since the connection began.
    pub acknowledged: u64,
    /// What the connection has delivered lately, in bytes a second; 0 when that is not known.
    pub delivery_rate: u64,
    /// The smoothed round-trip time.
    pub round_trip: Duration,
    /// The shortest round-trip time in a long while.
    pub least_round_trip: Duration,
    /// Bytes on their way.
    pub in_flight: usize,
    /// Bytes that the kernel holds and has not sent.
    pub unsent: usize,
    /// Of a congestion control that probes for the shortest round trip.
    pub probes: Option<Probes>,
}

/// The line between a queue and the peer.
#[derive(Debug)]
pub struct Line {
    target: Duration,
    looked: Option<Time>,
    glanced: Option<Time>,
    /// When the measurement under way began, and what had been acknowledged by then.
    measuring: Option<(Time, u64)>,
    /// Whether the queue has had something to give all the while.
    backlogged: bool,
    /// The last measurements, in bytes a second.
    rates: VecDeque<u64>,
    /// The fastest since the round trip was last longer than the window explains.
    fastest: u64,
    ahead: usize,
    /// Whether `ahead` is what suits the line; before, it is a guess.
    suits: bool,
    /// What may be in flight, on a slow line at whose bottleneck a queue has stood.
    window: Option<usize>,
    /// Whether more is on its way than the window lets, from before there was one.
    drains: bool,
    /// Bytes out of the queue's hands that have not arrived.
    out: usize,
    /// Since when a queue has stood at the bottleneck, for all that was seen.
    standing: Option<Time>,
    /// Since when the round trip is longer than the window explains.
    unexplained: Option<Time>,
    open_until: Time,
    rest: Rest,
}

impl Line {
    /// A line of which nothing is known; `target` is the queue's.
    pub fn new(target: Duration) -> Self {
        Self {
            target,
            looked: None,
            glanced: None,
            measuring: None,
            backlogged: true,
            rates: VecDeque::new(),
            fastest: 0,
            ahead: AHEAD_FIRST,
            suits: false,
            window: None,
            drains: false,
            out: 0,
            standing: None,
            unexplained: None,
            open_until: Time::default(),
            rest: Rest::default(),
        }
    }

    /// The connection is another one: nothing is known.
    pub fn forget(&mut self) {
        *self = Self::new(self.target);
    }

    /// Whether it is time for [`Self::look`]: always, while room is bounded by what is seen.
    pub fn is_due(&self, now: Time) -> bool {
        self.is_bounded() || self.looked.is_none_or(|looked| now - looked >= LOOK)
    }

    /// Whether it is time for [`Self::glance`].
    pub fn is_glance_due(&self, now: Time) -> bool {
        let before = self.looked.max(self.glanced);
        self.ahead < AHEAD_MOST && before.is_none_or(|before| now - before >= GLANCE)
    }

    /// What is known of the line holds on, with another target.
    pub fn set_target(&mut self, target: Duration) {
        self.target = target;
    }

    /// Bytes that the line carries within half the target: nothing longer should be handed out as
    /// one piece.
    pub fn ahead(&self) -> usize {
        self.ahead
    }

    /// Bytes that the kernel may hold and not have sent.
    pub fn unsent_limit(&self) -> usize {
        self.ahead * 2
    }

    /// Whether room is bounded by what is in flight or unsent, as it is on a slow line, so that it
    /// comes without the kernel saying so.
    pub fn is_bounded(&self) -> bool {
        self.suits && self.ahead < AHEAD_MOST
    }

    /// Whether a queue stands at the bottleneck: what leaves within [`Self::hold`] arrives no later.
    pub fn is_busy(&self) -> bool {
        self.window.is_some_and(|window| self.out > window / 8 * 7)
    }

    /// How long the last bytes of what was handed out may wait for others to share their segment.
    pub fn hold(&self) -> Duration {
        self.target / 2
    }

    /// The queue ran empty: what is measured now is not what the line could carry.
    pub fn ran_empty(&mut self) {
        self.backlogged = false;
    }

    /// Looks at the line while nothing waits for it.
    pub fn glance(&mut self, now: Time, probes: Option<Probes>) {
        self.glanced = Some(now);
        if let Some(probes) = probes {
            self.rest.glance(now, probes);
        }
    }

    /// Looks at the line while packets wait for it; gives the bytes that may be handed out.
    pub fn look(&mut self, now: Time, seen: Seen) -> usize {
        // Nothing waited for a while: what was acknowledged meanwhile says nothing.
        if self.looked.is_some_and(|looked| now - looked > LOOK * 3) {
            self.measuring = None;
        }
        self.looked = Some(now);
        self.out = seen.in_flight + seen.unsent;
        let rate = self.rate().unwrap_or(seen.delivery_rate);
        let slack = (self.target * 3 / 2).max(seen.least_round_trip / 4);
        let slack = slack + taken(ACKNOWLEDGED, rate);
        let standing = seen.round_trip.saturating_sub(seen.least_round_trip);
        self.estimate(seen.delivery_rate);
        self.measure(now, seen, standing >= slack / 2);
        // No window is smaller, and the last of it may be acknowledged late.
        let least = taken(WINDOW_LEAST * 3 / 2, rate).saturating_sub(seen.least_round_trip);
        self.judge(now, standing, slack, slack.max(least));
        // Acknowledgements come in bunches: for a moment even a busy line has less on its way.
        let used = self.window.is_some_and(|window| self.out > window / 2);
        let rest = seen
            .probes
            .is_some_and(|probes| self.rest.is_due(now, probes, used, self.out, seen.round_trip));
        if !self.is_bounded() {
            return self.ahead;
        }
        // The kernel adds to what it has begun to collect in one piece, whatever its limit.
        let ready = carried(rate.max(seen.delivery_rate), READY);
        let limit = self.unsent_limit().max(ready).saturating_sub(seen.unsent);
        let Some(window) = &mut self.window else { return self.ahead.min(limit) };
        if rest {
            return 0;
        }
        *window = carried(rate, seen.least_round_trip + slack).max(WINDOW_LEAST);
        let room = window.saturating_sub(self.out);
        if self.is_busy() && room < self.ahead {
            // What goes together shares a record and a segment.
            return 0;
        }
        room.min(limit)
    }

    /// What the line carries. A window that is too small for a path slows it down, and a rate that
    /// followed would make it smaller still: without a longer round trip it falls by a tenth at most.
    fn rate(&self) -> Option<u64> {
        self.rates.iter().copied().max().map(|rate| rate.max(self.fastest / 10 * 9))
    }

    /// What the first measurement will tell, as far as the kernel knows already. Little says of the
    /// line no more than that it can do as much.
    fn estimate(&mut self, delivery_rate: u64) {
        if !self.rates.is_empty() || delivery_rate == 0 {
            return;
        }
        if self.out >= MUCH {
            self.set_ahead(delivery_rate);
        } else {
            self.ahead = self.ahead.max(self.suited(delivery_rate));
        }
    }

    /// When the queue ran empty, or `stands` says that there is none at the bottleneck, what was
    /// carried is not what could have been.
    fn measure(&mut self, now: Time, seen: Seen, stands: bool) {
        let Some((began, before)) = self.measuring else {
            self.measuring = Some((now, seen.acknowledged));
            self.backlogged = true;
            return;
        };
        let elapsed = now - began;
        if elapsed < MEASURED {
            return;
        }
        let bytes = u128::from(seen.acknowledged.saturating_sub(before)) * 1_000_000;
        let mut rate = u64::try_from(bytes / elapsed.as_micros()).unwrap_or(u64::MAX);
        let measured = rate;
        let known = self.rate();
        if self.backlogged && self.window.is_some() && !stands {
            // It was the window that kept it from carrying more.
            rate += rate / 4;
        }
        let full = self.backlogged || (stands && self.out >= MUCH);
        if rate > 0 && (full || known.is_some_and(|known| rate > known)) {
            self.rates.truncate(MEASUREMENTS as usize - 1);
            self.rates.push_front(rate);
            self.fastest = self.fastest.max(measured);
            self.set_ahead(self.rate().unwrap_or(rate));
        }
        self.measuring = Some((now, seen.acknowledged));
        self.backlogged = true;
    }

    fn set_ahead(&mut self, rate: u64) {
        self.ahead = self.suited(rate);
        self.suits = true;
    }

    /// What may be handed out ahead at this rate.
    fn suited(&self, rate: u64) -> usize {
        let time = (self.target / 2).max(Duration::from_micros(500));
        carried(rate, time).clamp(AHEAD_LEAST, AHEAD_MOST)
    }

    /// `standing` is how long packets wait on their way, `explained` how long they may because of
    /// the window.
    fn judge(&mut self, now: Time, standing: Duration, slack: Duration, explained: Duration) {
        if !self.is_bounded() || now < self.open_until {
            self.window = None;
            self.standing = None;
            return;
        }
        self.drains &= self.window.is_some_and(|window| self.out > window);
        let unexplained = standing > explained * 5 / 4 && !self.drains;
        if !unexplained {
            self.unexplained = None;
        }
        if standing <= slack {
            self.standing = None;
        } else if self.window.is_none() {
            if now - *self.standing.get_or_insert(now) >= STANDS {
                self.window = Some(WINDOW_LEAST);
                self.drains = true;
            }
        } else if unexplained {
            let since = *self.unexplained.get_or_insert(now);
            if now - since > MEASURED * MEASUREMENTS {
                // Perhaps the line has become slower: no measurement is older than that.
                self.fastest = 0;
            }
            if now - since > PATIENCE {
                self.unexplained = None;
                self.open_until = now + OPEN;
            }
        }
    }
}

/// How long the line takes for that many bytes; no time if the rate is not known.
fn taken(bytes: usize, rate: u64) -> Duration {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    Duration::from_micros(bytes.saturating_mul(1_000_000).checked_div(rate).unwrap_or(0))
}

/// The bytes that the line carries in that time.
fn carried(rate: u64, time: Duration) -> usize {
    let bytes = u128::from(rate) * time.as_micros() / 1_000_000;
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
