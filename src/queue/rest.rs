//! Moments of silence, so that the congestion control need not slow a busy line down.
//!
//! BBR has to know the shortest round trip. When none as short has been seen for ten seconds it
//! keeps no more than four segments in flight for 200 ms and a round trip (`PROBE_RTT` in Linux
//! `net/ipv4/tcp_bbr.c`), which costs a slow line a fiftieth of what it carries. It does without
//! when sending begins again after a silence just then: the first acknowledgement tells. So shortly
//! before, nothing is handed out until everything has arrived; that costs one round trip and twice
//! [`MARGIN`], and where the moment is not known exactly, what it may lie earlier.

use std::time::Duration;

use crate::time::Time;

/// For how long BBR trusts a round trip (`bbr_min_rtt_win_sec`).
const TRUSTED: Duration = Duration::from_secs(10);

/// How far we may be out: the kernel counts in ticks of up to 10 ms, and we look once in a while.
const MARGIN: Duration = Duration::from_millis(15);

/// A look at the connection that was longer ago says nothing of when something began: silence for
/// as long as that would cost as much as a probe.
const UNSURE: Duration = Duration::from_millis(100);

/// What BBR says of its probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probes {
    /// The round trip that it trusts.
    pub least_round_trip: Duration,
    /// Whether it looks for another one.
    pub under_way: bool,
}

/// Knows since when the congestion control trusts its round trip.
#[derive(Debug, Default)]
pub struct Rest {
    trusted: Option<Trusted>,
    /// The end of the silence that has begun.
    until: Option<Time>,
    looked: Option<Time>,
}

/// A round trip that is trusted since some moment between `earliest` and `latest`.
#[derive(Debug, Clone, Copy)]
struct Trusted {
    round_trip: Duration,
    earliest: Time,
    latest: Time,
}

impl Trusted {
    /// One that is noticed now; nothing of it was to be seen at `before`.
    fn noticed(round_trip: Duration, before: Option<Time>, now: Time) -> Self {
        let earliest = before.filter(|before| now - *before <= UNSURE).unwrap_or(now);
        Self { round_trip, earliest, latest: now }
    }
}

impl Rest {
    /// A look while there is nothing to hand out: acknowledgements that still come may bring a
    /// shorter round trip.
    pub fn glance(&mut self, now: Time, probes: Probes) {
        let looked = self.looked.replace(now);
        self.notice(now, probes, looked);
    }

    /// Whether nothing is to be handed out now: `out` bytes have not arrived, and what leaves now
    /// does so after `round_trip`. A line that is not busy would gain nothing.
    pub fn is_due(
        &mut self,
        now: Time,
        probes: Probes,
        busy: bool,
        out: usize,
        round_trip: Duration,
    ) -> bool {
        let least = probes.least_round_trip;
        let looked = self.looked.replace(now);
        let Some(Trusted { earliest, latest, .. }) = self.notice(now, probes, looked) else {
            return false;
        };
        let end = latest + TRUSTED + MARGIN;
        if now >= end {
            if out == 0 {
                // The first acknowledgement from now will be trusted; after a silence that was kept
                // none was before.
                let before = looked.filter(|_| self.until.is_none());
                self.trusted = Some(Trusted::noticed(least, before, now + least));
            }
            self.until = None;
            // With something on its way it was in vain, and a probe follows.
            return false;
        }
        if busy && now + round_trip + MARGIN >= earliest + TRUSTED {
            self.until = Some(end);
        }
        self.until.is_some()
    }

