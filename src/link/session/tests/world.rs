//! Two ends and a network of connections, in virtual time.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

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
