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
    let mut named = 0;
    let name = move || {
        named += 1;
        let mut id = [end; 16];
        id[1] = instance;
        id[2] = named;
        SessionId(id)
    };
    Session::new(
        Parameters {
            dials,
            identity: identity(end),
            ours: ours(instance, streams),
            reconnect_min: Duration::from_millis(200),
            reconnect_max: Duration::from_secs(5),
            seed: u64::from(instance),
            name: Box::new(name),
        },
        now,
    )
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
            chance: chance.into(),
        }
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
                    let delay = u64::from(self.chance()) * 10 + 1;
                    self.after(delay, Event::Arrives { from: end, dial, instance });
                }
                Action::Close(id, _) => {
                    self.held[end].retain(|held| *held != id);
                    let delay = u64::from(self.chance()) * 20 + 1;
                    self.after(delay, Event::Broken { end: 1 - end, id });
                }
                Action::Up(_) | Action::Down => {}
            }
        }
    }

    fn happen(&mut self, event: Event) {
        let now = at(self.now);
        match event {
            Event::Arrives { from, dial, instance } => {
                let to = 1 - from;
                let failed = Event::Failed { from, attempt: dial.attempt, instance };
                if self.chance() > 200 {
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
                        let delay = u64::from(self.chance()) * 10 + 1;
                        let attempt = dial.attempt;
                        let answer = Event::Answered { from, attempt, id, hello: reply, instance };
                        self.after(delay, answer);
                    }
                    Err(_) => self.after(1, failed),
                }
            }
            Event::Answered { from, attempt, id, hello, instance } => {
                let peer = identity(u8::try_from(1 - from).unwrap() + 1);
                let taken = (self.instances[from] == instance && self.held[1 - from].contains(&id))
                    .then(|| self.ends[from].dialled(now, attempt, id, &hello, peer));
                match taken {
                    Some(Ok(actions)) => {
                        self.held[from].push(id);
                        self.carry_out(from, actions);
                    }
                    _ => {
                        if taken.is_none() && self.instances[from] == instance {
                            self.ends[from].dial_failed(now, attempt);
                        }
                        self.after(1, Event::Broken { end: 1 - from, id });
                    }
                }
            }
            Event::Failed { from, attempt, instance } => {
                if self.instances[from] == instance {
                    self.ends[from].dial_failed(now, attempt);
                }
            }
            Event::Broken { end, id } => {
                if self.held[end].contains(&id) {
                    self.held[end].retain(|held| *held != id);
                    let actions = self.ends[end].stream_down(now, id);
                    self.carry_out(end, actions);
                    self.after(1, Event::Broken { end: 1 - end, id });
                }
            }
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

    /// Breaks a stream; one end learns of it at once, the other some time later.
    fn break_one(&mut self, first: usize, later: u64) {
        if let Some(id) = self.held[first].first().copied() {
            self.after(1, Event::Broken { end: first, id });
            self.after(later, Event::Broken { end: 1 - first, id });
        }
    }

    /// An end finds that a stream does not answer; it may be heard again later.
    fn stall_one(&mut self, end: usize, recovers: bool) {
        if let Some(id) = self.held[end].first().copied() {
            self.ends[end].stalled(at(self.now), id);
            if recovers {
                self.run(300);
                self.ends[end].recovered(id);
            }
        }
    }

    /// One end is killed and starts anew; its connections break at the other end.
    fn restart(&mut self, end: usize, noticed_after: u64) {
        self.instances[end] += 2;
        let (dials, streams) = self.shape[end];
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
    fn whatever_happens_both_ends_come_to_hold_the_same_streams(
        (a_dials, b_dials) in prop_oneof![Just((true, true)), Just((true, false)), Just((false, true))],
        a_streams in 1u8..=4,
        b_streams in 1u8..=4,
        chance in prop::collection::vec(any::<u8>(), 0..400),
        faults in prop::collection::vec((0u8..6, 0usize..2, 0u64..4000, 1u64..3000), 0..8),
    ) {
        let mut world = World::new([(a_dials, a_streams), (b_dials, b_streams)], chance);
        for (kind, end, later, pause) in faults {
            world.run(pause);
            match kind {
                0 => world.restart(end, later + 1),
                1 | 2 => world.stall_one(end, kind == 1),
                _ => world.break_one(end, later + 1),
            }
        }
        world.chance.clear();
        world.run(40_000);
        world.agree()?;
    }
}
