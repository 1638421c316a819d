//! Booted machines and the network between them, owned by a test and gone with it.
//!
//! The thread of a test moves into a mount namespace of its own. Network namespaces and overlays
//! have their names only there, so that the kernel removes them with the last process. Each
//! machine is a container of systemd-nspawn in PID and cgroup namespaces of its own, and dies with
//! the test. What a killed test leaves on disk the next one removes.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::Uid;

use crate::wait::eventually;

/// What a command in a machine may take before it is ended, in seconds.
const COMMAND_LIMIT: &str = "120";

/// What every machine has: what the package or a case needs, since machines have no way out.
pub const PACKAGES: [&str; 15] = [
    "systemd",
    "systemd-sysv",
    "dbus",
    "iproute2",
    "iputils-ping",
    "iperf3",
    "procps",
    "curl",
    "nftables",
    "openssh-server",
    "autopkgtest",
    "lintian",
    "dpkg-dev",
    "needrestart",
    "ifupdown",
];

const TOOLS: [&str; 7] =
    ["ip", "mmdebstrap", "nsenter", "setpriv", "systemd-nspawn", "unshare", "dpkg-deb"];

/// A release of Debian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Debian 12, systemd 252.
    Bookworm,
    /// Debian 13, systemd 257.
    Trixie,
}

impl Release {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Bookworm => Self::Trixie,
            Self::Trixie => Self::Bookworm,
        }
    }

    /// A root file system of this release with these packages, made if need be.
    pub fn root(self, packages: &[&str]) -> PathBuf {
        let rootfs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/rootfs");
        PathBuf::from(output(Command::new(rootfs).arg(self.name()).args(packages)).trim())
    }

    /// Debian's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

/// What the machines of one test share. Dropping it removes everything.
pub struct World {
    /// Unique among tests and runs.
    id: String,
    dir: PathBuf,
}

impl World {
    /// Moves the calling thread into a world of its own.
    pub fn new() -> Self {
        demand_what_machines_need();
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-{number}", std::process::id());
        let dir = runs().join(&id);
        fs::create_dir_all(dir.join("cgroup")).expect("a directory for the machines");

        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        let world = Self { id, dir };
        world.shell(
            "mount --make-rprivate /
             mkdir -p /run/netns /run/systemd
             mount -t tmpfs -o mode=755 e2e /run/netns
             mount -t tmpfs -o mode=755 e2e /run/systemd
             mount -t cgroup2 e2e cgroup
             mknod -m 666 tun c 10 200",
        );
        world
    }

