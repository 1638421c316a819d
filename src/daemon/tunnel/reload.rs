//! A new configuration, applied to the running tunnel.
//!
//! What can fail comes first and touches nothing; what touches something cannot fail. The session
//! stays, unless its peer is no longer one.

use tokio::task::JoinSet;

use crate::config::{Loaded, Ready, Settings};
use crate::daemon::listening::Listening;
use crate::daemon::reload::{Asked, Reason, Refused, Reloaded};
use crate::daemon::worker::{Command, Loss};
use crate::daemon::{diagnosis, parameters};
use crate::link::negotiate::Ours;
use crate::link::session::{Parameters, StreamId};
use crate::metrics;
use crate::packet::offload::Accepts;
use crate::report;
use crate::service::repeat::Print;
use crate::service::{inherited, messages};
use crate::time::Time;
use crate::transport::keys::PublicKey;
use crate::transport::{Protection, tcp};
use crate::wire::bye;

use super::Tunnel;
use super::snapshot::Connection;

/// The key whose value is a file's content.
const PRIVATE_KEY: &str = "security.private_key_file";

/// A new configuration with all that had to be got for it.
struct Prepared {
    loaded: Loaded,
    changed: Vec<String>,
    protection: Protection,
    tcp: tcp::Options,
    ours: Ours,
    session: Parameters,
    port: Port,
}

/// The port to listen on.
enum Port {
    Stays,
    Moves(Option<Box<Listening>>),
}

impl Tunnel {
    /// Reads the configuration again and applies what has changed.
    ///
    /// # Errors
    /// Why it was refused; nothing has changed then.
    pub async fn reload(&mut self, asked: Asked) -> Result<Reloaded, Refused> {
        if self.ready {
            self.notifier.reloading();
        }
        let result = match self.prepare() {
            Ok(prepared) => Ok(self.apply(prepared).await),
            Err(refused) => Err(refused),
        };
        self.tell_verdict(&result, asked);
        if self.ready {
            self.status = self.state().to_string();
            self.notifier.ready(&self.status);
        } else if self.settings.link.ready == Ready::Interface {
            self.tell_ready();
        }
        result
    }

    fn tell_verdict(&mut self, verdict: &Result<Reloaded, Refused>, asked: Asked) {
        let print = self.verdicts.reached(verdict, asked, Time::now());
        match verdict {
            Ok(reloaded) => {
                self.counters.reloaded(metrics::Reload::Applied);
                if let Some(repeats) = print {
                    report!(messages::RELOADED, changed = reloaded, repeats = repeats);
                }
            }
            Err(refused) => {
                self.counters.reloaded(metrics::Reload::Rejected);
                let Some(mut repeats) = print else { return };
                for reason in &refused.0 {
                    report!(messages::RELOAD_REJECTED, error = reason, repeats = repeats);
                    // The first line has told of them.
                    repeats = Print::default();
                }
            }
        }
    }

    fn prepare(&self) -> Result<Prepared, Refused> {
        let (loaded, mut changed) = self.basis.read()?;
        let settings = &loaded.settings;
        let protection = parameters::protection(settings).map_err(Reason::from)?;
        let named = |key: &str| changed.iter().any(|changed| changed == key);
        if own_key(&protection) != own_key(&self.protection) && !named(PRIVATE_KEY) {
            changed.push(PRIVATE_KEY.to_owned());
        }
        let ours = Ours {
            mtu: settings.interface.mtu,
            keepalive: settings.link.keepalive,
            ..self.ours.clone()
        };
        let session =
            parameters::session(settings, &protection, ours.clone()).map_err(Reason::from)?;
        let tcp = parameters::tcp(settings);
        if tcp != self.tcp {
            Refused::unless_possible(&tcp)?;
        }
        let port = self.prepare_port(settings, &tcp)?;
        Ok(Prepared { loaded, changed, protection, tcp, ours, session, port })
    }

    /// Binds the new port while the old one goes on.
    fn prepare_port(&self, settings: &Settings, options: &tcp::Options) -> Result<Port, Refused> {
        // Every connection that is accepted gets these anew, or makes no use of them.
        let (unacknowledged_limit, source) = (self.tcp.unacknowledged_limit, self.tcp.source);
        let alike = tcp::Options { unacknowledged_limit, source, ..options.clone() } == self.tcp;
        if settings.link.listen == self.settings.link.listen && alike {
            return Ok(Port::Stays);
        }
        let present = self.listening.as_ref();
        if let Some(activated) = present.filter(|present| present.is_activated()) {
            return self.keep_activated(activated, settings, options);
        }
        let Some(address) = settings.link.listen else { return Ok(Port::Moves(None)) };
        match Listening::in_place_of(present, address, options.clone(), Time::now()) {
            Ok(listening) => Ok(Port::Moves(Some(Box::new(listening)))),
            Err(source) => Err(Reason::Listen { address, source }.into()),
        }
    }

