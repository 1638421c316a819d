//! Reading the configuration again: what has changed, and whether it may be applied.
//!
//! Nothing is touched here. [`Tunnel::reload`](super::tunnel::Tunnel::reload) applies what
//! [`Basis::read`] gives. What the log is told of it, [`Verdicts`] decide.

mod verdicts;

use std::fmt;
use std::io;

use crate::config::schema::Reload;
use crate::config::{self, Leaf, Loaded, Origin, Sources};
use crate::control::protocol::{Applied, Rejected};
use crate::metrics::snapshot::Problem;
use crate::service::logging::LevelHandle;
use crate::transport::tcp;

pub use verdicts::{Asked, Verdicts};

/// What a running configuration came from.
#[derive(Debug)]
pub struct Basis {
    /// The files, variables and arguments of the start.
    pub sources: Sources,
    /// Every key with the value that is in force.
    pub leaves: Vec<Leaf>,
    /// The level of the log.
    pub level: LevelHandle,
}

/// A reload that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// The keys whose values are new, in the order of the documentation.
    pub changed: Vec<String>,
    /// What the kernel refused so far; it is tried again.
    pub incomplete: Option<Problem>,
}

/// A reload that was refused: everything is as it was before.
#[derive(Debug)]
pub struct Refused(pub Vec<Reason>);

/// One reason to refuse a reload.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// The configuration is wrong.
    #[error(transparent)]
    Configuration(#[from] config::Error),
    /// A key that only a restart applies has another value.
    #[error(
        "{origin}: {key}: needs a restart, because {why}: systemctl restart tunnel64d@{tunnel}"
    )]
    Restart {
        /// Where the new value was written.
        origin: Origin,
        /// The key.
        key: String,
        /// Why a reload can't apply it.
        why: &'static str,
        /// The instance's name.
        tunnel: String,
    },
    /// The private key can't be used.
    #[error(transparent)]
    Key(#[from] super::Error),
    /// The kernel has no such device or congestion control, or does not allow it.
    #[error("no such connection can be made: {0}")]
    Socket(#[source] io::Error),
    /// What concerns the port can't change while a socket unit holds it.
    #[error(
        "{key}: the port is held by a socket unit: systemctl disable --now \
         tunnel64d@{tunnel}.socket, and systemctl restart tunnel64d@{tunnel}"
    )]
    Held {
        /// The key.
        key: &'static str,
        /// The instance's name.
        tunnel: String,
    },
    /// The port can't be had.
    #[error("link.listen: cannot listen on {address}: {source}")]
    Listen {
        /// Where the peer was to connect.
        address: std::net::SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Basis {
    /// Reads all layers again. Gives the configuration that they make, and the keys whose values
    /// are not those in force.
    ///
    /// # Errors
    /// Every mistake in them, or every changed key that needs a restart.
    pub fn read(&self) -> Result<(Loaded, Vec<String>), Refused> {
        let loaded = config::load(&self.sources).map_err(|errors| {
            Refused(errors.iter().cloned().map(Reason::Configuration).collect())
        })?;
        let changes = changes(&self.leaves, &loaded.origins);
        let refused: Vec<_> = changes.iter().filter_map(|leaf| self.needs_restart(leaf)).collect();
        if !refused.is_empty() {
            return Err(Refused(refused));
        }
        let changed = changes.into_iter().map(Leaf::key).collect();
        Ok((loaded, changed))
    }

    fn needs_restart(&self, leaf: &Leaf) -> Option<Reason> {
        let Reload::Restart(why) = leaf.reload() else { return None };
        let (origin, key) = (leaf.origin.clone(), leaf.key());
        Some(Reason::Restart { origin, key, why, tunnel: self.sources.name.clone() })
    }
}

/// The leaves that are new, have another value than before, or are gone.
fn changes<'a>(former: &'a [Leaf], present: &'a [Leaf]) -> Vec<&'a Leaf> {
    let value_in = |leaves: &'a [Leaf], path: &[String]| {
        leaves.iter().find(|leaf| leaf.path == path).and_then(|leaf| leaf.value.as_ref())
    };
    let differs = |leaf: &&Leaf| value_in(former, &leaf.path) != leaf.value.as_ref();
    let is_gone = |leaf: &&Leaf| !present.iter().any(|other| other.path == leaf.path);
    present.iter().filter(differs).chain(former.iter().filter(is_gone)).collect()
}

impl Refused {
    /// Whether connections can have these options, each tried by itself.
    ///
    /// # Errors
    /// Those that they can't have.
    pub fn unless_possible(options: &tcp::Options) -> Result<(), Self> {
        let plain = tcp::Options {
            source: None,
            device: None,
            fwmark: None,
            dscp: None,
            congestion: tcp::Congestion::Default,
            unacknowledged_limit: options.unacknowledged_limit,
        };
        let tcp::Options { device, fwmark, dscp, congestion, .. } = options.clone();
        let reasons: Vec<_> = [
            tcp::Options { device, ..plain.clone() },
            tcp::Options { fwmark, ..plain.clone() },
            tcp::Options { dscp, ..plain.clone() },
            tcp::Options { congestion, ..plain },
        ]
        .iter()
        .filter_map(|options| tcp::probe(options).err().map(Reason::Socket))
        .collect();
        if reasons.is_empty() { Ok(()) } else { Err(Self(reasons)) }
    }

    /// A line for each reason.
    pub fn lines(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// The reasons, and what the admin of this tunnel can do about them.
    pub fn told(&self, tunnel: &str) -> Rejected {
        let has = |kind: fn(&Reason) -> bool| self.0.iter().any(kind);
        let remedy = if has(|reason| matches!(reason, Reason::Restart { .. })) {
            format!(
                "A restart applies all that has changed: `systemctl restart tunnel64d@{tunnel}`. \
                 Or put the former values back, and reload again."
            )
        } else if has(|reason| matches!(reason, Reason::Configuration(_))) {
            format!("Correct it until `tunnel64d check {tunnel}` is content, and reload again.")
        } else {
            "Remove what is in the way, or change the key, and reload again.".to_owned()
        };
        Rejected { errors: self.lines(), remedy }
    }
}

impl From<Reloaded> for Applied {
    fn from(Reloaded { changed, incomplete }: Reloaded) -> Self {
        let (incomplete, remedy) = incomplete.map(|it| (it.text, it.remedy)).unzip();
        Self { applied: changed, incomplete, remedy }
    }
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self(vec![reason])
    }
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changed.is_empty() {
            return f.write_str("nothing");
        }
        f.write_str(&self.changed.join(", "))
    }
}

#[cfg(test)]
mod tests;
