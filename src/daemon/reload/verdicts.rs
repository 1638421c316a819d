//! What of the verdicts on reloads is worth a line.

use std::time::Duration;

use crate::service::repeat::{Print, Repeats};
use crate::time::Time;

use super::{Refused, Reloaded};

const MINUTE: Duration = Duration::from_secs(60);

/// How a reload was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// By SIGHUP, which is for root and the service's user. Nothing but the log has the verdict.
    BySignal,
    /// On the control socket, which is for the group as well. Whoever asks is told the verdict.
    OnSocket,
}

/// Those who may ask on the control socket may ask without end, but have no say in what there is to
/// reload: a verdict that is the same as the one before, and without any change, is told of once a
/// minute. What was counted goes with the next line.
#[derive(Debug)]
pub struct Verdicts(Repeats<Vec<String>>);

impl Default for Verdicts {
    fn default() -> Self {
        Self(Repeats::new(MINUTE, 1))
    }
}

impl Verdicts {
    /// A reload is over: `Some` when the log is to be told.
    pub fn reached(
        &mut self,
        verdict: &Result<Reloaded, Refused>,
        asked: Asked,
        now: Time,
    ) -> Option<Print> {
        let uneventful = match verdict {
            Ok(reloaded) if reloaded.changed.is_empty() => Some(Vec::new()),
            Ok(_) => None,
            Err(refused) => Some(refused.lines()),
        };
        match uneventful.filter(|_| asked == Asked::OnSocket) {
            Some(verdict) => {
                self.0.forget_all_but(&verdict);
                self.0.happened(verdict, now)
            }
            None => Some(self.0.printed_anyway()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Reason;
    use super::*;

    fn changed(keys: &[&str]) -> Result<Reloaded, Refused> {
        let changed = keys.iter().map(|key| (*key).to_owned()).collect();
        Ok(Reloaded { changed, incomplete: None })
    }

    fn refused(key: &'static str) -> Result<Reloaded, Refused> {
        Err(Reason::Socket(std::io::Error::other(key)).into())
    }

    #[test]
    fn a_flood_of_reloads_that_change_nothing_is_a_line_a_minute() {
        for same in [|| changed(&[]), || refused("link.device")] {
            let mut verdicts = Verdicts::default();
            let start = Time::now();
            let mut tell = |seconds| {
                let now = start + Duration::from_secs(seconds);
                verdicts.reached(&same(), Asked::OnSocket, now)
            };
            assert_eq!(tell(0), Some(Print::default()));
            assert_eq!((1..60).filter_map(&mut tell).count(), 0);
            assert_eq!(tell(60), Some(Print { repeats: 59, others: 0 }));
        }
    }

    #[test]
    fn a_verdict_unlike_the_one_before_is_told_at_once() {
        let mut verdicts = Verdicts::default();
        let now = Time::now();
        let mut tell = |verdict| verdicts.reached(&verdict, Asked::OnSocket, now);
        let told = |others| Some(Print { repeats: 0, others });
        assert_eq!(tell(changed(&[])), told(0));
        assert_eq!(tell(changed(&[])), None);
        assert_eq!(tell(refused("link.device")), told(1));
        assert_eq!(tell(refused("link.fwmark")), told(0));
        assert_eq!(tell(refused("link.device")), told(0));
        assert_eq!(tell(changed(&["queue.ecn"])), told(0));
        assert_eq!(tell(changed(&["queue.ecn"])), told(0), "it was changed back");
        assert_eq!(tell(changed(&[])), told(0));
    }

    #[test]
    fn every_signal_has_its_line() {
        let mut verdicts = Verdicts::default();
        let now = Time::now();
        for _ in 0..3 {
            assert_eq!(
                verdicts.reached(&changed(&[]), Asked::BySignal, now),
                Some(Print::default())
            );
        }
    }
}
