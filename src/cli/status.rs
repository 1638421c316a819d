//! `tunnel64d status [NAME]`: how things are, and what can be done about them.
//!
//! One tunnel in [`detail`], all of them in a [`table`]; [`watch`] shows either again and again.
//! Why a tunnel does not run is found out by [`absent`].

mod absent;
mod detail;
mod format;
mod screen;
mod table;
mod watch;

use std::collections::BTreeSet;
use std::env;
use std::io::{self, IsTerminal};
use std::panic::resume_unwind;
use std::thread::{self, sleep};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{Exit, Options, complain, print};
use crate::config;
use crate::control::client::{Client, Failure, STATUS_PATIENCE};
use crate::control::socket;
use crate::metrics::snapshot::{Snapshot, State, VERSION};

/// How often a tunnel that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Twice what a daemon takes whose main loop is well: it gives its workers half a second. The first
/// look has that much time in any case.
const ENOUGH: Duration = Duration::from_secs(1);

/// What is to be shown.
#[derive(Debug)]
pub struct Arguments<'a> {
    /// The one tunnel; all of them when there is none.
    pub name: Option<&'a str>,
    /// As JSON.
    pub json: bool,
    /// Again and again.
    pub watch: bool,
    /// After waiting for a session, this long at the most.
    pub wait_connected: Option<Duration>,
}

/// One tunnel, as far as it can be seen.
#[derive(Debug)]
struct Seen {
    snapshot: Snapshot,
    /// As the daemon gave it, with what only its version knows.
    raw: Value,
    exit: Exit,
}

/// Shows what is asked for.
pub fn status(options: &Options, arguments: &Arguments<'_>) -> Exit {
    if arguments.watch {
        return watch::watch(options, arguments.name);
    }
    let mut exit = Exit::Fine;
    let text = match arguments.name {
        Some(name) => {
            let seen = match arguments.wait_connected {
                Some(limit) => wait_connected(options, name, limit, &mut exit),
                None => look_closely(options, name),
            };
            if seen.exit != Exit::Fine {
                exit = seen.exit;
            }
            if arguments.json {
                object(&seen.raw)
            } else {
                screen::text(&detail::lines(&seen.snapshot, unix_now(), None), colours())
            }
        }
        None => {
            let all = match look_at_all(options) {
                Ok(all) => all,
                Err(message) => {
                    complain(&message);
                    return Exit::NotRunning;
                }
            };
            exit = overall(&all);
            if arguments.json {
                let tunnels: Vec<_> = all.into_iter().map(|seen| seen.raw).collect();
                object(&json!({ "version": VERSION, "tunnels": tunnels }))
            } else {
                screen::text(&table::lines(&snapshots(all), unix_now()), colours())
            }
        }
    };
    match print(&text) {
        Exit::Fine => exit,
        failure => failure,
    }
}

/// Looks until there is a session, or for as long as `limit`; then `exit` is a failure.
fn wait_connected(options: &Options, name: &str, limit: Duration, exit: &mut Exit) -> Seen {
    let start = Instant::now();
    let left = || limit.saturating_sub(start.elapsed());
    let mut seen = look(options, name, left().clamp(ENOUGH, STATUS_PATIENCE));
    loop {
        if seen.snapshot.state == State::Up || seen.exit == Exit::Permission {
            return seen;
        }
        if left().is_zero() {
            *exit = Exit::Failed;
            return explained(options, name, seen);
        }
        sleep(LOOK.min(left()));
        let patience = left().min(STATUS_PATIENCE);
        let now = look(options, name, patience);
        // What was seen before says more than that there was hardly time to look again.
        if now.exit != Exit::Failed || patience >= ENOUGH {
            seen = now;
        }
    }
}

fn look(options: &Options, name: &str, patience: Duration) -> Seen {
    let client = Client::connect(&options.runtime_dir, name, patience);
    let asked = client.and_then(|mut client| client.status());
    let (snapshot, exit) = match asked {
        Ok(raw) => match serde_json::from_value(raw.clone()) {
            Ok(snapshot) => return Seen { snapshot, raw, exit: Exit::Fine },
            Err(_) => {
                let path = socket::path(&options.runtime_dir, name);
                absent::unanswered(name, &Failure::Malformed(path))
            }
        },
        Err(failure) => absent::unanswered(name, &failure),
    };
    Seen::without_daemon(snapshot, exit)
}

/// As [`look`], and finds out why a tunnel that does not run does not.
fn look_closely(options: &Options, name: &str) -> Seen {
    explained(options, name, look(options, name, STATUS_PATIENCE))
}

fn explained(options: &Options, name: &str, seen: Seen) -> Seen {
    if seen.exit != Exit::NotRunning {
        return seen;
    }
    Seen::without_daemon(absent::explained(options, name, seen.snapshot), Exit::NotRunning)
}

/// All tunnels that have a socket or a configuration.
fn look_at_all(options: &Options) -> Result<Vec<Seen>, String> {
    let (runtime, configuration) = (&options.runtime_dir, &options.config_dir);
    let mut names = BTreeSet::new();
    names.extend(socket::names(runtime).unwrap_or_default());
    // The directory is not for everybody.
    names.extend(config::instances(configuration).unwrap_or_default());
    if names.is_empty() {
        return Err(format!(
            "no tunnel runs ({}) and none is configured ({}), as far as this user can see",
            runtime.display(),
            configuration.display()
        ));
    }
    // At once: one that hangs takes its time.
    Ok(thread::scope(|scope| {
        let looks: Vec<_> =
            names.iter().map(|name| scope.spawn(|| look_closely(options, name))).collect();
        let seen =
            looks.into_iter().map(|look| look.join().unwrap_or_else(|panic| resume_unwind(panic)));
        seen.collect()
    }))
}

/// It is fine if one of them can be seen to run.
fn overall(all: &[Seen]) -> Exit {
    let has = |exit| all.iter().any(|seen| seen.exit == exit);
    [Exit::Fine, Exit::Permission, Exit::Failed]
        .into_iter()
        .find(|exit| has(*exit))
        .unwrap_or(Exit::NotRunning)
}

fn snapshots(all: Vec<Seen>) -> Vec<Snapshot> {
    all.into_iter().map(|seen| seen.snapshot).collect()
}

impl Seen {
    fn without_daemon(snapshot: Snapshot, exit: Exit) -> Self {
        Self { raw: serde_json::to_value(&snapshot).unwrap_or_default(), snapshot, exit }
    }
}

fn object(value: &Value) -> String {
    format!("{value:#}\n")
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Colours are for terminals that have them and people who want them (<https://no-color.org>).
fn colours() -> bool {
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stdout().is_terminal() && !set("NO_COLOR") && !dumb
}
