//! What is asked of the main loop. However many ask for the same at once, it is asked once.

use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::metrics::snapshot::Snapshot;

use super::protocol::Applied;

/// How old a status may be: more callers than this allows share one.
const FRESH: Duration = Duration::from_millis(50);

/// How long the main loop may take for a status.
pub const STATUS_LIMIT: Duration = Duration::from_secs(5);

/// How long it may take for a reload.
pub const RELOAD_LIMIT: Duration = Duration::from_secs(60);

/// Requests that may wait for the main loop.
const WAITING: usize = 16;

/// What the main loop is asked for. Whoever asks may have given up when the answer comes.
#[derive(Debug)]
pub enum Request {
    /// How things are.
    Status(oneshot::Sender<Snapshot>),
    /// Apply the configuration anew.
    Reload(oneshot::Sender<Verdict>),
}

/// What became of a reload: what was applied, or why nothing was, a line each.
pub type Verdict = Result<Applied, Vec<String>>;

/// The way to the main loop, and its end there.
pub fn requests() -> (mpsc::Sender<Request>, mpsc::Receiver<Request>) {
    mpsc::channel(WAITING)
}

/// Asks the main loop on behalf of many.
#[derive(Debug)]
pub struct Asker {
    requests: mpsc::Sender<Request>,
    /// The last status, and when it was asked for.
    last: Mutex<Option<(Instant, Snapshot)>>,
}

impl Asker {
    /// Asks this way.
    pub fn new(requests: mpsc::Sender<Request>) -> Self {
        Self { requests, last: Mutex::new(None) }
    }

    /// How things are, or were a moment ago; nothing if the main loop does not answer in time.
    pub async fn status(&self) -> Option<Snapshot> {
        timeout(STATUS_LIMIT, self.fresh_status()).await.ok().flatten()
    }

    async fn fresh_status(&self) -> Option<Snapshot> {
        // Those who ask meanwhile wait here, and share what comes.
        let mut last = self.last.lock().await;
        if let Some((_, status)) = last.as_ref().filter(|(asked, _)| asked.elapsed() < FRESH) {
            return Some(status.clone());
        }
        let asked = Instant::now();
        let status = self.ask(Request::Status).await?;
        *last = Some((asked, status.clone()));
        Some(status)
    }

    /// Applies the configuration anew; nothing if the main loop does not answer in time.
    pub async fn reload(&self) -> Option<Verdict> {
        timeout(RELOAD_LIMIT, self.ask(Request::Reload)).await.ok().flatten()
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.ok()?;
        answer.await.ok()
    }
}
