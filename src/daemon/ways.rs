//! Which of several endpoints an attempt to connect begins with.
//!
//! All of them lead to the same peer. An attempt begins with the one that worked last, or with the
//! first where none has. One that came to nothing is followed by one that begins behind where it
//! ended, so that an endpoint that swallows all the time there is keeps nobody from the others. A
//! stream that stalls is replaced by way of the next endpoint first; where it has but one, by way
//! of another address of that. Of an endpoint's addresses the one that failed longest ago comes
//! first, behind those that have not failed at all: an attempt may have no time for all of them.

use std::net::SocketAddr;

use crate::config::Endpoint;

/// Addresses that are remembered to have failed.
const MOST_FAILED: usize = 64;

/// One way to the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Where the peer may be found.
    pub endpoint: Endpoint,
    /// The address that this led to.
    pub address: SocketAddr,
}

/// The endpoints in the order in which one attempt tries them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// All of them, as configured.
    pub endpoints: Vec<Endpoint>,
    /// The index of the one that comes first.
    begin: usize,
    /// To be tried before other addresses of its endpoint.
    worked: Option<SocketAddr>,
    /// To be tried after all other addresses of its endpoint that have not failed.
    stalled: Option<SocketAddr>,
    /// To be tried after those, in this order.
    failed: Vec<SocketAddr>,
}

impl Order {
    /// The endpoints, each once.
    pub fn endpoints_in_turn(&self) -> impl Iterator<Item = &Endpoint> {
        let (behind, first) = self.endpoints.split_at(self.begin);
        first.iter().chain(behind)
    }

    /// Puts the addresses of one endpoint into order; those that nothing is known of stay in theirs.
    pub fn sort(&self, addresses: &mut [SocketAddr]) {
        addresses.sort_by_key(|address| {
            let failed = self.failed.iter().position(|other| other == address);
            (failed, self.stalled == Some(*address), self.worked != Some(*address))
        });
    }
}

/// What is remembered of the ways to the peer.
#[derive(Debug, Default)]
pub struct Ways {
    worked: Option<Way>,
    /// By the index of the stream.
    streams: Vec<Known>,
}

/// What is known of one stream.
#[derive(Debug, Default, Clone)]
struct Known {
    /// How it was dialled last.
    way: Option<Way>,
    /// Attempts begin behind this endpoint.
    behind: Option<Endpoint>,
    /// Where it stalled.
    stalled: Option<SocketAddr>,
    /// Addresses that have failed since it was heard, the one that failed last at the end.
    failed: Vec<SocketAddr>,
}

impl Known {
    /// There is a way that works.
    fn forgive(&mut self) {
        (self.behind, self.stalled) = (None, None);
        self.failed.clear();
    }
}

impl Ways {
    /// Nothing is known of the ways of so many streams.
    pub fn new(streams: usize) -> Self {
        Self { worked: None, streams: vec![Known::default(); streams] }
    }

    /// The order of the next attempt for a stream, of the endpoints that are configured now.
    pub fn order(&self, stream: u8, endpoints: &[Endpoint]) -> Order {
        let known = self.streams.get(usize::from(stream)).cloned().unwrap_or_default();
        let place = |endpoint: &Endpoint| endpoints.iter().position(|other| other == endpoint);
        let behind = known.behind.as_ref().and_then(place).map(|last| last + 1);
        let worked = || self.worked.as_ref().and_then(|way| place(&way.endpoint));
        let begin = behind.or_else(worked).unwrap_or(0);
        let begin = begin % endpoints.len().max(1);
        let worked = self.worked.as_ref().map(|way| way.address);
        let Known { stalled, failed, .. } = known;
        Order { endpoints: endpoints.to_vec(), begin, worked, stalled, failed }
    }

    /// The peer has answered an attempt for this stream.
    pub fn worked(&mut self, stream: u8, way: Way) {
        self.streams.iter_mut().for_each(Known::forgive);
        if let Some(known) = self.streams.get_mut(usize::from(stream)) {
            known.way = Some(way.clone());
        }
        self.worked = Some(way);
    }

    /// An attempt for this stream came to nothing; this endpoint was the last that it tried, and
    /// these are the addresses, in its order.
    pub fn failed(&mut self, stream: u8, last: Endpoint, addresses: &[SocketAddr]) {
        if let Some(known) = self.streams.get_mut(usize::from(stream)) {
            known.behind = Some(last);
            known.failed.retain(|address| !addresses.contains(address));
            known.failed.extend(addresses);
            let too_many = known.failed.len().saturating_sub(MOST_FAILED);
            known.failed.drain(..too_many);
        }
    }

    /// The stream has stalled, which was dialled from here.
    pub fn stalled(&mut self, stream: u8) {
        let Some(known) = self.streams.get_mut(usize::from(stream)) else { return };
        if let Some(Way { endpoint, address }) = known.way.clone() {
            (known.behind, known.stalled) = (Some(endpoint), Some(address));
        }
    }