    /// Boots a machine that has no network but the loopback.
    pub fn boot(&self, name: &'static str, release: Release) -> Machine<'_> {
        self.boot_from(name, &release.root(&PACKAGES).display().to_string())
    }

    /// The same over file systems laid one over the other, the topmost first, with colons between
    /// them.
    pub fn boot_from(&self, name: &'static str, layers: &str) -> Machine<'_> {
        self.boot_with(name, layers, &[])
    }

    /// The same with directories of this machine at other places in the booted one, to read only.
    pub fn boot_with(
        &self,
        name: &'static str,
        layers: &str,
        lent: &[(PathBuf, &str)],
    ) -> Machine<'_> {
        self.shell(&format!(
            "ip netns add {name}
             ip -n {name} link set lo up
             mkdir {name} {name}/upper {name}/work {name}/root
             # Where the cache is itself an overlay, the kernel may refuse another one: copy then.
             mount -t overlay e2e -o lowerdir={layers},upperdir={name}/upper,workdir={name}/work \\
                 {name}/root 2>/dev/null ||
                 tr : '\\n' <<<{layers} | tac | xargs -I@ cp -a @/. {name}/root/
             tr -d - </proc/sys/kernel/random/uuid >{name}/root/etc/machine-id",
        ));
        let lent = lent.iter().map(|(from, to)| format!("--bind-ro={}:{to}", from.display()));
        let mut machine = Machine { world: self, name, lent: lent.collect(), container: None };
        machine.start();
        machine
    }

    /// A wire between two machines.
    pub fn wire(&self, near: (&Machine<'_>, &str), far: (&Machine<'_>, &str)) {
        let (left, right) = (near.0.name, far.0.name);
        self.shell(&format!("ip -n {left} link add eth1 type veth peer name eth1 netns {right}"));
        for (machine, address) in [near, far] {
            self.shell(&format!(
                "ip -n {0} address add {address} dev eth1; ip -n {0} link set eth1 up",
                machine.name
            ));
        }
    }

    /// A cable between two interfaces that it brings along, without addresses.
    pub fn cable(&self, near: (&Machine<'_>, &str), far: (&Machine<'_>, &str)) {
        self.shell(&format!(
            "ip -n {0} link add {1} type veth peer name {3} netns {2}
             ip -n {0} link set {1} up
             ip -n {2} link set {3} up",
            near.0.name, near.1, far.0.name, far.1
        ));
    }

    /// A file outside the machines that goes with them.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Runs a shell script in the directory of this world.
    pub fn shell(&self, script: &str) -> String {
        output(Command::new("bash").args(["-euc", script]).current_dir(&self.dir))
    }

    fn cgroup(&self, machine: &str) -> PathBuf {
        self.dir.join("cgroup").join(format!("t64-e2e-{}-{machine}", self.id))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let script = "for root in */root; do
                          ! mountpoint -q \"$root\" || umount \"$root\" || umount -l \"$root\"
                      done
                      umount -l cgroup /run/systemd /run/netns";
        let _ = Command::new("bash").args(["-c", script]).current_dir(&self.dir).status();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A machine that runs systemd. Dropping it is pulling the plug.
pub struct Machine<'w> {
    world: &'w World,
    name: &'static str,
    /// Arguments of systemd-nspawn for what it has of this machine's.
    lent: Vec<String>,
    container: Option<Container>,
}

struct Container {
    /// unshare, whose child is systemd-nspawn.
    child: Child,
    /// PID 1 of the machine, as seen from outside.
    init: u32,
}

impl Machine<'_> {
    /// What it was booted as.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs a shell command and returns what it printed on both outputs. Panics when it fails or
    /// takes two minutes.
    pub fn run(&self, command: &str) -> String {
        match self.attempt(command) {
            Ok(output) => output,
            Err(output) => panic!("{}: `{command}` failed:\n{output}", self.name),
        }
    }

    /// As [`Machine::run`], for commands whose failure is an answer.
    pub fn attempt(&self, command: &str) -> Result<String, String> {
        let output = self
            .command(&format!("exec 2>&1; {command}"))
            .stdin(Stdio::null())
            .output()
            .expect("nsenter starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(text) } else { Err(text) }
    }

    /// Whether a shell command succeeds.
    pub fn succeeds(&self, command: &str) -> bool {
        self.attempt(command).is_ok()
    }

    /// Returns when a shell command has succeeded; panics when it has not within `limit`.
    pub fn await_success(&self, command: &str, limit: Duration) {
        let what = format!("{}: `{command}` succeeds", self.name);
        eventually(&what, limit, || self.succeeds(command));
    }

    /// Writes a file as `install -m MODE -g GROUP` would.
    pub fn write(&self, path: &str, ownership: &str, text: &str) {
        let mut child = self
            .command(&format!("install -D {ownership} /dev/stdin {path}"))
            .stdin(Stdio::piped())
            .spawn()
            .expect("nsenter starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(text.as_bytes()).expect("the machine reads it");
        drop(stdin);
        assert!(child.wait().expect("a child of ours").success(), "{}: {path}", self.name);
    }

    /// Copies a file from outside into the machine.
    pub fn copy(&self, from: &Path, to: &str) {
        let to = self.world.dir.join(self.name).join("root").join(to.trim_start_matches('/'));
        fs::copy(from, &to).unwrap_or_else(|error| panic!("{} to {to:?}: {error}", from.display()));
    }

    /// Starts a shell command that runs beside the test until it is dropped.
    pub fn spawn(&self, command: &str) -> Running {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let log = self.world.file(&format!("{}-{number}.out", self.name));
        let out = fs::File::create(&log).expect("a file for the output");
        let child = self
            .command_unlimited(&format!("exec 2>&1; exec {command}"))
            .stdin(Stdio::null())
            .stdout(out)
            .spawn()
            .expect("nsenter starts");
        Running { child, log }
    }

    /// `systemctl reboot`; returns when it is up again.
    pub fn reboot(&mut self) {
        self.go_down("systemctl reboot");
        self.start();
    }

    /// `systemctl poweroff`; returns when it is off. [`Machine::start`] switches it on again.
    pub fn power_off(&mut self) {
        self.go_down("systemctl poweroff");
    }

    fn go_down(&mut self, command: &str) {
        // The answer may get lost on the way down.
        let _ = self.attempt(command);
        let container = self.container.as_mut().expect("a booted machine");
        eventually("the machine goes down", Duration::from_secs(30), || {
            container.child.try_wait().expect("a child of ours").is_some()
        });
        self.container = None;
    }

    /// Switches it on; returns when it is up.
    pub fn start(&mut self) {
        let cgroup = self.world.cgroup(self.name);
        fs::create_dir_all(&cgroup).expect("a control group");
        // The network configured from outside stays; nspawn only borrows it.
        let script = format!(
            "echo $$ >{cgroup}/cgroup.procs
             exec setpriv --pdeathsig KILL \
                 unshare --cgroup --mount --pid --fork --kill-child --mount-proc bash -euc '
                     umount -l /sys/fs/cgroup
                     mount -t cgroup2 cgroup2 /sys/fs/cgroup
                     export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
                     exec systemd-nspawn --quiet --directory={dir}/{name}/root \
                         --machine=t64-{id}-{name} --hostname={name} \
                         --register=no --keep-unit --network-namespace-path=/run/netns/{name} \
                         --capability=CAP_NET_ADMIN --bind={dir}/tun:/dev/net/tun \
                         {lent} --resolv-conf=off --timezone=off --link-journal=no \
                         --boot --console=pipe'",
            cgroup = cgroup.display(),
            dir = self.world.dir.display(),
            id = self.world.id,
            name = self.name,
            lent = self.lent.join(" "),
        );
        let console = self.world.file(&format!("{}.console", self.name));
        let out = fs::File::create(&console).expect("a file for the console");
        let err = out.try_clone().expect("a second descriptor");
        let child = Command::new("bash")
            .args(["-euc", &script])
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .expect("bash starts");

        let mut container = Container { child, init: 0 };
        eventually(&format!("{} has a PID 1", self.name), Duration::from_secs(20), || {
            if let Ok(Some(status)) = container.child.try_wait() {
                panic!("{}: {status}\n{}", self.name, text_of(&console));
            }
            let init = child_of(container.child.id()).and_then(child_of);
            let name = init.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok());
            container.init = init.unwrap_or_default();
            name.is_some_and(|name| name.trim() == "systemd")
        });
        self.container = Some(container);
        let up =
            "case $(systemctl is-system-running --wait) in running | degraded) ;; *) false ;; esac";
        self.await_success(up, Duration::from_secs(60));
    }

    fn command(&self, script: &str) -> Command {
        let mut command = self.entered();
        command.args(["timeout", "-k", "2", COMMAND_LIMIT]);
        command.args(["bash", "-o", "pipefail", "-c", script]);
        command
    }

    fn command_unlimited(&self, script: &str) -> Command {
        let mut command = self.entered();
        command.args(["bash", "-o", "pipefail", "-c", script]);
        command
    }

    fn entered(&self) -> Command {
        let init = self.container.as_ref().expect("a booted machine").init;
        let mut command = Command::new("nsenter");
        command.args(["--all", "--target", &init.to_string()]);
        command.args(["env", "--chdir=/", "--ignore-environment"]);
        command.args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"]);
        command.arg("DEBIAN_FRONTEND=noninteractive");
        command
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        if thread::panicking() && self.container.is_some() {
            let log = self.attempt("journalctl --no-pager -b -o short-monotonic -n 80");
            eprintln!("--- journal of {} ---\n{}", self.name, log.unwrap_or_else(|error| error));
        }
        self.container = None;
        remove_cgroup(&self.world.cgroup(self.name));
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that runs in a machine, killed when dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// What it has printed so far.
    pub fn output(&self) -> String {
        text_of(&self.log)
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_none()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command outside the machines prints; panics with what it said when it fails.
pub fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("the command starts");
    assert!(
        output.status.success(),
        "{command:?}: {:?}\n{}{}",
        output.status.code().or(output.status.signal()),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn text_of(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn child_of(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// A control group can be removed once its last process is gone, which takes a moment.
fn remove_cgroup(cgroup: &Path) {
    let empty = format!("find {} -depth -type d -exec rmdir {{}} + 2>/dev/null", cgroup.display());
    for _ in 0..40 {
        if !cgroup.exists() {
            return;
        }
        let _ = Command::new("bash").args(["-c", &empty]).status();
        thread::sleep(Duration::from_millis(50));
    }
}

fn runs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/e2e/run")
}

/// A test that cannot run fails: one that is skipped proves nothing.
fn demand_what_machines_need() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let missing: Vec<_> = TOOLS
            .iter()
            .filter(|tool| !std::env::split_paths(&path).any(|dir| dir.join(tool).exists()))
            .collect();
        assert!(Uid::effective().is_root(), "machines need root: they are containers");
        assert!(missing.is_empty(), "missing: {missing:?}; `make deps` as root installs them");
        remove_what_killed_runs_left();
    });
}

/// Directories and control groups of runs whose process is gone.
fn remove_what_killed_runs_left() {
    for entry in fs::read_dir(runs()).into_iter().flatten().flatten() {
        let id = entry.file_name().to_string_lossy().into_owned();
        let owner = id.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(owner).exists() {
            let script = "mkdir -p \"$1/cgroup\"
                          mount -t cgroup2 e2e \"$1/cgroup\"
                          find \"$1/cgroup\" -depth -type d -path \"*/t64-e2e-$2-*\" -exec rmdir {} +
                          umount \"$1/cgroup\"
                          rm -rf --one-file-system \"$1\"";
            let mut command = Command::new("unshare");
            command.args(["--mount", "bash", "-c", script, "bash"]).arg(entry.path()).arg(&id);
            let _ = command.stderr(Stdio::null()).status();
        }
    }
}
