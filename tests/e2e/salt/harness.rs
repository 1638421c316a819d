//! The six hosts as booted machines, for the checks that the lab does in namespaces.
//!
//! The checks run in a host's network with the tools of this machine: what they see is what the
//! states in the booted machine have made of that network.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use super::minion::{self, CURRENT, masterless};
use crate::machine::{Machine, Release, World};
pub use crate::wait::eventually;

pub const VM1_6: &str = "VM1-6";
pub const VM2_6: &str = "VM2-6";
pub const VM3_6: &str = "VM3-6";
pub const VM1: &str = "VM1";
pub const VM2: &str = "VM2";
pub const VM3: &str = "VM3";

/// All, in the order in which they are configured: both islands' router first.
pub const HOSTS: [&str; 6] = [VM2_6, VM2, VM1, VM3, VM1_6, VM3_6];

const CABLES: [[(&str, &str); 2]; 6] = [
    [(VM1_6, "eth1"), (VM2_6, "eth1")],
    [(VM2_6, "eth2"), (VM3_6, "eth1")],
    [(VM1_6, "eth2"), (VM1, "eth2")],
    [(VM3_6, "eth2"), (VM3, "eth2")],
    [(VM1, "eth1"), (VM2, "eth1")],
    [(VM2, "eth2"), (VM3, "eth1")],
];

const ADDRESSES: [(&str, &str, &str); 12] = [
    (VM1_6, "eth1", "fc00:1234:1::16/64"),
    (VM1_6, "eth2", "fc00:1234:3::16/64"),
    (VM2_6, "eth1", "fc00:1234:1::26/64"),
    (VM2_6, "eth2", "fc00:1234:2::26/64"),
    (VM3_6, "eth1", "fc00:1234:2::36/64"),
    (VM3_6, "eth2", "fc00:1234:4::36/64"),
    (VM1, "eth1", "172.16.2.131/28"),
    (VM1, "eth2", "fc00:1234:3::1/64"),
    (VM2, "eth1", "172.16.2.132/28"),
    (VM2, "eth2", "172.16.2.162/28"),
    (VM3, "eth1", "172.16.2.163/28"),
    (VM3, "eth2", "fc00:1234:4::3/64"),
];

/// The six hosts.
pub struct Lab<'w> {
    world: &'w World,
    machines: Vec<(&'static str, Machine<'w>)>,
}

impl<'w> Lab<'w> {
    /// Boots the hosts. VM1 and VM1-6 have systemd-networkd, VM3 and VM3-6 ifupdown, and the
    /// addresses of VM2 and VM2-6 come from outside.
    pub fn boot(world: &'w World) -> Self {
        let boot = |name| (name, minion::boot(world, name, Release::Bookworm, CURRENT));
        let lab = Self { world, machines: HOSTS.map(boot).into() };
        for [near, far] in CABLES {
            world.cable((lab.machine(near.0), near.1), (lab.machine(far.0), far.1));
        }
        for host in HOSTS {
            // As in the lab: addresses are in use at once, and errors come several at a time.
            lab.run(
                host,
                "sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.icmp.ratelimit=0",
            );
            lab.run(
                host,
                "for eth in eth1 eth2; do sysctl -qw net.ipv6.conf.$eth.accept_dad=0; done",
            );
            let pillar = "/srv/formula/lab/pillar";
            lab.machine(host).write("/etc/salt/minion", "-m 0644", &masterless(host, pillar));
        }
        for (host, eth, address) in ADDRESSES {
            lab.configure(host, eth, address);
        }
        for host in [VM1, VM1_6] {
            lab.machine(host).run("systemctl enable --now systemd-networkd 2>/dev/null");
        }
        for host in [VM3, VM3_6] {
            lab.machine(host).run("systemctl restart networking");
        }
        for (host, _, address) in ADDRESSES {
            lab.await_address(host, address);
        }
        lab
    }

