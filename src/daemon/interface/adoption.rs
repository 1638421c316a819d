//! The interface that the process before has left in systemd's store.

use std::fmt::Display;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::time::sleep;

use crate::daemon::Error;
use crate::report;
use crate::service::notify::Notifier;
use crate::service::{inherited, messages};
use crate::tun::adopt;

use super::{Interface, Queues, listed, words};

/// How often, and how many times, systemd is given time to close what it was told to.
const CLOSING: (Duration, u32) = (Duration::from_millis(20), 50);

/// The smallest MTU that IPv6 has (RFC 8200, section 5).
const LEAST_MTU: u32 = 1280;

impl Interface {
    /// Goes on with the queues that the process before has left: everything stays as it is, but for
    /// what the configuration now says otherwise.
    pub(super) async fn adopt(
        &mut self,
        stored: Vec<OwnedFd>,
        notifier: &Notifier,
    ) -> Result<Option<Queues>, Error> {
        if stored.is_empty() {
            return Ok(None);
        }
        let adopted = adopt::adopt(self.name(), stored, self.queues, self.offload);
        let present = self.netlink.present(self.name()).await?;
        let (opened, accepts, present) = match (adopted, present) {
            (Ok((opened, accepts)), Some(present)) => (opened, accepts, present),
            (Ok(_), None) => {
                return self.give_up_stored(&"it is in another network namespace", notifier).await;
            }
            (Err(misfit), _) => return self.give_up_stored(&misfit, notifier).await,
        };
        self.index = present.index;
        self.accepts = accepts;
        // The peer may have asked for less than is configured, and is about to ask again.
        if let Ok(mtu) = u16::try_from(present.mtu.max(LEAST_MTU)) {
            self.desired.mtu = self.desired.mtu.min(mtu);
        }
        let applied = self.netlink.apply_exactly(&self.desired).await;
        let changes = listed(&applied);
        self.take_stock(&applied);
        report!(
            messages::INTERFACE_ADOPTED,
            interface = self.name(),
            offload = words(accepts),
            changes = changes
        );
        Ok(Some(Queues { opened, accepts, carrier: present.carrier }))
    }

    /// What systemd has kept is of no use. The interface goes once that is closed at both ends.
    async fn give_up_stored(
        &self,
        why: &(dyn Display + Sync),
        notifier: &Notifier,
    ) -> Result<Option<Queues>, Error> {
        report!(messages::INTERFACE_NOT_ADOPTED, interface = self.name(), reason = why);
        inherited::forget_queues(notifier);
        let (pause, times) = CLOSING;
        for _ in 0..times {
            if self.netlink.index_of(self.name()).await?.is_none() {
                break;
            }
            sleep(pause).await;
        }
        Ok(None)
    }
}
