//! Who may connect at all, decided by address before a byte is read.
//!
//! A handshake costs memory while it lasts, and the time of a signature. Strangers share a bounded
//! number of places and a bounded rate; the address that the peer was last seen at has places and a
//! rate of its own, so that no crowd can keep it from coming back.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;

use crate::time::Time;

/// Connections of strangers that have not yet said HELLO, at the most.
const WAITING: usize = 64;

/// The same from one address, the peer's included: as many as a session may have streams.
const WAITING_PER_ADDRESS: usize = 16;

/// How often a connection may be let in when many have come. A handshake takes some 200 µs, so that
/// strangers cost 2 % of a processor at the most.
const EVERY: Duration = Duration::from_millis(10);

/// How many may come at once after a pause.
const AT_ONCE: u32 = 64;

/// Why a connection is turned away unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TurnedAway {
    /// The address is none of the configured ones.
    #[error("its address is not in security.peer_addresses")]
    Address,
    /// Too many connections have come, or wait for their HELLO.
    #[error("too many connections at a time")]
    Crowded,
}

/// The addresses that may connect, and the connections that have yet to prove anything.
///
/// The time is passed in.
#[derive(Debug)]
pub struct Peers {
    allowed: Vec<IpNet>,
    /// Where the peer was last seen.
    known: Option<IpAddr>,
    waiting: HashMap<IpAddr, usize>,
    rate_of_strangers: Rate,
    rate_of_known: Rate,
}

impl Peers {
    /// Lets these prefixes in; nobody, if there are none.
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Self {
            allowed,
            known: None,
            waiting: HashMap::new(),
            rate_of_strangers: Rate::default(),
            rate_of_known: Rate::default(),
        }
    }

    /// From now on these prefixes are let in.
    pub fn allow(&mut self, allowed: Vec<IpNet>) {
        self.allowed = allowed;
    }

    /// Whether this address is among those that are let in.
    pub fn allows(&self, address: IpAddr) -> bool {
        lists(&self.allowed, address)
    }

    /// A connection arrived. If it is let in, [`Self::leave`] has to follow.
    ///
    /// # Errors
    /// [`TurnedAway`]: close it without a word.
    pub fn enter(&mut self, address: IpAddr, now: Time) -> Result<(), TurnedAway> {
        if !self.allows(address) {
            return Err(TurnedAway::Address);
        }
        let host = host(address.to_canonical());
        let known = self.known == Some(host);
        let here = self.waiting.get(&host).copied().unwrap_or(0);
        let full = !known && self.strangers() >= WAITING;
        let rate = if known { &mut self.rate_of_known } else { &mut self.rate_of_strangers };
        if full || here >= WAITING_PER_ADDRESS || !rate.allows(now) {
            return Err(TurnedAway::Crowded);
        }
        self.waiting.insert(host, here + 1);
        Ok(())
    }

    /// A connection that was let in has said HELLO, or is gone.
    pub fn leave(&mut self, address: IpAddr) {
        let host = host(address.to_canonical());
        if let Some(here) = self.waiting.get_mut(&host) {
            *here -= 1;
            if *here == 0 {
                self.waiting.remove(&host);
            }
        }
    }

    /// The peer has proved to be at this address.
    pub fn met(&mut self, address: IpAddr) {
        self.known = Some(host(address.to_canonical()));
    }

    fn strangers(&self) -> usize {
        let known = self.known.as_ref().and_then(|known| self.waiting.get(known));
        self.waiting.values().sum::<usize>() - known.copied().unwrap_or(0)
    }
}

/// Whether an address is in one of the prefixes; an IPv4 address also as IPv6 has it.
pub fn lists(prefixes: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    prefixes.iter().any(|prefix| prefix.contains(&address))
}

