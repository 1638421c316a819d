//! The workers: how they start, what they tell, and whether they go round their loops.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::mpsc::UnboundedSender;

use crate::config::Settings;
use crate::daemon::watchdog::Verdict;
use crate::daemon::worker::{self, Command, Event, Handle};
use crate::daemon::{Error, parameters};
use crate::metrics::Counters;
use crate::packet::offload::Accepts;
use crate::service::messages;
use crate::time::Time;
use crate::tun::device::Opened;
use crate::{note, report};

use super::Tunnel;

pub(super) fn start_workers(
    settings: &Settings,
    queues: Vec<Opened>,
    accepts: Accepts,
    counters: &Arc<Counters>,
    reports: &UnboundedSender<Event>,
) -> Result<Vec<Handle>, Error> {
    let parameters = parameters::worker(settings, queues.len(), accepts, counters);
    (0..)
        .zip(queues)
        .map(|(index, queue)| worker::start(index, queue, parameters.clone(), reports.clone()))
        .collect::<io::Result<_>>()
        .map_err(Error::system("starting a worker"))
}

impl Tunnel {
    pub(super) fn worker(&mut self, event: Event) {
        match event {
            Event::Lost(id, loss) => self.lost(id, &loss),
            Event::Stalled(id) => {
                note!(DEBUG, "stream stalled", stream = id);
                if let Some(stream) = self.dialled_stream(id) {
                    self.ways.stalled(stream);
                }
                self.session.stalled(Time::now(), id);
            }
            Event::Recovered(id) => {
                if let Some(stream) = self.dialled_stream(id) {
                    self.ways.recovered(stream);
                }
                let attempt = self.session.recovered(Time::now(), id);
                if let Some(needed) = attempt.and_then(|attempt| self.needed.remove(&attempt)) {
                    needed.store(false, Relaxed);
                }
            }
            Event::InterfaceGone => self.interface.disturbed(Time::now()),
            Event::Unreadable(worker, error) => {
                let now = Time::now();
                if let Some(repeats) = self.unreadable.happened(worker, now) {
                    report!(
                        messages::INTERFACE_UNREADABLE,
                        interface = self.interface.name(),
                        worker = worker,
                        error = error,
                        repeats = repeats
                    );
                }
                self.interface.disturbed(now);
            }
            Event::Orphans(packets) => {
                let heir = (0..)
                    .zip(&self.workers)
                    .find(|(stream, _)| self.session.stream(*stream).is_some());
                // Without any stream they wait with the first.
                let worker = heir.map_or(&self.workers[0], |(_, worker)| worker);
                worker.tell(Command::Adopt(packets));
            }
            Event::Alive(index) => {
                if let Some(watchdog) = &mut self.watchdog {
                    watchdog.answered(index, Time::now());
                }
            }
        }
    }

    pub(super) fn feed_watchdog(&mut self, now: Time) {
        let Some(verdict) = self.watchdog.as_mut().and_then(|watchdog| watchdog.poll(now)) else {
            return;
        };
        match verdict {
            Verdict::Feed => self.notifier.watchdog(),
            Verdict::Withhold { worker, news: true } => {
                report!(messages::WORKER_STALLED, worker = worker);
            }
            Verdict::Withhold { news: false, .. } => {}
        }
        for worker in &self.workers {
            worker.tell(Command::Beat);
        }
    }
}
