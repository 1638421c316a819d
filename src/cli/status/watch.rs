//! The same again every second, on a screen of its own that leaves the terminal as it was.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use nix::sys::signal::{Signal, raise};
use terminal_size::{Height, Width, terminal_size};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::time::sleep;

use super::detail::{self, Rates};
use super::screen::Line;
use super::{colours, look_at_all, look_closely, snapshots, table, unix_now};
use crate::cli::{Exit, Options, complain};
use crate::metrics::snapshot::Snapshot;

const EVERY: Duration = Duration::from_secs(1);

/// Another screen, without cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Shows a tunnel, or all, until it is told to stop or nobody looks any more.
pub fn watch(options: &Options, name: Option<&str>) -> Exit {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let watched = runtime.and_then(|runtime| runtime.block_on(show(options, name)));
    match watched {
        Ok(()) => Exit::Fine,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Fine,
        Err(error) => {
            complain(&format!("stdout: {error}"));
            Exit::Failed
        }
    }
}

async fn show(options: &Options, name: Option<&str>) -> io::Result<()> {
    let mut signals = Interruptions::new()?;
    let mut screen = Screen::enter()?;
    let mut before = None;
    loop {
        // Asking takes no more than a few seconds, also of a daemon that hangs.
        let lines = match name {
            Some(name) => {
                let after = look_closely(options, name).snapshot;
                one(&mut before, after)
            }
            None => all(options),
        };
        screen.show(&lines)?;
        let pause = sleep(EVERY);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                interruption = signals.next() => match interruption {
                    Interruption::End => return Ok(()),
                    Interruption::Resized => screen.show(&lines)?,
                    Interruption::Suspend => {
                        screen.leave()?;
                        // SIGTSTP itself is ours now.
                        raise(Signal::SIGSTOP)?;
                        screen.resume()?;
                        screen.show(&lines)?;
                    }
                },
            }
        }
    }
}

fn one(before: &mut Option<Snapshot>, after: Snapshot) -> Vec<Line> {
    let rates = before.as_ref().and_then(|before| Rates::between(before, &after));
    let lines = detail::lines(&after, unix_now(), rates);
    *before = Some(after);
    lines
}

fn all(options: &Options) -> Vec<Line> {
    match look_at_all(options) {
        Ok(all) => table::lines(&snapshots(all), unix_now()),
        Err(message) => vec![Line::plain(&message)],
    }
}

enum Interruption {
    End,
    Suspend,
    Resized,
}

struct Interruptions {
    interrupt: Signals,
    terminate: Signals,
    hangup: Signals,
    suspend: Signals,
    resized: Signals,
}

impl Interruptions {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            suspend: signal(SignalKind::from_raw(Signal::SIGTSTP as i32))?,
            resized: signal(SignalKind::window_change())?,
        })
    }

    async fn next(&mut self) -> Interruption {
        tokio::select! {
            _ = self.interrupt.recv() => Interruption::End,
            _ = self.terminate.recv() => Interruption::End,
            _ = self.hangup.recv() => Interruption::End,
            _ = self.suspend.recv() => Interruption::Suspend,
            _ = self.resized.recv() => Interruption::Resized,
        }
    }
}

/// The terminal while it is ours. What is no terminal gets one page after the other.
struct Screen {
    is_terminal: bool,
    colours: bool,
}

impl Screen {
    fn enter() -> io::Result<Self> {
        let screen = Self { is_terminal: io::stdout().is_terminal(), colours: colours() };
        screen.resume()?;
        Ok(screen)
    }

    fn resume(&self) -> io::Result<()> {
        self.control(ENTER)
    }

    fn leave(&self) -> io::Result<()> {
        self.control(LEAVE)
    }

    fn control(&self, sequence: &str) -> io::Result<()> {
        if !self.is_terminal {
            return Ok(());
        }
        write_all(sequence)
    }

    /// Draws over what was there: nothing flickers, and nothing wraps or scrolls.
    fn show(&mut self, lines: &[Line]) -> io::Result<()> {
        let size = terminal_size().filter(|_| self.is_terminal);
        let Some((Width(width), Height(height))) = size else {
            let page = lines.iter().map(|line| line.painted(usize::MAX, false) + "\n");
            return write_all(&(page.collect::<String>() + "\n"));
        };
        let mut page = "\x1b[H".to_owned();
        for (row, line) in lines.iter().take(height.into()).enumerate() {
            if row > 0 {
                page.push_str("\r\n");
            }
            page.push_str("\x1b[2K");
            page.push_str(&line.painted(width.into(), self.colours));
        }
        page.push_str("\x1b[J");
        write_all(&page)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = self.leave();
    }
}

fn write_all(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
