//! The other end of the control socket: asks a daemon, and gives up in time.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::bound;
use super::protocol::{Call, MAX_REPLY, Reply, encode};
use super::requests::{RELOAD_LIMIT, STATUS_LIMIT, Verdict};
use super::socket;

/// How much longer than its main loop a daemon may take for an answer.
const GRACE: Duration = Duration::from_secs(3);

/// How long to wait for a status: a daemon that takes longer hangs.
pub const STATUS_PATIENCE: Duration = STATUS_LIMIT.saturating_add(GRACE);

/// How long to wait for a reload.
pub const RELOAD_PATIENCE: Duration = RELOAD_LIMIT.saturating_add(GRACE);

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
        .0.display(), seconds(*.1)
    )]
    Silent(PathBuf, Duration),
    /// The daemon can't say now.
    #[error(
        "{}: the daemon is about to stop, or has as much to do as it takes: try again in a second",
        .0.display()
    )]
    Busy(PathBuf),
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

/// A time as people read it.
pub fn seconds(time: Duration) -> String {
    format!("{:.0}", time.as_secs_f64())
}

/// A connection to a daemon, given up when it takes too long.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: UnixStream,
    begun: Instant,
    patience: Duration,
}

impl Client {
    /// Connects to the instance `name`. All that is asked of it may take as long as `patience`
    /// together.
    ///
    /// # Errors
    /// [`Failure`]
    pub fn connect(directory: &Path, name: &str, patience: Duration) -> Result<Self, Failure> {
        let path = socket::path(directory, name);
        let begun = Instant::now();
        match bound::connect(&path, patience) {
            Ok(socket) => Ok(Self { path, stream: OwnedFd::from(socket).into(), begun, patience }),
            Err(error) => Err(match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    Failure::NotRunning(path)
                }
                _ => explain(path, error, patience),
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
                serde_json::from_value(reply.parameters).map(Err).map_err(malformed)
            }
            Some(error) => Err(Failure::Refused(self.path.clone(), error.to_owned())),
        }
    }

    fn call(&mut self, method: &str, limit: Duration) -> Result<Reply, Failure> {
        let reply = self.exchange(&encode(&Call::ours(method)));
        let reply = reply.map_err(|error| explain(self.path.clone(), error, self.patience))?;
        let path = || self.path.clone();
        match serde_json::from_slice(&reply) {
            // It has waited for its main loop, or had no need to.
            Ok(reply) if reply == Reply::busy() => Err(if self.begun.elapsed() < limit {
                Failure::Busy(path())
            } else {
                Failure::Silent(path(), limit)
            }),
            Ok(reply) => Ok(reply),
            Err(_) => Err(Failure::Malformed(path())),
        }
    }

    fn exchange(&mut self, call: &[u8]) -> io::Result<Vec<u8>> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write_all(call)?;
        let (mut reply, mut room) = (Vec::new(), [0; 16 * 1024]);
        while reply.len() <= MAX_REPLY {
            // For whoever says a byte now and then it is the same time.
            self.stream.set_read_timeout(Some(self.left()?))?;
            match self.stream.read(&mut room) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => reply.extend_from_slice(&room[..length]),
                // With a limit, also when the process was stopped and goes on (signal(7)).
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if reply.last() == Some(&0) {
                reply.pop();
                return Ok(reply);
            }
        }
        Err(io::ErrorKind::FileTooLarge.into())
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.patience.saturating_sub(self.begun.elapsed());
        // The kernel takes none for no limit.
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

fn explain(path: PathBuf, error: io::Error, limit: Duration) -> Failure {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::Permission(path),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::Silent(path, limit),
        _ => Failure::Broken(path, error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    #[test]
    fn whoever_says_a_byte_now_and_then_is_not_waited_for_any_longer() {
        let directory = tempfile::tempdir().unwrap();
        let daemon = UnixListener::bind(socket::path(directory.path(), "tun0")).unwrap();
        let talker = thread::spawn(move || {
            let (mut client, _) = daemon.accept().unwrap();
            // Until it is given up, for no longer than the test may take.
            for _ in 0..300 {
                if client.write_all(b" ").is_err() {
                    break;
                }
                thread::sleep(Duration::from_millis(100));
            }
        });
        let patience = Duration::from_millis(500);
        let failure =
            Client::connect(directory.path(), "tun0", patience).and_then(|mut it| it.status());
        assert!(matches!(&failure, Err(Failure::Silent(_, limit)) if *limit == patience));
        talker.join().unwrap();
    }
}
