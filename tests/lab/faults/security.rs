//! Who may talk, what may come through, and what the network sees:
//!
//! ```text
//!   VM1-6 ────────── VM1 ══════════ VM2 ══════════ VM3 ────────── VM3-6
//!     sends as fd66::1  one key or     a capture      lets through   counts what
//!     what it is not    mode changed   of the path    allowed_sources  comes from fd66::1
//! ```

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::FAR;
use crate::harness::{
    Daemon, Lab, Process, VM1, VM1_6, VM2, VM3, VM3_6, eventually, sample_without,
};
use crate::traffic::connect;

/// An inner source that is none of the peer's.
const FOREIGN: Ipv6Addr = Ipv6Addr::new(0xfd66, 0, 0, 0, 0, 0, 0, 1);

/// Packets of each kind.
const EACH: u64 = 10;

/// Sent through the inner connection, to be looked for on the outer one.
const MARKER: &[u8; 48] = b"<< what nobody on the path has any business with";

const SOON: &str = "link.reconnect = { min = \"200ms\", max = \"1s\" }\n";

#[test]
fn packets_from_a_foreign_inner_source_are_dropped_and_counted() {
    let (lab, _vm1, mut vm3) = Lab::raise_tunnelled();
    send_as_foreign(&lab);
    assert_eq!(foreign_arrivals(&lab), 0);
    assert!(vm3.stop().success());
    // The far kernel has a few words for its neighbours as well, from its link-local address.
    let dropped = dropped_as_foreign(&vm3);
    assert!((3 * EACH..4 * EACH).contains(&dropped), "{dropped} of {} in {}", 3 * EACH, vm3.log());
}

#[test]
fn the_same_packets_pass_where_their_source_is_allowed() {
    let allowed =
        "security.allowed_sources = [\"fc00:1234::/32\", \"fd66::/64\", \"fe80::/10\", \"::/128\"]";
    let (lab, _vm1, mut vm3) = Lab::raise_tunnelled_with("", allowed);
    send_as_foreign(&lab);
    assert_eq!(foreign_arrivals(&lab), 3 * EACH, "each once: the trains as super-packets");
    assert!(vm3.stop().success());
    assert_eq!(dropped_as_foreign(&vm3), 0, "{}", vm3.log());
}

#[test]
fn the_path_sees_tls_1_3_and_no_inner_byte() {
    let seen = capture_of_a_session("");
    assert_eq!(traces_of(&seen, MARKER), 0, "the text");
    assert_eq!(traces_of(&seen, &network()), 0, "an address");
    // A ServerHello (RFC 8446 section 4.1.3) in a handshake record, with the version it chose …
    assert!(has_between(&seen, b"\x16\x03\x03", b"\x02\x00", 2), "a ServerHello");
    assert!(seen.windows(6).any(|bytes| bytes == b"\x00\x2b\x00\x02\x03\x04"), "TLS 1.3");
    // … and the key share of X25519MLKEM768, 1088 + 32 bytes long.
    let share = b"\x00\x33\x04\x64\x11\xec\x04\x60";
    assert!(seen.windows(share.len()).any(|bytes| bytes == share), "X25519MLKEM768");
}

#[test]
fn the_path_sees_every_byte_in_plaintext() {
    let seen = capture_of_a_session("security.mode = \"plaintext\"");
    assert!(seen.windows(MARKER.len()).any(|bytes| bytes == MARKER), "the text");
    assert!(traces_of(&seen, &network()) > 0, "an address");
}

#[test]
fn a_diallers_other_key_lets_nothing_pass_and_is_named_once() {
    let mut ends = Ends::raise();
    let (file, offered) = ends.lab.make_key("another.key");
    ends.start("", &format!("security.private_key_file = {file:?}"));
    let unknown = format!("its key {offered} is not in security.peer_public_keys");
    let refused = format!("it refuses our key: put {offered} into its security.peer_public_keys");
    ends.are_apart(&unknown, &refused);
}

#[test]
fn a_listeners_other_key_lets_nothing_pass_and_is_named_once() {
    let mut ends = Ends::raise();
    let (file, offered) = ends.lab.make_key("another.key");
    ends.start(&format!("security.private_key_file = {file:?}"), "");
    let unknown = format!("its key {offered} is not in security.peer_public_keys");
    let refused = format!("it refuses our key: put {offered} into its security.peer_public_keys");
    ends.are_apart(&refused, &unknown);
}

