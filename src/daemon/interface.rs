//! The tunnel's interface: created, configured, put right when somebody else changes it, and
//! created again when somebody deletes it.

use std::time::Duration;

use crate::netlink::{Applied, Desired, Event, Netlink, Patience, Watch};
use crate::packet::offload::Accepts;
use crate::service::messages;
use crate::service::trouble::Trouble;
use crate::time::Time;
use crate::tun::device::{self, Opened};
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
    trouble: Trouble,
}

impl Interface {
    /// Creates the interface and configures it. Gives its queues and the super-packets that the
    /// kernel takes.
    ///
    /// # Errors
    /// The interface could not be created. What could not be configured is logged and tried again.
    pub async fn create(
        desired: Desired,
        queues: u8,
        offload: bool,
    ) -> Result<(Self, Vec<Opened>, Accepts), Error> {
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
            trouble: Trouble::default(),
        };
        let (opened, accepts) = interface.open().await?;
        Ok((interface, opened, accepts))
    }

    /// Creates the interface again if it was deleted. `None` when it is there after all, or when it
    /// did not work out yet.
    pub async fn recreate(&mut self) -> Option<Vec<Opened>> {
        if self.index != 0 {
            let index = self.netlink.index_of(self.name()).await.ok()?.unwrap_or_default();
            if index == self.index {
                return None;
            }
            report!(messages::INTERFACE_LOST, interface = self.name());
            self.index = 0;
        }
        match self.open().await {
            Ok((opened, _)) => Some(opened),
            Err(error) => {
                self.complain(&error.to_string());
                self.due = Some(Time::now() + AGAIN);
                None
            }
        }
    }

    /// Waits until somebody else has changed the interface.
    pub async fn changed(&mut self) -> Event {
        self.watch.changed(self.index, &self.desired).await
    }

    /// Somebody else has changed the interface: put it right, at once or after a pause.
    pub fn disturbed(&mut self, now: Time) {
        let due = now + self.patience.pause(now);
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    /// When [`Self::restore`] is due.
    pub fn due(&self) -> Option<Time> {
        self.due
    }

    /// Puts right what is not as desired.
    pub async fn restore(&mut self, now: Time) {
        self.due = None;
        let applied = self.apply().await;
        if !applied.changes.is_empty() {
            self.patience.restored(now);
            for change in &applied.changes {
                report!(messages::INTERFACE_RESTORED, interface = self.name(), change = change);
            }
        }
    }

    /// Limits the MTU to what both ends agreed on.
    pub async fn set_mtu(&mut self, mtu: u16) {
        if self.desired.mtu != mtu {
            self.desired.mtu = mtu;
            let applied = self.apply().await;
            if !applied.changes.is_empty() {
                note!(
                    INFO,
                    "MTU set to the smaller of both ends'",
                    interface = self.name(),
                    mtu = mtu
                );
            }
        }
    }

    /// Whether the interface is gone, and could not be created again yet.
    pub fn is_gone(&self) -> bool {
        self.index == 0
    }

    /// What is not as configured, and why.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.current()
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

    async fn open(&mut self) -> Result<(Vec<Opened>, Accepts), Error> {
        let (opened, accepts) = device::open(self.name(), self.queues, self.offload)?;
        self.index = self.netlink.index_of(self.name()).await?.unwrap_or_default();
        report!(messages::INTERFACE_CREATED, interface = self.name(), offload = words(accepts));
        let _ = self.apply().await;
        Ok((opened, accepts))
    }

    async fn apply(&mut self) -> Applied {
        let applied = self.netlink.apply(&self.desired).await;
        if applied.failures.is_empty() {
            self.trouble.is_over();
        } else {
            let failures = applied.failures.iter().map(ToString::to_string);
            self.complain(&failures.collect::<Vec<_>>().join("; "));
            self.due = Some(Time::now() + AGAIN);
        }
        applied
    }

    /// Says what is wrong, once for as long as it stays the same.
    fn complain(&mut self, complaint: &str) {
        if self.trouble.failed(complaint) {
            report!(messages::INTERFACE_INCOMPLETE, interface = self.name(), error = complaint);
        }
    }
}

/// The kinds of super-packets, as an admin would name them.
fn words(accepts: Accepts) -> String {
    let has = |kind: Accepts| accepts.contains(kind);
    let words: Vec<_> = [
        (has(Accepts::CHECKSUM), "checksum"),
        (has(Accepts::TSO4) && has(Accepts::TSO6), "tcp"),
        (has(Accepts::USO4) && has(Accepts::USO6), "udp"),
    ]
    .into_iter()
    .filter_map(|(has, word)| has.then_some(word))
    .collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offloads_are_named_in_words() {
        let tcp = Accepts::CHECKSUM.union(Accepts::TSO4).union(Accepts::TSO6);
        assert_eq!(words(Accepts::ALL), "checksum, tcp, udp");
        assert_eq!(words(tcp), "checksum, tcp");
        assert_eq!(words(Accepts::NONE), "none");
    }
}
