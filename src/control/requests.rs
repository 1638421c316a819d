//! What is asked of the main loop. However many ask for the same at once, it is asked once.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use crate::metrics::snapshot::Snapshot;

use super::protocol::{Applied, Rejected};

/// How long before a caller came the status that it gets may have been asked for: more callers than
/// this allows share one.
const FRESH: Duration = Duration::from_millis(50);

/// How long the main loop may take for a status.
pub const STATUS_LIMIT: Duration = Duration::from_secs(5);

/// How long it may take for a reload.
pub const RELOAD_LIMIT: Duration = Duration::from_secs(60);

/// The least time from one reload to the next: each reads all files, in the main loop.
const BETWEEN_RELOADS: Duration = Duration::from_secs(1);

/// Callers that may wait for a reload at a time: they wait for long.
pub const RELOADERS: usize = 8;

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

/// What became of a reload: what was applied, or why nothing was.
pub type Verdict = Result<Applied, Rejected>;

/// The way to the main loop, and its end there.
pub fn requests() -> (mpsc::Sender<Request>, mpsc::Receiver<Request>) {
    mpsc::channel(WAITING)
}

/// Asks the main loop on behalf of many.
#[derive(Debug)]
pub struct Asker {
    requests: mpsc::Sender<Request>,
    status_limit: Duration,
    /// The last status, and when it was asked for.
    last: Mutex<Option<(Instant, Snapshot)>>,
    /// How many reloads have begun.
    begun: AtomicU64,
    /// Room for those who wait for one.
    reloaders: Semaphore,
    reloaded: Mutex<Option<Reloaded>>,
}

/// The last reload.
#[derive(Debug)]
struct Reloaded {
    /// How many had begun with it.
    number: u64,
    began: Instant,
    verdict: Verdict,
}

impl Asker {
    /// Asks this way; a status may take as long as `status_limit`.
    pub fn new(requests: mpsc::Sender<Request>, status_limit: Duration) -> Self {
        let (last, begun, reloaded) = (Mutex::default(), AtomicU64::default(), Mutex::default());
        let reloaders = Semaphore::new(RELOADERS);
        Self { requests, status_limit, last, begun, reloaders, reloaded }
    }

    /// How things are, or were a moment ago; nothing if the main loop does not answer in time.
    pub async fn status(&self) -> Option<Snapshot> {
        timeout(self.status_limit, self.fresh_status()).await.ok().flatten()
    }

    async fn fresh_status(&self) -> Option<Snapshot> {
        let came = Instant::now();
        // Those who come meanwhile wait here, and share what comes, however long it takes.
        let mut last = self.last.lock().await;
        if let Some((_, status)) = last.as_ref().filter(|(asked, _)| came < *asked + FRESH) {
            return Some(status.clone());
        }
        let asked = Instant::now();
        let status = self.ask(Request::Status).await?;
        *last = Some((asked, status.clone()));
        Some(status)
    }

    /// Applies the configuration anew; nothing if the main loop does not answer in time, or
    /// at once if [`RELOADERS`] wait already.
    pub async fn reload(&self) -> Option<Verdict> {
        let _waits = self.reloaders.try_acquire().ok()?;
        timeout(RELOAD_LIMIT, self.shared_reload()).await.ok().flatten()
    }

