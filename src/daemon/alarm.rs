//! A timer for a loop that mostly waits for the same time again.

use std::pin::Pin;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::time::Time;

use super::arrivals::NAP;

/// A timer that is set anew only when it is asked for another time: setting one wakes the runtime.
pub struct Alarm {
    sleep: Pin<Box<Sleep>>,
    time: Option<Time>,
}

impl Alarm {
    /// One that is due at once. Must be made in the runtime that waits for it.
    pub fn new() -> Self {
        Self { sleep: Box::pin(sleep_until(Instant::now())), time: None }
    }

    /// Waits until `time`, or for a nap: the clock behind it stands still while the machine sleeps.
    pub async fn at(&mut self, time: Time) {
        if self.time != Some(time) {
            self.time = Some(time);
            self.sleep.as_mut().reset(Instant::now() + (time - Time::now()).min(NAP));
        }
        self.sleep.as_mut().await;
        self.time = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn it_waits_for_the_time_it_is_asked_for_last() {
        let mut alarm = Alarm::new();
        let begun = Time::now();
        let soon = begun + Duration::from_millis(20);
        alarm.at(soon).await;
        assert!(Time::now() >= soon);
        tokio::select! {
            () = alarm.at(begun + Duration::from_secs(3600)) => panic!("an hour too early"),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
        alarm.at(begun).await;
    }

    /// The runtime's clock stands for one that stood still: it goes on only while all wait.
    #[tokio::test(start_paused = true)]
    async fn it_never_relies_on_the_runtimes_clock_for_longer_than_a_nap() {
        let mut alarm = Alarm::new();
        let due = Time::now() + Duration::from_secs(3600);
        for _ in 0..3 {
            let asleep = Instant::now();
            alarm.at(due).await;
            let slept = asleep.elapsed();
            assert!(slept <= NAP + Duration::from_millis(1), "{slept:?}");
        }
    }
}
