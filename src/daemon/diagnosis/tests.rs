use super::*;
use crate::time::Time;
use std::time::Duration;

const PEER: &str = "172.16.2.163:4641";

fn peer() -> SocketAddr {
    PEER.parse().unwrap()
}

fn at(second: u64) -> Time {
    Time::since_boot(Duration::from_secs(second))
}

fn kinds(history: &History) -> Vec<(Time, Kind)> {
    history.problems().map(|(since, problem)| (since, problem.kind)).collect()
}

#[test]
fn the_end_that_is_too_old_is_the_one_to_update() {
    let old = version(peer(), &(1..=1), &(2..=3));
    assert!(
        old.text.ends_with(
            "version 1 of the protocol, this end 2 to 3: the peer's tunnel64d is too old"
        )
    );
    assert!(old.remedy.starts_with("Update tunnel64d there"));
    let new = version(peer(), &(2..=3), &(1..=1));
    assert!(new.text.ends_with("this tunnel64d is too old"), "{}", new.text);
    assert!(new.remedy.starts_with("Update tunnel64d here"));
}

#[test]
fn a_problem_is_as_old_as_its_first_failure_and_gone_with_a_session() {
    let refused = || {
        of(&Failure::Connect { address: peer(), source: io::ErrorKind::ConnectionRefused.into() })
    };
    let silent =
        || of(&Failure::Connect { address: peer(), source: io::ErrorKind::TimedOut.into() });
    let mut history = History::default();
    history.dial_failed(at(1), refused());
    history.dial_failed(at(2), refused());
    assert_eq!(kinds(&history), [(at(1), Kind::Refused)]);
    history.dial_failed(at(3), silent());
    assert_eq!(kinds(&history), [(at(3), Kind::NoAnswer)]);
    history.session_up();
    assert_eq!(kinds(&history), []);
    assert_eq!(history.last(), Some((at(3), "no answer from 172.16.2.163:4641")));
}

#[test]
fn a_stranger_beside_a_session_is_no_error_of_the_tunnel() {
    let mut history = History::default();
    history.session_up();
    history.turned_away(at(1), of_address(peer(), "no"));
    assert_eq!((kinds(&history), history.last()), (vec![], None));
    history.session_down(at(2), "timed out");
    history.turned_away(at(3), of_address(peer(), "no"));
    assert_eq!(kinds(&history), [(at(3), Kind::TurnedAway)]);
}

#[test]
fn several_endpoints_are_told_of_but_not_any_number() {
    let name = |n: usize| Failure::Name {
        name: format!("vm{n}.example"),
        source: io::Error::other("failed to lookup address information: Name or service not known"),
    };
    let problems = of(&Failure::All((0..9).map(name).collect()));
    assert_eq!(problems.len(), MOST);
    assert_eq!(problems[1].text, "vm1.example does not resolve: Name or service not known");
    let inner = Box::new(Failure::OtherFrame);
    let [wrapped] = &of(&Failure::Dialled { address: peer(), failure: inner })[..] else {
        panic!("one problem")
    };
    assert_eq!(wrapped.text, format!("{PEER}: the first frame is no HELLO"));
}

#[test]
fn errors_of_the_kernel_lose_their_numbers_only() {
    assert_eq!(plain("route x: File exists (os error 17); next"), "route x: File exists; next");
    assert_eq!(plain("timed out"), "timed out");
}