    /// Those who ask while a reload runs, or too soon after it, share the next one: it reads what
    /// they have written before they asked.
    async fn shared_reload(&self) -> Option<Verdict> {
        let begun = self.begun.load(Relaxed);
        let mut reloaded = self.reloaded.lock().await;
        if let Some(last) = reloaded.as_ref() {
            if last.number > begun {
                return Some(last.verdict.clone());
            }
            sleep_until(last.began + BETWEEN_RELOADS).await;
        }
        let (number, began) = (self.begun.fetch_add(1, Relaxed) + 1, Instant::now());
        let verdict = self.ask(Request::Reload).await?;
        *reloaded = Some(Reloaded { number, began, verdict: verdict.clone() });
        Some(verdict)
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.ok()?;
        answer.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::{JoinSet, yield_now};
    use tokio::time::sleep;

    use super::*;

    /// Several who ask through one asker, and the main loop's end.
    fn many() -> (Arc<Asker>, mpsc::Receiver<Request>) {
        let (sender, receiver) = requests();
        (Arc::new(Asker::new(sender, STATUS_LIMIT)), receiver)
    }

    async fn reload_asked(requests: &mut mpsc::Receiver<Request>) -> oneshot::Sender<Verdict> {
        match requests.recv().await {
            Some(Request::Reload(reply)) => reply,
            other => panic!("{other:?}"),
        }
    }

    fn applied(key: &str) -> Verdict {
        Ok(Applied { applied: vec![key.to_owned()], ..Applied::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_ask_for_a_reload_while_one_runs_share_the_next() {
        let (asker, mut main_loop) = many();
        let mut asking = JoinSet::new();
        let ask = |asking: &mut JoinSet<_>| {
            let asker = asker.clone();
            asking.spawn(async move { asker.reload().await });
        };
        let begun = Instant::now();
        ask(&mut asking);
        let first = reload_asked(&mut main_loop).await;
        assert_eq!(begun.elapsed(), Duration::ZERO, "a single one begins at once");
        for _ in 1..RELOADERS {
            ask(&mut asking);
        }
        yield_now().await;
        assert_eq!(asker.reload().await, None, "nobody waits for a place to wait");
        assert_eq!(begun.elapsed(), Duration::ZERO);
        first.send(applied("first")).unwrap();
        assert_eq!(asking.join_next().await.unwrap().unwrap(), Some(applied("first")));
        let second = reload_asked(&mut main_loop).await;
        assert_eq!(begun.elapsed(), BETWEEN_RELOADS);
        second.send(applied("second")).unwrap();
        while let Some(verdict) = asking.join_next().await {
            assert_eq!(verdict.unwrap(), Some(applied("second")));
        }
        assert!(main_loop.try_recv().is_err(), "nobody asks for a third");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_for_reloads_without_pause_gets_one_a_second() {
        let (asker, mut main_loop) = many();
        let asking = tokio::spawn(async move {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(10) {
                assert_eq!(asker.reload().await, Some(applied("a key")));
            }
        });
        let mut reloads = 0;
        while let Some(request) = main_loop.recv().await {
            let Request::Reload(reply) = request else { panic!("{request:?}") };
            reply.send(applied("a key")).unwrap();
            reloads += 1;
        }
        asking.await.unwrap();
        assert_eq!(reloads, 11);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_ask_for_a_status_at_once_share_it() {
        let (asker, mut main_loop) = many();
        let mut asking = JoinSet::new();
        for _ in 0..10 {
            let asker = asker.clone();
            asking.spawn(async move { asker.status().await });
        }
        let Some(Request::Status(reply)) = main_loop.recv().await else { panic!("no request") };
        reply.send(Snapshot { pid: 7, ..Snapshot::default() }).unwrap();
        while let Some(status) = asking.join_next().await {
            assert_eq!(status.unwrap().unwrap().pid, 7);
        }
        assert!(main_loop.try_recv().is_err());
    }

    /// As it does while a worker hangs.
    #[tokio::test(start_paused = true)]
    async fn those_who_ask_while_a_slow_status_is_under_way_share_the_next() {
        const SLOW: Duration = Duration::from_millis(500);
        let (asker, mut main_loop) = many();
        let begun = Instant::now();
        let mut asking = JoinSet::new();
        for number in 0..32 {
            let asker = asker.clone();
            asking.spawn(async move {
                sleep(SLOW * number / 32).await;
                asker.status().await
            });
        }
        drop(asker);
        let mut asked = 0;
        while let Some(request) = main_loop.recv().await {
            let Request::Status(reply) = request else { panic!("{request:?}") };
            sleep(SLOW).await;
            asked += 1;
            reply.send(Snapshot { pid: asked, ..Snapshot::default() }).unwrap();
        }
        assert_eq!(asked, 2);
        assert_eq!(begun.elapsed(), 2 * SLOW);
        // The second one was asked for after all the others came.
        let pids: Vec<_> = asking.join_all().await.into_iter().map(|it| it.unwrap().pid).collect();
        assert!(pids.contains(&1) && pids.contains(&2), "{pids:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_main_loop_that_hangs_is_waited_for_as_long_as_is_said() {
        let (asker, _main_loop) = many();
        let begun = Instant::now();
        let (status, one, other) = tokio::join!(asker.status(), asker.reload(), asker.reload());
        assert!(status.is_none() && one.is_none() && other.is_none());
        assert_eq!(begun.elapsed(), RELOAD_LIMIT);
    }
}
