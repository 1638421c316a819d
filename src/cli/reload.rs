//! `tunnel64d reload NAME`: a changed configuration into the running daemon, and its verdict.

use super::{Exit, Options, complain, print};
use crate::control::client::{Client, Failure, RELOAD_PATIENCE};

/// Has the daemon of the instance `name` read its configuration again, and says what came of it.
pub fn reload(options: &Options, name: &str) -> Exit {
    let client = Client::connect(&options.runtime_dir, name, RELOAD_PATIENCE);
    let asked = client.and_then(|mut client| client.reload());
    match asked {
        Ok(Ok(reloaded)) => {
            if let Some(incomplete) = &reloaded.incomplete {
                complain(&format!("{name}: not in place yet, tried again: {incomplete}"));
            }
            match &reloaded.applied[..] {
                [] => print("nothing changed\n"),
                keys => print(&format!("{}\n", keys.join("\n"))),
            }
        }
        Ok(Err(reasons)) => {
            reasons.iter().for_each(|reason| complain(reason));
            complain("the old configuration is still in force");
            Exit::Failed
        }
        Err(failure) => {
            complain(&format!("{name}: {failure}"));
            match failure {
                Failure::NotRunning(_) => Exit::NotRunning,
                Failure::Permission(_) => Exit::Permission,
                _ => Exit::Failed,
            }
        }
    }
}
