//! One direction of a line, without a clock: frames go in with the time, and come out when due.
//!
//! ```text
//!             lost?   full?          one at a time, at the line's rate
//!   admit ──▶ chance ─ buffer ─▶▶▶▶▶ serialise ──▶ travel (delay, chance of more) ──▶ deliver
//!                      └ waiting bytes ┘
//! ```
//!
//! A frame's times are fixed when it is admitted: its last bit leaves the buffer after the last
//! bit of the frame before it, `length * 8 / rate` later, and arrives `delay` after that. So the
//! rate is exact however late the caller comes to deliver.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use std::time::Duration;

use crate::chance::Chance;
use crate::parameters::Parameters;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// One direction of a line and the frames on it.
pub struct Line {
    parameters: Parameters,
    chance: Chance,
    /// When the last bit of the last admitted frame leaves the buffer.
    free: Instant,
    /// Frames that wait or are being serialised: when they have left the buffer, and their length.
    buffer: VecDeque<(Instant, usize)>,
    buffered: usize,
    /// Frames on their way, by time of arrival and then by order of admission.
    travelling: BinaryHeap<Reverse<(Duration, u64, Vec<u8>)>>,
    counters: Counters,
}

impl Line {
    pub fn new(parameters: Parameters, seed: u64) -> Self {
        Self {
            parameters,
            chance: Chance::new(seed),
            free: Instant::default(),
            buffer: VecDeque::new(),
            buffered: 0,
            travelling: BinaryHeap::new(),
            counters: Counters::default(),
        }
    }

    /// Changes the line for the frames to come.
    pub fn become_like(&mut self, parameters: Parameters) {
        self.parameters = parameters;
    }

    /// Takes a frame, or drops it.
    pub fn admit(&mut self, now: Duration, frame: &[u8]) {
        self.drain(now);
        self.counters.frames += 1;
        self.counters.longest_frame = self.counters.longest_frame.max(frame.len());
        if self.parameters.blackhole {
            self.counters.swallowed += 1;
            return;
        }
        if self.buffered + frame.len() > self.parameters.buffer {
            self.counters.overflowed += 1;
            return;
        }
        let left = self.serialise(now, frame.len());
        // A frame is lost on the line, not before it: it has taken its time there.
        if self.chance.hits(self.parameters.loss) {
            self.counters.lost += 1;
            return;
        }
        let mut due = left.whole() + self.parameters.delay;
        if self.chance.hits(self.parameters.reorder) {
            self.counters.held_back += 1;
            due += self.parameters.hold;
        }
        self.travelling.push(Reverse((due, self.counters.frames, frame.to_vec())));
    }

    /// The next frame whose time of arrival has come.
    pub fn deliver(&mut self, now: Duration) -> Option<Vec<u8>> {
        self.travelling.peek().filter(|next| next.0.0 <= now)?;
        let Reverse((_, _, frame)) = self.travelling.pop()?;
        self.counters.delivered += 1;
        self.counters.bytes += frame.len() as u64;
        Some(frame)
    }

    /// When the next frame arrives.
    pub fn next_due(&self) -> Option<Duration> {
        self.travelling.peek().map(|next| next.0.0)
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Lets go of the bytes that have left the buffer by now.
    fn drain(&mut self, now: Duration) {
        while let Some((_, length)) = self.buffer.front().filter(|(left, _)| left.whole() <= now) {
            self.buffered -= length;
            self.buffer.pop_front();
        }
    }

    /// Puts a frame at the buffer's end; returns when it has left it.
    fn serialise(&mut self, now: Duration, length: usize) -> Instant {
        let now = Instant { nanos: now.as_nanos(), part: 0 };
        let Some(rate) = self.parameters.rate else { return now };
        self.free = self.free.max(now).after_bits(length as u128 * 8, u128::from(rate));
        self.buffer.push_back((self.free, length));
        self.buffered += length;
        self.counters.most_buffered = self.counters.most_buffered.max(self.buffered);
        self.free
    }
}

/// A time in nanoseconds and a rest, kept so that no frame's rounding adds up: the rest is in
/// units of a nanosecond divided by the rate.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Instant {
    nanos: u128,
    part: u128,
}

