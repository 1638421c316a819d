//! One end and what it is told, in virtual time.

mod glare;
mod world;

use super::attempts::{PATIENCE_STALLED, PAUSE_RESTART, PAUSE_STALLED};
use super::*;
use crate::wire::hello::Instance;

fn at(milliseconds: u64) -> Time {
    Time::since_boot(Duration::from_millis(milliseconds))
}

fn ours(instance: u8, streams: u8) -> Ours {
    Ours {
        streams,
        instance: Instance([instance; 16]),
        features: 0,
        mtu: 1500,
        keepalive: Duration::from_secs(10),
        max_packet: 65_575,
    }
}

fn identity(byte: u8) -> Identity {
    Identity([byte; 32])
}

fn session(dials: bool, end: u8, instance: u8, streams: u8, now: Time) -> Session {
    Session::new(parameters(dials, end, instance, streams), now)
}

fn parameters(dials: bool, end: u8, instance: u8, streams: u8) -> Parameters {
    let mut named = 0;
    let name = move || {
        named += 1;
        let mut id = [end; 16];
        id[1] = instance;
        id[2] = named;
        SessionId(id)
    };
    Parameters {
        dials,
        identity: identity(end),
        ours: ours(instance, streams),
        reconnect_min: Duration::from_millis(200),
        reconnect_max: Duration::from_secs(5),
        seed: u64::from(instance),
        name: Box::new(name),
    }
}

fn hello(instance: u8, session: SessionId, stream: u8) -> Hello {
    ours(instance, 4).hello(session, stream)
}

fn dial(actions: &[Action]) -> Dial {
    match actions {
        [Action::Dial(dial)] => *dial,
        other => panic!("expected one dial, got {other:?}"),
    }
}

const THEIRS: SessionId = SessionId([77; 16]);

