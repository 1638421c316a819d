//! The tunnel's interface: created, configured, put right when somebody else changes it, and
//! created again when somebody deletes it, at a pace that two who disagree can keep up.

mod adoption;

use std::fmt::Display;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::netlink::{self, Applied, Desired, Event, Netlink, Patience, Watch};
use crate::packet::offload::Accepts;
use crate::service::inherited;
use crate::service::messages;
use crate::service::notify::Notifier;
use crate::service::trouble::Trouble;
use crate::time::Time;
use crate::tun::device::{self, OpenError, Opened};
use crate::{note, report};

use super::Error;

/// The pause before the interface is created again, or configuration that failed is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// The TUN interface, its addresses and routes.
pub struct Interface {
    desired: Desired,
    queues: u8,
    offload: bool,
    index: u32,
    netlink: Netlink,
    watch: Watch,
    patience: Patience,
    due: Option<Time>,
    /// How much of the configuration could not be done the last time.
    failing: usize,
    trouble: Trouble,
    shortcomings: Trouble,
    quarrels: bool,
    accepts: Accepts,
    restorations: Restorations,
}

/// What was put right so far.
#[derive(Debug, Default)]
pub struct Restorations {
    /// How often.
    pub count: u64,
    /// The last time, and what.
    pub last: Option<(Time, String)>,
}

/// The interface as it was found or made.
pub struct Queues {
    /// Its queues.
    pub opened: Vec<Opened>,
    /// The super-packets that the kernel takes.
    pub accepts: Accepts,
    /// Whether it has a carrier. One that was taken over may have lost it before.
    pub carrier: bool,
}

impl Interface {
    /// Takes the interface over from the process before, which has left it as `stored`, or creates
    /// it, and configures it.
    ///
    /// # Errors
    /// The interface could not be created. What could not be configured is logged and tried again.
    pub async fn create(
        desired: Desired,
        queues: u8,
        offload: bool,
        stored: Vec<OwnedFd>,
        notifier: &Notifier,
    ) -> Result<(Self, Queues), Error> {
        let (netlink, watch) = Netlink::open()?;
        let mut interface = Self {
            desired,
            queues,
            offload,
            index: 0,
            netlink,
            watch,
            patience: Patience::default(),
            due: None,
            failing: 0,
            trouble: Trouble::default(),
            shortcomings: Trouble::default(),
            quarrels: false,
            accepts: Accepts::NONE,
            restorations: Restorations::default(),
        };
        let queues = match interface.adopt(stored, notifier).await? {
            Some(queues) => queues,
            None => interface.open().await?,
        };
        inherited::keep_queues(notifier, &queues.opened);
        Ok((interface, queues))
    }

    /// Waits until somebody else has changed the interface.
    pub async fn changed(&mut self) -> Event {
        self.watch.changed(self.index, &self.desired).await
    }

    /// Somebody else has changed, renamed or deleted the interface: put it right, at once or after
    /// a pause.
    pub fn disturbed(&mut self, now: Time) {
        let due = now + self.patience.pause(now);
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    /// When [`Self::mend`] is due.
    pub fn due(&self) -> Option<Time> {
        self.due
    }

    /// Puts right what is not as desired. Gives new queues when the interface had to be created
    /// again; the old ones are of no use then.
    ///
    /// An interface that was renamed gets its name back: traffic goes on meanwhile, while a new
    /// one beside it would have to take its addresses and routes away.
    pub async fn mend(&mut self, now: Time) -> Option<Vec<Opened>> {
        self.due = None;
        match self.present_name().await {
            Ok(Some(name)) if name == self.name() => self.restore(now).await,
            Ok(Some(name)) => match self.netlink.rename(self.index, self.name()).await {
                Ok(()) => {
                    self.restored(now, format_args!("name {name} taken back"));
                    self.restore(now).await;
                }
                Err(error) => self.try_again(now, &error.to_string()),
            },
            Ok(None) => return self.recreate(now).await,
            Err(error) => self.try_again(now, &error.to_string()),
        }
        None
    }

    /// From now on the interface is to look like this: adds and mends what is listed and removes
    /// what was and no longer is. What could not be done is in [`Self::trouble`] and tried again.
    pub async fn reconfigure(&mut self, desired: Desired) {
        let former = std::mem::replace(&mut self.desired, desired);
        if self.is_there() {
            let applied = self.netlink.replace(&former, &self.desired).await;
            self.take_stock(&applied);
        }
    }

    /// Limits the MTU to what both ends agreed on.
    pub async fn set_mtu(&mut self, mtu: u16) {
        if self.desired.mtu != mtu {
            self.desired.mtu = mtu;
            if !self.is_there() {
                return;
            }
            let applied = self.apply().await;
            if !applied.changes.is_empty() {
                note!(
                    DEBUG,
                    "MTU set to the smaller of both ends'",
                    interface = self.name(),
                    mtu = mtu
                );
            }
        }
    }

    /// What is not as configured, and why.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.current()
    }

    /// Whether somebody else keeps changing it.
    pub fn is_quarrelled_over(&self, now: Time) -> bool {
        self.patience.is_quarrel(now)
    }

    /// What was put right so far.
    pub fn restorations(&self) -> &Restorations {
        &self.restorations
    }

    /// The MTU in force.
    pub fn mtu(&self) -> u16 {
        self.desired.mtu
    }

    /// The super-packets that the kernel takes.
    pub fn accepts(&self) -> Accepts {
        self.accepts
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.desired.interface
    }

