//! What outlives the process in the service manager's store, with this test as the service manager
//! (sd_notify(3), sd_listen_fds(3)), in a network namespace of its own. Needs root.

#![allow(clippy::unwrap_used)] // All of it is test code, also outside the test functions.

use std::fs::{self, File};
use std::io::{IoSliceMut, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::Pid;

const CONFIG: &str = r#"
[interface]
addresses = ["fd00::1/64", "10.9.0.1/24"]
[interface.routes]
"fd00:4::/64" = { via = "fd00::10" }
"10.4.0.0/16" = { via = "10.9.0.2" }
[link]
listen = "127.0.0.1:4641"
[security]
mode = "plaintext"
peer_addresses = ["127.0.0.2/32"]
"#;

/// What must not change, without what the kernel counts.
const INTERFACE: &str = "ip -o link show tun0 | sed 's/ qlen.*//'
                         ip -o address show tun0 | sed 's/ valid_lft.*//'
                         ip -4 route show dev tun0; ip -6 route show dev tun0";

#[test]
fn the_interface_is_taken_over_as_it_is_however_the_process_ended() {
    in_namespace(|| {
        let mut manager = Manager::new();
        let mut daemon = manager.start(CONFIG);
        let before = shell(INTERFACE);
        assert!(before.contains("fd00:4::/64 via fd00::10"), "{before}");
        for signal in [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGSEGV] {
            let monitor = Monitor::start();
            daemon.end(signal);
            assert_eq!(shell(INTERFACE), before, "it stays while nobody runs");
            daemon = manager.start(CONFIG);
            assert_eq!(shell(INTERFACE), before);
            assert_eq!(monitor.seen(), "", "nothing is taken away for a moment");
            assert!(daemon.log().contains("interface taken over"), "{}", daemon.log());
            assert!(!daemon.log().contains("changes="), "{}", daemon.log());
        }
        assert_eq!(manager.names(), ["bound", "tun-0"]);
        daemon.end(Signal::SIGTERM);
        drop(manager);
        assert_eq!(shell("ip -o link show tun0 2>&1 || true"), "Device \"tun0\" does not exist.\n");
    });
}

#[test]
fn what_the_configuration_now_says_otherwise_is_changed_on_the_interface() {
    in_namespace(|| {
        let mut manager = Manager::new();
        let mut daemon = manager.start(CONFIG);
        let index = shell("cat /sys/class/net/tun0/ifindex");
        let other = CONFIG.replace("fd00:4::/64", "fd00:5::/64").replace("10.9.0.1", "10.9.0.3");
        for queues in [4, 2, 1] {
            daemon.end(Signal::SIGTERM);
            let streams = format!("[link]\nstreams = {queues}\n");
            daemon = manager.start(&other.replace("[link]\n", &streams));
            assert_eq!(shell("cat /sys/class/net/tun0/ifindex"), index, "{}", daemon.log());
            let kept = manager.names().iter().filter(|name| name.starts_with("tun-")).count();
            assert_eq!(kept, queues);
        }
        let now = shell(INTERFACE);
        assert!(now.contains("fd00:5::/64 via fd00::10") && now.contains("10.9.0.3/24"), "{now}");
        assert!(!now.contains("fd00:4::") && !now.contains("10.9.0.1/"), "{now}");
        daemon.end(Signal::SIGTERM);
    });
}

#[test]
fn what_does_not_fit_is_given_up_and_the_interface_is_created_anew() {
    in_namespace(|| {
        let mut manager = Manager::new();
        manager.start(CONFIG).end(Signal::SIGTERM);
        let mut daemon =
            manager.start(&CONFIG.replacen("[interface]", "[interface]\nname = \"tun9\"", 1));
        assert!(daemon.log().contains("interface not taken over"), "{}", daemon.log());
        assert!(daemon.log().contains("a queue of the interface tun0"), "{}", daemon.log());
        assert_eq!(shell("ls /sys/class/net"), "lo\ntun9\n", "the old one is closed everywhere");
        assert_eq!(manager.names(), ["bound", "tun-0"]);

        daemon.end(Signal::SIGTERM);
        let none = File::options().read(true).write(true).open("/dev/null").unwrap();
        manager.kept = vec![("tun-0".to_owned(), none.into())];
        let stranger = OwnedFd::from(File::open("/dev/null").unwrap());
        manager.kept.push(("stored".to_owned(), stranger));
        let mut daemon = manager.start(CONFIG);
        assert!(daemon.log().contains("not a queue of an interface"), "{}", daemon.log());
        assert!(daemon.log().contains("nobody needs name=stored"), "{}", daemon.log());
        assert_eq!(manager.names(), ["bound", "tun-0"]);
        daemon.end(Signal::SIGTERM);
    });
}

#[test]
fn an_interface_that_was_deleted_meanwhile_is_created_anew() {
    in_namespace(|| {
        let mut manager = Manager::new();
        manager.start(CONFIG).end(Signal::SIGTERM);
        shell("ip link delete tun0");
        let mut daemon = manager.start(CONFIG);
        assert!(shell(INTERFACE).contains("fd00:4::/64 via fd00::10"), "{}", daemon.log());
        daemon.end(Signal::SIGTERM);
    });
}

#[test]
fn a_carrier_that_was_lost_stays_lost() {
    in_namespace(|| {
        let mut manager = Manager::new();
        let config = CONFIG.replace("[link]", "[link]\nkeepalive = \"1s\"\ndead_after = \"3s\"");
        let mut daemon = manager.start(&config);
        eventually(|| shell("ip link show tun0").contains("NO-CARRIER"));
        daemon.end(Signal::SIGTERM);
        // Another queue is a reason for the kernel to set the carrier. This one would wait for half a
        // minute until it takes it away.
        let mut daemon = manager.start(&CONFIG.replace("[link]", "[link]\nstreams = 2"));
        assert!(shell("ip link show tun0").contains("NO-CARRIER"), "{}", daemon.log());
        assert!(!daemon.log().contains("carrier"), "{}", daemon.log());
        daemon.end(Signal::SIGTERM);
    });
}

#[test]
fn whoever_connects_between_two_processes_is_answered_by_the_next() {
    in_namespace(|| {
        let mut manager = Manager::new();
        let config = CONFIG.replace("127.0.0.2/32", "127.0.0.1/32");
        manager.start(&config).end(Signal::SIGKILL);
        let mut early = TcpStream::connect("127.0.0.1:4641").unwrap();
        let mut daemon = manager.start(&config);
        early.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        // Without HELLO it is closed in the end, which only somebody who has accepted it can do.
        assert_eq!(early.read(&mut [0; 16]).unwrap(), 0);
        daemon.end(Signal::SIGTERM);

        // With another port in the configuration the old one is closed.
        let mut daemon = manager.start(&config.replace(":4641", ":4642"));
        assert!(TcpStream::connect("127.0.0.1:4641").is_err(), "{}", daemon.log());
        TcpStream::connect("127.0.0.1:4642").unwrap();
        daemon.end(Signal::SIGTERM);
    });
}

#[test]
fn the_socket_of_a_socket_unit_is_used_and_a_difference_is_told() {
    in_namespace(|| {
        let config = CONFIG.replace("127.0.0.2/32", "127.0.0.1/32");
        for (port, listens, line) in [
            (4641, "127.0.0.1:4641", "listening address=127.0.0.1:4641"),
            (4777, "127.0.0.1:4777", "address=127.0.0.1:4777 configured=127.0.0.1:4641"),
        ] {
            let mut manager = Manager::new();
            let socket = TcpListener::bind(("127.0.0.1", port)).unwrap();
            manager.kept.push(("listen".to_owned(), socket.into()));
            let mut daemon = manager.start(&config);
            assert!(daemon.log().contains(line), "{}", daemon.log());
            let mut peer = TcpStream::connect(listens).unwrap();
            peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            assert_eq!(peer.read(&mut [0; 16]).unwrap(), 0, "somebody accepts");
            assert_eq!(manager.names(), ["listen", "tun-0"], "it is the unit's to keep");
            daemon.end(Signal::SIGTERM);
        }
        let mut manager = Manager::new();
        let socket = TcpListener::bind("127.0.0.1:4641").unwrap();
        manager.kept.push(("listen".to_owned(), socket.into()));
        let dials = config.replace("listen = \"127.0.0.1:4641\"", "connect = \"127.0.0.1:9\"");
        let mut daemon = manager.start(&dials);
        assert!(daemon.log().contains("link.listen is not set"), "{}", daemon.log());
        daemon.end(Signal::SIGTERM);
    });
}

/// The service manager: what it keeps, by name.
struct Manager {
    socket: UnixDatagram,
    dir: tempfile::TempDir,
    kept: Vec<(String, OwnedFd)>,
}

/// A process that the manager has started.
struct Service {
    child: Child,
    log: PathBuf,
}

impl Manager {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Self { socket, dir, kept: Vec::new() }
    }

    /// Starts the daemon with this configuration and what is kept. Returns when it is ready.
    fn start(&mut self, config: &str) -> Service {
        // What a process that was killed has still said comes first.
        while self.hear_now() {}
        fs::write(self.dir.path().join("tun0.toml"), config).unwrap();
        let log = self.dir.path().join("log");
        let out = File::options().create(true).write(true).truncate(true).mode(0o600).open(&log);
        let out = out.unwrap();
        let names = self.kept.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(":");
        let kept: Vec<_> = self.kept.iter().map(|(_, kept)| kept.as_raw_fd()).collect();
        let mut command = Command::new("sh");
        command
            .args(["-c", "LISTEN_PID=$$ exec \"$@\"", "sh", env!("CARGO_BIN_EXE_tunnel64d")])
            .args(["run", "tun0", "--config-dir"])
            .arg(self.dir.path())
            .arg("--runtime-dir")
            .arg(self.dir.path())
            .env("NOTIFY_SOCKET", self.dir.path().join("notify"))
            .env("LISTEN_FDS", kept.len().to_string())
            .env("LISTEN_FDNAMES", names)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out);
        // SAFETY: dup2 and close are async-signal-safe, and what is kept stays open until after the
        // fork.
        unsafe {
            command.pre_exec(move || {
                // Out of each other's way first.
                for (place, kept) in (100..).zip(&kept) {
                    libc::dup2(*kept, place);
                }
                for (place, _) in (0..).zip(&kept) {
                    libc::dup2(100 + place, 3 + place);
                    libc::close(100 + place);
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        let service = Service { child, log };
        loop {
            match self.receive() {
                Ok(said) if said.contains("READY=1") => return service,
                Ok(_) => {}
                Err(error) => panic!("not ready: {error}: {}", service.log()),
            }
        }
    }

    fn names(&mut self) -> Vec<String> {
        while self.hear_now() {}
        let mut names: Vec<_> = self.kept.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    fn hear_now(&mut self) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        let said = self.receive();
        self.socket.set_nonblocking(false).unwrap();
        said.is_ok()
    }

    /// One message, and what follows from it.
    fn receive(&mut self) -> nix::Result<String> {
        let mut bytes = [0; 4096];
        let mut rights = nix::cmsg_space!([i32; 4]);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut rights), flags)?;
        let length = message.bytes;
        let mut came = Vec::new();
        for part in message.cmsgs().unwrap() {
            if let ControlMessageOwned::ScmRights(fds) = part {
                // SAFETY: the kernel has just made them for us.
                came.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        let said = String::from_utf8(bytes[..length].to_vec()).unwrap();
        let name = said.lines().find_map(|line| line.strip_prefix("FDNAME="));
        if let (Some(name), true) = (name, said.contains("FDSTOREREMOVE=1")) {
            self.kept.retain(|(kept, _)| kept != name);
        } else if let (Some(name), true) = (name, said.contains("FDSTORE=1")) {
            // The real one compares descriptors; a process stores what it has taken over.
            self.kept.retain(|(kept, _)| kept != name);
            self.kept.extend(came.into_iter().map(|fd| (name.to_owned(), fd)));
        }
        Ok(said)
    }
}

impl Service {
    fn end(&mut self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, signal).unwrap();
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(10), "{signal}: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
            if signal == Signal::SIGSEGV {
                // Rust's handler returns from the first, for the faulty instruction to fault again.
                kill(pid, signal).unwrap();
            }
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `ip monitor` on links, addresses and routes.
struct Monitor {
    child: Child,
    seen: tempfile::NamedTempFile,
}

impl Monitor {
    fn start() -> Self {
        let seen = tempfile::NamedTempFile::new().unwrap();
        let child = Command::new("ip")
            .args(["monitor", "link", "address", "route"])
            .stdout(seen.reopen().unwrap())
            .spawn()
            .unwrap();
        let monitor = Self { child, seen };
        // It watches once it tells of a change that is no change of ours.
        eventually(|| {
            shell("ip route replace blackhole 192.0.2.1 && ip route delete blackhole 192.0.2.1");
            !monitor.raw().is_empty()
        });
        monitor
    }

    fn raw(&self) -> String {
        fs::read_to_string(self.seen.path()).unwrap()
    }

    /// All that was not its own.
    fn seen(&self) -> String {
        let raw = self.raw();
        let others = raw.lines().filter(|line| !line.contains("192.0.2.1"));
        others.map(|line| format!("{line}\n")).collect()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn in_namespace(test: impl FnOnce() + Send + 'static) {
    assert!(nix::unistd::geteuid().is_root(), "run as root: this test makes a network namespace");
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces of our own");
        shell("mount --make-rprivate /; mount -t sysfs sysfs /sys; ip link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

#[track_caller]
fn eventually(mut condition: impl FnMut() -> bool) {
    for _ in 0..200 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("not within ten seconds");
}

#[track_caller]
fn shell(script: &str) -> String {
    let output = Command::new("bash").args(["-euc", script]).output().expect("bash");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
