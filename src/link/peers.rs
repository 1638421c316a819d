//! Who may connect at all, decided by address before a byte is read.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// Connections that have not yet said HELLO, at the most.
const WAITING: usize = 64;

/// The same from one address.
const WAITING_PER_ADDRESS: usize = 16;

/// Why a connection is turned away unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TurnedAway {
    /// The address is none of the configured ones.
    #[error("its address is not in security.peer_addresses")]
    Address,
    /// Too many connections wait for their HELLO.
    #[error("too many connections wait for their HELLO")]
    Crowded,
}

/// The addresses that may connect, and the connections that have yet to prove anything.
#[derive(Debug)]
pub struct Peers {
    allowed: Vec<IpNet>,
    waiting: HashMap<IpAddr, usize>,
    total: usize,
}

impl Peers {
    /// Lets these prefixes in; nobody, if there are none.
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed, waiting: HashMap::new(), total: 0 }
    }

    /// A connection arrived. If it is let in, [`Self::leave`] has to follow.
    ///
    /// # Errors
    /// [`TurnedAway`]: close it without a word.
    pub fn enter(&mut self, address: IpAddr) -> Result<(), TurnedAway> {
        let address = address.to_canonical();
        if !self.allowed.iter().any(|prefix| prefix.contains(&address)) {
            return Err(TurnedAway::Address);
        }
        let here = self.waiting.get(&address).copied().unwrap_or(0);
        if self.total >= WAITING || here >= WAITING_PER_ADDRESS {
            return Err(TurnedAway::Crowded);
        }
        self.waiting.insert(address, here + 1);
        self.total += 1;
        Ok(())
    }

    /// A connection that was let in has said HELLO, or is gone.
    pub fn leave(&mut self, address: IpAddr) {
        let address = address.to_canonical();
        if let Some(here) = self.waiting.get_mut(&address) {
            *here -= 1;
            self.total -= 1;
            if *here == 0 {
                self.waiting.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers() -> Peers {
        Peers::new(vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::1/128".parse().unwrap()])
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_configured_addresses_get_in() {
        let mut peers = peers();
        assert_eq!(peers.enter(ip("192.0.2.9")), Ok(()));
        assert_eq!(peers.enter(ip("2001:db8::1")), Ok(()));
        assert_eq!(peers.enter(ip("192.0.3.1")), Err(TurnedAway::Address));
        assert_eq!(peers.enter(ip("2001:db8::2")), Err(TurnedAway::Address));
        assert_eq!(Peers::new(Vec::new()).enter(ip("192.0.2.9")), Err(TurnedAway::Address));
    }

    #[test]
    fn an_ipv4_address_on_an_ipv6_socket_is_the_same_address() {
        assert_eq!(peers().enter(ip("::ffff:192.0.2.9")), Ok(()));
    }

    #[test]
    fn one_address_cannot_take_all_places_and_places_come_back() {
        let mut peers = peers();
        for _ in 0..WAITING_PER_ADDRESS {
            assert_eq!(peers.enter(ip("192.0.2.1")), Ok(()));
        }
        assert_eq!(peers.enter(ip("192.0.2.1")), Err(TurnedAway::Crowded));
        assert_eq!(peers.enter(ip("192.0.2.2")), Ok(()));
        peers.leave(ip("192.0.2.1"));
        assert_eq!(peers.enter(ip("192.0.2.1")), Ok(()));
    }

    #[test]
    fn the_total_is_bounded_and_nothing_is_kept_of_those_who_left() {
        let mut peers = peers();
        let addresses: Vec<IpAddr> = (0..WAITING).map(|n| ip(&format!("192.0.2.{n}"))).collect();
        for address in &addresses {
            assert_eq!(peers.enter(*address), Ok(()));
        }
        assert_eq!(peers.enter(ip("192.0.2.200")), Err(TurnedAway::Crowded));
        addresses.iter().for_each(|address| peers.leave(*address));
        peers.leave(ip("192.0.2.200"));
        assert_eq!(peers.total, 0);
        assert!(peers.waiting.is_empty());
    }
}
