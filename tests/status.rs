//! `tunnel64d status` as its user sees it: on a terminal, in a pipe, and without a daemon.
//!
//! The daemon's end of the socket is served here; what a real daemon says is tested in the lab.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;
use tempfile::TempDir;
use tunnel64d::cli::Exit;
use tunnel64d::control::requests::{Request, requests};
use tunnel64d::control::server::Server;
use tunnel64d::control::socket;
use tunnel64d::metrics::snapshot::{Problem, Session, Snapshot, State, VERSION};

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

#[test]
fn every_way_out_leaves_the_terminal_as_it_was() {
    let host = Host::new();
    let _daemon = host.serve("tun0");
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut terminal = Terminal::run(host.command(&["tun0", "--watch"]), 80, 24);
        terminal.await_text("tun0: up for");
        kill(terminal.pid(), signal).expect("it runs");
        let (code, seen) = terminal.end();
        assert_eq!(code, Some(0), "{signal}");
        assert!(seen.starts_with(ENTER) && seen.ends_with(LEAVE), "{signal}: {seen:?}");
    }
}

#[test]
fn a_suspended_watch_gives_the_terminal_back_until_it_goes_on() {
    let host = Host::new();
    let _daemon = host.serve("tun0");
    let mut terminal = Terminal::run(host.command(&["tun0", "--watch"]), 80, 24);
    terminal.await_text("tun0: up for");
    kill(terminal.pid(), Signal::SIGTSTP).expect("it runs");
    terminal.await_text(LEAVE);
    terminal.await_stopped();
    terminal.forget();
    kill(terminal.pid(), Signal::SIGCONT).expect("it is stopped");
    terminal.await_text(ENTER);
    terminal.await_text("tun0: up for");
    kill(terminal.pid(), Signal::SIGINT).expect("it runs");
    assert!(terminal.end().1.ends_with(LEAVE));
}

#[test]
fn no_terminal_is_too_narrow_or_too_low() {
    let host = Host::new();
    let _daemon = host.serve("tun0");
    for (columns, rows) in [(1, 1), (20, 5), (200, 50)] {
        let mut terminal = Terminal::run(host.command(&["tun0", "--watch"]), columns, rows);
        terminal.await_text("\x1b[J");
        kill(terminal.pid(), Signal::SIGINT).expect("it runs");
        let (_, seen) = terminal.end();
        let page = seen.strip_prefix(ENTER).and_then(|rest| rest.split("\x1b[J").next());
        let page = page.expect("a page").trim_start_matches("\x1b[H");
        let lines: Vec<_> = page.lines().map(without_sequences).collect();
        assert!(lines.len() <= usize::from(rows), "{lines:?}");
        let widest = lines.iter().map(|line| line.chars().count()).max();
        assert!(widest <= Some(columns.into()), "{columns}: {lines:?}");
    }
}

