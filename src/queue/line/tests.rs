use super::*;

const TICK: Duration = Duration::from_millis(1);
const LEAST: Duration = Duration::from_millis(20);
const TEN_SECONDS: Duration = Duration::from_secs(10);

/// A bottleneck with a deep buffer, behind a congestion control that fills it as far as it is
/// let: bytes in, acknowledged one round trip after they have left the buffer.
struct Bottleneck {
    /// Bytes a millisecond.
    rate: usize,
    /// What the congestion control would have in flight.
    appetite: usize,
    /// Delay that others cause.
    others: Duration,
    bbr: Option<Bbr>,
    buffered: usize,
    travelling: VecDeque<usize>,
    in_flight: usize,
    acknowledged: u64,
    smoothed: Duration,
    now: Time,
}

impl Bottleneck {
    fn new(rate: usize, appetite: usize) -> Self {
        Self {
            rate,
            appetite,
            others: Duration::ZERO,
            bbr: None,
            buffered: 0,
            travelling: VecDeque::new(),
            in_flight: 0,
            acknowledged: 0,
            smoothed: LEAST,
            now: Time::since_boot(Duration::from_secs(100)),
        }
    }

    fn run(&mut self, line: &mut Line, milliseconds: usize) {
        for _ in 0..milliseconds {
            self.now += TICK;
            let left = self.buffered.min(self.rate);
            self.buffered -= left;
            self.travelling.push_back(left);
            let trip = usize::try_from((LEAST + self.others).as_millis()).unwrap();
            let over = self.travelling.len().saturating_sub(trip);
            let arrived: usize = self.travelling.drain(..over).sum();
            self.in_flight -= arrived;
            self.acknowledged += arrived as u64;
            let probing = self.bbr.as_mut().is_some_and(|bbr| bbr.probes(self.now, arrived > 0));
            let waited = Duration::from_micros((self.buffered * 1000 / self.rate) as u64);
            self.smoothed = (self.smoothed * 7 + LEAST + waited + self.others) / 8;
            let appetite = if probing { 4 * 1448 } else { self.appetite };
            let room = appetite.saturating_sub(self.in_flight);
            let allowed = match line.is_due(self.now) {
                true => line.look(self.now, self.seen()),
                false => usize::MAX,
            };
            let sent = if line.window.is_some() { room.min(allowed) } else { room };
            if let Some(bbr) = self.bbr.as_mut().filter(|_| self.in_flight == 0) {
                bbr.restarted |= sent > 0;
            }
            self.in_flight += sent;
            self.buffered += sent;
        }
    }

    fn seen(&self) -> Seen {
        Seen {
            acknowledged: self.acknowledged,
            delivery_rate: self.rate as u64 * 1000,
            round_trip: self.smoothed,
            least_round_trip: LEAST,
            in_flight: self.in_flight,
            unsent: 0,
            probes: self
                .bbr
                .as_ref()
                .map(|bbr| Probes { least_round_trip: LEAST, under_way: bbr.until.is_some() }),
        }
    }

    fn waits(&self) -> Duration {
        Duration::from_micros((self.buffered * 1000 / self.rate) as u64)
    }

    /// The share of the line that was used, in percent.
    fn used(&mut self, line: &mut Line, milliseconds: usize) -> usize {
        let before = self.acknowledged;
        self.run(line, milliseconds);
        let carried = usize::try_from(self.acknowledged - before).unwrap();
        carried * 100 / (self.rate * milliseconds)
    }
}

/// How BBR looks for the shortest round trip, every ten seconds.
#[derive(Default)]
struct Bbr {
    due: Time,
    until: Option<Time>,
    /// Sending has begun again after a silence, and nothing has been acknowledged since.
    restarted: bool,
    count: usize,
}

impl Bbr {
    fn probes(&mut self, now: Time, acknowledged: bool) -> bool {
        if let Some(until) = self.until {
            if now < until {
                return true;
            }
            (self.until, self.due) = (None, now + TEN_SECONDS);
        }
        if acknowledged && now > self.due {
            if self.restarted {
                self.due = now + TEN_SECONDS;
            } else {
                self.until = Some(now + Duration::from_millis(200) + LEAST);
                self.count += 1;
            }
        }
        self.restarted &= !acknowledged;
        self.until.is_some()
    }
}

