//! How things are with a worker, and how it is asked.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Shared;
use tokio::sync::oneshot;

use crate::link::session::StreamId;
use crate::queue::Depth;
use crate::sys;

/// How things are with a worker.
#[derive(Debug, Clone)]
pub struct Measured {
    /// What waits for its connection.
    pub queue: Depth,
    /// Whether its TUN queue is there, but can't be read.
    pub unreadable: bool,
    /// Its connection.
    pub connection: Option<MeasuredConnection>,
}

/// How things are with a connection.
#[derive(Debug, Clone)]
pub struct MeasuredConnection {
    /// Which one.
    pub id: StreamId,
    /// What the kernel knows of it.
    pub tcp: Option<sys::tcp::Info>,
    /// Bytes that wait to be handed to the kernel.
    pub unsent: usize,
    /// Whether the peer leaves a PING unanswered.
    pub stalled: bool,
    /// How long nothing has been heard over it.
    pub silent: Duration,
}

/// What the worker answers, some time; an error if it has ended.
pub type Answer = Shared<oneshot::Receiver<Measured>>;

/// The question that a worker may have yet to answer: never more than one, so that nothing piles up
/// before one that hangs, however often it is asked.
#[derive(Debug, Default)]
pub struct Question(Option<Answer>);

impl Question {
    /// Puts the question, unless it waits for its answer already.
    pub fn ask(&mut self, put: impl FnOnce(oneshot::Sender<Measured>)) -> Answer {
        // An answer that nobody has waited for is there all the same, and may be old.
        let open = self.0.take().filter(|answer| answer.clone().now_or_never().is_none());
        let answer = open.unwrap_or_else(|| {
            let (reply, answer) = oneshot::channel();
            put(reply);
            answer.shared()
        });
        self.0.insert(answer).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(packets: usize) -> Measured {
        Measured {
            queue: Depth { packets, ..Depth::default() },
            unreadable: false,
            connection: None,
        }
    }

    fn packets(answer: Answer) -> Option<usize> {
        Some(answer.now_or_never()?.ok()?.queue.packets)
    }

    #[test]
    fn a_worker_that_hangs_is_asked_once_and_all_share_its_answer() {
        let (mut question, mut put) = (Question::default(), Vec::new());
        let mut answers: Vec<_> =
            (0..1000).map(|_| question.ask(|reply| put.push(reply))).collect();
        assert_eq!(put.len(), 1);
        let last = answers.pop().unwrap();
        // The others have given up.
        drop(answers);
        assert_eq!(packets(last.clone()), None);
        put.remove(0).send(measured(7)).unwrap();
        assert_eq!(packets(last), Some(7));
    }

    #[test]
    fn an_answer_that_came_too_late_is_nobodys_any_more() {
        let (mut question, mut put) = (Question::default(), Vec::new());
        drop(question.ask(|reply| put.push(reply)));
        put.remove(0).send(measured(1)).unwrap();
        let answer = question.ask(|reply| put.push(reply));
        put.remove(0).send(measured(2)).unwrap();
        assert_eq!(packets(answer), Some(2));
    }

    #[test]
    fn a_worker_that_has_ended_gives_none() {
        let mut question = Question::default();
        for _ in 0..2 {
            assert!(question.ask(drop).now_or_never().is_some_and(|answer| answer.is_err()));
        }
    }
}
