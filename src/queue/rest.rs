//! Moments of silence, so that the congestion control need not slow a busy line down.
//!
//! BBR has to know the shortest round trip. When none as short has been seen for ten seconds it
//! keeps no more than four segments in flight for 200 ms and a round trip (`PROBE_RTT` in Linux
//! `net/ipv4/tcp_bbr.c`), which costs a slow line a fiftieth of what it carries. It does without
//! when sending begins again after a silence just then: the first acknowledgement tells. So shortly
//! before, nothing is handed out until everything has arrived; that costs one round trip and twice
//! [`MARGIN`], and where the moment is not known exactly, what it may lie earlier.

use std::mem::replace;
use std::time::Duration;

use crate::time::Time;

use super::line::LOOK;

/// For how long BBR trusts a round trip (`bbr_min_rtt_win_sec`).
const TRUSTED: Duration = Duration::from_secs(10);

/// How far we may be out: the kernel counts in ticks of up to 10 ms, and we look once in a while.
const MARGIN: Duration = Duration::from_millis(15);

/// What is known less exactly is taken for this exact: a longer silence would cost as much as a
/// probe.
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
    /// Whether a probe was under way at the last look.
    probed: bool,
    /// The end of the silence that has begun.
    until: Option<Time>,
    looked: Option<Time>,
}

/// A round trip that is trusted since a moment up to `unsure` before `latest`.
#[derive(Debug, Clone, Copy)]
struct Trusted {
    round_trip: Duration,
    latest: Time,
    unsure: Duration,
}

impl Trusted {
    fn between(earliest: Time, latest: Time, round_trip: Duration) -> Self {
        Self { round_trip, latest, unsure: UNSURE.min(latest - earliest) }
    }

    /// One that was not to be seen at the look before. What had been handed out when it was time
    /// for another look had arrived a round trip later.
    fn noticed(round_trip: Duration, before: Option<Time>, now: Time) -> Self {
        let latest = before.map_or(now, |before| now.min(before + LOOK + round_trip + MARGIN));
        Self::between(before.unwrap_or(now), latest, round_trip)
    }
}

impl Rest {
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
        // What a probe finds is trusted from its end.
        let probed = replace(&mut self.probed, probes.under_way) || probes.under_way;
        let known = self.trusted.filter(|trusted| trusted.round_trip == least && !probed);
        let Some(Trusted { latest, unsure, .. }) = known else {
            self.trusted = Some(Trusted::noticed(least, looked, now));
            self.until = None;
            return false;
        };
        let end = latest + TRUSTED + MARGIN;
        if now >= end {
            if out == 0 {
                // The first acknowledgement from now will be trusted; after a silence that was kept
                // none was before.
                let latest = now + least;
                let before =
                    looked.filter(|looked| self.until.is_none() && now - *looked <= UNSURE);
                self.trusted = Some(Trusted::between(before.unwrap_or(latest), latest, least));
            }
            self.until = None;
            // With something on its way it was in vain, and a probe follows.
            return false;
        }
        let arrived = now + round_trip;
        if busy && arrived + MARGIN + unsure >= latest + TRUSTED && arrived <= end {
            self.until = Some(end);
        }
        self.until.is_some()
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
        assert!(!due(52_000, 21, 1));
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
        assert!(due(69_980, false));
        assert!(!due(70_015, false), "not all has arrived");
        assert!(!due(80_000, false));
        assert!(!due(80_280, true));
        assert!(!due(80_300, false), "what the probe found is trusted");
        assert!(!due(90_236, false));
        assert!(due(90_237, false), "since the last look at the latest, or the one before");
        assert!(due(90_314, false));
        assert!(!due(90_315, false));
    }

    #[test]
    fn silence_that_would_come_too_late_does_not_begin() {
        let mut rest = Rest::default();
        let mut due = |now| rest.is_due(at(now), probes(20), true, 1, ROUND_TRIP);
        assert!(!due(60_000));
        assert!(!due(69_988), "what leaves now arrives when the moment has passed");
        assert!(!due(70_000));
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
    fn what_is_noticed_late_came_a_round_trip_after_what_was_handed_out() {
        let mut rest = Rest::default();
        let mut due = |now, least| rest.is_due(at(now), probes(least), true, 1, ROUND_TRIP);
        assert!(!due(50_000, 21));
        assert!(!due(51_000, 20), "of a packet that left by 50.05 s");
        assert!(!due(59_956, 20));
        assert!(due(59_957, 20));
        assert!(due(60_099, 20), "50 ms, a round trip and twice the margin after the look");
        assert!(!due(60_100, 20));
    }

    #[test]
    fn a_long_way_makes_no_silence_longer() {
        let mut rest = Rest::default();
        let mut due = |now, least| rest.is_due(at(now), probes(least), true, 1, ROUND_TRIP);
        assert!(!due(50_000, 301));
        assert!(!due(51_000, 300), "trusted since 50.365 s at the latest");
        assert!(!due(60_221, 300));
        assert!(due(60_222, 300), "100 ms for what is not known, and what the way takes");
        assert!(!due(60_380, 300));
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
