//! `tunnel64d reload NAME`: a changed configuration into the running daemon, and its verdict.

use super::harmless::harmless;
use super::{Exit, Options, complain, print};
use crate::control::client::{Client, Failure, RELOAD_PATIENCE};
use crate::control::protocol::{Applied, Rejected};

/// Has the daemon of the instance `name` read its configuration again, and says what came of it:
/// what holds now, and what to do next if that is not what was wanted.
pub fn reload(options: &Options, name: &str) -> Exit {
    let client = Client::connect(&options.runtime_dir, name, RELOAD_PATIENCE);
    match client.and_then(|mut client| client.reload()) {
        Ok(Ok(applied)) => tell_applied(name, &applied),
        Ok(Err(rejected)) => tell_rejected(name, &rejected),
        Err(failure) => tell_failure(name, &failure),
    }
}

fn tell_applied(name: &str, applied: &Applied) -> Exit {
    if let Some(incomplete) = &applied.incomplete {
        complain(&harmless(&format!("{name}: {incomplete}")));
        let remedy = applied.remedy.as_deref().unwrap_or("It is tried again.");
        complain(&harmless(&format!("{name}: all the rest is in force. {remedy}")));
    }
    match &applied.applied[..] {
        [] => print("nothing changed\n"),
        keys => print(&keys.iter().map(|key| harmless(key) + "\n").collect::<String>()),
    }
}

fn tell_rejected(name: &str, rejected: &Rejected) -> Exit {
    for error in &rejected.errors {
        complain(&harmless(error));
    }
    complain(&format!(
        "{name}: nothing was applied: the old configuration is still in force, and the tunnel runs \
         on with it"
    ));
    if !rejected.remedy.is_empty() {
        complain(&harmless(&format!("{name}: {}", rejected.remedy)));
    }
    Exit::Failed
}

fn tell_failure(name: &str, failure: &Failure) -> Exit {
    complain(&harmless(&format!("{name}: {failure}")));
    match failure {
        Failure::NotRunning(_) => {
            complain(&format!(
                "{name}: the configuration takes effect when it is started: `systemctl start \
                 tunnel64d@{name}`"
            ));
            Exit::NotRunning
        }
        Failure::Permission(_) => Exit::Permission,
        Failure::Silent(..) | Failure::Broken(..) => {
            complain(&format!(
                "{name}: which configuration is in force is not known: the verdict, once there is \
                 one, is in `journalctl -x -u tunnel64d@{name}`"
            ));
            Exit::Failed
        }
        Failure::Busy(_) | Failure::Malformed(_) | Failure::Refused(..) => Exit::Failed,
    }
}
