//! A lab and its daemons, owned by a test and gone with it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Once;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

pub use crate::wait::{eventually, eventually_seen};

/// The six hosts, by the names that the lab's tool knows.
pub const VM1_6: &str = "VM1-6";
pub const VM2_6: &str = "VM2-6";
pub const VM3_6: &str = "VM3-6";
pub const VM1: &str = "VM1";
pub const VM2: &str = "VM2";
pub const VM3: &str = "VM3";

/// What a command in a host may take before it is ended, in seconds.
const COMMAND_LIMIT: &str = "60";

const TOOLS: [&str; 12] = [
    "ip",
    "ss",
    "nft",
    "ping",
    "traceroute",
    "tcpdump",
    "ethtool",
    "nc",
    "iperf3",
    "inetd",
    "flock",
    "timeout",
];

/// The six hosts. Dropping it ends everything in them and removes them.
pub struct Lab {
    id: String,
    /// Configuration, runtime directories and logs; removed with the lab.
    dir: PathBuf,
}

impl Lab {
    /// The islands joined by VM2-6, no tunnel.
    pub fn raise() -> Self {
        demand_what_the_lab_needs();
        let owner = std::process::id().to_string();
        let id = tool(&["up", "--owner", &owner]).trim().to_owned();
        let dir = tool(&["--id", &id, "dir"]).trim().into();
        Self { id, dir }
    }

    /// VM2-6 is dead and the islands' routes lead to VM1 and VM3; no tunnel yet.
    pub fn raise_after_failure() -> Self {
        let lab = Self::raise();
        lab.tool(&["kill-router"]);
        lab.tool(&["takeover"]);
        lab
    }

    /// VM2-6 is dead and the sample configuration's tunnel has taken over.
    pub fn raise_tunnelled() -> (Self, Daemon, Daemon) {
        Self::raise_tunnelled_with("", "")
    }

    /// As [`Lab::raise_tunnelled`], with a drop-in for each gateway's configuration.
    pub fn raise_tunnelled_with(vm1: &str, vm3: &str) -> (Self, Daemon, Daemon) {
        let lab = Self::raise_after_failure();
        let daemons = (lab.start(VM1, vm1), lab.start(VM3, vm3));
        lab.await_tunnel();
        (lab, daemons.0, daemons.1)
    }

    /// Runs a command of `tests/lab/lab` on this lab and returns what it printed.
    pub fn tool(&self, arguments: &[&str]) -> String {
        tool(&[&["--id", self.id.as_str()], arguments].concat())
    }

    /// Runs a shell command in a host and returns what it printed on both outputs. Panics when it
    /// fails or takes a minute.
    pub fn run(&self, host: &str, command: &str) -> String {
        match self.attempt(host, command) {
            Ok(output) => output,
            Err(output) => panic!("{host}: `{command}` failed:\n{output}"),
        }
    }

