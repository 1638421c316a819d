//! One tunnel, from start-up to the end: joins what the other rooms do.
//!
//! [`run`] is the story. [`tunnel`] is the main loop: it owns the session and the interface, waits
//! for [`arrivals`] and tells the [`worker`]s, one per stream, what to do. [`introduction`] dials,
//! in the order that [`ways`] knows, and greets those who come in through [`listening`];
//! [`interface`] keeps the TUN interface as configured. [`reload`] reads the configuration again.
//! [`control`] opens the control socket; what it tells is gathered by [`tunnel`], and put into
//! words by [`diagnosis`]. [`exporter`] is for Prometheus, [`status`] and [`watchdog`] are for
//! systemd. [`parameters`] cuts the settings into what each room needs.

mod alarm;
pub mod arrivals;
pub mod control;
pub mod diagnosis;
pub mod exporter;
pub mod interface;
pub mod introduction;
pub mod listening;
pub mod parameters;
pub mod reload;
pub mod status;
pub mod tunnel;
pub mod watchdog;
pub mod ways;
pub mod worker;

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::config::Settings;
use crate::control::socket;
use crate::netlink;
use crate::report;
use crate::service::inherited::Inherited;
use crate::service::messages;
use crate::service::notify::Notifier;
use crate::transport::keys::{self, PublicKey};
use crate::transport::tls;
use crate::tun::device::OpenError;

use control::Control;
use reload::Basis;
use tunnel::Tunnel;

/// How long name resolution that hangs may hold up the end.
const LINGER: Duration = Duration::from_millis(100);

/// Why a tunnel could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The TUN interface can't be had.
    #[error(transparent)]
    Interface(#[from] OpenError),
    /// The kernel doesn't let us configure interfaces.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// A daemon of that name runs already.
    #[error(transparent)]
    Running(socket::Error),
    /// No private key is configured.
    #[error(
        "no private key: make one with `tunnel64d genkey`, and name its file in \
         security.private_key_file or give it as the credential tunnel64d.key"
    )]
    NoKey,
    /// The private key can't be read, or is none.
    #[error(transparent)]
    KeyFile(#[from] keys::FileError),
    /// The peer is to show the key that we show.
    #[error("security.peer_public_keys holds our own key {0}: it takes the other end's")]
    OwnKey(PublicKey),
    /// The key is one that TLS can't use.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The kernel refused something that every program needs.
    #[error("{what}: {source}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// Whether more privileges would help.
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::Interface(OpenError::NotAllowed(_)))
    }

    /// Whether the configuration is to blame: starting again changes nothing.
    pub fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::NoKey
                | Self::KeyFile(_)
                | Self::OwnKey(_)
                | Self::Tls(_)
                | Self::Interface(OpenError::Name(_) | OpenError::Taken(_))
        )
    }

    fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

/// Runs the tunnel until a signal asks it to stop; a reload starts from the same `basis`. Its
/// control socket is in `runtime_dir`.
///
/// # Errors
/// What kept it from starting. Once it has started, nothing that may pass ends it.
pub fn run(settings: &Settings, basis: Basis, runtime_dir: &Path) -> Result<(), Error> {
    let notifier = Notifier::default();
    let inherited = Inherited::take(&notifier);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::system("starting the event loop"))?;
    let result = runtime.block_on(async {
        report!(messages::STARTED, version = env!("CARGO_PKG_VERSION"));
        let control = Control::open(runtime_dir, &settings.name)?;
        let mut tunnel = Tunnel::set_up(settings, basis, notifier, inherited).await?;
        let _control = control.serve(tunnel.ask());
        tunnel.carry().await;
        tunnel.tear_down().await;
        Ok(())
    });
    runtime.shutdown_timeout(LINGER);
    result
}