    /// The interface's index.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// A connection to the kernel's routing.
    pub fn netlink(&self) -> &Netlink {
        &self.netlink
    }

    /// Whether it has not been found gone. What has its name then is somebody else's; ours is
    /// configured when it is created again.
    fn is_there(&self) -> bool {
        self.index != 0
    }

    async fn open(&mut self) -> Result<Queues, Error> {
        let (opened, accepts) = match device::open(self.name(), self.queues, self.offload) {
            // Advice to remove the interface is no good if it is, say, the uplink. One that has gone
            // meanwhile was a TUN.
            Err(OpenError::Busy(name)) if self.netlink.is_no_tun(&name).await? => {
                return Err(OpenError::Taken(name).into());
            }
            opened => opened?,
        };
        self.index = self.netlink.index_of(self.name()).await?.unwrap_or_default();
        self.accepts = accepts;
        let offload = words(accepts);
        report!(messages::INTERFACE_CREATED, interface = self.name(), offload = offload);
        let _ = self.apply().await;
        Ok(Queues { opened, accepts, carrier: true })
    }

    async fn recreate(&mut self, now: Time) -> Option<Vec<Opened>> {
        if self.is_there() {
            report!(messages::INTERFACE_LOST, interface = self.name());
            self.index = 0;
        }
        match self.open().await {
            Ok(Queues { opened, .. }) => {
                self.note_restoration(now, "the interface itself");
                Some(opened)
            }
            Err(error) => {
                self.try_again(now, &error.to_string());
                None
            }
        }
    }

    /// The name that the interface has now; `None` when it is gone.
    async fn present_name(&self) -> Result<Option<String>, netlink::Error> {
        if !self.is_there() {
            return Ok(None);
        }
        self.netlink.name_of(self.index).await
    }

    async fn restore(&mut self, now: Time) {
        let failed = self.failing;
        let applied = self.apply().await;
        let changes = applied.changes.len();
        if changes == 0 {
            return;
        }
        if changes > failed.saturating_sub(self.failing) {
            self.restored(now, listed(&applied));
        } else if self.failing == 0 {
            // It had failed before: nobody has undone it.
            let change = listed(&applied);
            report!(messages::INTERFACE_COMPLETED, interface = self.name(), change = change);
        }
    }

    fn restored(&mut self, now: Time, change: impl Display) {
        if !self.quarrels {
            report!(messages::INTERFACE_RESTORED, interface = self.name(), change = &change);
        } else {
            note!(DEBUG, "interface restored", interface = self.name(), change = &change);
        }
        self.note_restoration(now, &change.to_string());
    }

    fn note_restoration(&mut self, now: Time, what: &str) {
        self.patience.restored(now);
        self.restorations.count += 1;
        self.restorations.last = Some((now, what.to_owned()));
        self.mention_quarrel(now);
    }

    /// From here on single restorations are not worth a line.
    fn mention_quarrel(&mut self, now: Time) {
        let before = std::mem::replace(&mut self.quarrels, self.patience.is_quarrel(now));
        if self.quarrels && !before {
            report!(messages::INTERFACE_QUARREL, interface = self.name());
        }
    }

    async fn apply(&mut self) -> Applied {
        let applied = self.netlink.apply(&self.desired).await;
        self.take_stock(&applied);
        applied
    }

    /// What is wrong is said, and tried again.
    fn take_stock(&mut self, applied: &Applied) {
        self.failing = applied.failures.len();
        for shortcoming in &applied.shortcomings {
            if self.shortcomings.failed(&shortcoming.to_string()) {
                report!(messages::CARRIER_UNHEEDED, error = shortcoming);
            }
        }
        let gone = |error: &netlink::Error| matches!(error, netlink::Error::NoInterface(_));
        if applied.failures.iter().any(gone) {
            self.disturbed(Time::now());
        } else if applied.failures.is_empty() {
            self.trouble.is_over();
        } else {
            let failures = applied.failures.iter().map(ToString::to_string).collect::<Vec<_>>();
            self.try_again(Time::now(), &failures.join("; "));
        }
    }

    /// Says what is wrong, once for as long as it stays the same, and comes back to it.
    fn try_again(&mut self, now: Time, why: &str) {
        self.due = Some(now + AGAIN);
        if self.trouble.failed(why) {
            report!(messages::INTERFACE_INCOMPLETE, interface = self.name(), error = why);
        }
    }
}

/// What was changed, in words.
fn listed(applied: &Applied) -> String {
    applied.changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The kinds of super-packets, for a line of the log.
fn words(accepts: Accepts) -> String {
    match &offloads(accepts)[..] {
        [] => "none".to_owned(),
        words => words.join(", "),
    }
}

/// The kinds of super-packets, as an admin would name them.
pub fn offloads(accepts: Accepts) -> Vec<&'static str> {
    let has = |kind: Accepts| accepts.contains(kind);
    [
        (has(Accepts::CHECKSUM), "checksum"),
        (has(Accepts::TSO4) && has(Accepts::TSO6), "tcp"),
        (has(Accepts::USO4) && has(Accepts::USO6), "udp"),
    ]
    .into_iter()
    .filter_map(|(has, word)| has.then_some(word))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offloads_are_named_in_words() {
        let tcp = Accepts::CHECKSUM.union(Accepts::TSO4).union(Accepts::TSO6);
        assert_eq!(offloads(Accepts::ALL), ["checksum", "tcp", "udp"]);
        assert_eq!(offloads(tcp), ["checksum", "tcp"]);
        assert!(offloads(Accepts::NONE).is_empty());
    }
}