    /// As [`Lab::run`], for commands whose failure is an answer.
    pub fn attempt(&self, host: &str, command: &str) -> Result<String, String> {
        let output = self
            .command(host)
            .args(["timeout", "-k", "2", COMMAND_LIMIT, "bash", "-o", "pipefail", "-c"])
            .arg(format!("exec 2>&1; {command}"))
            .stdin(Stdio::null())
            .output()
            .expect("`ip netns exec` starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(text) } else { Err(text) }
    }

    /// Starts a shell command that runs beside the test until its [`Process`] is dropped.
    pub fn spawn(&self, host: &str, command: &str) -> Process {
        let log = self.file(&format!("{host}-{}.out", unique()));
        let mut process = self.command(host);
        process.args(["bash", "-c", &format!("exec {command}")]);
        Process::spawn(process, log)
    }

    /// Runs `work` in a host: sockets opened there stay there.
    pub fn inside<T: Send>(&self, host: &str, work: impl FnOnce() -> T + Send) -> T {
        let namespace = Path::new("/run/netns").join(self.namespace(host));
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let namespace = File::open(namespace).expect("the host's namespace");
                setns(namespace, CloneFlags::CLONE_NEWNET).expect("entering the namespace");
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A new private key in a file of this name, and its public one.
    pub fn make_key(&self, name: &str) -> (PathBuf, String) {
        let run = |argument: &str, input: &str| {
            let mut child = Command::new(binary())
                .arg(argument)
                .env_remove("TUNNEL64D_BIN")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("the daemon's program");
            child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("written");
            String::from_utf8(child.wait_with_output().expect("it ends").stdout).expect("base64")
        };
        let private = run("genkey", "");
        let file = self.file(name);
        let mut open = OpenOptions::new();
        let opened = open.write(true).create_new(true).mode(0o600).open(&file);
        opened.expect("a key file").write_all(private.as_bytes()).expect("written");
        (file, run("pubkey", &private).trim().to_owned())
    }

    /// A file of this lab, for configuration and logs.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Starts a gateway's daemon with the sample configuration and a drop-in (may be empty).
    pub fn start(&self, host: &'static str, drop_in: &str) -> Daemon {
        self.start_from(host, &sample(host), drop_in)
    }

    /// Starts a gateway's daemon with a configuration of the test's own and a drop-in.
    pub fn start_from(&self, host: &'static str, config: &str, drop_in: &str) -> Daemon {
        let dir = self.configure(host, config, drop_in);
        Daemon { process: self.launch(&dir, host), host, dir }
    }

    /// Starts a gateway's daemon with the sample configuration, and with a service manager that
    /// listens on this socket.
    pub fn start_notifying(&self, host: &'static str, socket: &Path) -> Daemon {
        let dir = self.configure(host, &sample(host), "");
        let mut command = self.command(host);
        command.env("NOTIFY_SOCKET", socket);
        Daemon { process: self.launch_with(command, &dir), host, dir }
    }

    fn configure(&self, host: &str, config: &str, drop_in: &str) -> PathBuf {
        let dir = self.file(host);
        fs::create_dir_all(dir.join("tun0.d")).expect("a configuration directory");
        fs::create_dir_all(dir.join("run")).expect("a runtime directory");
        let config = config.replace("@DIR@", dir.to_str().expect("a plain path"));
        fs::write(dir.join("tun0.toml"), config).expect("a configuration");
        // The keys are everybody's: they protect nothing but a lab.
        let key = fs::read(here().join(format!("config/{host}.key"))).expect("a sample key");
        let private = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o640)
            .open(dir.join("tun0.key"));
        private.and_then(|mut file| file.write_all(&key)).expect("a key file");
        fs::write(dir.join("tun0.d/test.toml"), drop_in).expect("a drop-in");
        dir
    }

    fn launch(&self, dir: &Path, host: &str) -> Process {
        self.launch_with(self.command(host), dir)
    }

    fn launch_with(&self, mut command: Command, dir: &Path) -> Process {
        command.arg(binary()).args(["run", "tun0", "--config-dir"]).arg(dir);
        command.arg("--runtime-dir").arg(dir.join("run"));
        Process::spawn(command, dir.join("log"))
    }

    /// Runs `tunnel64d status` for a gateway: how it exits, and what it prints on both outputs with
    /// every line break and indentation a blank.
    pub fn status(&self, host: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.status_command(host, arguments).output().expect("the program");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).expect("UTF-8");
        (output.status.code(), text.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// The same as a command.
    pub fn status_command(&self, host: &str, arguments: &[&str]) -> Command {
        let dir = self.file(host);
        let mut command = Command::new(binary());
        command.env_remove("TUNNEL64D_BIN").arg("status").args(arguments);
        command.arg("--config-dir").arg(&dir).arg("--runtime-dir").arg(dir.join("run"));
        command
    }

    /// Returns when the status of the gateway's tunnel has all of these words.
    pub fn await_status(&self, host: &str, words: &[&str]) {
        eventually_seen(Duration::from_secs(30), || {
            let (_, seen) = self.status(host, &["tun0"]);
            let has_all = words.iter().all(|word| seen.contains(word));
            if has_all { Ok(()) } else { Err(format!("{words:?} in the status: {seen}")) }
        });
    }

    /// Returns when a ping passes between the gateways' tunnel addresses.
    pub fn await_tunnel(&self) {
        eventually("the tunnel passes a ping", Duration::from_secs(20), || {
            self.attempt(VM1, "ping -c 1 -W 1 fc00:1234:ffff::10").is_ok()
        });
    }

    /// The established TCP connections of the tunnel's port in a host, as `local peer` lines.
    pub fn outer_connections(&self, host: &str) -> Vec<String> {
        let filter = "'( sport = :4641 or dport = :4641 )'";
        let listed = self.run(host, &format!("ss -Htn state established {filter}"));
        let mut lines: Vec<_> = listed
            .lines()
            .map(|line| line.split_whitespace().skip(2).take(2).collect::<Vec<_>>().join(" "))
            .collect();
        lines.sort();
        lines
    }

    /// The name of a host's network namespace, as `lab ns` prints it.
    pub fn namespace(&self, host: &str) -> String {
        format!("t64-{}-{}", self.id, host.to_lowercase())
    }

    fn command(&self, host: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host)]);
        // The daemon reads TUNNEL64D_* as configuration and refuses what it does not know.
        command.env_remove("TUNNEL64D_BIN");
        command
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.tool(&["down"]);
    }
}

/// A gateway's daemon. Dropping it kills it; its log is shown when the test fails.
pub struct Daemon {
    process: Process,
    host: &'static str,
    dir: PathBuf,
}