impl Instant {
    fn after_bits(self, bits: u128, rate: u128) -> Self {
        let parts = bits * NANOS_PER_SECOND + self.part.min(rate - 1);
        Self { nanos: self.nanos + parts / rate, part: parts % rate }
    }

    fn whole(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.nanos).unwrap_or(u64::MAX))
    }
}

/// What has happened to the frames of one direction.
#[derive(Default)]
pub struct Counters {
    frames: u64,
    delivered: u64,
    /// Bytes delivered, Ethernet headers included.
    bytes: u64,
    lost: u64,
    overflowed: u64,
    held_back: u64,
    swallowed: u64,
    most_buffered: usize,
    longest_frame: usize,
}

impl fmt::Display for Counters {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frames, delivered, bytes, lost, overflowed, held_back, .. } = self;
        write!(
            out,
            "frames={frames} delivered={delivered} bytes={bytes} lost={lost} \
             overflowed={overflowed} held-back={held_back} swallowed={} most-buffered={} \
             longest-frame={}",
            self.swallowed, self.most_buffered, self.longest_frame
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn parameters() -> Parameters {
        Parameters::pair("").expect("nothing is wrong with nothing").0
    }

    /// Delivers all there is; returns each frame's first byte and its time of arrival.
    fn arrivals(line: &mut Line) -> Vec<(u8, Duration)> {
        let mut seen = Vec::new();
        while let Some(due) = line.next_due() {
            while let Some(frame) = line.deliver(due) {
                seen.push((frame[0], due));
            }
        }
        seen
    }

    #[test]
    fn a_line_without_properties_delivers_at_once_and_in_order() {
        let mut line = Line::new(parameters(), 1);
        for byte in 0..10 {
            line.admit(SECOND, &[byte; 1514]);
        }
        let expected: Vec<_> = (0..10).map(|byte| (byte, SECOND)).collect();
        assert_eq!(arrivals(&mut line), expected);
    }

    #[test]
    fn every_frame_takes_the_delay() {
        let delay = Duration::from_millis(10);
        let mut line = Line::new(Parameters { delay, ..parameters() }, 1);
        line.admit(SECOND, &[0; 60]);
        assert!(line.deliver(SECOND + delay - Duration::from_nanos(1)).is_none());
        assert!(line.deliver(SECOND + delay).is_some());
    }

    #[test]
    fn a_saturated_line_has_its_rate_to_the_nanosecond() {
        // 1514 * 8 bits at 3 bit/ns are 4037 1/3 ns: rounding must not add up.
        let rate = Some(3_000_000_000);
        let endless = Parameters { rate, buffer: usize::MAX, ..parameters() };
        let mut line = Line::new(endless, 1);
        for _ in 0..30_000 {
            line.admit(Duration::ZERO, &[0; 1514]);
        }
        let last = arrivals(&mut line).last().expect("frames arrive").1;
        assert_eq!(last, Duration::from_nanos(30_000 * 1514 * 8 / 3));
    }

    #[test]
    fn the_rate_starts_anew_after_a_pause() {
        let rate = Some(8_000_000); // A byte a microsecond.
        let mut line = Line::new(Parameters { rate, ..parameters() }, 1);
        line.admit(Duration::ZERO, &[0; 1000]);
        line.admit(SECOND, &[1; 1000]);
        let after = Duration::from_millis(1);
        assert_eq!(arrivals(&mut line), [(0, after), (1, SECOND + after)]);
    }

    #[test]
    fn the_buffer_holds_what_it_may_and_no_byte_more() {
        let buffered = Parameters { rate: Some(8_000_000), buffer: 10_000, ..parameters() };
        let mut line = Line::new(buffered, 1);
        for _ in 0..20 {
            line.admit(Duration::ZERO, &[0; 1000]);
        }
        assert_eq!(line.counters.overflowed, 10);
        assert_eq!(line.counters.most_buffered, 10_000);
        // One frame has left after a millisecond: there is room for one.
        line.admit(Duration::from_millis(1), &[0; 1000]);
        line.admit(Duration::from_millis(1), &[0; 1000]);
        assert_eq!(line.counters.overflowed, 11);
        assert_eq!(arrivals(&mut line).len(), 11);
    }

    #[test]
    fn the_buffer_delays_by_what_is_in_it() {
        let filled = Parameters { rate: Some(20_000_000), buffer: 500_000, ..parameters() };
        let mut line = Line::new(filled, 1);
        for _ in 0..1000 {
            line.admit(Duration::ZERO, &[0; 1000]);
        }
        let longest = arrivals(&mut line).last().expect("frames arrive").1;
        assert_eq!(longest, Duration::from_millis(200));
    }

    #[test]
    fn loss_is_the_share_asked_for_and_the_same_at_every_run() {
        let lossy = Parameters { loss: 0.01, ..parameters() };
        let lost_with = |seed| {
            let mut line = Line::new(lossy.clone(), seed);
            let frames = 0..100_000_u32;
            for number in frames.clone() {
                line.admit(Duration::ZERO, &number.to_be_bytes());
            }
            let mut arrived = Vec::new();
            while let Some(frame) = line.deliver(Duration::ZERO) {
                arrived.push(frame);
            }
            assert_eq!(usize::try_from(line.counters.lost).unwrap() + arrived.len(), frames.len());
            (line.counters.lost, arrived)
        };
        let (lost, arrived) = lost_with(7);
        assert!((900..1100).contains(&lost), "{lost}");
        assert_eq!(arrived, lost_with(7).1);
        assert_ne!(arrived, lost_with(8).1);
    }

    #[test]
    fn frames_held_back_are_overtaken() {
        let hold = Duration::from_millis(5);
        let mut line = Line::new(Parameters { reorder: 0.1, hold, ..parameters() }, 3);
        for byte in 0..100 {
            line.admit(Duration::from_millis(byte), &[u8::try_from(byte).expect("below 100"); 60]);
        }
        let arrivals = arrivals(&mut line);
        assert_eq!(arrivals.len(), 100);
        let late =
            arrivals.iter().filter(|(byte, at)| *at > Duration::from_millis(u64::from(*byte)));
        assert_eq!(late.count() as u64, line.counters.held_back);
        assert!((3..25).contains(&line.counters.held_back), "{}", line.counters.held_back);
        assert!(arrivals.windows(2).any(|pair| pair[0].0 > pair[1].0));
    }

    #[test]
    fn a_black_hole_swallows_what_comes_but_not_what_is_on_its_way() {
        let delay = Duration::from_millis(10);
        let mut line = Line::new(Parameters { delay, ..parameters() }, 1);
        line.admit(Duration::ZERO, &[0; 60]);
        line.become_like(Parameters { delay, blackhole: true, ..parameters() });
        line.admit(Duration::ZERO, &[1; 60]);
        line.become_like(Parameters { delay, ..parameters() });
        line.admit(Duration::ZERO, &[2; 60]);
        assert_eq!(arrivals(&mut line), [(0, delay), (2, delay)]);
        assert_eq!(line.counters.swallowed, 1);
    }

    #[test]
    fn a_new_rate_holds_for_the_frames_that_come_after_it() {
        let mut line = Line::new(Parameters { rate: Some(8_000_000), ..parameters() }, 1);
        line.admit(Duration::ZERO, &[0; 1000]);
        line.become_like(Parameters { rate: Some(16_000_000), ..parameters() });
        line.admit(Duration::ZERO, &[1; 1000]);
        let micros = Duration::from_micros;
        assert_eq!(arrivals(&mut line), [(0, micros(1000)), (1, micros(1500))]);
    }
}