#[test]
fn a_dialler_in_plaintext_and_a_listener_with_tls_both_say_so() {
    let mut ends = Ends::raise();
    ends.start("", "security.mode = \"plaintext\"");
    ends.are_apart("set security.mode alike", "set security.mode alike");
}

#[test]
fn a_dialler_with_tls_and_a_listener_in_plaintext_both_say_so() {
    let mut ends = Ends::raise();
    ends.start("security.mode = \"plaintext\"", "");
    ends.are_apart("set security.mode alike", "set security.mode alike");
}

#[test]
fn in_plaintext_an_address_that_is_not_listed_is_not_dialled_and_named_once() {
    let lab = Lab::raise_after_failure();
    let hosts = format!("/etc/netns/{}/hosts", lab.namespace(VM1));
    let mut hosts = OpenOptions::new().append(true).open(hosts).unwrap();
    writeln!(hosts, "172.16.2.163 gateway.example").unwrap();
    let elsewhere = "security.mode = \"plaintext\"
        link.connect = \"gateway.example:4641\"
        security.peer_addresses = [\"172.16.2.99/32\"]
        link.reconnect = { min = \"10ms\", max = \"10ms\" }";
    let vm1 = lab.start_from(VM1, &sample_without(VM1, "listen"), elsewhere);
    let line = "an address of the endpoint is not dialled endpoint=gateway.example:4641 \
                address=172.16.2.163:4641 key=security.peer_addresses";
    vm1.await_log(line);
    lab.await_status(VM1, &["172.16.2.163:4641, which is not in security.peer_addresses"]);
    let log = vm1.log();
    assert_eq!(log.matches("is not dialled").count(), 1, "{log}");
    assert!(!log.contains("cannot connect"), "{log}");
}

/// [`EACH`] plain packets, packets with an extension header and super-packets from [`FOREIGN`].
fn send_as_foreign(lab: &Lab) {
    lab.run(
        VM3_6,
        "nft 'add table inet seen; add counter inet seen foreign;
        add chain inet seen in { type filter hook prerouting priority 0; };
        add rule inet seen in ip6 saddr fd66::/64 counter name foreign'",
    );
    lab.run(VM1_6, &format!("ip address add {FOREIGN}/128 dev lo nodad"));
    let far: Ipv6Addr = FAR.parse().expect("an address");
    lab.inside(VM1_6, || {
        // The protocol's number says that the IPv6 header comes with the packet: raw(7).
        let raw =
            Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(255))).expect("a raw socket");
        let target = SocketAddr::new(far.into(), 0).into();
        for _ in 0..EACH {
            raw.send_to(&packet(far, 59, b"plain"), &target).expect("sent");
            raw.send_to(&packet(far, 60, &[59, 0, 1, 4, 0, 0, 0, 0, b'x']), &target).expect("sent");
        }
        let udp = UdpSocket::bind((FOREIGN, 0)).expect("the address is there");
        setsockopt(&udp, sockopt::UdpGsoSegment, &1000).expect("UDP_SEGMENT");
        for _ in 0..EACH {
            udp.send_to(&[7; 10_000], (far, 9)).expect("sent");
        }
    });
    // What was sent is through when what is sent after it is.
    lab.run(VM1_6, &format!("ping -c 2 -i 0.2 -W 5 {FAR}"));
}

/// An IPv6 packet from [`FOREIGN`] with this next header and payload.
fn packet(to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&[0x60, 0, 0, 0], &length[..], &[next, 64], &FOREIGN.octets(), &to.octets(), payload].concat()
}

/// Packets from [`FOREIGN`] that came to VM3-6.
fn foreign_arrivals(lab: &Lab) -> u64 {
    number_after(&lab.run(VM3_6, "nft list counter inet seen foreign"), "packets ")
}

/// What a daemon that has stopped says it dropped for its source.
fn dropped_as_foreign(daemon: &Daemon) -> u64 {
    let log = daemon.log();
    let last = log.lines().rfind(|line| line.contains("stopping")).expect("it has stopped");
    let dropped = last.split("; ").find(|part| part.contains("foreign_source"));
    dropped.map_or(0, |part| number_after(part, "dropped "))
}

