//! The port that the peer connects to: bound as soon as it is free, and kept from then on.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::service::inherited::{self, Inherited};
use crate::service::messages;
use crate::service::notify::Notifier;
use crate::service::trouble::Trouble;
use crate::time::Time;
use crate::transport::tcp;
use crate::{note, report};

/// The pause before a port that is taken is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(2);

/// The pause before connections are accepted again when the system is out of what they need.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// How often a port that is bound to a device is compared with the device: one that is made anew
/// has its name, and nothing reaches the port by way of it.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A port to listen on.
pub struct Listening {
    address: SocketAddr,
    options: tcp::Options,
    /// Never given up: a port below 1024 might not be had again.
    listener: Option<TcpListener>,
    due: Option<Time>,
    /// When the device was looked at.
    looked: Time,
    trouble: Trouble,
    /// Whether the device was gone at the last look.
    astray: bool,
    /// Whether it is a socket unit's.
    activated: bool,
}

impl Listening {
    /// A port that [`Self::poll`] will bind.
    pub fn new(address: SocketAddr, options: tcp::Options, now: Time) -> Self {
        Self {
            address,
            options,
            listener: None,
            due: Some(now),
            looked: now,
            trouble: Trouble::default(),
            astray: false,
            activated: false,
        }
    }

    /// The port of `link.listen`: that of a socket unit, that of the process before, or one that
    /// [`Self::poll`] will bind.
    pub fn of(
        address: Option<SocketAddr>,
        options: &tcp::Options,
        inherited: &mut Inherited,
        notifier: &Notifier,
        now: Time,
    ) -> Option<Self> {
        let mut activated = inherited.activated().into_iter();
        let (activated, others) = (activated.next(), activated.count());
        if others > 0 {
            report!(messages::SOCKET_UNUSED, error = "only its first ListenStream= is served");
        }
        let bound = inherited.bound();
        let mut listening = address.map(|address| Self::new(address, options.clone(), now));
        match (&mut listening, activated) {
            (Some(listening), Some(socket)) => listening.take_activated(socket),
            (None, Some(_)) => report!(messages::SOCKET_UNUSED, error = "link.listen is not set"),
            (_, None) => {}
        }
        if let Some(socket) = bound {
            let free = listening.as_mut().filter(|listening| listening.port().is_none());
            if !free.is_some_and(|listening| listening.take_bound(socket)) {
                // As long as it is kept, another may not be had.
                inherited::keep_port(notifier, None::<&TcpListener>);
            }
        }
        listening
    }

    /// A socket unit is there because somebody enabled it, so its address is the one that counts:
    /// that of the configuration may not even be free beside it.
    fn take_activated(&mut self, socket: OwnedFd) {
        let (listener, address) = match tcp::take_listener(socket, &self.options) {
            Ok(taken) => taken,
            Err(error) => return report!(messages::SOCKET_UNUSED, error = error),
        };
        let configured = std::mem::replace(&mut self.address, address);
        self.compare(configured);
        self.activated = true;
        self.take(listener);
    }

    /// Says no to one that does not fit: [`Self::poll`] binds another.
    fn take_bound(&mut self, socket: OwnedFd) -> bool {
        // It has those of the process before.
        let options = tcp::Options {
            fwmark: Some(self.options.fwmark.unwrap_or_default()),
            dscp: Some(self.options.dscp.unwrap_or_default()),
            ..self.options.clone()
        };
        match tcp::take_listener(socket, &options) {
            Ok((listener, address)) if address == self.address => {
                self.take(listener);
                return true;
            }
            Ok((_, address)) => note!(DEBUG, "another port than before", before = address),
            Err(error) => note!(WARN, "the port is bound again", error = error),
        }
        false
    }

    fn take(&mut self, listener: TcpListener) {
        self.listener = Some(listener);
        self.due = None;
        self.mention();
    }

    /// Whether it is a socket unit's, which stays whatever the configuration says.
    pub fn is_activated(&self) -> bool {
        self.activated
    }

    /// Says so if the configuration has another address than the socket unit.
    pub fn compare(&self, configured: SocketAddr) {
        if configured != self.address {
            let address = self.address;
            report!(messages::LISTENING_ELSEWHERE, address = address, configured = configured);
        }
    }

    /// The port, once it is bound.
    pub fn port(&self) -> Option<&TcpListener> {
        self.listener.as_ref()
    }

    /// A port that is bound already, in place of the `present` one, which goes on until it is
    /// dropped. One that is taken is waited for only if it was waited for before.
    ///
    /// # Errors
    /// Why the port can't be had.
    pub fn in_place_of(
        present: Option<&Self>,
        address: SocketAddr,
        options: tcp::Options,
        now: Time,
    ) -> io::Result<Self> {
        let listener = match present {
            Some(Self { listener: Some(old), .. }) => {
                tcp::listen_in_place_of(old, address, &options)?
            }
            Some(waiting) if waiting.address == address => {
                return Ok(Self::new(address, options, now));
            }
            _ => tcp::listen(address, &options)?,
        };
        let successor = Self::new(address, options, now);
        Ok(Self { listener: Some(listener), due: None, ..successor })
    }

    /// When [`Self::poll`] has something to do.
    pub fn due(&self) -> Option<Time> {
        // What a socket unit holds is not ours to replace.
        let follows = self.options.device.is_some() && self.listener.is_some() && !self.activated;
        let look = follows.then(|| self.looked + LOOK_AGAIN);
        [self.due, look].into_iter().flatten().min()
    }

    /// Binds the port or ends a pause, if that is due. Says whether the port was bound just now.
    pub fn poll(&mut self, now: Time) -> bool {
        if self.due().is_none_or(|due| due > now) {
            return false;
        }
        self.looked = now;
        self.follow_device() || self.poll_port(now)
    }

