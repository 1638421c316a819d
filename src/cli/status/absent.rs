//! Why a tunnel does not run: the checks that its daemon makes before it touches anything.

use std::fs;
use std::io;
use std::path::Path;

use nix::unistd::Uid;

use crate::cli::unreadable::{self, USER};
use crate::cli::{Exit, Options};
use crate::config::{self, Mode, Settings};
use crate::control::client::{Failure, seconds};
use crate::metrics::snapshot::{Kind, Problem, Snapshot, State, VERSION};
use crate::transport::keys::{FileError, PrivateKey};

/// Where systemd looks for `LoadCredential=tunnel64d.key:tunnel64d.NAME.key`.
const CREDENTIALS: [&str; 6] = [
    "/etc/credstore",
    "/run/credstore",
    "/usr/lib/credstore",
    "/etc/credstore.encrypted",
    "/run/credstore.encrypted",
    "/usr/lib/credstore.encrypted",
];

/// What can be said of a tunnel whose daemon gives no answer.
pub fn unanswered(name: &str, failure: &Failure) -> (Snapshot, Exit) {
    let (state, kind, exit) = match failure {
        Failure::NotRunning(_) => (State::NotRunning, Kind::NotRunning, Exit::NotRunning),
        Failure::Permission(_) => (State::Unknown, Kind::Permission, Exit::Permission),
        _ => (State::Unknown, Kind::NotRunning, Exit::Failed),
    };
    let (text, remedy) = match failure {
        Failure::NotRunning(_) => ("not running".to_owned(), start(name)),
        Failure::Permission(path) => (
            format!("permission denied: {}", path.display()),
            format!("Run this as root, or as a member of the group {USER}."),
        ),
        Failure::Silent(_, limit) => (
            format!("the daemon has not answered for {} s", seconds(*limit)),
            format!(
                "It hangs or is stopped: `systemctl status tunnel64d@{name}`. Its watchdog \
                 restarts it; so does `systemctl restart tunnel64d@{name}`."
            ),
        ),
        failure => {
            (failure.to_string(), format!("See the log: `journalctl -x -u tunnel64d@{name}`."))
        }
    };
    let problems = vec![Problem { kind, text, remedy, since: None }];
    let version = VERSION;
    (Snapshot { version, name: name.to_owned(), state, problems, ..Snapshot::default() }, exit)
}

/// The same tunnel, with what keeps it from running in front.
pub fn explained(options: &Options, name: &str, snapshot: Snapshot) -> Snapshot {
    let mut reasons = match config::load(&options.sources(name)) {
        Ok(loaded) => {
            let files = unreadable::among(&loaded.places).filter(|_| options.are_the_units());
            let files = files.map(|(text, remedy)| {
                let remedy = format!("{remedy}. {}", start(name));
                Problem { kind: Kind::Configuration, text, remedy, since: None }
            });
            files.into_iter().chain(key(name, &loaded.settings)).collect()
        }
        Err(errors) => configuration(options, name, &errors),
    };
    for reason in &mut reasons {
        reason.text = format!("not running: {}", reason.text);
    }
    let problems = if reasons.is_empty() { snapshot.problems } else { reasons };
    Snapshot { problems, ..snapshot }
}

fn configuration(options: &Options, name: &str, errors: &config::Errors) -> Vec<Problem> {
    let file = options.sources(name).own_file();
    // What this user may not read is no obstacle to the daemon.
    if fs::File::open(&file).is_err_and(|error| is_permission(&error)) {
        return Vec::new();
    }
    let remedy = format!("Correct it, see `tunnel64d check {name}`. {}", start(name));
    if file.try_exists().is_ok_and(|exists| !exists) {
        let text = format!("no tunnel of this name is configured: there is no {}", file.display());
        let remedy = format!("Write {}, see tunnel64d.toml(5). {}", file.display(), start(name));
        return vec![Problem { kind: Kind::Configuration, text, remedy, since: None }];
    }
    let problem = |error: &config::Error| Problem {
        kind: Kind::Configuration,
        text: error.to_string(),
        remedy: remedy.clone(),
        since: None,
    };
    errors.iter().map(problem).collect()
}

/// What is wrong with the private key.
fn key(name: &str, settings: &Settings) -> Option<Problem> {
    let security = &settings.security;
    if security.mode == Mode::Plaintext {
        return None;
    }
    let problem = |text: String, remedy: String| {
        let remedy = format!("{remedy} {}", start(name));
        Some(Problem { kind: Kind::Key, text, remedy, since: None })
    };
    let Some(path) = &security.private_key_file else {
        let file = format!("tunnel64d.{name}.key");
        if CREDENTIALS.iter().any(|directory| Path::new(directory).join(&file).exists()) {
            return None;
        }
        return problem(
            "there is no private key".to_owned(),
            format!(
                "Make one with `tunnel64d genkey`, and name its file in security.private_key_file \
                 or put it into /etc/credstore/{file}."
            ),
        );
    };
    let shown = path.display();
    let modes = format!("`chown root:{USER} {shown}` and `chmod 640 {shown}`.");
    match PrivateKey::read(path) {
        Err(FileError::Io { source, .. })
            if is_permission(&source) && !Uid::effective().is_root() =>
        {
            None
        }
        Err(error @ FileError::Io { .. }) => problem(
            format!("the private key can't be read: {}", plain(&error)),
            format!(
                "See that the file is there and its disk is sound and mounted: `ls -l {shown}`. \
                 The daemon needs to read it: {modes}"
            ),
        ),
        Err(error @ FileError::Exposed { .. }) => problem(error.to_string(), modes),
        Err(error @ FileError::Malformed { .. }) => problem(
            format!("the private key is none: {error}"),
            "Put back the file, or make a new key with `tunnel64d genkey` and tell the peer."
                .to_owned(),
        ),
        Ok(key) if security.peer_public_keys.contains(&key.public()) => problem(
            format!("security.peer_public_keys holds our own key {}", key.public()),
            "Put the other end's there: `tunnel64d pubkey` on the peer prints it.".to_owned(),
        ),
        Ok(_) => unreadable::for_the_daemon(path).and_then(|why| {
            problem(format!("the private key can't be read by the daemon: {why}"), modes)
        }),
    }
}

fn is_permission(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

fn start(name: &str) -> String {
    format!(
        "Start it with `systemctl start tunnel64d@{name}`; why it ended says `journalctl -x -u \
         tunnel64d@{name}`."
    )
}

fn plain(error: &FileError) -> String {
    let text = error.to_string();
    text.split(" (os error ").next().unwrap_or(&text).to_owned()
}
