//! Talking to systemd (sd_notify(3)): ready, status, watchdog, reloading, stopping, and what it
//! keeps open for the next process.

use std::env;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

/// Bytes of a status line. systemd passes over a message of more than 4 KiB as a whole
/// (`NOTIFY_BUFFER_MAX`), and with it what else it says.
const LONGEST: usize = 1024;

/// The service manager, if there is one: without `$NOTIFY_SOCKET` nothing is sent.
///
/// A failing notification is worth one warning and never stops the tunnel.
#[derive(Debug, Default)]
pub struct Notifier {
    failed: AtomicBool,
}

impl Notifier {
    /// Start-up is finished; `status` is one line that an admin can read.
    pub fn ready(&self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// The line that `systemctl status` shows.
    pub fn status(&self, status: &str) {
        self.send(&[NotifyState::Status(&one_line(status))]);
    }

    /// A reload begins; [`ready`](Self::ready) ends it.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            Err(error) => self.warn_once(&error),
        }
    }

    /// Shutting down has begun.
    pub fn stopping(&self, status: &str) {
        self.send(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))]);
    }

    /// Every worker makes progress.
    pub fn watchdog(&self) {
        self.send(&[NotifyState::Watchdog]);
    }

    /// Whether somebody keeps what [`store`](Self::store) hands over.
    pub fn keeps(&self) -> bool {
        env::var_os("NOTIFY_SOCKET").is_some()
    }

    /// Hands a descriptor over, to be kept open under this name until the service is stopped. One
    /// that is kept already is not kept twice.
    pub fn store(&self, name: &str, descriptor: BorrowedFd<'_>) {
        let states = [NotifyState::FdStore, NotifyState::FdName(name)];
        if let Err(error) = sd_notify::notify_with_fds(&states, &[descriptor]) {
            self.warn_once(&error);
        }
    }

    /// What is kept under this name is needed no more.
    pub fn forget(&self, name: &str) {
        self.send(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
    }

    /// The unit's `WatchdogSec=`: the longest that [`watchdog`](Self::watchdog) may not be called.
    /// `None` when it asks for no watchdog.
    pub fn watchdog_limit(&self) -> Option<Duration> {
        sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(states) {
            self.warn_once(&error);
        }
    }

    fn warn_once(&self, error: &io::Error) {
        if !self.failed.swap(true, Ordering::Relaxed) {
            crate::note!(WARN, "cannot notify the service manager", error = error);
        }
    }
}

/// A newline would begin an assignment of its own.
fn one_line(status: &str) -> String {
    let parts = status.split(char::is_control).filter(|part| !part.is_empty());
    let mut line = parts.collect::<Vec<_>>().join(" ");
    if line.len() > LONGEST {
        let cut = line.char_indices().map(|(at, _)| at).take_while(|at| *at <= LONGEST).last();
        line.truncate(cut.unwrap_or_default());
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_status_cannot_smuggle_in_an_assignment() {
        assert_eq!(one_line("up\nREADY=1\r\n\0x"), "up READY=1 x");
    }

    #[test]
    fn a_long_status_leaves_room_for_what_else_is_said() {
        let long = one_line(&"route 10.0.0.0/8: ä; ".repeat(1000));
        assert!(long.len() <= LONGEST + '…'.len_utf8(), "{}", long.len());
        assert!(long.starts_with("route 10.0.0.0/8: ä; route") && long.ends_with('…'), "{long}");
        let fits = "ä".repeat(LONGEST / 2);
        assert_eq!(one_line(&fits), fits);
    }

    /// What the child of the test below runs, and by itself the proof that nothing happens
    /// without a service manager.
    #[test]
    fn without_a_service_manager_nothing_happens() {
        let notifier = Notifier::default();
        notifier.status("connecting\nto vm3");
        notifier.ready("connected");
        notifier.reloading();
        notifier.watchdog();
        notifier.stopping("goodbye");
        let expected = env::var_os("NOTIFY_SOCKET").map(|_| Duration::from_secs(10));
        assert_eq!(notifier.watchdog_limit(), expected);
        assert!(!notifier.failed.load(Ordering::Relaxed));
    }

    #[test]
    fn the_service_manager_hears_each_state() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        // The environment of a running process is not ours to change: a child has its own.
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "service::notify::tests::without_a_service_manager_nothing_happens"])
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "10000000")
            .env_remove("WATCHDOG_PID")
            .output()
            .unwrap();
        assert!(child.status.success(), "{child:?}");
        socket.set_nonblocking(true).unwrap();
        let mut heard = Vec::new();
        let mut buffer = [0; 512];
        while let Ok(length) = socket.recv(&mut buffer) {
            heard.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
        assert_eq!(heard.len(), 5, "{heard:?}");
        assert_eq!(heard[0], "STATUS=connecting to vm3\n");
        assert_eq!(heard[1], "READY=1\nSTATUS=connected\n");
        assert!(heard[2].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{heard:?}");
        assert_eq!(heard[3], "WATCHDOG=1\n");
        assert_eq!(heard[4], "STOPPING=1\nSTATUS=goodbye\n");
    }
}
