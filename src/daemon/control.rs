//! The control socket: opened before anything else is touched, served once there is a tunnel.

use std::path::Path;

use tokio::sync::mpsc::Sender;

use crate::control::bound::Bound;
use crate::control::requests::Request;
use crate::control::server::Server;
use crate::control::socket;
use crate::report;
use crate::service::messages;

use super::Error;

/// A control socket that is not served yet; none, if there can't be one.
pub struct Control(Option<Bound>);

impl Control {
    /// Opens the socket of the instance `name`. That there can't be one is logged.
    ///
    /// # Errors
    /// A daemon of that name runs already.
    pub fn open(runtime_dir: &Path, name: &str) -> Result<Self, Error> {
        match socket::bind(runtime_dir, name) {
            Ok(bound) => Ok(Self(Some(bound))),
            Err(error) if error.is_running() => Err(Error::Running(error)),
            Err(error) => {
                report!(messages::CONTROL_UNAVAILABLE, error = error);
                Ok(Self(None))
            }
        }
    }

    /// Serves it for as long as what it gives is kept.
    pub fn serve(self, ask: Sender<Request>) -> Option<Server> {
        let served = Server::start(self.0?, ask);
        served.map_err(|error| report!(messages::CONTROL_UNAVAILABLE, error = error)).ok()
    }
}