    /// Binds the port anew if its device is another one by now.
    fn follow_device(&mut self) -> bool {
        let lost = |port: &&TcpListener| !tcp::is_on_device(port, &self.options);
        let Some(old) = self.listener.as_ref().filter(|_| !self.activated).filter(lost) else {
            if std::mem::take(&mut self.astray) {
                self.trouble.is_over();
            }
            return false;
        };
        match tcp::listen_in_place_of(old, self.address, &self.options) {
            Ok(listener) => {
                self.astray = false;
                self.trouble.is_over();
                self.take(listener);
                true
            }
            Err(error) => {
                self.astray = true;
                self.tell(&error);
                false
            }
        }
    }

    fn poll_port(&mut self, now: Time) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        self.due = None;
        if self.listener.is_some() {
            // Whether connections can be accepted again is seen by the next one.
            self.trouble.rests();
            return false;
        }
        match tcp::listen(self.address, &self.options) {
            Ok(listener) => {
                self.trouble.is_over();
                self.take(listener);
                true
            }
            Err(error) => {
                self.pause(now, BIND_AGAIN, &error);
                false
            }
        }
    }

    /// Says that the port is there, if it is.
    pub fn mention(&self) {
        if self.listener.is_some() {
            report!(messages::LISTENING, address = self.address);
        }
    }

    /// Waits for somebody to connect; for ever while that can't be.
    ///
    /// # Errors
    /// To be told to [`Self::failed`].
    pub async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        match &self.listener {
            Some(listener) if self.due.is_none() => {
                let accepted = listener.accept().await?;
                self.trouble.is_over();
                Ok(accepted)
            }
            _ => pending().await,
        }
    }

    /// A connection could not be accepted. If that was not its own fault, the next ones wait.
    pub fn failed(&mut self, now: Time, error: &io::Error) {
        if concerns_one_connection(error) {
            note!(DEBUG, "a connection ended before it was accepted", error = error);
        } else {
            self.pause(now, ACCEPT_AGAIN, error);
        }
    }

    /// The address that is listened on, or that ought to be.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What keeps the peer from connecting.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.current()
    }

    fn pause(&mut self, now: Time, pause: Duration, error: &io::Error) {
        self.due = Some(now + pause);
        self.tell(error);
    }

    fn tell(&mut self, error: &io::Error) {
        if self.trouble.failed(&error.to_string()) {
            report!(messages::LISTEN_FAILED, address = self.address, error = error);
        }
    }
}

/// Whether the next connection may well be accepted: accept(2) hands on what happened to this one
/// on the network, or what a packet filter thought of it.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::ECONNRESET
                | libc::EINTR
                | libc::EPERM
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENONET
                | libc::ETIMEDOUT
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> tcp::Options {
        tcp::Options {
            source: None,
            device: None,
            fwmark: None,
            dscp: None,
            congestion: tcp::Congestion::Default,
            unacknowledged_limit: Duration::from_secs(30),
        }
    }

    fn bound(now: Time) -> Listening {
        let mut listening = Listening::new("127.0.0.1:0".parse().unwrap(), options(), now);
        listening.poll(now);
        assert!(listening.listener.is_some());
        listening
    }

    #[tokio::test]
    async fn a_taken_port_is_tried_again_after_a_pause() {
        let now = Time::now();
        let taken = bound(now);
        let address = taken.listener.as_ref().unwrap().local_addr().unwrap();
        let mut listening = Listening::new(address, options(), now);
        listening.poll(now);
        assert!(listening.trouble().is_some_and(|trouble| trouble.contains("in use")));
        drop(taken);
        listening.poll(now + BIND_AGAIN / 2);
        assert!(listening.listener.is_none());
        listening.poll(now + BIND_AGAIN);
        assert!(listening.listener.is_some());
        assert_eq!((listening.due(), listening.trouble()), (None, None));
    }

    #[tokio::test]
    async fn a_successor_is_bound_at_once_or_waits_where_its_predecessor_waited() {
        let now = Time::now();
        let held = bound(now);
        let address = held.listener.as_ref().unwrap().local_addr().unwrap();
        fn next(present: Option<&Listening>, address: SocketAddr) -> io::Result<Listening> {
            Listening::in_place_of(present, address, options(), Time::now())
        }
        assert!(next(None, address).is_err());
        let waiting = Listening::new(address, options(), now);
        assert!(next(Some(&waiting), address).is_ok_and(|next| next.due().is_some()));
        let same = next(Some(&held), address).unwrap();
        drop(held);
        assert!(same.listener.is_some() && same.due().is_none());
        let elsewhere = "127.0.0.1:0".parse().unwrap();
        assert!(next(Some(&waiting), elsewhere).is_ok_and(|next| next.listener.is_some()));
    }

    #[tokio::test]
    async fn out_of_descriptors_it_pauses_and_keeps_the_port() {
        let now = Time::now();
        let mut listening = bound(now);
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            listening.failed(now, &io::Error::from_raw_os_error(errno));
            assert_eq!(listening.due(), Some(now + ACCEPT_AGAIN));
            assert!(listening.listener.is_some() && listening.trouble().is_some());
            listening.poll(now + ACCEPT_AGAIN);
            assert_eq!((listening.due(), listening.trouble()), (None, None));
        }
    }

    #[tokio::test]
    async fn a_connection_that_fails_by_itself_holds_up_nobody() {
        let now = Time::now();
        let mut listening = bound(now);
        for errno in [libc::ECONNABORTED, libc::EPERM, libc::EPROTO, libc::EHOSTUNREACH] {
            listening.failed(now, &io::Error::from_raw_os_error(errno));
            assert_eq!((listening.due(), listening.trouble()), (None, None));
        }
    }
}
