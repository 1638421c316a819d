//! Waiting for what takes a moment.

use std::thread;
use std::time::{Duration, Instant};

/// Polls until `condition` holds; panics with its name when it has not within `limit`.
pub fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    eventually_seen(limit, || if condition() { Ok(()) } else { Err(what.to_owned()) });
}

/// As [`eventually`], with what was seen last in place of the name.
pub fn eventually_seen(limit: Duration, mut condition: impl FnMut() -> Result<(), String>) {
    let start = Instant::now();
    while let Err(seen) = condition() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {seen}");
        thread::sleep(Duration::from_millis(50));
    }
}
