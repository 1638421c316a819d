//! `tunnel64d reload` as its user sees it: what holds now, and what to do next.
//!
//! The daemon's end of the socket is served here; what a real daemon does is tested in the lab.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread;

use tempfile::TempDir;
use tunnel64d::control::protocol::{Applied, Rejected};
use tunnel64d::control::requests::{Request, Verdict, requests};
use tunnel64d::control::server::Server;
use tunnel64d::control::socket;

const IN_FORCE: &str = "tun0: nothing was applied: the old configuration is still in force, and \
                        the tunnel runs on with it\n";

#[test]
fn what_was_applied_is_all_there_is_to_say() {
    assert_eq!(told(Ok(Applied::default())), (Some(0), "nothing changed\n".into(), "".into()));
    let keys = Applied { applied: words(&["link.dscp", "queue.ecn"]), ..Applied::default() };
    assert_eq!(told(Ok(keys)), (Some(0), "link.dscp\nqueue.ecn\n".into(), "".into()));
}

#[test]
fn what_is_not_in_place_yet_comes_with_what_is_and_with_the_remedy() {
    let applied = words(&["interface.addresses"]);
    let incomplete = Some("interface tun0 is incomplete: no route".to_owned());
    let remedy = Some("Remove what is in the way.".to_owned());
    let (code, out, err) = told(Ok(Applied { applied, incomplete, remedy }));
    assert_eq!((code, out.as_str()), (Some(0), "interface.addresses\n"));
    assert_eq!(
        err,
        "tun0: interface tun0 is incomplete: no route\n\
         tun0: all the rest is in force. Remove what is in the way.\n"
    );
}

#[test]
fn what_is_refused_comes_with_what_holds_and_with_the_remedy() {
    let errors = words(&["one reason", "another"]);
    let remedy = "Correct it.".to_owned();
    let (code, out, err) = told(Err(Rejected { errors, remedy }));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(err, format!("one reason\nanother\n{IN_FORCE}tun0: Correct it.\n"));
}

/// What is in a file is in the reasons too.
#[test]
fn no_reason_does_anything_to_the_terminal() {
    let errors = words(&["unknown key \u{1b}[2J\nname"]);
    let (_, _, err) = told(Err(Rejected { errors, remedy: String::new() }));
    assert_eq!(err, format!("unknown key \u{fffd}[2J\u{fffd}name\n{IN_FORCE}"));
}

/// Whoever listens may be no daemon of ours.
#[test]
fn no_answer_does_anything_to_the_terminal() {
    let directory = TempDir::new().expect("a temporary directory");
    let listener = UnixListener::bind(socket::path(directory.path(), "tun0")).expect("a socket");
    let answers = thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let call = BufReader::new(&client).split(0).next();
        call.expect("a call").expect("all of it");
        client.write_all(b"{\"error\":\"\\u001b[2J\"}\0").expect("it waits");
    });
    let (code, _, err) = reload(&directory);
    answers.join().expect("no panic");
    assert_eq!(code, Some(1));
    assert!(err.ends_with("the daemon answers \u{fffd}[2J\n"), "{err:?}");
}

#[test]
fn without_a_daemon_it_is_said_when_the_configuration_takes_effect() {
    let directory = TempDir::new().expect("a temporary directory");
    let (code, out, err) = reload(&directory);
    assert_eq!((code, out.as_str()), (Some(69), ""));
    assert!(err.contains("`systemctl start tunnel64d@tun0`"), "{err}");
}

#[test]
fn without_an_answer_it_is_said_that_nobody_knows() {
    let directory = TempDir::new().expect("a temporary directory");
    let bound = socket::bind(directory.path(), "tun0").expect("a socket");
    let (listener, _file) = bound.into_parts();
    listener.set_nonblocking(false).expect("our own socket");
    let dies = thread::spawn(move || drop(listener.accept()));
    let (code, out, err) = reload(&directory);
    dies.join().expect("no panic");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("which configuration is in force is not known"), "{err}");
}

/// How the command ends when the daemon says this, and what it prints on stdout and stderr.
fn told(verdict: Verdict) -> (Option<i32>, String, String) {
    let directory = TempDir::new().expect("a temporary directory");
    let bound = socket::bind(directory.path(), "tun0").expect("a socket");
    let (sender, mut receiver) = requests();
    thread::spawn(move || {
        while let Some(request) = receiver.blocking_recv() {
            if let Request::Reload(reply) = request {
                let _ = reply.send(verdict.clone());
            }
        }
    });
    let _server = Server::start(bound, sender).expect("a thread");
    reload(&directory)
}

fn reload(directory: &TempDir) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tunnel64d"));
    command.env_clear().args(["reload", "tun0", "--runtime-dir"]).arg(directory.path());
    let output = command.output().expect("the program");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
