//! How long to wait before putting back what somebody took away.

use std::time::Duration;

use crate::time::Time;

/// The pause after the second restoration in a row; it doubles from there.
const FIRST: Duration = Duration::from_millis(250);
/// No pause is longer than this.
const LONGEST: Duration = Duration::from_secs(30);
/// So long without a restoration, and the next one is immediate again.
const CALM: Duration = Duration::from_secs(60);
/// So many restorations in a row are no accident.
const QUARREL: u32 = 4;

/// Grows impatient with nobody: the first restoration is immediate, and each further one waits
/// twice as long as the one before, until a minute passes without any.
///
/// The time is passed in.
#[derive(Debug, Clone, Default)]
pub struct Patience {
    rounds: u32,
    last: Option<Time>,
}

impl Patience {
    /// How long to wait before the next restoration.
    pub fn pause(&self, now: Time) -> Duration {
        match self.rounds_at(now) {
            0 => Duration::ZERO,
            rounds => FIRST.saturating_mul(1 << (rounds - 1).min(16)).min(LONGEST),
        }
    }

    /// Something had to be restored.
    pub fn restored(&mut self, now: Time) {
        self.rounds = self.rounds_at(now).saturating_add(1);
        self.last = Some(now);
    }

    /// Whether somebody keeps taking away what we put back; worth a word to the admin.
    pub fn is_quarrel(&self, now: Time) -> bool {
        self.rounds_at(now) >= QUARREL
    }

    fn rounds_at(&self, now: Time) -> u32 {
        match self.last {
            Some(last) if now.since(last) < CALM => self.rounds,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restoration_does_not_wait() {
        assert_eq!(Patience::default().pause(Time::now()), Duration::ZERO);
    }

    #[test]
    fn a_fight_slows_down_to_one_round_in_thirty_seconds() {
        let mut now = Time::now();
        let start = now;
        let mut patience = Patience::default();
        let mut rounds = 0;
        while now < start + Duration::from_secs(600) {
            now += patience.pause(now);
            patience.restored(now);
            rounds += 1;
        }
        assert_eq!(patience.pause(now), LONGEST);
        assert!(patience.is_quarrel(now));
        assert!(rounds < 30, "{rounds} restorations in ten minutes");
    }

    #[test]
    fn a_calm_minute_is_forgiven() {
        let now = Time::now();
        let mut patience = Patience::default();
        for _ in 0..9 {
            patience.restored(now);
        }
        assert!(patience.pause(now) > Duration::ZERO);
        assert_eq!(patience.pause(now + CALM), Duration::ZERO);
        assert!(!patience.is_quarrel(now + CALM));
    }
}
