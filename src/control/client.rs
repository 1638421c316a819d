//! The other end of the control socket: asks a daemon, and gives up in time.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::protocol::{Call, MAX_REPLY, Reply, encode};
use super::requests::{RELOAD_LIMIT, STATUS_LIMIT, Verdict};
use super::socket;

/// How much longer than its main loop a daemon may take for an answer.
const GRACE: Duration = Duration::from_secs(3);

/// Why a daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nobody listens.
    #[error("not running: nobody answers on {}", .0.display())]
    NotRunning(PathBuf),
    /// The socket is not for everybody.
    #[error(
        "{}: permission denied: run this as root or as a member of the group tunnel64d",
        .0.display()
    )]
    Permission(PathBuf),
    /// The daemon does not answer.
    #[error(
        "{}: no answer within {} s: the daemon hangs or is stopped; restart it unless its watchdog \
         does",
        .0.display(), .1.as_secs()
    )]
    Silent(PathBuf, Duration),
    /// The daemon has closed the connection.
    #[error("{}: {}", .0.display(), .1)]
    Broken(PathBuf, io::Error),
    /// What came is no reply.
    #[error("{}: the answer is not understood: is it tunnel64d that listens?", .0.display())]
    Malformed(PathBuf),
    /// The daemon says no.
    #[error("{}: the daemon answers {}", .0.display(), .1)]
    Refused(PathBuf, String),
}

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: UnixStream,
}

impl Client {
    /// Connects to the instance `name`.
    ///
    /// # Errors
    /// [`Failure`]
    pub fn connect(directory: &Path, name: &str) -> Result<Self, Failure> {
        let path = socket::path(directory, name);
        let limit = STATUS_LIMIT + GRACE;
        match socket::connect(&path, limit) {
            Ok(socket) => Ok(Self { path, stream: OwnedFd::from(socket).into() }),
            Err(error) => Err(match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    Failure::NotRunning(path)
                }
                _ => explain(path, error, limit),
            }),
        }
    }

    /// How things are, in the form of a [`Snapshot`](crate::metrics::snapshot::Snapshot) of the
    /// daemon's version.
    ///
    /// # Errors
    /// [`Failure`]
    pub fn status(&mut self) -> Result<Value, Failure> {
        let reply = self.call("Status", STATUS_LIMIT)?;
        match (reply.error, reply.parameters) {
            (None, Value::Object(mut parameters)) => {
                parameters.remove("status").ok_or_else(|| Failure::Malformed(self.path.clone()))
            }
            (None, _) => Err(Failure::Malformed(self.path.clone())),
            (Some(error), _) => Err(Failure::Refused(self.path.clone(), error)),
        }
    }

    /// Applies the configuration anew; gives what was applied, or why nothing was.
    ///
    /// # Errors
    /// [`Failure`]
    pub fn reload(&mut self) -> Result<Verdict, Failure> {
        let reply = self.call("Reload", RELOAD_LIMIT)?;
        let malformed = |_| Failure::Malformed(self.path.clone());
        match reply.error.as_deref() {
            None => serde_json::from_value(reply.parameters).map(Ok).map_err(malformed),
            Some("org.tunnel64d.ReloadRejected") => {
                let errors = reply.parameters.get("errors").cloned().unwrap_or_default();
                serde_json::from_value(errors).map(Err).map_err(malformed)
            }
            Some(error) => Err(Failure::Refused(self.path.clone(), error.to_owned())),
        }
    }

    fn call(&mut self, method: &str, limit: Duration) -> Result<Reply, Failure> {
        let reply = self.exchange(&encode(&Call::ours(method)), limit + GRACE);
        let reply = reply.map_err(|error| explain(self.path.clone(), error, limit + GRACE))?;
        let path = || self.path.clone();
        match serde_json::from_slice(&reply) {
            Ok(reply) if reply == Reply::busy() => Err(Failure::Silent(path(), limit)),
            Ok(reply) => Ok(reply),
            Err(_) => Err(Failure::Malformed(path())),
        }
    }

    fn exchange(&mut self, call: &[u8], limit: Duration) -> io::Result<Vec<u8>> {
        self.stream.set_write_timeout(Some(limit))?;
        self.stream.set_read_timeout(Some(limit))?;
        self.stream.write_all(call)?;
        let (mut reply, mut room) = (Vec::new(), [0; 16 * 1024]);
        while reply.len() <= MAX_REPLY {
            match self.stream.read(&mut room)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => reply.extend_from_slice(&room[..length]),
            }
            if reply.last() == Some(&0) {
                reply.pop();
                return Ok(reply);
            }
        }
        Err(io::ErrorKind::FileTooLarge.into())
    }
}

fn explain(path: PathBuf, error: io::Error, limit: Duration) -> Failure {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::Permission(path),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::Silent(path, limit),
        _ => Failure::Broken(path, error),
    }
}