#[test]
fn a_dialled_session_goes_on_to_dial_its_other_streams() {
    let mut session = session(true, 1, 1, 3, at(0));
    let first = dial(&session.poll(at(0)));
    assert_eq!((first.stream, session.next_poll()), (0, None));
    let reply = hello(2, first.session, 0);
    let actions = session.dialled(at(1), first.attempt, 10, &reply, identity(2)).unwrap();
    assert!(matches!(actions[..], [Action::Up(ref agreed)] if agreed.streams == 3));
    let more: Vec<u8> = session
        .poll(at(1))
        .iter()
        .map(|action| match action {
            Action::Dial(dial) => dial.stream,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(more, [1, 2]);
}

#[test]
fn new_parameters_leave_the_session_up_with_the_mtu_that_both_ends_allow() {
    let mut session = session(false, 1, 1, 1, at(0));
    session.accepted(at(0), 1, &hello(2, THEIRS, 0), identity(2)).unwrap();
    for (ours, effective) in [(1400, 1400), (9000, 1500)] {
        let mut parameters = parameters(false, 1, 1, 7);
        parameters.ours.mtu = ours;
        session.reconfigure(parameters);
        assert_eq!(session.stream(0), Some(1));
        assert_eq!(
            session.agreed().map(|agreed| (agreed.mtu, agreed.streams)),
            Some((effective, 1))
        );
        let (reply, _) = session.accepted(at(1), 1, &hello(2, THEIRS, 0), identity(2)).unwrap();
        assert_eq!((reply.mtu, reply.streams), (ours, 1));
    }
}

#[test]
fn after_new_parameters_a_pause_ends_and_the_next_ones_heed_the_new_bounds() {
    let mut session = session(true, 1, 1, 1, at(0));
    for _ in 0..20 {
        let first = dial(&session.poll(at(100_000)));
        session.dial_failed(at(0), first.attempt);
    }
    let mut parameters = parameters(true, 1, 1, 1);
    (parameters.reconnect_min, parameters.reconnect_max) =
        (Duration::from_millis(1), Duration::from_millis(2));
    session.reconfigure(parameters);
    session.start_over(at(50));
    for _ in 0..20 {
        let again = dial(&session.poll(at(50)));
        assert_eq!(session.next_poll(), None);
        session.dial_failed(at(48), again.attempt);
        assert!(session.next_poll().is_some_and(|next| next <= at(50)));
    }
    // One that is given up is not waited for, and its end is no news.
    let given_up = dial(&session.poll(at(50)));
    session.start_over(at(60));
    assert_eq!(session.next_poll(), Some(at(60)));
    session.dial_failed(at(61), given_up.attempt);
    assert_eq!(session.next_poll(), Some(at(60)));
}

#[test]
fn a_listening_end_never_dials() {
    let mut session = session(false, 1, 1, 4, at(0));
    assert_eq!(session.poll(at(1000)), []);
    assert_eq!(session.next_poll(), None);
}

#[test]
fn streams_join_the_session_they_name_and_no_other() {
    let mut session = session(false, 1, 1, 2, at(0));
    let unknown = session.accepted(at(0), 1, &hello(2, THEIRS, 1), identity(2));
    assert_eq!(unknown.unwrap_err(), Reason::UnknownSession);
    assert!(session.accepted(at(0), 2, &hello(2, THEIRS, 0), identity(2)).is_ok());
    let (_, actions) = session.accepted(at(0), 3, &hello(2, THEIRS, 1), identity(2)).unwrap();
    assert_eq!(actions, []);
    let beyond = session.accepted(at(0), 4, &hello(2, THEIRS, 2), identity(2));
    assert_eq!(beyond.unwrap_err(), Reason::UnknownSession);
    assert_eq!((session.stream(0), session.stream(1)), (Some(2), Some(3)));
}

#[test]
fn a_stream_that_comes_twice_replaces_the_first() {
    let mut session = session(false, 1, 1, 2, at(0));
    session.accepted(at(0), 1, &hello(2, THEIRS, 0), identity(2)).unwrap();
    let (_, actions) = session.accepted(at(1), 2, &hello(2, THEIRS, 0), identity(2)).unwrap();
    assert_eq!(actions, [Action::Close(1, Reason::Superseded)]);
    assert_eq!(session.stream_down(at(2), 1), []);
    assert!(session.down_since().is_none());
    assert_eq!(session.stream_down(at(3), 2), [Action::Down]);
    assert_eq!(session.down_since(), Some(at(3)));
}

#[test]
fn a_new_session_from_the_peer_replaces_the_old_one() {
    let mut session = session(false, 1, 1, 1, at(0));
    session.accepted(at(0), 1, &hello(2, THEIRS, 0), identity(2)).unwrap();
    let newer = hello(3, SessionId([78; 16]), 0);
    let (reply, actions) = session.accepted(at(1), 2, &newer, identity(2)).unwrap();
    assert_eq!(reply.session, newer.session);
    assert!(matches!(
        actions[..],
        [Action::Close(1, Reason::Superseded), Action::Down, Action::Up(_)]
    ));
}

#[test]
fn our_own_call_is_recognised() {
    let mut session = session(true, 1, 1, 1, at(0));
    let refused = session.accepted(at(0), 1, &hello(1, THEIRS, 0), identity(1));
    assert_eq!(refused.unwrap_err(), Reason::Myself);
}

#[test]
fn a_peer_that_restarted_or_can_no_longer_be_heard_is_let_in_against_the_rule() {
    for stalled in [false, true] {
        let mut session = session(true, 1, 1, 1, at(0));
        let ours = dial(&session.poll(at(0)));
        session.dialled(at(1), ours.attempt, 1, &hello(5, ours.session, 0), identity(5)).unwrap();
        if stalled {
            session.stalled(at(2), 1);
        }
        let instance = if stalled { 5 } else { 6 };
        assert!(session.accepted(at(3), 2, &hello(instance, THEIRS, 0), identity(5)).is_ok());
    }
}

#[test]
fn a_stalled_stream_is_replaced_without_being_given_up_first() {
    let mut session = session(true, 1, 1, 1, at(0));
    let first = dial(&session.poll(at(0)));
    session.dialled(at(1), first.attempt, 1, &hello(5, first.session, 0), identity(5)).unwrap();
    assert_eq!(session.poll(at(2)), []);
    session.stalled(at(3), 1);
    let second = dial(&session.poll(at(3)));
    assert_eq!((second.session, second.patience), (first.session, PATIENCE_STALLED));
    session.dial_failed(at(4), second.attempt);
    assert!(session.next_poll().unwrap() <= at(4) + PAUSE_STALLED);
    let third = dial(&session.poll(at(5000)));
    let reply = hello(5, third.session, 0);
    let actions = session.dialled(at(5001), third.attempt, 2, &reply, identity(5)).unwrap();
    assert_eq!(actions, [Action::Close(1, Reason::Superseded)]);
    assert_eq!(session.poll(at(99_000)), []);
}

#[test]
fn a_stalled_stream_that_the_peer_closes_first_does_not_end_the_session() {
    let mut session = session(true, 1, 1, 1, at(0));
    let first = dial(&session.poll(at(0)));
    session.dialled(at(1), first.attempt, 1, &hello(5, first.session, 0), identity(5)).unwrap();
    session.stalled(at(3), 1);
    let second = dial(&session.poll(at(3)));
    assert_eq!(session.stream_down(at(4), 1), []);
    let reply = hello(5, second.session, 0);
    let taken = session.dialled(at(5), second.attempt, 2, &reply, identity(5));
    assert_eq!(taken, Ok(vec![]));
    assert_eq!((session.id(), session.stream(0)), (Some(first.session), Some(2)));
}

#[test]
fn a_peer_that_restarts_is_dialled_often_for_a_while_and_then_with_growing_pauses() {
    let mut session = session(true, 1, 1, 1, at(0));
    let first = dial(&session.poll(at(0)));
    session.dialled(at(1), first.attempt, 1, &hello(5, first.session, 0), identity(5)).unwrap();
    session.peer_restarts(at(1000));
    assert_eq!(session.stream_down(at(1000), 1), [Action::Down]);
    let mut pauses = Vec::new();
    let mut now = at(1000);
    while now < at(60_000) {
        let due = session.next_poll().unwrap();
        pauses.push((now, due - now));
        now = due;
        let refused = dial(&session.poll(now));
        session.dial_failed(now, refused.attempt);
    }
    let (soon, later): (Vec<_>, Vec<_>) = pauses.iter().partition(|(from, _)| *from < at(6000));
    assert!(soon.iter().all(|(_, pause)| *pause <= PAUSE_RESTART), "{soon:?}");
    assert!(soon.len() < 200, "{} attempts", soon.len());
    assert!(later.iter().take(1).all(|(_, pause)| *pause <= Duration::from_millis(400)));
    assert!(later.iter().any(|(_, pause)| *pause > Duration::from_secs(1)), "{later:?}");
}

#[test]
fn a_stream_that_was_heard_again_just_now_is_not_replaced() {
    let mut session = session(false, 1, 1, 1, at(0));
    session.accepted(at(0), 1, &hello(2, THEIRS, 0), identity(2)).unwrap();
    session.stalled(at(3000), 1);
    session.recovered(at(20_000), 1);
    let replacement = session.accepted(at(20_030), 2, &hello(2, THEIRS, 0), identity(2));
    assert_eq!(replacement.unwrap_err(), Reason::Superseded);
    assert!(session.accepted(at(22_000), 3, &hello(2, THEIRS, 0), identity(2)).is_ok());
}

#[test]
fn the_attempt_to_replace_a_stream_that_recovered_is_named() {
    let mut session = session(true, 1, 1, 1, at(0));
    let first = dial(&session.poll(at(0)));
    session.dialled(at(1), first.attempt, 1, &hello(5, first.session, 0), identity(5)).unwrap();
    session.stalled(at(3), 1);
    let second = dial(&session.poll(at(3)));
    assert_eq!(session.recovered(at(4), 1), Some(second.attempt));
    session.dial_failed(at(5), second.attempt);
    assert_eq!(session.poll(at(99_000)), []);
}

#[test]
fn a_session_whose_replacement_fails_ends() {
    let mut session = session(true, 1, 1, 1, at(0));
    let first = dial(&session.poll(at(0)));
    session.dialled(at(1), first.attempt, 1, &hello(5, first.session, 0), identity(5)).unwrap();
    session.stalled(at(3), 1);
    let second = dial(&session.poll(at(3)));
    assert_eq!(session.stream_down(at(4), 1), []);
    session.dial_failed(at(5), second.attempt);
    assert_eq!(session.poll(at(5)).first(), Some(&Action::Down));
    assert_eq!(session.down_since(), Some(at(5)));
}

#[test]
fn a_peer_that_takes_and_drops_connections_is_not_dialled_in_a_hot_loop() {
    let mut session = session(true, 1, 1, 1, at(0));
    let mut now = at(0);
    let mut attempts = 0;
    while now < at(60_000) {
        for action in session.poll(now) {
            let Action::Dial(dial) = action else { continue };
            attempts += 1;
            let reply = hello(5, dial.session, 0);
            session.dialled(now, dial.attempt, attempts, &reply, identity(5)).unwrap();
            session.stream_down(now, attempts);
        }
        now = session.next_poll().unwrap().max(now + Duration::from_millis(1));
    }
    assert!(attempts < 60, "{attempts} attempts in a minute");
}

#[test]
fn an_answer_for_another_session_breaks_the_protocol() {
    let mut session = session(true, 1, 1, 1, at(0));
    let ours = dial(&session.poll(at(0)));
    let reply = hello(5, THEIRS, 0);
    let refused = session.dialled(at(1), ours.attempt, 1, &reply, identity(5));
    assert_eq!(refused.unwrap_err(), Reason::Protocol);
    assert!(session.next_poll().is_some());
}

/// A session that we dialled, with all its streams: stream n is connection n. The peer is 5.
fn complete(streams: u8) -> Session {
    let mut session = session(true, 1, 1, streams, at(0));
    while session.next_poll().is_some() {
        for action in session.poll(at(0)) {
            let Action::Dial(dial) = action else { continue };
            let reply = ours(5, streams).hello(dial.session, dial.stream);
            let (attempt, id) = (dial.attempt, dial.stream.into());
            session.dialled(at(0), attempt, id, &reply, identity(5)).unwrap();
        }
    }
    assert!((0..streams).all(|stream| session.stream(stream) == Some(stream.into())));
    session
}

/// How long a session lasts after its last stream is lost, if nobody answers any more. Streams
/// stall together, if they do, and are lost one after the other.
fn lasts_without_streams(streams: u8, stall: bool, apart: u64) -> Duration {
    let mut session = complete(streams);
    let mut failures = Vec::new();
    let lost = |stream: u8| 12_000 + u64::from(stream) * apart;
    let last = at(lost(streams - 1));
    for now in 10_000.. {
        for stream in 0..streams {
            if stall && now == 10_000 {
                session.stalled(at(now), stream.into());
            }
            if now == lost(stream) && session.stream_down(at(now), stream.into()) == [Action::Down]
            {
                return at(now) - last;
            }
        }
        failures.retain(|(due, attempt)| {
            if *due <= at(now) {
                session.dial_failed(at(now), *attempt);
            }
            *due > at(now)
        });
        if session.next_poll().is_some_and(|next| next <= at(now)) {
            for action in session.poll(at(now)) {
                match action {
                    Action::Dial(dial) => failures.push((at(now) + dial.patience, dial.attempt)),
                    Action::Down => return at(now) - last,
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    unreachable!()
}

#[test]
fn a_session_ends_with_its_last_stream_unless_a_replacement_is_on_its_way() {
    for streams in [1, 2, 4, 16] {
        for apart in [0, 1, 130, 1000, 4000] {
            let broken = lasts_without_streams(streams, false, apart);
            assert_eq!(broken, Duration::ZERO, "{streams} streams, {apart} ms apart");
            let stalled = lasts_without_streams(streams, true, apart);
            assert!(stalled <= PATIENCE_STALLED, "{streams}, {apart} ms apart: {stalled:?}");
        }
    }
}

#[test]
fn another_process_that_answers_for_stream_0_begins_a_new_session() {
    let mut session = complete(3);
    let id = session.id().unwrap();
    session.stalled(at(10_000), 0);
    session.stream_down(at(10_000), 2);
    let actions = session.poll(at(11_000));
    let [Action::Dial(first), Action::Dial(third)] = actions[..] else { panic!("{actions:?}") };
    assert_eq!((first.stream, first.session, third.stream), (0, id, 2));
    let rebooted = Ours { mtu: 1400, ..ours(6, 2) };
    let reply = rebooted.hello(id, 0);
    let actions = session.dialled(at(11_001), first.attempt, 7, &reply, identity(5)).unwrap();
    let [Action::Close(0, _), Action::Close(1, _), Action::Down, Action::Up(agreed)] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!((agreed.mtu, agreed.streams, agreed.peer), (1400, 2, Instance([6; 16])));
    let late = session.dialled(at(11_002), third.attempt, 8, &ours(5, 3).hello(id, 2), identity(5));
    assert_eq!(late, Err(Reason::Superseded));
    assert_eq!(dial(&session.poll(at(11_002))).stream, 1);
}

#[test]
fn another_process_that_answers_for_a_further_stream_is_not_joined() {
    let mut session = complete(2);
    session.stream_down(at(10_000), 1);
    let second = dial(&session.poll(at(11_000)));
    let reply = hello(6, second.session, 1);
    let refused = session.dialled(at(11_001), second.attempt, 7, &reply, identity(5));
    assert_eq!(refused, Err(Reason::Superseded));
    assert_eq!((session.stream(0), session.stream(1)), (Some(0), None));
    assert!(session.next_poll().is_some());
}

#[test]
fn another_process_that_asks_for_our_session_begins_its_own_with_stream_0_only() {
    let mut session = session(false, 1, 1, 4, at(0));
    session.accepted(at(0), 1, &hello(2, THEIRS, 0), identity(2)).unwrap();
    let stranger = session.accepted(at(1), 2, &hello(3, THEIRS, 1), identity(2));
    assert_eq!(stranger.unwrap_err(), Reason::UnknownSession);
    let rebooted = ours(3, 2).hello(THEIRS, 0);
    let (_, actions) = session.accepted(at(2), 3, &rebooted, identity(2)).unwrap();
    let [Action::Close(1, _), Action::Down, Action::Up(agreed)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!((agreed.streams, agreed.peer), (2, Instance([3; 16])));
    let (_, actions) = session.accepted(at(3), 4, &hello(3, THEIRS, 1), identity(2)).unwrap();
    assert_eq!(actions, []);
}

#[test]
fn a_stall_that_is_told_twice_does_not_end_the_pause_between_attempts() {
    let mut session = complete(1);
    session.stalled(at(10_000), 0);
    for _ in 0..2 {
        let attempt = dial(&session.poll(session.next_poll().unwrap())).attempt;
        session.dial_failed(at(11_000), attempt);
    }
    let next = session.next_poll();
    assert!(next > Some(at(11_000)));
    session.stalled(at(11_000), 0);
    assert_eq!(session.next_poll(), next);
}