fn number_after(text: &str, before: &str) -> u64 {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before:?} in {text}"));
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().expect("a number")
}

/// What VM2 sees of a session from its first to its last byte, with [`MARKER`] sent both ways.
fn capture_of_a_session(both: &str) -> Vec<u8> {
    let lab = Lab::raise_after_failure();
    let file = lab.file("capture");
    let tcpdump =
        format!("tcpdump -Z root -i eth1 --immediate-mode -U -w {} tcp port 4641", file.display());
    let mut tcpdump: Process = lab.spawn(VM2, &tcpdump);
    tcpdump.await_output("listening on");
    let (mut vm1, mut vm3) = (lab.start(VM1, both), lab.start(VM3, both));
    lab.await_tunnel();
    let (near, far) = connect(&lab, VM1_6, (VM3_6, FAR), 5200);
    let text = MARKER.repeat(200);
    let mut read = vec![0; text.len()];
    for (mut from, mut to) in [(&near, &far), (&far, &near)] {
        from.write_all(&text).expect("written");
        to.read_exact(&mut read).expect("read");
        assert_eq!(read, text);
    }
    assert!(vm1.stop().success() && vm3.stop().success());
    eventually("the capture has the session", Duration::from_secs(5), || {
        fs::metadata(&file).expect("a capture").len() > 2 * text.len() as u64
    });
    tcpdump.end(Signal::SIGTERM);
    fs::read(file).expect("a capture")
}

/// The first half of the inner address, the one that is not mostly zeros.
fn network() -> [u8; 8] {
    *FAR.parse::<Ipv6Addr>().expect("an address").octets().first_chunk().expect("eight of sixteen")
}

/// How many places hold any eight bytes of `text`: by chance none does.
fn traces_of(seen: &[u8], text: &[u8]) -> usize {
    seen.windows(8).filter(|bytes| text.windows(8).any(|part| part == *bytes)).count()
}

fn has_between(seen: &[u8], start: &[u8], end: &[u8], gap: usize) -> bool {
    let length = start.len() + gap + end.len();
    seen.windows(length).any(|bytes| bytes.starts_with(start) && bytes.ends_with(end))
}

/// VM1 listening and VM3 dialling, so that there is one line to be logged at each end.
struct Ends {
    vm1: Option<Daemon>,
    vm3: Option<Daemon>,
    lab: Lab,
}

impl Ends {
    fn raise() -> Self {
        Self { vm1: None, vm3: None, lab: Lab::raise_after_failure() }
    }

    fn start(&mut self, vm1: &str, vm3: &str) {
        let lab = &self.lab;
        let vm1 = lab.start_from(VM1, &sample_without(VM1, "connect"), vm1);
        // That nobody listens yet would be another line.
        eventually("VM1 listens", Duration::from_secs(10), || vm1.log().contains("listening"));
        self.vm1 = Some(vm1);
        let vm3 = format!("{SOON}{vm3}");
        self.vm3 = Some(lab.start_from(VM3, &sample_without(VM3, "listen"), &vm3));
    }

    /// Nothing passes, and each end's log says why in exactly one line, though it is tried again
    /// and again.
    fn are_apart(&self, vm1_says: &str, vm3_says: &str) {
        let (vm1, vm3) = (self.vm1.as_ref().expect("started"), self.vm3.as_ref().expect("started"));
        for (daemon, says) in [(vm1, vm1_says), (vm3, vm3_says)] {
            eventually(&format!("a line says {says:?}"), Duration::from_secs(10), || {
                daemon.log().contains(says)
            });
        }
        let ping = self.lab.attempt(VM1, "ping -c 4 -W 1 fc00:1234:ffff::10");
        assert!(ping.expect_err("no way through").contains(" 100% packet loss"));
        for (daemon, says) in [(vm1, vm1_says), (vm3, vm3_says)] {
            let log = daemon.log();
            let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
            let warnings = warnings.iter().filter(|line| !line.contains("neither encrypted"));
            let warnings: Vec<_> = warnings.collect();
            assert!(warnings.len() == 1 && warnings[0].contains(says), "{says:?} in {warnings:#?}");
        }
    }
}