fn line() -> Line {
    Line::new(Duration::from_millis(5))
}

#[test]
fn a_queue_that_stands_is_made_short_and_the_line_stays_full() {
    let (mut line, mut bottleneck) = (line(), Bottleneck::new(2_500, 200_000));
    bottleneck.run(&mut line, 3000);
    assert!(bottleneck.used(&mut line, 10_000) >= 99);
    let waits = bottleneck.waits();
    assert!(waits < Duration::from_millis(12), "{waits:?}");
    assert!(waits > Duration::from_millis(2), "{waits:?}");
}

#[test]
fn the_least_window_is_no_reason_to_leave_a_slow_line_open() {
    for rate in [16, 125, 400] {
        let (mut line, mut bottleneck) = (line(), Bottleneck::new(rate, 200_000));
        // As long as what the congestion control had under way before anything was known.
        bottleneck.run(&mut line, 2 * 200_000 / rate);
        for _ in 0..600 {
            bottleneck.run(&mut line, 100);
            assert!(line.window.is_some(), "at {rate}");
            let waits = Duration::from_micros((WINDOW_LEAST * 1000 / rate) as u64);
            assert!(bottleneck.waits() <= waits + TICK, "{:?} at {rate}", bottleneck.waits());
        }
        assert!(bottleneck.used(&mut line, 10_000) >= 95);
    }
}

#[test]
fn a_slow_line_is_given_no_more_than_the_kernel_has_room_for() {
    let mut line = line();
    line.set_ahead(10_000_000);
    line.rates.push_front(10_000_000);
    assert_eq!((line.ahead(), line.unsent_limit()), (25_000, 50_000));
    let mut now = Time::since_boot(Duration::from_secs(50));
    let mut given = |unsent, delivery_rate| {
        assert!(line.is_bounded() && line.is_due(now), "looked at each time");
        now += TICK;
        line.look(now, Seen { unsent, delivery_rate, ..Bottleneck::new(1, 1).seen() })
    };
    assert_eq!(given(0, 10_000_000), 25_000);
    assert_eq!(given(30_000, 10_000_000), 20_000);
    assert_eq!(given(60_000, 10_000_000), 0);
    assert_eq!(given(60_000, 20_000_000), 20_000, "it has become faster");
}

#[test]
fn a_queue_that_was_seen_once_may_have_been_a_late_acknowledgement() {
    let mut line = line();
    line.set_ahead(10_000_000);
    let began = Time::since_boot(Duration::from_secs(50));
    for (milliseconds, bounded) in [(0, false), (1, false), (49, false), (50, true)] {
        let seen = Seen { round_trip: LEAST * 2, ..Bottleneck::new(10_000, 1).seen() };
        line.look(began + Duration::from_millis(milliseconds), seen);
        assert_eq!(line.window.is_some(), bounded, "after {milliseconds} ms");
    }
}

#[test]
fn the_congestion_control_need_not_probe_for_the_round_trip_on_a_busy_line() {
    for (appetite, probes) in [(50_000, true), (200_000, false)] {
        let (mut line, mut bottleneck) = (line(), Bottleneck::new(2_500, appetite));
        bottleneck.bbr = Some(Bbr::default());
        bottleneck.run(&mut line, 3000);
        let used = bottleneck.used(&mut line, 60_000);
        assert_eq!(used < 99, probes, "{used} %");
        assert_eq!(bottleneck.bbr.unwrap().count > 0, probes);
    }
}

#[test]
fn a_piece_is_what_the_line_carries_within_half_the_target() {
    for (rate, ahead) in [(500, AHEAD_LEAST), (10_000, 25_000), (1 << 30, AHEAD_MOST)] {
        let mut line = line();
        Bottleneck::new(rate, rate * 80).run(&mut line, 6000);
        let within = ahead / 50;
        assert!(line.ahead().abs_diff(ahead) <= within, "{} at {rate}", line.ahead());
    }
}

#[test]
fn a_line_at_which_nothing_stands_is_left_alone() {
    let (mut line, mut bottleneck) = (line(), Bottleneck::new(2_500, 50_000));
    bottleneck.run(&mut line, 60_000);
    assert!(line.window.is_none());
}

