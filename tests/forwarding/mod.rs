//! A kernel that forwards between two TUN interfaces, in a network namespace of its own.
//!
//! ```text
//!   write ──► a ──► forwarding ──► b ──► read
//!             10.64.1.1/24         10.64.2.1/24
//!             fd64:1::1/64         fd64:2::1/64
//! ```
//!
//! Needs root; nothing is left behind, for a namespace goes with the thread that made it.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::Command;
use tunnel64d::sys::tun;
use tunnel64d::tun::vnet::{HEADER_LEN, VnetHeader};
use zerocopy::{FromBytes, IntoBytes};

/// Every `TUN_F_` bit.
pub const ALL_OFFLOADS: u32 = tun::TUN_F_CSUM
    | tun::TUN_F_TSO4
    | tun::TUN_F_TSO6
    | tun::TUN_F_TSO_ECN
    | tun::TUN_F_USO4
    | tun::TUN_F_USO6;

/// The two ends of the forwarding kernel.
pub struct Path {
    a: File,
    b: File,
}

/// Runs `test` in a new namespace, whose interfaces have this MTU and b this offload mask.
pub fn in_namespace(offload: u32, mtu: u16, test: impl FnOnce(&mut Path) + Send + 'static) {
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET)
            .expect("this test makes a network namespace, which needs root (CAP_SYS_ADMIN)");
        test(&mut Path::open(offload, mtu));
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

impl Path {
    fn open(offload: u32, mtu: u16) -> Path {
        let queue = |name, mask| {
            let queue = tun::open_queue(name, true).expect("a TUN interface (needs CAP_NET_ADMIN)");
            tun::set_vnet_header_size(queue.as_fd(), 10).unwrap();
            tun::set_offload(queue.as_fd(), mask).expect("TUN offload with USO (Linux 6.2)");
            File::from(queue)
        };
        // Router solicitations and the like would get between the segments.
        sysctl("net/ipv6/conf/default/addr_gen_mode", "1");
        sysctl("net/ipv4/ip_forward", "1");
        sysctl("net/ipv6/conf/all/forwarding", "1");
        let path = Path { a: queue("a", ALL_OFFLOADS), b: queue("b", offload) };
        for (name, subnet) in [("a", 1), ("b", 2)] {
            ip(&format!("address add 10.64.{subnet}.1/24 dev {name}"));
            ip(&format!("address add fd64:{subnet}::1/64 dev {name} nodad"));
            // The ring must hold all segments of the largest super-packet.
            ip(&format!("link set dev {name} mtu {mtu} txqueuelen 10000 up"));
        }
        path
    }

    /// Writes a packet into a as the daemon would.
    pub fn write(&mut self, vnet: &VnetHeader, packet: &[u8]) -> std::io::Result<usize> {
        self.a.write(&[vnet.as_bytes(), packet].concat())
    }

    /// The test flow's packets that came out of b, until there are `count`.
    pub fn read(&mut self, count: usize) -> Vec<(VnetHeader, Vec<u8>)> {
        let mut packets = Vec::new();
        while packets.len() < count && self.b_is_readable(2000) {
            self.drain(&mut packets);
        }
        self.drain(&mut packets);
        packets
    }

    /// What is there by now.
    pub fn drain(&mut self, packets: &mut Vec<(VnetHeader, Vec<u8>)>) {
        let mut buffer = vec![0; HEADER_LEN + 40 + 65_535 + 1];
        loop {
            match self.b.read(&mut buffer) {
                Ok(length) => {
                    assert!(length < buffer.len(), "a packet was cut");
                    let (vnet, packet) = VnetHeader::read_from_prefix(&buffer[..length]).unwrap();
                    if is_ours(packet) {
                        packets.push((vnet, packet.to_vec()));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("reading from b: {error}"),
            }
        }
    }

    fn b_is_readable(&self, milliseconds: u16) -> bool {
        let mut wanted = [PollFd::new(self.b.as_fd(), PollFlags::POLLIN)];
        poll(&mut wanted, PollTimeout::from(milliseconds)).unwrap() > 0
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("the ip command");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

fn sysctl(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/{name}"), value).unwrap_or_else(|e| panic!("{name}: {e}"));
}

fn is_ours(packet: &[u8]) -> bool {
    let destination = if packet[0] >> 4 == 6 { &packet[24..28] } else { &packet[16..20] };
    destination == [10, 64, 2, 2] || destination == [0xfd, 0x64, 0, 2]
}
