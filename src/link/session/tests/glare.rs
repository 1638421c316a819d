//! Both ends dial.

use super::*;

#[test]
fn of_two_sessions_the_smaller_dialler_wins_at_both_ends() {
    for (end, wins) in [(1, true), (9, false)] {
        let mut session = session(true, end, end, 1, at(0));
        let ours = dial(&session.poll(at(0)));
        session.dialled(at(1), ours.attempt, 1, &hello(5, ours.session, 0), identity(5)).unwrap();
        let theirs = session.accepted(at(2), 2, &hello(5, THEIRS, 0), identity(5));
        if wins {
            assert_eq!(theirs.unwrap_err(), Reason::Glare);
            assert_eq!(session.id(), Some(ours.session));
        } else {
            assert!(theirs.is_ok());
            assert_eq!(session.id(), Some(THEIRS));
        }
    }
}

/// Two ends that have both dialled, and have both taken the other's call: the smaller one, its
/// attempt, the larger one, its attempt. The connection that the smaller one dialled is 1, the
/// other one 2.
fn glare() -> [(Session, Dial); 2] {
    let (mut smaller, mut larger) = (session(true, 1, 1, 2, at(0)), session(true, 9, 9, 2, at(0)));
    let (ours, theirs) = (dial(&smaller.poll(at(0))), dial(&larger.poll(at(0))));
    for (end, id, from, call) in [(&mut larger, 1, 1, ours), (&mut smaller, 2, 9, theirs)] {
        let hello = hello(from, call.session, 0);
        let (_, actions) = end.accepted(at(50), id, &hello, identity(from)).unwrap();
        assert!(matches!(actions[..], [Action::Up(_)]));
        assert_eq!((end.poll(at(50)), end.next_poll()), (vec![], None));
    }
    [(smaller, ours), (larger, theirs)]
}

#[test]
fn of_two_calls_that_cross_the_smaller_diallers_is_kept_if_it_is_answered_first() {
    let [(mut smaller, ours), (mut larger, theirs)] = glare();
    let reply = hello(9, ours.session, 0);
    let actions = smaller.dialled(at(100), ours.attempt, 1, &reply, identity(9)).unwrap();
    let close = Action::Close(2, Reason::Superseded);
    assert!(matches!(&actions[..], [first, Action::Down, Action::Up(_)] if *first == close));
    let reply = hello(1, theirs.session, 0);
    let given_up = larger.dialled(at(101), theirs.attempt, 2, &reply, identity(1));
    assert_eq!(given_up, Err(Reason::Glare));
    assert_eq!((smaller.id(), smaller.stream(0)), (Some(ours.session), Some(1)));
    assert_eq!((larger.id(), larger.stream(0)), (Some(ours.session), Some(1)));
    assert_eq!((larger.poll(at(9999)), larger.next_poll()), (vec![], None));
}

#[test]
fn of_two_calls_that_cross_the_smaller_diallers_is_kept_if_it_is_answered_last() {
    let [(mut smaller, ours), (mut larger, theirs)] = glare();
    let reply = hello(1, theirs.session, 0);
    let given_up = larger.dialled(at(100), theirs.attempt, 2, &reply, identity(1));
    assert_eq!(given_up, Err(Reason::Glare));
    assert_eq!(smaller.stream_down(at(101), 2), [Action::Down]);
    assert_eq!((smaller.poll(at(101)), smaller.next_poll()), (vec![], None));
    let reply = hello(9, ours.session, 0);
    let actions = smaller.dialled(at(102), ours.attempt, 1, &reply, identity(9)).unwrap();
    assert!(matches!(actions[..], [Action::Up(_)]));
    assert_eq!((smaller.id(), smaller.stream(0)), (Some(ours.session), Some(1)));
    assert_eq!((larger.id(), larger.stream(0)), (Some(ours.session), Some(1)));
}

#[test]
fn a_call_that_crosses_another_and_fails_leaves_the_peers_session_alone() {
    let [(mut smaller, ours), (mut larger, theirs)] = glare();
    for (end, call) in [(&mut smaller, ours), (&mut larger, theirs)] {
        let id = end.id();
        end.dial_failed(at(100), call.attempt);
        assert_eq!((end.poll(at(9999)), end.next_poll(), end.id()), (vec![], None, id));
    }
}
