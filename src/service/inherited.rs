//! Descriptors that systemd hands to the process at its start: what the one before has left in the
//! store, and the socket of a socket unit (sd_listen_fds(3)).

use std::os::fd::{AsFd, OwnedFd};

use crate::{note, sys};

use super::notify::Notifier;

/// The name of the port that a socket unit holds: its `FileDescriptorName=`.
const ACTIVATED: &str = "listen";

/// The name under which a port is kept that the daemon has bound itself.
const BOUND: &str = "bound";

/// Queues of the interface that may be kept.
const QUEUES: u8 = 16;

/// What was handed over and has not been taken yet.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(String, OwnedFd)>);

impl Inherited {
    /// What this process was given; nothing on a second call. What has a name that is not ours is
    /// given up.
    pub fn take(notifier: &Notifier) -> Self {
        let all = sys::inherited::take().unwrap_or_else(|error| {
            note!(WARN, "cannot take over what systemd has kept", error = error);
            Vec::new()
        });
        let (known, unknown): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, _)| {
            name == ACTIVATED || name == BOUND || queue_names().any(|queue| queue == *name)
        });
        for (name, _) in unknown {
            note!(WARN, "systemd has kept something that nobody needs", name = name);
            notifier.forget(&name);
        }
        Self(known)
    }

    /// The queues of the interface, in order.
    pub fn queues(&mut self) -> Vec<OwnedFd> {
        queue_names().flat_map(|name| self.named(&name)).collect()
    }

    /// The ports that a socket unit holds.
    pub fn activated(&mut self) -> Vec<OwnedFd> {
        self.named(ACTIVATED)
    }

    /// The port that the process before has bound.
    pub fn bound(&mut self) -> Option<OwnedFd> {
        self.named(BOUND).into_iter().next()
    }

    fn named(&mut self, name: &str) -> Vec<OwnedFd> {
        let all = std::mem::take(&mut self.0);
        let (found, rest): (Vec<_>, _) = all.into_iter().partition(|(other, _)| other == name);
        self.0 = rest;
        found.into_iter().map(|(_, descriptor)| descriptor).collect()
    }
}

/// Keeps the queues of an interface, and none but these.
pub fn keep_queues(notifier: &Notifier, queues: &[impl AsFd]) {
    for (index, name) in queue_names().enumerate() {
        match queues.get(index) {
            Some(queue) => notifier.store(&name, queue.as_fd()),
            None => notifier.forget(&name),
        }
    }
}

/// Keeps the queues of an interface that takes the place of one that was deleted.
pub fn keep_other_queues(notifier: &Notifier, queues: &[impl AsFd]) {
    forget_queues(notifier);
    keep_queues(notifier, queues);
}

/// Keeps no queues any more.
pub fn forget_queues(notifier: &Notifier) {
    queue_names().for_each(|name| notifier.forget(&name));
}

/// Keeps a port, and no other.
pub fn keep_port(notifier: &Notifier, port: Option<&impl AsFd>) {
    notifier.forget(BOUND);
    if let Some(port) = port {
        notifier.store(BOUND, port.as_fd());
    }
}

fn queue_names() -> impl Iterator<Item = String> {
    (0..QUEUES).map(|index| format!("tun-{index}"))
}