/// Whoever has an IPv6 address has 2^64 of them.
fn host(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// One event [`EVERY`] so often, and [`AT_ONCE`] after a pause.
#[derive(Debug, Default)]
struct Rate {
    /// When all that has been allowed would have come at an even pace.
    even: Time,
}

impl Rate {
    fn allows(&mut self, now: Time) -> bool {
        let even = self.even.max(now);
        let allowed = even - now <= EVERY * (AT_ONCE - 1);
        if allowed {
            self.even = even + EVERY;
        }
        allowed
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

    /// Long enough after boot for any pause.
    const NOW: Time = Time::since_boot(Duration::from_secs(1000));

    fn anybody() -> Peers {
        Peers::new(vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()])
    }

    #[test]
    fn only_configured_addresses_get_in() {
        let mut peers = peers();
        assert_eq!(peers.enter(ip("192.0.2.9"), NOW), Ok(()));
        assert_eq!(peers.enter(ip("2001:db8::1"), NOW), Ok(()));
        assert_eq!(peers.enter(ip("192.0.3.1"), NOW), Err(TurnedAway::Address));
        assert_eq!(peers.enter(ip("2001:db8::2"), NOW), Err(TurnedAway::Address));
        let nobody = Peers::new(Vec::new()).enter(ip("192.0.2.9"), NOW);
        assert_eq!(nobody, Err(TurnedAway::Address));
    }

    #[test]
    fn other_addresses_get_in_when_others_are_configured_and_places_stay_taken() {
        let mut peers = peers();
        for _ in 0..WAITING_PER_ADDRESS {
            assert_eq!(peers.enter(ip("192.0.2.9"), NOW), Ok(()));
        }
        peers.allow(vec!["192.0.2.9/32".parse().unwrap()]);
        assert_eq!(peers.enter(ip("192.0.2.8"), NOW), Err(TurnedAway::Address));
        assert_eq!(peers.enter(ip("192.0.2.9"), NOW), Err(TurnedAway::Crowded));
        assert!(peers.allows(ip("::ffff:192.0.2.9")) && !peers.allows(ip("2001:db8::1")));
    }

    #[test]
    fn an_ipv4_address_on_an_ipv6_socket_is_the_same_address() {
        assert_eq!(peers().enter(ip("::ffff:192.0.2.9"), NOW), Ok(()));
    }

    #[test]
    fn one_address_cannot_take_all_places_and_places_come_back() {
        let mut peers = peers();
        for _ in 0..WAITING_PER_ADDRESS {
            assert_eq!(peers.enter(ip("192.0.2.1"), NOW), Ok(()));
        }
        assert_eq!(peers.enter(ip("192.0.2.1"), NOW), Err(TurnedAway::Crowded));
        assert_eq!(peers.enter(ip("192.0.2.2"), NOW), Ok(()));
        peers.leave(ip("192.0.2.1"));
        assert_eq!(peers.enter(ip("192.0.2.1"), NOW), Ok(()));
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one() {
        let mut peers = anybody();
        for n in 0..WAITING_PER_ADDRESS {
            assert_eq!(peers.enter(ip(&format!("2001:db8::{n:x}")), NOW), Ok(()));
        }
        assert_eq!(peers.enter(ip("2001:db8::ffff"), NOW), Err(TurnedAway::Crowded));
        assert_eq!(peers.enter(ip("2001:db8:0:1::1"), NOW), Ok(()));
    }

    #[test]
    fn the_total_is_bounded_and_nothing_is_kept_of_those_who_left() {
        let mut peers = peers();
        let addresses: Vec<IpAddr> = (0..WAITING).map(|n| ip(&format!("192.0.2.{n}"))).collect();
        for address in &addresses {
            assert_eq!(peers.enter(*address, NOW), Ok(()));
        }
        let later = NOW + EVERY;
        assert_eq!(peers.enter(ip("192.0.2.200"), later), Err(TurnedAway::Crowded));
        addresses.iter().for_each(|address| peers.leave(*address));
        peers.leave(ip("192.0.2.200"));
        assert!(peers.waiting.is_empty());
        assert_eq!(peers.enter(ip("192.0.2.200"), later), Ok(()));
    }

    #[test]
    fn those_who_come_and_go_are_bounded_in_rate() {
        let mut peers = anybody();
        let mut let_in = 0;
        for millisecond in 0..10_000 {
            let now = NOW + Duration::from_millis(millisecond);
            let address = ip(&format!("192.0.2.{}", millisecond % 256));
            if peers.enter(address, now).is_ok() {
                peers.leave(address);
                let_in += 1;
            }
        }
        assert_eq!(let_in, 10_000 / 10 + AT_ONCE - 1);
    }

    #[test]
    fn the_peer_comes_back_through_any_crowd() {
        let mut peers = anybody();
        peers.met(ip("192.0.2.1"));
        while (0..=255).any(|n| peers.enter(ip(&format!("198.51.100.{n}")), NOW).is_ok()) {}
        for _ in 0..WAITING_PER_ADDRESS {
            assert_eq!(peers.enter(ip("192.0.2.1"), NOW), Ok(()));
        }
        assert_eq!(peers.enter(ip("192.0.2.1"), NOW), Err(TurnedAway::Crowded));
        // A new address is a stranger's again, and the old one counts among them.
        peers.met(ip("192.0.2.2"));
        assert_eq!(peers.strangers(), WAITING + WAITING_PER_ADDRESS);
        assert_eq!(peers.enter(ip("192.0.2.2"), NOW + EVERY), Ok(()));
    }
}
