//! The port that the peer connects to: bound as soon as it is free, and kept from then on.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::service::messages;
use crate::service::trouble::Trouble;
use crate::time::Time;
use crate::transport::tcp;
use crate::{note, report};

/// The pause before a port that is taken is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(2);

/// The pause before connections are accepted again when the system is out of what they need.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// A port to listen on.
pub struct Listening {
    address: SocketAddr,
    options: tcp::Options,
    /// Never given up: a port below 1024 might not be had again.
    listener: Option<TcpListener>,
    due: Option<Time>,
    trouble: Trouble,
}

impl Listening {
    /// A port that [`Self::poll`] will bind.
    pub fn new(address: SocketAddr, options: tcp::Options, now: Time) -> Self {
        Self { address, options, listener: None, due: Some(now), trouble: Trouble::default() }
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
        let trouble = Trouble::default();
        Ok(Self { address, options, listener: Some(listener), due: None, trouble })
    }

    /// When [`Self::poll`] has something to do.
    pub fn due(&self) -> Option<Time> {
        self.due
    }

    /// Binds the port or ends a pause, if that is due.
    pub fn poll(&mut self, now: Time) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.due = None;
        if self.listener.is_some() {
            return;
        }
        match tcp::listen(self.address, &self.options) {
            Ok(listener) => {
                self.trouble.is_over();
                self.listener = Some(listener);
                self.mention();
            }
            Err(error) => self.pause(now, BIND_AGAIN, &error),
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
            assert_eq!(listening.due(), None);
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
