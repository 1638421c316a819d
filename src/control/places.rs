//! Places for clients, of whom the silent ones make room.
//!
//! Nobody waits for a place: when all are taken, the client that has said nothing for longest loses
//! its own, unless it is owed an answer. So any number of clients that say nothing, or read
//! nothing, can't keep one away that asks.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

/// How often places are looked at while all clients are owed an answer.
const LOOK: Duration = Duration::from_millis(1);

/// The clients there are, each with a task that serves it; they go when this is dropped.
#[derive(Debug)]
pub struct Places {
    most: usize,
    tasks: JoinSet<()>,
    clients: Vec<Client>,
    turns: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Client {
    task: AbortHandle,
    standing: Arc<Standing>,
}

/// How one client stands, as its task tells.
#[derive(Debug)]
pub struct Standing {
    /// Whether it waits for the main loop's answer.
    owed: AtomicBool,
    /// When it came or last asked, counted in clients that came and calls.
    heard: AtomicU64,
    turns: Arc<AtomicU64>,
}

impl Standing {
    /// It has asked, and keeps its place until it is [answered](Self::answered).
    pub fn asked(&self) {
        self.heard.store(self.turns.fetch_add(1, Relaxed), Relaxed);
        self.owed.store(true, Relaxed);
    }

    /// There is an answer for it.
    pub fn answered(&self) {
        self.owed.store(false, Relaxed);
    }
}

impl Places {
    /// So many places (at least one), all free.
    pub fn new(most: usize) -> Self {
        let (tasks, clients, turns) = (JoinSet::new(), Vec::new(), Arc::default());
        Self { most: most.max(1), tasks, clients, turns }
    }

    /// Serves one more client. Waits only while all that there are are owed an answer.
    pub async fn admit<F>(&mut self, serve: impl FnOnce(Arc<Standing>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.make_room().await;
        let standing = Arc::new(Standing {
            owed: AtomicBool::new(false),
            heard: AtomicU64::new(self.turns.fetch_add(1, Relaxed)),
            turns: self.turns.clone(),
        });
        let task = self.tasks.spawn(serve(standing.clone()));
        self.clients.push(Client { task, standing });
    }

    async fn make_room(&mut self) {
        loop {
            while self.tasks.try_join_next().is_some() {}
            self.clients.retain(|client| !client.task.is_finished());
            if self.clients.len() < self.most {
                return;
            }
            if let Some(least) = self.least() {
                self.clients.remove(least).task.abort();
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// The client to go when another comes.
    fn least(&self) -> Option<usize> {
        let standing = |index: &usize| &self.clients[*index].standing;
        (0..self.clients.len())
            .filter(|index| !standing(index).owed.load(Relaxed))
            .min_by_key(|index| standing(index).heard.load(Relaxed))
    }
}