    /// systemd has the port of a socket unit too, and would go on listening with what it was given.
    fn keep_activated(
        &self,
        activated: &Listening,
        settings: &Settings,
        options: &tcp::Options,
    ) -> Result<Port, Refused> {
        let held = |key| Reason::Held { key, tunnel: settings.name.clone() };
        let Some(address) = settings.link.listen else { return Err(held("link.listen").into()) };
        let changed = [
            ("link.device", options.device != self.tcp.device),
            ("link.fwmark", options.fwmark != self.tcp.fwmark),
            ("link.dscp", options.dscp != self.tcp.dscp),
        ];
        let reasons: Vec<_> =
            changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| held(key)).collect();
        if !reasons.is_empty() {
            return Err(Refused(reasons));
        }
        activated.compare(address);
        Ok(Port::Stays)
    }

    async fn apply(&mut self, prepared: Prepared) -> Reloaded {
        let Prepared { loaded, changed, protection, tcp, ours, session, port } = prepared;
        let settings = loaded.settings;
        self.basis.level.set(parameters::level(settings.log.level));
        self.peers.allow(parameters::peers(&settings));
        self.protection = protection;
        self.tcp = tcp;
        self.ours = ours;
        self.session.reconfigure(session);
        if let Port::Moves(listening) = port {
            self.listening = listening.map(|listening| *listening);
            self.listening.iter().for_each(Listening::mention);
            let port = self.listening.as_ref().and_then(Listening::port);
            inherited::keep_port(&self.notifier, port);
        }
        let former = std::mem::replace(&mut self.settings, settings);
        self.basis.leaves = loaded.origins;
        self.reconfigure_workers();
        self.reconfigure_interface(&former).await;
        if former.metrics != self.settings.metrics {
            self.serve_metrics().await;
        }
        if !changed.is_empty() {
            self.part_from_strangers();
            self.dial_anew();
        }
        let incomplete = self.interface.trouble();
        let incomplete = incomplete.map(|why| diagnosis::of_interface(self.interface.name(), why));
        Reloaded { changed, incomplete }
    }

    /// Hands the workers their part of the settings.
    pub(super) fn reconfigure_workers(&self) {
        let accepts = Accepts::from_bits_truncate(self.ours.features);
        let (settings, counters) = (&self.settings, &self.counters);
        let mut parameters = parameters::worker(settings, self.workers.len(), accepts, counters);
        // What the peer was told when the session began, it may go on sending.
        parameters.sanitiser.mtu = parameters.sanitiser.mtu.max(self.told_mtu);
        for worker in &self.workers {
            worker.tell(Command::Reconfigure(Box::new(parameters.clone())));
        }
    }

    async fn reconfigure_interface(&mut self, former: &Settings) {
        let mut desired = parameters::desired(&self.settings);
        match self.session.agreed() {
            Some(agreed) => desired.mtu = agreed.mtu,
            // What was agreed with the peer last holds until it is asked again.
            None if former.interface.mtu == desired.mtu => desired.mtu = self.interface.mtu(),
            None => {}
        }
        if former.interface != self.settings.interface {
            self.interface.reconfigure(desired).await;
        }
    }

    /// Ends the streams whose far end is no longer a peer.
    fn part_from_strangers(&mut self) {
        let strangers: Vec<_> = self
            .connections
            .iter()
            .filter_map(|(id, connection)| Some((*id, self.objection(connection)?)))
            .collect();
        for (id, why) in strangers {
            self.part(id, why);
        }
    }

    fn part(&mut self, id: StreamId, why: &'static str) {
        for worker in &self.workers {
            worker.tell(Command::Close(id, bye::Reason::Unwelcome));
        }
        self.lost(id, &Loss::Unwelcome(why));
    }

    /// What the configuration has against the far end of a connection, which may have been made
    /// when there was another one.
    pub(super) fn objection(&self, connection: &Connection) -> Option<&'static str> {
        let pinned = &self.settings.security.peer_public_keys;
        if connection.key.is_some_and(|key| !pinned.contains(&key)) {
            return Some("its key is no longer in security.peer_public_keys");
        }
        // With keys, whoever proves one where we have dialled is the peer.
        let by_address = connection.accepted || connection.key.is_none();
        (by_address && !self.peers.allows(connection.peer.ip()))
            .then_some("its address is no longer in security.peer_addresses")
    }

    /// Without a session there is nothing to be careful of: what is on its way the old way is given
    /// up, and the new way is tried at once.
    fn dial_anew(&mut self) {
        if self.session.id().is_some() {
            return;
        }
        self.arrivals.dialled = JoinSet::new();
        self.needed.clear();
        self.session.start_over(Time::now());
    }
}

fn own_key(protection: &Protection) -> Option<PublicKey> {
    match protection {
        Protection::Plaintext => None,
        Protection::Tls(endpoint) => Some(endpoint.public_key()),
    }
}
