//! Repeats are counted, not printed.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use crate::time::Time;

/// Decides which of many like events are worth a line.
///
/// The first event of a key is printed. Further ones within the interval are only counted, and
/// the count goes with the next that is printed. The number of keys is bounded: while that many
/// are within their intervals, events of further keys are counted together. So whatever a peer
/// does, it costs at most `keys` lines an interval, and no event goes uncounted.
///
/// The time is passed in.
#[derive(Debug, Clone)]
pub struct Repeats<K> {
    interval: Duration,
    keys: usize,
    entries: HashMap<K, Entry>,
    others: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    printed: Time,
    unprinted: u64,
}

/// An event that is to be printed, and how many were not since the last one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Print {
    /// Events of the same key that were counted only.
    pub repeats: u64,
    /// Events of other keys that were counted only and that no line has told of yet.
    pub others: u64,
}

/// Nothing when nothing was left out, so that a first line does not say `repeats=0`.
impl fmt::Display for Print {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.repeats, self.others) {
            (0, 0) => Ok(()),
            (repeats, 0) => write!(f, "{repeats}"),
            (repeats, others) => write!(f, "{repeats} and {others} of others"),
        }
    }
}

impl<K: Eq + Hash> Repeats<K> {
    /// At most one line per key in each `interval`, for at most `keys` keys (at least one).
    pub fn new(interval: Duration, keys: usize) -> Self {
        Self { interval, keys: keys.max(1), entries: HashMap::new(), others: 0 }
    }

    /// An event has happened: `Some` when it is to be printed.
    pub fn happened(&mut self, key: K, now: Time) -> Option<Print> {
        let interval = self.interval;
        if let Some(entry) = self.entries.get_mut(&key) {
            if !entry.is_over(now, interval) {
                entry.unprinted += 1;
                return None;
            }
            let repeats = std::mem::take(&mut entry.unprinted);
            entry.printed = now;
            return Some(Print { repeats, others: std::mem::take(&mut self.others) });
        }
        if self.entries.len() >= self.keys {
            self.forget_those_that_are_over(now);
        }
        if self.entries.len() >= self.keys {
            self.others += 1;
            return None;
        }
        self.entries.insert(key, Entry { printed: now, unprinted: 0 });
        Some(Print { repeats: 0, others: std::mem::take(&mut self.others) })
    }

    /// From now on events of all other keys are printed again, at once. What was counted of them
    /// goes with the next line.
    pub fn forget_all_but(&mut self, key: &K) {
        let others = &mut self.others;
        self.entries.retain(|other, entry| {
            let same = other == key;
            if !same {
                *others += entry.unprinted;
            }
            same
        });
    }

    /// An event has happened that is always printed, after which all others are as well.
    pub fn printed_anyway(&mut self) -> Print {
        let others = self.untold();
        self.entries.clear();
        self.others = 0;
        Print { repeats: 0, others }
    }

    /// Events that were counted and that no line has told of yet.
    pub fn untold(&self) -> u64 {
        self.others + self.entries.values().map(|entry| entry.unprinted).sum::<u64>()
    }

    fn forget_those_that_are_over(&mut self, now: Time) {
        let (interval, others) = (self.interval, &mut self.others);
        self.entries.retain(|_, entry| {
            let over = entry.is_over(now, interval);
            if over {
                *others += entry.unprinted;
            }
            !over
        });
    }
}

impl Entry {
    fn is_over(&self, now: Time, interval: Duration) -> bool {
        now.since(self.printed) >= interval
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_first_is_printed_and_repeats_go_with_the_next_print() {
        let start = Time::now();
        let mut repeats = Repeats::new(MINUTE, 8);
        assert_eq!(repeats.happened("a", start), Some(Print { repeats: 0, others: 0 }));
        for second in 1..60 {
            assert_eq!(repeats.happened("a", start + Duration::from_secs(second)), None);
        }
        assert_eq!(repeats.happened("b", start), Some(Print { repeats: 0, others: 0 }));
        let next = repeats.happened("a", start + MINUTE);
        assert_eq!(next, Some(Print { repeats: 59, others: 0 }));
        assert_eq!(repeats.happened("a", start + MINUTE), None);
    }

    #[test]
    fn a_flood_of_keys_is_counted_together() {
        let start = Time::now();
        let mut repeats = Repeats::new(MINUTE, 2);
        let printed = (0..100).filter(|key| repeats.happened(*key, start).is_some()).count();
        assert_eq!(printed, 2);
        let next = repeats.happened(100, start + MINUTE);
        assert_eq!(next, Some(Print { repeats: 0, others: 98 }));
    }

    #[test]
    fn what_is_forgotten_is_news_again_and_told_of_with_the_next_line() {
        let start = Time::now();
        let mut repeats = Repeats::new(MINUTE, 8);
        for _ in 0..3 {
            repeats.happened("a", start);
            repeats.happened("b", start);
        }
        repeats.forget_all_but(&"b");
        assert_eq!(repeats.happened("b", start), None);
        assert_eq!(repeats.happened("a", start), Some(Print { repeats: 0, others: 2 }));
        assert_eq!(repeats.printed_anyway(), Print { repeats: 0, others: 3 });
        assert_eq!(repeats.happened("b", start), Some(Print::default()));
    }

    #[test]
    fn a_line_without_repeats_says_nothing_of_them() {
        assert_eq!(Print { repeats: 0, others: 0 }.to_string(), "");
        assert_eq!(Print { repeats: 59, others: 0 }.to_string(), "59");
        assert_eq!(Print { repeats: 0, others: 98 }.to_string(), "0 and 98 of others");
    }

    proptest! {
        #[test]
        fn every_event_is_told_of_once_and_lines_are_bounded(
            events in proptest::collection::vec((0_u8..12, 0_u64..40), 0..300),
            keys in 1_usize..6,
        ) {
            let start = Time::now();
            let mut now = start;
            let mut repeats = Repeats::new(MINUTE, keys);
            let mut told = 0;
            let mut lines: Vec<Time> = Vec::new();
            for (key, seconds) in &events {
                now += Duration::from_secs(*seconds);
                if let Some(print) = repeats.happened(*key, now) {
                    told += 1 + print.repeats + print.others;
                    lines.push(now);
                }
                prop_assert!(repeats.entries.len() <= keys);
            }
            prop_assert_eq!(told + repeats.untold(), events.len() as u64);
            for line in &lines {
                let within = lines.iter().filter(|other| **other >= *line && **other - *line < MINUTE);
                prop_assert!(within.count() <= keys);
            }
        }
    }
}