    /// The stream has been heard again.
    pub fn recovered(&mut self, stream: u8) {
        self.streams.get_mut(usize::from(stream)).map(Known::forgive);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(names: &[&str]) -> Vec<Endpoint> {
        names.iter().map(|name| Endpoint { host: (*name).to_owned(), port: 1 }).collect()
    }

    fn way(name: &str, address: &str) -> Way {
        let [endpoint] = endpoints(&[name]).try_into().unwrap();
        Way { endpoint, address: address.parse().unwrap() }
    }

    /// The names in the order of the next attempt.
    fn order(ways: &Ways, stream: u8, names: &[&str]) -> String {
        let order = ways.order(stream, &endpoints(names));
        order.endpoints_in_turn().map(|endpoint| endpoint.host.as_str()).collect()
    }

    const ABC: [&str; 3] = ["a", "b", "c"];

    #[test]
    fn what_worked_last_comes_first_for_every_stream_and_the_first_where_nothing_has() {
        let mut ways = Ways::new(2);
        assert_eq!(order(&ways, 0, &ABC), "abc");
        ways.worked(0, way("b", "192.0.2.2:1"));
        assert_eq!((order(&ways, 0, &ABC), order(&ways, 1, &ABC)), ("bca".into(), "bca".into()));
        assert_eq!(order(&ways, 1, &["a", "c"]), "ac", "it is no longer configured");
        assert_eq!(order(&ways, 1, &[]), "");
    }

    #[test]
    fn a_failure_is_followed_by_the_endpoint_behind_it_until_one_works() {
        let mut ways = Ways::new(2);
        for (failed, next) in [("a", "bca"), ("b", "cab"), ("c", "abc"), ("b", "cab")] {
            ways.failed(0, way(failed, "192.0.2.1:1").endpoint, &[]);
            assert_eq!(order(&ways, 0, &ABC), next);
            assert_eq!(order(&ways, 1, &ABC), "abc", "another stream's failure");
        }
        ways.worked(1, way("a", "192.0.2.1:1"));
        assert_eq!(order(&ways, 0, &ABC), "abc");
    }

    #[test]
    fn a_stalled_stream_tries_the_next_endpoint_first_and_one_that_recovered_its_own() {
        let mut ways = Ways::new(1);
        ways.worked(0, way("a", "192.0.2.1:1"));
        ways.stalled(0);
        assert_eq!(order(&ways, 0, &ABC), "bca");
        ways.recovered(0);
        assert_eq!(order(&ways, 0, &ABC), "abc");
        ways.worked(0, way("c", "192.0.2.3:1"));
        ways.stalled(0);
        assert_eq!(order(&ways, 0, &ABC), "abc");
        ways.worked(0, way("b", "192.0.2.2:1"));
        assert_eq!(order(&ways, 0, &ABC), "bca");
    }

    #[test]
    fn of_one_name_the_address_that_worked_comes_first_and_the_one_that_stalled_last() {
        let addresses = ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"].map(|a| a.parse().unwrap());
        let mut ways = Ways::new(1);
        let sorted = |ways: &Ways| {
            let mut sorted = addresses;
            ways.order(0, &endpoints(&["a"])).sort(&mut sorted);
            sorted
        };
        let [first, second, third] = addresses;
        assert_eq!(sorted(&ways), addresses);
        ways.worked(0, way("a", "192.0.2.2:1"));
        assert_eq!(sorted(&ways), [second, first, third]);
        ways.stalled(0);
        assert_eq!(sorted(&ways), [first, third, second]);
        ways.failed(0, way("a", "192.0.2.1:1").endpoint, &[]);
        assert_eq!(sorted(&ways), [first, third, second], "it has not been heard since");
    }

    /// The addresses of one name in the order of the next attempt, by their last number.
    fn addresses(ways: &Ways, most: u8) -> Vec<SocketAddr> {
        let mut sorted: Vec<_> =
            (1..=most).map(|n| SocketAddr::from(([192, 0, 2, n], 1))).collect();
        ways.order(0, &endpoints(&["a"])).sort(&mut sorted);
        sorted
    }

    #[test]
    fn attempts_that_have_no_time_for_all_addresses_of_a_name_try_each_in_its_turn() {
        let mut ways = Ways::new(1);
        let Way { endpoint, address: stalled } = way("a", "192.0.2.1:1");
        ways.worked(0, Way { endpoint: endpoint.clone(), address: stalled });
        ways.stalled(0);
        let mut tried = Vec::new();
        for _ in 0..5 {
            let two = &addresses(&ways, 5)[..2];
            ways.failed(0, endpoint.clone(), two);
            tried.extend(two.iter().map(|address| address.to_string().as_bytes()[8] - b'0'));
        }
        assert_eq!(tried, [2, 3, 4, 5, 1, 2, 3, 4, 5, 1]);
        ways.recovered(0);
        assert_eq!(addresses(&ways, 2)[0], stalled, "that is over");
    }

    #[test]
    fn a_name_with_other_addresses_each_time_is_not_remembered_for_ever() {
        let mut ways = Ways::new(1);
        let Way { endpoint, .. } = way("a", "192.0.2.1:1");
        for address in addresses(&ways, 200) {
            ways.failed(0, endpoint.clone(), &[address]);
        }
        assert_eq!(ways.streams[0].failed.len(), MOST_FAILED);
        let last = addresses(&ways, 200).pop();
        assert_eq!(last, Some(SocketAddr::from(([192, 0, 2, 200], 1))));
    }

    #[test]
    fn a_stall_before_anything_was_dialled_changes_nothing() {
        let mut ways = Ways::new(1);
        ways.stalled(0);
        ways.stalled(9);
        assert_eq!(order(&ways, 0, &ABC), "abc");
    }
}
