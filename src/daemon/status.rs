//! The one line that `systemctl status` shows, computed anew from what is.

use std::fmt;
use std::net::SocketAddr;

use crate::config::Endpoint;

/// What an admin wants to know at a glance.
#[derive(Debug, Clone, Copy, Default)]
pub struct State<'a> {
    /// The session, while it is up.
    pub connected: Option<Connected>,
    /// Why there is no session: why the last attempt failed, or why the last session ended.
    pub disconnected: Option<&'a str>,
    /// Where the peer is dialled.
    pub endpoint: Option<&'a Endpoint>,
    /// Where the peer is waited for.
    pub listen: Option<SocketAddr>,
    /// Why it can't connect there.
    pub cannot_listen: Option<&'a str>,
    /// What is wrong with the interface.
    pub interface_trouble: Option<&'a str>,
}

/// A session that is up.
#[derive(Debug, Clone, Copy)]
pub struct Connected {
    /// The peer's address.
    pub peer: SocketAddr,
    /// Streams that are up.
    pub live: usize,
    /// Streams that both ends are ready for.
    pub agreed: u8,
}

impl fmt::Display for State<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.connected, self.disconnected, self.endpoint, self.listen) {
            (Some(connected), ..) => write!(f, "{connected}")?,
            (None, Some(reason), ..) => write!(f, "not connected: {reason}")?,
            (None, None, Some(endpoint), _) => write!(f, "connecting to {endpoint}")?,
            (None, None, None, Some(address)) => write!(f, "waiting for the peer on {address}")?,
            (None, None, None, None) => write!(f, "not connected")?,
        }
        if let (Some(address), Some(trouble)) = (self.listen, self.cannot_listen) {
            write!(f, "; cannot listen on {address}: {trouble}")?;
        }
        if let Some(trouble) = self.interface_trouble {
            write!(f, "; interface incomplete: {trouble}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, live, agreed } = self;
        match (*live, *agreed) {
            (1, 1) => write!(f, "connected to {peer}, 1 stream"),
            (live, agreed) if live == usize::from(agreed) => {
                write!(f, "connected to {peer}, {live} streams")
            }
            _ => write!(f, "connected to {peer}, {live} of {agreed} streams"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(live: usize, agreed: u8) -> State<'static> {
        let peer = "172.16.2.163:4641".parse().unwrap();
        State { connected: Some(Connected { peer, live, agreed }), ..State::default() }
    }

    #[test]
    fn streams_that_are_missing_are_told_of() {
        for (live, agreed, line) in [
            (1, 1, "connected to 172.16.2.163:4641, 1 stream"),
            (4, 4, "connected to 172.16.2.163:4641, 4 streams"),
            (1, 4, "connected to 172.16.2.163:4641, 1 of 4 streams"),
            (0, 1, "connected to 172.16.2.163:4641, 0 of 1 streams"),
        ] {
            assert_eq!(connected(live, agreed).to_string(), line);
        }
    }

    #[test]
    fn without_a_session_it_says_why_or_what_is_done_about_it() {
        let endpoint = Endpoint { host: "vm3.example".into(), port: 4641 };
        let listen = Some("172.16.2.131:4641".parse().unwrap());
        let waiting = State { listen, ..State::default() };
        assert_eq!(waiting.to_string(), "waiting for the peer on 172.16.2.131:4641");
        let dialling = State { endpoint: Some(&endpoint), ..waiting };
        assert_eq!(dialling.to_string(), "connecting to vm3.example:4641");
        let failed = State { disconnected: Some("timed out"), ..dialling };
        assert_eq!(failed.to_string(), "not connected: timed out");
    }

    #[test]
    fn what_is_wrong_stays_beside_what_is_right() {
        let state = State {
            listen: Some("172.16.2.131:4641".parse().unwrap()),
            cannot_listen: Some("Address already in use"),
            interface_trouble: Some("route 10.0.0.0/8: no"),
            ..connected(4, 4)
        };
        assert_eq!(
            state.to_string(),
            "connected to 172.16.2.163:4641, 4 streams; \
             cannot listen on 172.16.2.131:4641: Address already in use; \
             interface incomplete: route 10.0.0.0/8: no"
        );
    }
}