#[test]
fn a_line_that_becomes_faster_is_followed_and_a_slower_one_too() {
    let (mut line, mut bottleneck) = (line(), Bottleneck::new(2_500, 2_000_000));
    bottleneck.run(&mut line, 3000);
    assert!(line.window.is_some());
    bottleneck.rate = 25_000;
    bottleneck.run(&mut line, 3000);
    assert!(bottleneck.used(&mut line, 2000) >= 95);
    bottleneck.rate = 2_500;
    bottleneck.run(&mut line, 10_000);
    assert!(bottleneck.waits() < Duration::from_millis(15), "{:?}", bottleneck.waits());
    assert!(bottleneck.used(&mut line, 2000) >= 95);
}

#[test]
fn a_longer_path_does_not_slow_us_for_long() {
    for others in [5, 8, 10, 11, 12, 13, 15, 19, 22, 40, 80] {
        let (mut line, mut bottleneck) = (line(), Bottleneck::new(2_500, 2_000_000));
        bottleneck.run(&mut line, 3000);
        assert!(line.window.is_some());
        bottleneck.others = Duration::from_millis(others);
        let used = bottleneck.used(&mut line, 90_000);
        assert!(used >= 75, "{used} % beside {others} ms");
    }
}

#[test]
fn a_trickle_says_nothing_of_the_line() {
    let (mut line, mut bottleneck) = (line(), Bottleneck::new(2_500, 1000));
    bottleneck.others = Duration::from_millis(30);
    for _ in 0..10_000 {
        bottleneck.run(&mut line, 1);
        line.ran_empty();
    }
    assert_eq!(line.ahead(), AHEAD_FIRST);
    assert!(line.window.is_none());
}

#[test]
fn a_burst_that_a_fast_line_carries_at_once_shows_that_it_is_fast() {
    let (mut line, mut now) = (line(), Time::since_boot(Duration::from_secs(100)));
    for delivery_rate in [0, 2_500_000, 1 << 30] {
        let seen = Seen { delivery_rate, in_flight: 0, ..Bottleneck::new(1, 1).seen() };
        line.look(now, seen);
        line.ran_empty();
        assert_eq!(line.ahead() == AHEAD_MOST, delivery_rate > 2_500_000, "{delivery_rate}");
        assert!(line.ahead() >= AHEAD_FIRST);
        now += Duration::from_secs(1);
    }
}

#[test]
fn a_pause_is_not_taken_for_a_slow_line() {
    let (mut line, mut bottleneck) = (line(), Bottleneck::new(2_500, 200_000));
    bottleneck.run(&mut line, 3000);
    let ahead = line.ahead();
    line.ran_empty();
    bottleneck.now += Duration::from_secs(60);
    bottleneck.run(&mut line, 100);
    assert_eq!(line.ahead(), ahead);
}

#[test]
fn another_connection_starts_without_a_window() {
    let (mut line, mut bottleneck) = (line(), Bottleneck::new(2_500, 200_000));
    bottleneck.run(&mut line, 3000);
    line.forget();
    assert!(line.window.is_none());
    assert_eq!(line.ahead(), AHEAD_FIRST);
}

#[test]
fn silence_is_kept_also_where_acknowledgements_in_a_bunch_have_emptied_a_part_of_the_window() {
    let probes = Probes { least_round_trip: LEAST, under_way: false };
    let given = |in_flight| {
        let mut line = Line::new(Duration::from_millis(5));
        line.set_ahead(2_500_000);
        line.window = Some(WINDOW_LEAST);
        let began = Time::since_boot(Duration::from_secs(50));
        let mut look = |now, in_flight| {
            let seen = Seen {
                acknowledged: 0,
                delivery_rate: 2_500_000,
                round_trip: LEAST,
                least_round_trip: LEAST,
                in_flight,
                unsent: 0,
                probes: Some(probes),
            };
            line.look(now, seen)
        };
        look(began, 60_000);
        look(began + Duration::from_millis(9_990), in_flight)
    };
    // The window is what the line carries in 27.5 ms: 68,750 bytes.
    assert_eq!(given(36_000), 0);
    assert!(given(20_000) > 0, "a line that is not busy gains nothing");
}
