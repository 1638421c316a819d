//! Waiting for what takes a moment.

use std::thread;
use std::time::{Duration, Instant};

/// Polls until `condition` holds; panics with its name when it has not within `limit`.
pub fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