    /// Takes note of the round trip that is trusted; gives it if it is the same as at the look before.
    fn notice(&mut self, now: Time, probes: Probes, looked: Option<Time>) -> Option<Trusted> {
        let least = probes.least_round_trip;
        let known = self.trusted.filter(|trusted| trusted.round_trip == least && !probes.under_way);
        if known.is_none() {
            self.trusted = Some(Trusted::noticed(least, looked, now));
            self.until = None;
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(28);

    fn at(milliseconds: u64) -> Time {
        Time::since_boot(Duration::from_millis(milliseconds))
    }

    fn probes(least: u64) -> Probes {
        Probes { least_round_trip: Duration::from_millis(least), under_way: false }
    }

    #[test]
    fn silence_is_kept_when_a_probe_is_due() {
        let mut rest = Rest::default();
        let mut due = |now, least, out| rest.is_due(at(now), probes(least), true, out, ROUND_TRIP);
        assert!(!due(50_000, 21, 1));
        assert!(!due(52_000, 20, 1), "trusted from now on");
        assert!(!due(61_950, 20, 1));
        assert!(due(61_960, 20, 1));
        assert!(due(62_010, 20, 0));
        assert!(!due(62_015, 20, 0), "the moment is over, and all has arrived");
        assert!(!due(71_980, 20, 1), "counts from the first acknowledgement");
        assert!(due(71_995, 20, 1));
        assert!(!due(72_000, 19, 1), "a shorter one is trusted anew");
    }

    #[test]
    fn silence_that_came_too_late_is_not_kept_again_before_the_next_probe() {
        let mut rest = Rest::default();
        let mut due = |now, under_way| {
            let probes = Probes { under_way, ..probes(20) };
            rest.is_due(at(now), probes, true, 1, ROUND_TRIP)
        };
        assert!(!due(60_000, false));
        assert!(due(70_000, false));
        assert!(!due(70_015, false));
        assert!(!due(80_000, false));
        assert!(!due(80_300, true));
        assert!(due(90_300, false));
    }

    #[test]
    fn silence_begins_for_the_earliest_and_ends_for_the_latest_moment_of_what_was_noticed() {
        let mut rest = Rest::default();
        let mut due = |now, least, out| rest.is_due(at(now), probes(least), true, out, ROUND_TRIP);
        assert!(!due(50_000, 21, 1));
        assert!(!due(50_050, 20, 1), "trusted since then, or since the look before");
        assert!(!due(59_956, 20, 1));
        assert!(due(59_957, 20, 1), "all has arrived by 60 s, and 15 ms to spare");
        assert!(due(60_064, 20, 0));
        assert!(!due(60_065, 20, 0));
        assert!(!due(70_041, 20, 1), "what was trusted after the silence is known exactly");
        assert!(due(70_042, 20, 1));
    }

    #[test]
    fn a_look_long_ago_makes_no_silence_longer() {
        let mut rest = Rest::default();
        let mut due = |now, least| rest.is_due(at(now), probes(least), true, 1, ROUND_TRIP);
        assert!(!due(50_000, 21));
        assert!(!due(50_101, 20));
        assert!(!due(60_057, 20));
        assert!(due(60_058, 20));
    }

    #[test]
    fn a_round_trip_that_comes_while_nothing_is_handed_out_counts_from_the_glance_at_it() {
        let mut rest = Rest::default();
        assert!(!rest.is_due(at(50_000), probes(21), true, 1, ROUND_TRIP));
        rest.glance(at(53_000), probes(21));
        rest.glance(at(55_000), probes(20));
        let mut due = |now| rest.is_due(at(now), probes(20), true, 1, ROUND_TRIP);
        assert!(!due(58_000));
        assert!(!due(64_956));
        assert!(due(64_957));
    }

    #[test]
    fn a_glance_is_no_first_acknowledgement() {
        let mut rest = Rest::default();
        assert!(!rest.is_due(at(50_000), probes(20), true, 1, ROUND_TRIP));
        rest.glance(at(61_000), probes(20));
        let mut due = |now, out| rest.is_due(at(now), probes(20), true, out, ROUND_TRIP);
        assert!(!due(63_000, 0), "what leaves now is acknowledged first, and trusted then");
        assert!(!due(72_976, 1));
        assert!(due(72_978, 1));
    }

    #[test]
    fn a_line_that_is_not_busy_is_never_silent() {
        let mut rest = Rest::default();
        let mut due = |now, busy| rest.is_due(at(now), probes(20), busy, 1, ROUND_TRIP);
        assert!(!due(50_000, false));
        assert!((50_001..70_000).all(|now| !due(now, false)));
        let mut rest = Rest::default();
        let mut due = |now, busy| rest.is_due(at(now), probes(20), busy, 1, ROUND_TRIP);
        assert!(!due(50_000, true));
        assert!(due(59_960, true));
        assert!(due(59_970, false), "silence makes it less busy");
    }
}
