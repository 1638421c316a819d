//! What a line is like, and how it is written: `delay 10ms`, one a line, in a file.

use std::path::Path;
use std::time::Duration;

pub const HELP: &str = "\
Parameters, one a line:
delay TIME         travel time of a frame: 10ms, 500us, 1s
rate BITS          of the line: 20mbit, 512kbit, 1gbit, or none
buffer BYTES       drop-tail buffer before it, the frame being sent included: 500kB, 1MB
loss PERCENT       frames lost on the line: 1%, 0.5%
reorder PERCENT    frames held back, so that later ones overtake them
hold TIME          for how long those are held back
blackhole on|off   swallow every frame, silently

A value is for both directions, or VALUE/VALUE: west to east / east to west.
Without a rate there is no queue, and the buffer means nothing.
";

/// One direction of a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    pub delay: Duration,
    /// Bits per second, counted over Ethernet frames from their header to their last payload byte.
    pub rate: Option<u64>,
    /// Bytes that may wait or be on their way into the line.
    pub buffer: usize,
    /// 0 to 1, like `reorder`.
    pub loss: f64,
    pub reorder: f64,
    pub hold: Duration,
    pub blackhole: bool,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            rate: None,
            buffer: 1_000_000,
            loss: 0.0,
            reorder: 0.0,
            hold: Duration::from_millis(5),
            blackhole: false,
        }
    }
}

impl Parameters {
    /// Both directions, from a file.
    pub fn pair_from(file: &Path) -> Result<(Self, Self), String> {
        let text = std::fs::read_to_string(file);
        Self::pair(&text.map_err(|error| format!("{}: {error}", file.display()))?)
    }

    /// Both directions: west to east, east to west.
    pub fn pair(text: &str) -> Result<(Self, Self), String> {
        let (mut there, mut back) = (Self::default(), Self::default());
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (key, value) = line.trim().split_once(' ').ok_or(format!("no value: {line}"))?;
            let (one, other) = value.split_once('/').unwrap_or((value, value));
            for (direction, value) in [(&mut there, one), (&mut back, other)] {
                direction
                    .set(key, value.trim())
                    .ok_or(format!("{key}: not understood: {value}"))?;
            }
        }
        Ok((there, back))
    }

    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "delay" => self.delay = time(value)?,
            "rate" => self.rate = if value == "none" { None } else { Some(rate(value)?) },
            "buffer" => self.buffer = bytes(value)?,
            "loss" => self.loss = percent(value)?,
            "reorder" => self.reorder = percent(value)?,
            "hold" => self.hold = time(value)?,
            "blackhole" => self.blackhole = on(value)?,
            _ => return None,
        }
        Some(())
    }
}

fn time(value: &str) -> Option<Duration> {
    humantime::parse_duration(value).ok()
}

fn rate(value: &str) -> Option<u64> {
    let units = [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1000), ("bit", 1)];
    // A rate of nothing would never let go of a frame; that is what `blackhole` is for.
    scaled(value, &units).filter(|&rate| rate > 0)
}

fn bytes(value: &str) -> Option<usize> {
    let units = [("MB", 1_000_000), ("kB", 1000), ("B", 1)];
    usize::try_from(scaled(value, &units)?).ok()
}

fn scaled(value: &str, units: &[(&str, u64)]) -> Option<u64> {
    units.iter().find_map(|(unit, scale)| {
        value.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(*scale)
    })
}

fn percent(value: &str) -> Option<f64> {
    let percent: f64 = value.strip_suffix('%')?.parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

fn on(value: &str) -> Option<bool> {
    match value {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_for_both_directions() {
        let text = "delay 10ms\nrate 20mbit\nbuffer 500kB\nloss 0.5%\nreorder 1%\nhold 2ms\n\
                    blackhole on\n";
        let (there, back) = Parameters::pair(text).expect("understood");
        assert_eq!(there, back);
        let expected = Parameters {
            delay: Duration::from_millis(10),
            rate: Some(20_000_000),
            buffer: 500_000,
            loss: 0.005,
            reorder: 0.01,
            hold: Duration::from_millis(2),
            blackhole: true,
        };
        assert_eq!(there, expected);
    }

    #[test]
    fn two_values_are_for_one_direction_each() {
        let (there, back) = Parameters::pair("rate 1gbit/none\nblackhole off/on").expect("fine");
        assert_eq!((there.rate, back.rate), (Some(1_000_000_000), None));
        assert_eq!((there.blackhole, back.blackhole), (false, true));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for wrong in [
            "delay",
            "delay 10",
            "rate 0mbit",
            "rate 20",
            "rate -1mbit",
            "buffer 5",
            "loss 1",
            "loss 101%",
            "loss -1%",
            "blackhole maybe",
            "speed 3",
            "rate 1gbit/",
        ] {
            assert!(Parameters::pair(wrong).is_err(), "{wrong}");
        }
    }
}
