//! The lab's line: a cable with the properties of a real one, for kernels without netem.
//!
//! ```text
//!                    namespace without addresses
//!   VM1 eth1 ────── west ═ emulator ═ east ────── eth1 VM2
//!                         there ──▶
//!                         ◀── back
//! ```
//!
//! Every Ethernet frame that arrives at one port leaves through the other one, later: after it has
//! waited in a drop-tail buffer, passed the line at the line's rate, and travelled for its delay.
//! Some are lost on the way, some overtaken, all of them by a seeded chance.
//!
//! The ports' ends must have their offloads off (`tests/lab/lab emulate` sees to it): a
//! super-packet would pass as a single frame. The line's arithmetic is in [`line`], which has no
//! clock; [`port`] is the only file that touches sockets.

#![allow(missing_docs)] // A program: nobody imports from it.

mod chance;
mod line;
mod parameters;
mod port;

use std::error::Error;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::prctl::set_timerslack;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;

use line::Line;
use parameters::Parameters;
use port::Port;

/// Frames taken from one port before the other one has its turn.
const BURST: usize = 64;

/// Forwards Ethernet frames between two interfaces as a slow, long or lossy line would.
///
/// SIGHUP reads the parameters again; frames already on the line keep their time of arrival.
/// SIGTERM ends it and prints what was counted.
#[derive(Parser)]
#[command(after_help = parameters::HELP)]
struct Options {
    /// The interface that the direction `there` comes from.
    west: String,
    /// The interface that the direction `back` comes from.
    east: String,
    /// A file of parameters: see below.
    parameters: PathBuf,
    /// Where the sequence of chances begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only say whether the parameters are understood.
    #[arg(long)]
    check: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let (there, back) = Parameters::pair_from(&options.parameters)?;
    if options.check {
        return Ok(());
    }
    let signals = catch_signals()?;
    set_timerslack(1)?;
    let mut directions = [
        Direction::new(&options.west, &options.east, there, options.seed)?,
        Direction::new(&options.east, &options.west, back, options.seed.wrapping_add(1))?,
    ];
    println!("ready");
    let start = Instant::now();
    let mut frame = vec![0; port::LONGEST_FRAME];
    loop {
        let now = elapsed(start);
        for direction in &mut directions {
            direction.deliver(now)?;
        }
        let due = directions.iter().filter_map(|direction| direction.line.next_due()).min();
        let wait = due.map(|due| due.saturating_sub(elapsed(start)));
        let [there, back] = &mut directions;
        let mut ready = [
            PollFd::new(there.from.as_fd(), PollFlags::POLLIN),
            PollFd::new(back.from.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        ppoll(&mut ready, wait.map(TimeSpec::from), None)?;
        let [from_west, from_east, signalled] = ready.map(|fd| fd.any().unwrap_or(true));
        for (direction, ready) in [(there, from_west), (back, from_east)] {
            if ready {
                direction.admit(start, &mut frame)?;
            }
        }
        while signalled && let Some(signal) = signals.read_signal()? {
            if signal.ssi_signo == Signal::SIGHUP as u32 {
                let pair = Parameters::pair_from(&options.parameters)?;
                for (direction, parameters) in directions.iter_mut().zip([pair.0, pair.1]) {
                    direction.line.become_like(parameters);
                }
                println!("ready");
            } else {
                for (name, direction) in ["there", "back"].iter().zip(&directions) {
                    direction.report(name)?;
                }
                return Ok(());
            }
        }
    }
}

/// One way along the line.
struct Direction {
    from: Port,
    to: Port,
    line: Line,
    /// Frames the kernel would not send.
    refused: u64,
}

impl Direction {
    fn new(
        from: &str,
        to: &str,
        parameters: Parameters,
        seed: u64,
    ) -> Result<Self, Box<dyn Error>> {
        let (from, to) = (Port::receiving(from)?, Port::sending(to)?);
        Ok(Self { from, to, line: Line::new(parameters, seed), refused: 0 })
    }

    fn admit(&mut self, start: Instant, frame: &mut [u8]) -> Result<(), Box<dyn Error>> {
        for _ in 0..BURST {
            let Some(length) = self.from.receive(frame)? else { break };
            self.line.admit(elapsed(start), &frame[..length]);
        }
        Ok(())
    }

    fn deliver(&mut self, now: Duration) -> Result<(), Box<dyn Error>> {
        while let Some(frame) = self.line.deliver(now) {
            if !self.to.send(&frame)? {
                self.refused += 1;
            }
        }
        Ok(())
    }

    fn report(&self, name: &str) -> Result<(), Box<dyn Error>> {
        let missed = self.from.missed()?;
        println!("{name}: {} refused={} missed={missed}", self.line.counters(), self.refused);
        Ok(())
    }
}

fn elapsed(start: Instant) -> Duration {
    start.elapsed()
}

fn catch_signals() -> nix::Result<SignalFd> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT] {
        signals.add(signal);
    }
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}
