//! Two ends and a network of connections, in virtual time.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::wire::hello::Instance;
use proptest::prelude::*;

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

/// Two ends joined by a network that loses attempts, breaks streams and lets each end find out in
/// its own time.
struct World {
    now: u64,
    ends: [Session; 2],
    instances: [u8; 2],
    shape: [(bool, u8); 2],
    /// What will happen, by time.
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    /// Which connections each end holds, by stream id. The same id names both ends of one.
    held: [Vec<StreamId>; 2],
    /// How often each end's session went down.
    downs: [u32; 2],
    /// How much a byte of chance delays what crosses the network, in milliseconds.
    scale: u64,
    /// Until then nothing crosses the network.
    dark_until: u64,
    chance: VecDeque<u8>,
}

#[derive(Debug)]
enum Event {
    /// A dialled HELLO reaches the other end.
    Arrives {
        from: usize,
        dial: Dial,
        instance: u8,
    },
    /// The answer comes back.
    Answered {
        from: usize,
        attempt: u64,
        id: StreamId,
        hello: Hello,
        instance: u8,
    },
    Failed {
        from: usize,
        attempt: u64,
        instance: u8,
    },
    /// An end finds a stream closed or broken.
    Broken {
        end: usize,
        id: StreamId,
    },
}

impl World {
    fn new(shape: [(bool, u8); 2], chance: Vec<u8>) -> Self {
        let end = |end: usize| {
            let number = u8::try_from(end).unwrap() + 1;
            session(shape[end].0, number, number, shape[end].1, at(0))
        };
        Self {
            now: 0,
            ends: [end(0), end(1)],
            instances: [1, 2],
            shape,
            events: BTreeMap::new(),
            sequence: 0,
            held: [Vec::new(), Vec::new()],
            downs: [0, 0],
            scale: 10,
            dark_until: 0,
            chance: chance.into(),
        }
    }

    /// Lets an end start only then.
    fn starts_at(&mut self, end: usize, milliseconds: u64) {
        let (dials, streams) = self.shape[end];
        let number = u8::try_from(end).unwrap() + 1;
        self.ends[end] = session(dials, number, number, streams, at(milliseconds));
    }

    fn delay(&mut self) -> u64 {
        u64::from(self.chance()) * self.scale + 1
    }

    fn chance(&mut self) -> u8 {
        self.chance.pop_front().unwrap_or(0)
    }