#[test]
fn colours_are_for_terminals_and_those_who_want_them() {
    let host = Host::new();
    let _daemon = host.serve("tun0");
    let coloured = |command: Command| Terminal::run(command, 80, 24).end().1.contains("\x1b[32m");
    assert!(coloured(host.command(&["tun0"])));
    let mut without = host.command(&["tun0"]);
    without.env("NO_COLOR", "1");
    assert!(!coloured(without));
    let piped = host.run(&["tun0"]);
    let text = text(&piped);
    assert!(text.starts_with("tun0: up for") && !text.contains('\x1b'), "{text:?}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_watch() {
    let host = Host::new();
    let _daemon = host.serve("tun0");
    let mut watch = host.command(&["--watch"]).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut pipe = watch.stdout.take().expect("a pipe");
    pipe.read_exact(&mut [0; 6]).expect("the first words");
    drop(pipe);
    assert!(watch.wait().expect("a child of ours").success());
}

#[test]
fn a_table_has_those_that_run_and_those_that_do_not() {
    let host = Host::new();
    host.configure("tun1", "[link]\nlisten = \"127.0.0.1:4641\"\n[security]\npeers = 1\n");
    let _daemons = [host.serve("tun0"), host.serve("tun2")];
    let output = host.run(&[]);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let names: Vec<_> = text.lines().filter(|line| line.starts_with("tun")).collect();
    assert!(names.len() == 3 && names[1].contains("not running"), "{text}");
    assert!(text.contains("security.peers: unknown key"), "{text}");
}

#[test]
fn those_that_hang_do_not_add_up() {
    let host = Host::new();
    let all_are_asked = Arc::new(Barrier::new(3));
    let _daemons = ["tun0", "tun1", "tun2"].map(|name| {
        let all_are_asked = all_are_asked.clone();
        host.serve_after(name, move || {
            all_are_asked.wait();
        })
    });
    let text = text(&host.run(&[]));
    assert_eq!(text.lines().filter(|line| line.contains(" up ")).count(), 3, "{text}");
}

#[test]
fn a_tunnel_that_does_not_run_is_told_of_with_the_reason_and_status_69() {
    let host = Host::new();
    let nothing = host.run(&[]);
    assert_eq!(nothing.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("no tunnel runs"));

    let key = host.path("no.key");
    host.configure(
        "tun0",
        &format!(
            "[link]\nlisten = \"127.0.0.1\"\n[security]\nprivate_key_file = \"{}\"\n\
         peer_public_keys = [\"JBqfnNZiJyJBm4nexqXFZC0sxPOBaYdQmYp7Ou/uGsA=\"]\n",
            key.display()
        ),
    );
    for (file, why) in [(None, "can't be read"), (Some("short"), "is none")] {
        if let Some(text) = file {
            fs::write(&key, text).expect("a key file");
            let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(&key, owner_only).expect("our own file");
        }
        let output = host.run(&["tun0"]);
        let text = text(&output);
        assert_eq!(output.status.code(), Some(69), "{text}");
        let start = format!("tun0: not running: the private key {why}");
        assert!(text.starts_with(&start) && text.contains("\n  Remedy      "), "{text}");
    }
}

#[test]
fn a_daemon_that_hangs_is_not_waited_for_longer_than_is_said() {
    let host = Host::new();
    // Nobody accepts.
    let _bound = socket::bind(&host.path("run"), "tun0").expect("a socket");
    for (arguments, limit) in [
        (&["tun0"][..], 8),
        (&["tun0", "--wait-connected", "2"], 2),
        (&["tun0", "--wait-connected", "0"], 1),
    ] {
        let begun = Instant::now();
        let output = host.run(arguments);
        let took = begun.elapsed().as_secs();
        assert_eq!(output.status.code(), Some(Exit::Failed.code().into()));
        let words = format!("has not answered for {limit} s");
        assert!(text(&output).contains(&words), "{words}: {}", text(&output));
        // Much more than it is, as a busy machine may take.
        assert!((limit..limit * 4 + 3).contains(&took), "{arguments:?}: {took} s");
    }
}

#[test]
fn a_daemon_that_hangs_does_not_hold_up_the_end_of_a_watch() {
    let host = Host::new();
    let _bound = socket::bind(&host.path("run"), "tun0").expect("a socket");
    for arguments in [&["tun0", "--watch"][..], &["--watch"]] {
        let mut terminal = Terminal::run(host.command(arguments), 80, 24);
        terminal.await_text(ENTER);
        kill(terminal.pid(), Signal::SIGINT).expect("it runs");
        let (code, seen) = terminal.end();
        assert_eq!(code, Some(0), "as ever");
        assert_eq!(seen, format!("{ENTER}{LEAVE}"), "nothing was waited for");
    }
}

/// A configuration and a runtime directory.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(TempDir::new().expect("a temporary directory"));
        fs::create_dir(host.path("etc")).expect("a directory");
        fs::create_dir(host.path("run")).expect("a directory");
        host
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn configure(&self, name: &str, text: &str) {
        fs::write(self.path("etc").join(format!("{name}.toml")), text).expect("a configuration");
    }

    /// A daemon that is up, and says more than a line holds.
    fn serve(&self, name: &str) -> Server {
        self.serve_after(name, || ())
    }

    /// One that does something else before it answers.
    fn serve_after(&self, name: &str, first: impl Fn() + Send + 'static) -> Server {
        let (sender, mut receiver) = requests();
        let bound = socket::bind(&self.path("run"), name).expect("a socket");
        let snapshot = Snapshot {
            version: VERSION,
            name: name.to_owned(),
            daemon_version: env!("CARGO_PKG_VERSION").to_owned(),
            state: State::Up,
            since: u64::MAX,
            session: Some(Session { peer: "172.16.2.163:4641".to_owned(), ..Session::default() }),
            problems: Vec::<Problem>::new(),
            ..Snapshot::default()
        };
        thread::spawn(move || {
            while let Some(request) = receiver.blocking_recv() {
                if let Request::Status(reply) = request {
                    first();
                    let _ = reply.send(snapshot.clone());
                }
            }
        });
        Server::start(bound, sender).expect("a thread")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tunnel64d"));
        command.env_clear().env("TERM", "xterm").arg("status").args(arguments);
        command.arg("--config-dir").arg(self.path("etc"));
        command.arg("--runtime-dir").arg(self.path("run"));
        command.arg("--vendor-dir").arg(Path::new("/nonexistent"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program")
    }
}

/// A program that takes longer to say something, or to stop, hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program on a terminal of its own.
struct Terminal {
    child: Child,
    master: File,
    slave: OwnedFd,
    before: Termios,
    seen: String,
    forgotten: usize,
}

impl Terminal {
    fn run(mut command: Command, columns: u16, rows: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None).expect("a terminal");
        let before = tcgetattr(&slave).expect("its settings");
        let stdio = || Stdio::from(slave.try_clone().expect("another descriptor"));
        command.stdin(stdio()).stdout(stdio()).stderr(stdio());
        let child = command.spawn().expect("the program");
        Self { child, master: master.into(), slave, before, seen: String::new(), forgotten: 0 }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().expect("a PID"))
    }

    /// Reads until it has shown this since it was last told to forget.
    fn await_text(&mut self, text: &str) {
        while !self.seen[self.forgotten..].contains(text) {
            assert!(self.read() > 0, "{text:?} in {:?}", self.seen);
        }
    }

    fn forget(&mut self) {
        self.forgotten = self.seen.len();
    }

    fn await_stopped(&self) {
        let status = format!("/proc/{}/stat", self.pid());
        let begun = Instant::now();
        while !fs::read_to_string(&status).expect("it is there").contains(") T ") {
            assert!(begun.elapsed() < PATIENCE, "it goes on: {:?}", self.seen);
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// How it ends, and all it has shown; the terminal's settings are as before.
    fn end(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().expect("a child of ours").code();
        assert_eq!(tcgetattr(&self.slave).expect("its settings"), self.before);
        // With the last other end closed, reading comes to an end.
        drop(std::mem::replace(&mut self.slave, File::open("/dev/null").expect("a file").into()));
        while self.read() > 0 {}
        (code, std::mem::take(&mut self.seen))
    }

    fn read(&mut self) -> usize {
        let mut room = [0; 4096];
        let mut ready = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(PATIENCE).expect("not too long");
        assert!(poll(&mut ready, patience).expect("a poll") > 0, "silence after {:?}", self.seen);
        let length = self.master.read(&mut room).unwrap_or(0);
        self.seen.push_str(&String::from_utf8_lossy(&room[..length]));
        length
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What is left on the screen of a line with control sequences; the terminal adds a carriage return.
fn without_sequences(line: &str) -> String {
    let mut parts = line.trim_end_matches('\r').split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).expect("the end of a sequence");
        text + &part[end + 1..]
    })
}
