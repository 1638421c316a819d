//! Whether journald has read what was logged.
//!
//! journald asks the kernel which unit a message comes from when it reads it. Of a process that has
//! ended meanwhile it does not learn that, and the message that says why a unit failed would be
//! missing from `systemctl status` and `journalctl -u`: on a busy machine, at boot, it often would.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::sys;

/// Where journald takes messages (systemd-journald.service(8)).
const SOCKET: &str = "/run/systemd/journal/socket";

/// Waits until journald has read all that was sent to it before, or `limit` is over. Says whether
/// it has.
///
/// # Errors
/// journald is not there, or its queue is full for as long.
pub fn wait_until_read(limit: Duration) -> io::Result<bool> {
    wait_for_reader(Path::new(SOCKET), limit)
}

fn wait_for_reader(path: &Path, limit: Duration) -> io::Result<bool> {
    let end = Instant::now() + limit;
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_write_timeout(Some(limit))?;
    // No message, but read after all that came before it.
    socket.send(&[])?;
    while sys::fd::unread_by_peer(&socket)? > 0 {
        if Instant::now() >= end {
            return Ok(false);
        }
        sleep(Duration::from_millis(1));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn what_was_sent_before_has_been_read_when_it_returns() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        let log = UnixDatagram::unbound().unwrap();
        log.send_to(b"why", &path).unwrap();
        assert!(!wait_for_reader(&path, Duration::from_millis(20)).unwrap(), "nobody reads");

        let reader = thread::spawn(move || {
            let mut lengths = Vec::new();
            for _ in 0..3 {
                lengths.push(journald.recv(&mut [0; 16]).unwrap());
            }
            lengths
        });
        assert!(wait_for_reader(&path, Duration::from_secs(30)).unwrap());
        assert_eq!(reader.join().unwrap(), [3, 0, 0]);
    }

    #[test]
    fn without_journald_nothing_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let error = wait_for_reader(&directory.path().join("socket"), Duration::from_secs(30));
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