impl Daemon {
    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.end(Signal::SIGKILL);
    }

    /// SIGTERM; returns how it ended. Panics when it is still there after ten seconds.
    pub fn stop(&mut self) -> ExitStatus {
        self.process.end(Signal::SIGTERM)
    }

    /// Starts it again with the configuration that lies there; its log goes on.
    pub fn start_again(&mut self, lab: &Lab) {
        self.process = lab.launch(&self.dir, self.host);
    }

    /// SIGHUP; returns the lines about it when it is done with it.
    pub fn reload(&self) -> String {
        let verdicts = || -> Vec<String> {
            let log = self.log();
            let verdicts = log.lines().filter(|line| {
                line.contains("configuration reloaded") || line.contains("reload rejected")
            });
            verdicts.map(str::to_owned).collect()
        };
        let before = verdicts().len();
        let pid = Pid::from_raw(self.pid().try_into().expect("a PID"));
        kill(pid, Signal::SIGHUP).expect("it runs");
        eventually("a verdict on the reload", Duration::from_secs(10), || {
            verdicts().len() > before
        });
        verdicts()[before..].join("\n")
    }

    /// Runs a command of the daemon's program on it: its status, and what it says on stdout and on
    /// stderr.
    pub fn command(&self, lab: &Lab, command: &str) -> (Option<i32>, String, String) {
        let mut process = lab.command(self.host);
        process
            .arg(binary())
            .args(command.split(' '))
            .args(["tun0", "--config-dir"])
            .arg(&self.dir);
        let output = process
            .arg("--runtime-dir")
            .arg(self.dir.join("run"))
            .stdin(Stdio::null())
            .output()
            .expect("`ip netns exec` starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// Replaces the drop-in, for the next start or reload.
    pub fn reconfigure(&self, drop_in: &str) {
        fs::write(self.dir.join("tun0.d/test.toml"), drop_in).expect("a drop-in");
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.exit_status().is_none()
    }

    /// How it ended, if it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.process.child.try_wait().expect("a child of ours")
    }

    /// Returns when it has logged `text`, panics when it has not after ten seconds.
    pub fn await_log(&self, text: &str) {
        self.process.await_output(text);
    }

    /// All it has logged so far, over all its starts.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Its resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.child.id()))
            .expect("the daemon runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of {} ---\n{}", self.host, self.log());
        }
    }
}

/// A process in a host, killed when dropped. Both its outputs go to one file.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn spawn(mut command: Command, log: PathBuf) -> Self {
        let out = OpenOptions::new().create(true).append(true).open(&log).expect("a log file");
        let err = out.try_clone().expect("a second descriptor");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .expect("`ip netns exec` starts");
        Self { child, log }
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Returns when it has printed `text`, panics when it has not after ten seconds.
    pub fn await_output(&self, text: &str) {
        eventually(&format!("output has `{text}`"), Duration::from_secs(10), || {
            self.output().contains(text)
        });
    }

    /// Sends a signal and waits for the end, ten seconds at most.
    pub fn end(&mut self, signal: Signal) -> ExitStatus {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a PID"));
        kill(pid, signal).expect("the process is there");
        let mut status = None;
        eventually(&format!("the process ends after {signal}"), Duration::from_secs(10), || {
            status = self.child.try_wait().expect("a child of ours");
            status.is_some()
        });
        status.expect("it has ended")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The sample configuration of a gateway: `tests/lab/config/HOST.toml`.
pub fn sample(host: &str) -> String {
    fs::read_to_string(here().join(format!("config/{host}.toml"))).expect("a sample configuration")
}

/// The sample configuration of a gateway without one of its keys.
pub fn sample_without(host: &str, key: &str) -> String {
    let lines = sample(host);
    let kept = lines.lines().filter(|line| !line.starts_with(&format!("{key} = ")));
    kept.map(|line| format!("{line}\n")).collect()
}

/// The daemon under test.
pub fn binary() -> OsString {
    std::env::var_os("TUNNEL64D_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_tunnel64d").into())
}

/// Runs `tests/lab/lab` and returns what it printed; panics when it fails.
pub fn tool(arguments: &[&str]) -> String {
    let output = Command::new(here().join("lab"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("tests/lab/lab starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "lab {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab")
}

fn unique() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A test that cannot run fails: one that is skipped proves nothing.
pub fn demand_what_the_lab_needs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let missing: Vec<_> = TOOLS
            .iter()
            .filter(|tool| !std::env::split_paths(&path).any(|dir| dir.join(tool).exists()))
            .collect();
        assert!(Uid::effective().is_root(), "the lab needs root: it makes network namespaces");
        assert!(Path::new("/dev/net/tun").exists(), "the lab needs /dev/net/tun");
        assert!(missing.is_empty(), "missing: {missing:?}; `make deps` as root installs them");
    });
}
