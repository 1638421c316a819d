//! Which of several endpoints an attempt to connect begins with.
//!
//! All of them lead to the same peer. An attempt begins with the one that worked last, or with the
//! first where none has. One that came to nothing is followed by one that begins behind where it
//! ended, so that an endpoint that swallows all the time there is keeps nobody from the others. A
//! stream that stalls is replaced by way of the next endpoint first; where it has but one, by way
//! of another address of that.

use std::net::SocketAddr;

use crate::config::Endpoint;

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
    /// To be tried after all other addresses of its endpoint.
    stalled: Option<SocketAddr>,
}

impl Order {
    /// The endpoints, each once.
    pub fn endpoints_in_turn(&self) -> impl Iterator<Item = &Endpoint> {
        let (behind, first) = self.endpoints.split_at(self.begin);
        first.iter().chain(behind)
    }

    /// Puts the addresses of one endpoint into order; those that nothing is known of stay in theirs.
    pub fn sort(&self, addresses: &mut [SocketAddr]) {
        addresses
            .sort_by_key(|address| (self.stalled == Some(*address), self.worked != Some(*address)));
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
        Order { endpoints: endpoints.to_vec(), begin, worked, stalled: known.stalled }
    }

    /// The peer has answered an attempt for this stream.
    pub fn worked(&mut self, stream: u8, way: Way) {
        for known in &mut self.streams {
            (known.behind, known.stalled) = (None, None);
        }
        if let Some(known) = self.streams.get_mut(usize::from(stream)) {
            known.way = Some(way.clone());
        }
        self.worked = Some(way);
    }

    /// An attempt for this stream came to nothing; this endpoint was the last that it tried.
    pub fn failed(&mut self, stream: u8, last: Endpoint) {
        if let Some(known) = self.streams.get_mut(usize::from(stream)) {
            known.behind = Some(last);
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
        if let Some(known) = self.streams.get_mut(usize::from(stream)) {
            (known.behind, known.stalled) = (None, None);
        }
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
            ways.failed(0, way(failed, "192.0.2.1:1").endpoint);
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
        ways.failed(0, way("a", "192.0.2.1:1").endpoint);
        assert_eq!(sorted(&ways), [first, third, second], "it has not been heard since");
    }

    #[test]
    fn a_stall_before_anything_was_dialled_changes_nothing() {
        let mut ways = Ways::new(1);
        ways.stalled(0);
        ways.stalled(9);
        assert_eq!(order(&ways, 0, &ABC), "abc");
    }
}
