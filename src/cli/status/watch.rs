//! The same again every second, on a screen of its own that leaves the terminal as it was.

use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::pin::pin;
use std::time::Duration;

use nix::sys::signal::{Signal, raise};
use terminal_size::{Height, Width, terminal_size};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::task::spawn_blocking;
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
    let watched = runtime.and_then(|runtime| {
        let shown = runtime.block_on(show(options, name));
        // A look at a daemon that hangs ends with the process.
        runtime.shutdown_background();
        shown
    });
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
    let (mut before, mut lines) = (None, Vec::new());
    loop {
        let (options, name) = (options.clone(), name.map(str::to_owned));
        let look = spawn_blocking(move || Look::take(&options, name.as_deref()));
        let Some(look) = signals.meanwhile(look, &mut screen, &lines).await? else { return Ok(()) };
        lines = match look? {
            Look::One(after) => one(&mut before, *after),
            Look::All(lines) => lines,
        };
        screen.show(&lines)?;
        if signals.meanwhile(sleep(EVERY), &mut screen, &lines).await?.is_none() {
            return Ok(());
        }
    }
}

/// What there is to see. Of a daemon that hangs that takes seconds.
enum Look {
    One(Box<Snapshot>),
    All(Vec<Line>),
}

impl Look {
    fn take(options: &Options, name: Option<&str>) -> Self {
        match name {
            Some(name) => Self::One(Box::new(look_closely(options, name).snapshot)),
            None => Self::All(all(options)),
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

    /// Waits, with these lines on the screen. Nothing if that came to its end first.
    async fn meanwhile<T>(
        &mut self,
        what: impl Future<Output = T>,
        screen: &mut Screen,
        lines: &[Line],
    ) -> io::Result<Option<T>> {
        let mut what = pin!(what);
        loop {
            tokio::select! {
                done = &mut what => return Ok(Some(done)),
                interruption = self.next() => match interruption {
                    Interruption::End => return Ok(None),
                    Interruption::Resized => screen.show(lines)?,
                    Interruption::Suspend => {
                        screen.leave()?;
                        // SIGTSTP itself is ours now.
                        raise(Signal::SIGSTOP)?;
                        screen.resume()?;
                        screen.show(lines)?;
                    }
                },
            }
        }
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