    fn configure(&self, host: &str, eth: &str, address: &str) {
        let machine = self.machine(host);
        match host {
            VM1 | VM1_6 => {
                let file = format!("/etc/systemd/network/{eth}.network");
                let text = format!(
                    "[Match]\nName={eth}\n[Network]\nAddress={address}\nIPv6AcceptRA=no\n\
                     ConfigureWithoutCarrier=yes\n"
                );
                machine.write(&file, "-m 0644", &text);
            }
            VM3 | VM3_6 => {
                let family = if address.contains(':') { "inet6" } else { "inet" };
                let file = format!("/etc/network/interfaces.d/{eth}");
                let text =
                    format!("auto {eth}\niface {eth} {family} static\n  address {address}\n");
                machine.write(&file, "-m 0644", &text);
            }
            _ => drop(self.run(host, &format!("ip address add {address} dev {eth}"))),
        }
    }

    fn await_address(&self, host: &str, address: &str) {
        eventually(&format!("{host} has {address}"), Duration::from_secs(20), || {
            self.run(host, "ip -o address show").contains(&format!("{address} "))
        });
    }

    /// A booted host.
    pub fn machine(&self, host: &str) -> &Machine<'w> {
        let found = self.machines.iter().find(|(name, _)| *name == host);
        &found.unwrap_or_else(|| panic!("{host} is off")).1
    }

    /// Pulls a host's plug, for good.
    pub fn kill(&mut self, host: &str) {
        self.machines.retain(|(name, _)| *name != host);
        // The kernel keeps a network alive as long as somebody may look at it.
        self.world
            .shell(&format!("ip -n {host} link set eth1 down; ip -n {host} link set eth2 down"));
    }

    /// Switches hosts off and on again, with nothing left of what the kernel was told before.
    pub fn reboot(&mut self, hosts: &[&str]) {
        for host in hosts {
            let (_, machine) = self.machines.iter_mut().find(|(name, _)| name == host).expect("on");
            machine.power_off();
            self.world.shell(&format!(
                "for eth in eth1 eth2; do
                     ip -n {host} address flush dev $eth
                     ip -n {host} -6 route flush dev $eth
                     ip -n {host} link set $eth down
                 done
                 ip netns exec {host} sysctl -qw net.ipv6.conf.all.forwarding=0"
            ));
        }
        for host in hosts {
            let (_, machine) = self.machines.iter_mut().find(|(name, _)| name == host).expect("on");
            machine.start();
        }
    }

    /// Runs a shell command in a host's network. Panics when it fails.
    pub fn run(&self, host: &str, command: &str) -> String {
        self.attempt(host, command).unwrap_or_else(|said| panic!("{host}: `{command}`:\n{said}"))
    }

    /// As [`Lab::run`], for commands whose failure is an answer.
    pub fn attempt(&self, host: &str, command: &str) -> Result<String, String> {
        let output = Command::new("ip")
            .args([
                "netns", "exec", host, "timeout", "-k", "2", "60", "bash", "-o", "pipefail", "-c",
            ])
            .arg(format!("exec 2>&1; {command}"))
            .stdin(Stdio::null())
            .output()
            .expect("`ip netns exec` starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(text) } else { Err(text) }
    }

    /// Starts a shell command in a host's network that runs until it is dropped.
    pub fn spawn(&self, host: &str, command: &str) -> Process {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let log = self.file(&format!("{host}-{}.check", NEXT.fetch_add(1, Ordering::Relaxed)));
        let out = File::create(&log).expect("a file for the output");
        let err = out.try_clone().expect("a second descriptor");
        let child = Command::new("ip")
            .args(["netns", "exec", host, "bash", "-c", &format!("exec {command}")])
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .expect("`ip netns exec` starts");
        Process { child, log }
    }

    /// Runs `work` in a host's network: sockets opened there stay there.
    pub fn inside<T: Send>(&self, host: &str, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(Path::new("/run/netns").join(host)).expect("its namespace");
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(namespace, CloneFlags::CLONE_NEWNET).expect("entering the namespace");
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A file that goes with the machines.
    pub fn file(&self, name: &str) -> PathBuf {
        self.world.file(name)
    }
}

/// A command in a host's network, killed when dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Returns when it has printed `text`, panics when it has not after ten seconds.
    pub fn await_output(&self, text: &str) {
        eventually(&format!("output has `{text}`"), Duration::from_secs(10), || {
            fs::read_to_string(&self.log).is_ok_and(|output| output.contains(text))
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