    fn after(&mut self, milliseconds: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + milliseconds, self.sequence), event);
    }

    fn carry_out(&mut self, end: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Dial(dial) => {
                    let instance = self.instances[end];
                    let patience = u64::try_from(dial.patience.as_millis()).unwrap();
                    let attempt = dial.attempt;
                    self.after(patience, Event::Failed { from: end, attempt, instance });
                    let delay = self.delay();
                    self.after(delay, Event::Arrives { from: end, dial, instance });
                }
                Action::Close(id, _) => {
                    self.held[end].retain(|held| *held != id);
                    let delay = self.delay() * 2;
                    self.after(delay, Event::Broken { end: 1 - end, id });
                }
                Action::Up(_) => assert!(self.ends[end].id().is_some()),
                Action::Down => self.downs[end] += 1,
            }
        }
    }

    fn happen(&mut self, event: Event) {
        let now = at(self.now);
        if self.now < self.dark_until {
            match event {
                Event::Arrives { .. } => return,
                Event::Answered { .. } | Event::Broken { .. } => {
                    return self.after(self.dark_until - self.now, event);
                }
                Event::Failed { .. } => {}
            }
        }
        match event {
            Event::Arrives { from, dial, instance } => {
                let to = 1 - from;
                let failed = Event::Failed { from, attempt: dial.attempt, instance };
                if self.scale > 1 && self.chance() > 200 {
                    return self.after(5, failed);
                }
                self.sequence += 1;
                let id = self.sequence;
                let peer = identity(u8::try_from(from).unwrap() + 1);
                let hello = ours(instance, self.shape[from].1).hello(dial.session, dial.stream);
                match self.ends[to].accepted(now, id, &hello, peer) {
                    Ok((reply, actions)) => {
                        self.held[to].push(id);
                        self.carry_out(to, actions);
                        let delay = self.delay();
                        let attempt = dial.attempt;
                        let answer = Event::Answered { from, attempt, id, hello: reply, instance };
                        self.after(delay, answer);
                    }
                    Err(_) => self.after(1, failed),
                }
            }
            Event::Answered { from, attempt, id, hello, instance } => {
                let peer = identity(u8::try_from(1 - from).unwrap() + 1);
                let taken = (self.instances[from] == instance)
                    .then(|| self.ends[from].dialled(now, attempt, id, &hello, peer));
                match taken {
                    Some(Ok(actions)) => {
                        self.held[from].push(id);
                        self.carry_out(from, actions);
                        let again = self.ends[from].dialled(now, attempt, id, &hello, peer);
                        assert_eq!(again, Err(Reason::Superseded), "answered twice");
                        // What the other end closed meanwhile is heard of behind its HELLO.
                        if !self.held[1 - from].contains(&id) {
                            self.after(1, Event::Broken { end: from, id });
                        }
                    }
                    _ => self.after(1, Event::Broken { end: 1 - from, id }),
                }
            }
            Event::Failed { from, attempt, instance } => {
                if self.instances[from] == instance {
                    self.ends[from].dial_failed(now, attempt);
                    self.ends[from].dial_failed(now, attempt);
                }
            }
            Event::Broken { end, id } => {
                let held = self.held[end].contains(&id);
                self.held[end].retain(|held| *held != id);
                let actions = self.ends[end].stream_down(now, id);
                assert!(held || actions.is_empty(), "news of an unknown stream: {actions:?}");
                self.carry_out(end, actions);
                self.ends[end].stalled(now, id);
                self.ends[end].recovered(at(self.now), id);
                assert_eq!(self.ends[end].stream_down(now, id), [], "broken twice");
                if held {
                    self.after(1, Event::Broken { end: 1 - end, id });
                }
            }
        }
        self.holds_what_the_sessions_hold();
    }

    /// No connection is held that no session knows of, nor the other way round.
    fn holds_what_the_sessions_hold(&self) {
        for (session, held) in self.ends.iter().zip(&self.held) {
            let mut held = held.clone();
            held.sort_unstable();
            let mut known: Vec<_> = (0..16).filter_map(|stream| session.stream(stream)).collect();
            known.sort_unstable();
            assert_eq!(held, known);
        }
    }

    fn run(&mut self, milliseconds: u64) {
        let until = self.now + milliseconds;
        while self.now < until {
            for end in 0..2 {
                let actions = self.ends[end].poll(at(self.now));
                self.carry_out(end, actions);
            }
            while let Some(entry) = self.events.first_entry() {
                if entry.key().0 > self.now {
                    break;
                }
                let event = entry.remove();
                self.happen(event);
            }
            self.now += 1;
        }
    }

    /// One of the streams that an end holds.
    fn any_of(&mut self, end: usize) -> Option<StreamId> {
        let which = usize::from(self.chance());
        let held = &self.held[end];
        (!held.is_empty()).then(|| held[which % held.len()])
    }

    /// Breaks a stream; one end learns of it at once, the other some time later.
    fn break_one(&mut self, first: usize, later: u64) {
        if let Some(id) = self.any_of(first) {
            self.after(1, Event::Broken { end: first, id });
            self.after(later, Event::Broken { end: 1 - first, id });
        }
    }

    /// An end finds that a stream does not answer; it may be heard again later.
    fn stall_one(&mut self, end: usize, recovers: bool) {
        if let Some(id) = self.any_of(end) {
            self.ends[end].stalled(at(self.now), id);
            if recovers {
                self.run(300);
                self.ends[end].recovered(at(self.now), id);
            }
        }
    }

    /// The network is gone for a while: everything stalls, and is heard again some time after.
    fn outage(&mut self, milliseconds: u64, heard_after: u64) {
        self.dark_until = self.now + milliseconds;
        self.run(milliseconds / 2);
        for end in 0..2 {
            for id in self.held[end].clone() {
                self.ends[end].stalled(at(self.now), id);
            }
        }
        self.run(milliseconds - milliseconds / 2 + heard_after);
        for end in 0..2 {
            for id in self.held[end].clone() {
                self.ends[end].recovered(at(self.now), id);
            }
        }
    }

    /// One end is killed and starts anew; its connections break at the other end.
    fn restart(&mut self, end: usize, streams: u8, noticed_after: u64) {
        self.instances[end] += 2;
        self.shape[end].1 = streams;
        let dials = self.shape[end].0;
        let number = u8::try_from(end).unwrap() + 1;
        self.ends[end] = session(dials, number, self.instances[end], streams, at(self.now));
        for id in std::mem::take(&mut self.held[end]) {
            self.after(noticed_after, Event::Broken { end: 1 - end, id });
        }
    }

    fn agree(&self) -> Result<(), TestCaseError> {
        let [a, b] = &self.ends;
        prop_assert!(a.id().is_some(), "no session");
        prop_assert_eq!(a.id(), b.id());
        for (end, agreed) in [(1, a.agreed()), (0, b.agreed())] {
            let process = agreed.map(|agreed| agreed.peer);
            prop_assert_eq!(process, Some(Instance([self.instances[end]; 16])));
        }
        let streams = self.shape[0].1.min(self.shape[1].1);
        for stream in 0..streams {
            prop_assert!(a.stream(stream).is_some(), "stream {} is missing", stream);
            prop_assert_eq!(a.stream(stream), b.stream(stream));
        }
        for end in 0..2 {
            prop_assert_eq!(self.held[end].len(), usize::from(streams), "left-over connections");
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn two_ends_that_dial_at_once_flap_once_at_most(
        streams in (1u8..=4, 1u8..=4),
        second in 0usize..2,
        offset in 0u64..=250,
        delays in prop::collection::vec(0u8..100, 200),
    ) {
        let mut world = World::new([(true, streams.0), (true, streams.1)], delays);
        world.scale = 1;
        world.starts_at(second, offset);
        world.run(3000);
        world.agree()?;
        prop_assert!(world.downs.iter().all(|downs| *downs <= 1), "{:?}", world.downs);
        let first = 1 - second;
        if offset > 200 {
            prop_assert_eq!(world.downs, [0, 0], "end {} was there first", first);
        }
    }

    #[test]
    fn an_outage_that_nobody_gives_up_for_ends_no_session(
        dialler in 0usize..2,
        streams in 1u8..=4,
        delays in prop::collection::vec(0u8..100, 400),
        dark in 1u64..25_000,
        heard_after in 0u64..500,
    ) {
        let mut world = World::new([(dialler == 0, streams), (dialler == 1, streams)], delays);
        world.scale = 1;
        world.run(3000);
        let id = world.ends[0].id();
        world.outage(dark, heard_after);
        world.run(3000);
        world.agree()?;
        prop_assert_eq!((world.downs, world.ends[0].id()), ([0, 0], id));
    }

    #[test]
    fn whatever_happens_both_ends_come_to_hold_the_same_streams(
        (a_dials, b_dials) in prop_oneof![Just((true, true)), Just((true, false)), Just((false, true))],
        a_streams in 1u8..=4,
        b_streams in 1u8..=4,
        chance in prop::collection::vec(any::<u8>(), 0..400),
        faults in prop::collection::vec((0u8..7, 0usize..2, 0u64..4000, 1u64..3000), 0..8),
    ) {
        let mut world = World::new([(a_dials, a_streams), (b_dials, b_streams)], chance);
        for (kind, end, later, pause) in &faults {
            let (kind, end, later, pause) = (*kind, *end, *later, *pause);
            world.run(pause);
            match kind {
                0 => world.restart(end, u8::try_from(later % 4).unwrap() + 1, later + 1),
                1 | 2 => world.stall_one(end, kind == 1),
                3 => world.outage(later * 3, pause % 200),
                _ => world.break_one(end, later + 1),
            }
        }
        world.chance.clear();
        world.run(40_000);
        world.agree()?;
        let downs = world.downs;
        world.run(5_000);
        prop_assert_eq!(downs, world.downs, "no peace");
        let faults = u32::try_from(faults.len()).unwrap();
        // The fault itself, calls that cross after it, and a call or answer of a dead process that
        // was still on its way.
        let flaps = u32::from(a_dials && b_dials) + 3 * faults;
        prop_assert!(world.downs.iter().all(|downs| *downs <= flaps), "{:?}", world.downs);
    }
}
