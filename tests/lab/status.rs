//! What `tunnel64d status` says on VM1 when something is wrong, and on what terms it can be asked.
//!
//! ```text
//!   tunnel64d status ──▶ run/tun0.sock ── VM1 ══════ VM2 ══════ VM3
//!                              ▲           key, routes,  path      peer: down, too old,
//!     clients that say nothing ┘           TUN, name               another key
//! ```

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::thread::{self, sleep};
use std::time::Duration;

use serde_json::Value;
use tunnel64d::wire::bye::{self, Reason};
use tunnel64d::wire::frame::{HEADER_LEN, Header, Kind};
use tunnel64d::wire::hello::{Hello, Instance};

use crate::harness::{
    Daemon, Lab, VM1, VM1_6, VM3, VM3_6, binary, eventually, sample, sample_without,
};
use crate::traffic::Stream;
use crate::varlink::Types;

/// VM3-6.
const FAR: &str = "fc00:1234:4::36";

const SOON: &str = "link.reconnect = { min = \"200ms\", max = \"1s\" }\n";

const PLAINTEXT: &str = "security.mode = \"plaintext\"\n";

#[test]
fn a_peer_that_is_down_is_told_of() {
    let (lab, _vm1, mut vm3) = Lab::raise_tunnelled_with(SOON, SOON);
    vm3.kill();
    lab.await_status(
        VM1,
        &[
            "tun0: not connected for",
            ": nobody listens on 172.16.2.163:4641 Remedy Start tunnel64d on the peer",
        ],
    );
    let status = json(&lab, VM1);
    assert_eq!((&status["state"], &status["session"]), (&"connecting".into(), &Value::Null));
    assert_eq!(status["problems"][0]["kind"], "refused");
    vm3.start_again(&lab);
    lab.await_status(VM1, &["tun0: up for", "Last error"]);
}

#[test]
fn a_peer_that_is_only_waited_for_is_told_of() {
    let lab = Lab::raise_after_failure();
    let _vm1 = lab.start_from(VM1, &sample_without(VM1, "connect"), SOON);
    lab.await_status(
        VM1,
        &[": the peer has not connected to 172.16.2.131:4641", "`nc -vz 172.16.2.131 4641` there."],
    );
    assert_eq!(json(&lab, VM1)["state"], "listening");
}

#[test]
fn a_wrong_key_is_told_of_at_both_ends() {
    let lab = Lab::raise_after_failure();
    let program = binary().into_string().expect("a plain path");
    let program = format!("env -u TUNNEL64D_BIN {program}");
    let other = lab.run(VM1, &format!("{program} genkey | {program} pubkey"));
    let other = format!("{SOON}security.peer_public_keys = [\"{}\"]", other.trim());
    let _vm1 = lab.start_from(VM1, &sample_without(VM1, "connect"), &other);
    let _vm3 = lab.start_from(VM3, &sample_without(VM3, "listen"), SOON);
    let theirs = "JBqfnNZiJyJBm4nexqXFZC0sxPOBaYdQmYp7Ou/uGsA=";
    lab.await_status(
        VM1,
        &[
            &format!("turned away: its key {theirs} is not in security.peer_public_keys"),
            "If 172.16.2.163 is the peer, put this key into security.peer_public_keys here",
        ],
    );
    lab.await_status(
        VM3,
        &[
            "172.16.2.131:4641: the peer refuses our key",
            &format!("On the peer, put our key {theirs} into security.peer_public_keys"),
        ],
    );
}

#[test]
fn a_name_that_does_not_resolve_is_told_of() {
    let lab = Lab::raise_after_failure();
    let by_name = format!("{SOON}link.connect = \"gateway.example:4641\"");
    let _vm1 = lab.start_from(VM1, &sample_without(VM1, "listen"), &by_name);
    lab.await_status(
        VM1,
        &[": gateway.example does not resolve: ", "`getent hosts gateway.example`"],
    );
    assert_eq!(json(&lab, VM1)["problems"][0]["kind"], "name");
}

#[test]
fn a_path_that_is_cut_is_told_of_with_a_session_and_without() {
    let (lab, mut vm1, _vm3) = Lab::raise_tunnelled_with(SOON, SOON);
    lab.tool(&["cut"]);
    let _pings = lab.spawn(VM1, "ping -n -i 0.5 fc00:1234:ffff::10");
    lab.await_status(
        VM1,
        &[
            "tun0: stalled: nothing has been heard from 172.16.2.163",
            "The path is cut, or the peer hangs",
            "STALLED",
        ],
    );
    assert_eq!(json(&lab, VM1)["state"], "stalled");
    vm1.kill();
    vm1.start_again(&lab);
    lab.await_status(
        VM1,
        &[
            ": no answer from 172.16.2.163:4641",
            "look with `ping 172.16.2.163` and `nc -vz 172.16.2.163 4641`",
        ],
    );
}

#[test]
fn a_version_that_is_too_old_is_told_of_with_the_end_to_update() {
    let lab = Lab::raise_after_failure();
    let peer = lab.inside(VM3, || TcpListener::bind("172.16.2.163:4641")).expect("VM3's port");
    let config = sample_without(VM1, "listen");
    let _vm1 = lab.start_from(VM1, &config, &format!("{SOON}{PLAINTEXT}"));
    thread::spawn(move || {
        // The peer knows better first, then leaves it to VM1.
        answer(&peer, |_| (Kind::Bye, bye::body(Reason::Version, "")));
        loop {
            answer(&peer, |hello| {
                let versions = 7..=9;
                let other = Hello { versions, instance: Instance([7; 16]), ..hello.clone() };
                (Kind::Hello, other.to_body())
            });
        }
    });
    lab.await_status(VM1, &[
        "172.16.2.163:4641 speaks version 7 to 9 of the protocol, this end 1: this tunnel64d is too",
        "Update tunnel64d here, and restart it",
    ]);
    let status = json(&lab, VM1);
    assert_eq!(status["problems"][0]["kind"], "version");
    assert!(status["summary"].as_str().is_some_and(|line| line.contains("too old")), "{status:#}");
}

#[test]
fn a_peer_that_finds_the_version_too_old_is_told_of() {
    let lab = Lab::raise_after_failure();
    let peer = lab.inside(VM3, || TcpListener::bind("172.16.2.163:4641")).expect("VM3's port");
    let config = sample_without(VM1, "listen");
    let _vm1 = lab.start_from(VM1, &config, &format!("{SOON}{PLAINTEXT}"));
    thread::spawn(move || {
        loop {
            answer(&peer, |_| (Kind::Bye, bye::body(Reason::Version, "")));
        }
    });
    lab.await_status(
        VM1,
        &[
            "172.16.2.163:4641: the peer has no protocol version in common with this end",
            "Update tunnel64d on the older end",
        ],
    );
}

#[test]
fn routes_that_somebody_removes_are_told_of_once_and_for_good() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled();
    let remove = || drop(lab.attempt(VM1, "ip -6 route delete fc00:1234:4::/64"));
    remove();
    lab.await_status(
        VM1,
        &[
            ", but somebody changed tun0",
            "route fc00:1234:4::/64 via fc00:1234:ffff::10 added",
            "`ip monitor`",
        ],
    );
    eventually("it counts as a quarrel", Duration::from_secs(30), || {
        remove();
        lab.status(VM1, &["tun0"])
            .1
            .contains("but somebody keeps undoing the configuration of tun0; put back last: route")
    });
    assert!(lab.status(VM1, &["tun0"]).1.contains("ManageForeignRoutes=no"));
    assert_eq!(json(&lab, VM1)["problems"][0]["kind"], "quarrel");
}

#[test]
fn an_interface_that_is_set_down_is_told_of() {
    let (lab, _vm1, _vm3) = Lab::raise_tunnelled();
    lab.run(VM1, "ip link set tun0 down");
    lab.await_status(VM1, &[", but somebody changed tun0", "put back", ": up, address"]);
}

#[test]
fn a_key_that_cannot_be_read_is_why_the_tunnel_does_not_run() {
    let lab = Lab::raise_after_failure();
    let key = lab.file("lost+found/tun0.key");
    let drop_in = format!("security.private_key_file = \"{}\"", key.display());
    let mut vm1 = lab.start(VM1, &drop_in);
    assert_eq!(end(&mut vm1), Some(78), "{}", vm1.log());
    let (code, text) = lab.status(VM1, &["tun0"]);
    assert_eq!(code, Some(69), "{text}");
    let why = format!("tun0: not running: the private key can't be read: {}", key.display());
    assert!(text.starts_with(&why), "{text}");
    assert!(text.contains("See that the file is there and its disk is sound"), "{text}");
    assert!(text.contains("`systemctl start tunnel64d@tun0`"), "{text}");
    let status = json(&lab, VM1);
    assert_eq!(
        (&status["state"], &status["problems"][0]["kind"]),
        (&"not_running".into(), &"key".into())
    );
}

#[test]
fn a_configuration_that_is_wrong_is_why_the_tunnel_does_not_run() {
    let lab = Lab::raise_after_failure();
    let mut vm1 = lab.start_from(VM1, &sample(VM1).replace("connect", "conect"), "");
    assert_eq!(end(&mut vm1), Some(78), "{}", vm1.log());
    let (code, text) = lab.status(VM1, &["tun0"]);
    assert!(code == Some(69) && text.contains("did you mean \"connect\"?"), "{text}");
    let (code, text) = lab.status(VM1, &["tun7"]);
    assert!(code == Some(69) && text.contains("there is no"), "{text}");
}

#[test]
fn waiting_for_the_peer_ends_with_it_or_in_time() {
    let lab = Lab::raise_after_failure();
    let (code, text) = lab.status(VM1, &["tun0", "--wait-connected", "0"]);
    assert_eq!(code, Some(69), "{text}");
    let _vm1 = lab.start(VM1, SOON);
    lab.await_status(VM1, &["nobody listens"]);
    let (code, text) = lab.status(VM1, &["tun0", "--wait-connected", "1"]);
    assert!(code == Some(1) && text.contains("nobody listens on"), "{text}");
    let mut waiting = lab.status_command(VM1, &["tun0", "--wait-connected", "60"]);
    let mut waiting = waiting.stdout(Stdio::null()).spawn().expect("the program");
    let _vm3 = lab.start(VM3, SOON);
    assert!(waiting.wait().expect("a child of ours").success());
}

#[test]
fn json_is_as_its_interface_defines_it() {
    let (lab, mut vm1, _vm3) = Lab::raise_tunnelled_with("link.streams = 4", "link.streams = 2");
    eventually("both streams are up", Duration::from_secs(10), || {
        json(&lab, VM1)["streams"].as_array().is_some_and(|streams| streams.len() == 2)
    });
    let status = json(&lab, VM1);
    let is = |pointer: &str, value: Value| {
        assert_eq!(status.pointer(pointer), Some(&value), "{pointer}")
    };
    is("/state", "up".into());
    is("/config/streams", 4.into());
    is("/session/streams", 2.into());
    is("/session/cipher", "TLS_AES_128_GCM_SHA256".into());
    is("/session/key_exchange", "X25519MLKEM768".into());
    is("/session/peer_public_key", "JBqfnNZiJyJBm4nexqXFZC0sxPOBaYdQmYp7Ou/uGsA=".into());
    is("/pid", vm1.pid().into());
    assert!(status["streams"][1]["tcp"]["rtt_us"].as_u64().is_some_and(|rtt| rtt > 0));
    assert!(status["sent"]["packets"].as_u64().is_some_and(|packets| packets > 0));
    let (code, table) = lab.status(VM1, &[]);
    assert!(code == Some(0) && table.contains("tun0 up"), "{table}");
    assert!(vm1.stop().success());
    assert!(!lab.file(VM1).join("run/tun0.sock").exists());
    let (code, all) = lab.status(VM1, &["--json"]);
    let all: Value = serde_json::from_str(&all).expect("JSON");
    assert_eq!((code, &all["tunnels"][0]["state"]), (Some(69), &"not_running".into()));
}

#[test]
fn a_second_daemon_of_the_same_name_leaves_the_first_alone() {
    let (lab, mut vm1, _vm3) = Lab::raise_tunnelled();
    let dir = lab.file(VM1);
    let second = lab.attempt(
        VM1,
        &format!(
            "env -u TUNNEL64D_BIN {} run tun0 --config-dir {dir} --runtime-dir {dir}/run",
            binary().to_str().expect("a plain path"),
            dir = dir.display()
        ),
    );
    let said = second.expect_err("it ends");
    let first = format!("tunnel tun0 runs already: process {} has ", vm1.pid());
    assert!(said.contains(&first), "{said}");
    assert!(vm1.runs());
    lab.await_status(VM1, &["tun0: up for"]);
}

#[test]
fn without_a_place_for_its_socket_the_tunnel_runs_and_says_so_once() {
    let lab = Lab::raise_after_failure();
    // A directory in its place can't be replaced by a socket.
    fs::create_dir_all(lab.file(VM1).join("run/tun0.sock")).expect("a directory");
    let mut vm1 = lab.start(VM1, SOON);
    let _vm3 = lab.start(VM3, SOON);
    lab.await_tunnel();
    let log = vm1.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("no control socket")).collect();
    assert!(lines.len() == 1 && lines[0].contains("remove it"), "{log}");
    assert!(vm1.stop().success());
}

/// Neither those who say nothing nor those who read nothing keep anybody away, and the tunnel
/// carries on beside them.
#[test]
fn a_hundred_silent_clients_and_slow_readers_hold_up_nothing() {
    let (lab, vm1, _vm3) = Lab::raise_tunnelled();
    let stream = Stream::fast(&lab, VM1_6, (VM3_6, FAR), 5200);
    sleep(Duration::from_secs(1));
    let socket = lab.file(VM1).join("run/tun0.sock");
    let connect = || UnixStream::connect(&socket).expect("a place in the queue");
    let resident = vm1.resident_kib();
    let descriptors = || {
        let all = fs::read_dir(format!("/proc/{}/fd", vm1.pid())).expect("the daemon runs");
        all.count()
    };
    let before = descriptors();

    let quiet = rate(&stream);
    let _silent: Vec<_> = (0..100).map(|_| connect()).collect();
    let (code, text) = lab.status(VM1, &["tun0"]);
    assert!(code == Some(0) && text.starts_with("tun0: up for"), "{text}");
    let slow: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn({
                let mut slow = connect();
                move || {
                    // Asks on and on and reads a byte now and then, until it is thrown out.
                    slow.set_write_timeout(Some(Duration::from_secs(20))).expect("a timeout");
                    let calls = b"{\"method\":\"org.tunnel64d.Status\"}\0".repeat(32);
                    (0..100_000).find_map(|_| {
                        let _ = slow.set_nonblocking(false);
                        slow.write_all(&calls).err().or_else(|| slow.read(&mut [0]).err())
                    })
                }
            })
        })
        .collect();
    let busy = rate(&stream);
    eprintln!("inner goodput {quiet:.0} MB/s before, {busy:.0} beside the clients");
    for _ in 0..10 {
        let (code, text) = lab.status(VM1, &["tun0"]);
        assert_eq!(code, Some(0), "{text}");
    }
    assert!(descriptors() <= before + 17, "{} of {before}", descriptors());
    for slow in slow {
        assert!(slow.join().expect("no panic").is_some(), "it was thrown out");
    }
    stream.await_progress("beside the clients", Duration::from_secs(10));
    let grown = vm1.resident_kib().saturating_sub(resident);
    assert!(grown < 8 * 1024, "{grown} KiB");
    // The rest is closed within the time that a client may be silent.
    eventually("all descriptors are back", Duration::from_secs(20), || descriptors() == before);
    stream.finish();
}

fn rate(stream: &Stream) -> f64 {
    let before = stream.received();
    sleep(Duration::from_secs(2));
    (stream.received() - before) as f64 / 2e6
}

/// The status as JSON, which is always as its interface defines it.
fn json(lab: &Lab, host: &str) -> Value {
    let (_, text) = lab.status(host, &["tun0", "--json"]);
    let status = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let faults = Types::ours().faults("Tunnel", &status);
    assert!(faults.is_empty(), "{faults:#?}");
    status
}

/// Takes a connection, reads its HELLO and sends one frame.
fn answer(peer: &TcpListener, reply: impl FnOnce(&Hello) -> (Kind, Vec<u8>)) {
    let (mut stream, _) = peer.accept().expect("VM1 dials");
    let mut header = [0; HEADER_LEN];
    stream.read_exact(&mut header).expect("a header");
    let header = Header::parse(&header).expect("a frame");
    let mut body = vec![0; header.length];
    stream.read_exact(&mut body).expect("a body");
    let (kind, body) = reply(&Hello::parse(&body).expect("HELLO"));
    let header = Header { kind, length: body.len() }.to_bytes();
    stream.write_all(&[&header[..], &body].concat()).expect("VM1 listens");
    // Until VM1 has read it, and closes.
    let _ = stream.read(&mut [0; 64]);
}

fn end(daemon: &mut Daemon) -> Option<i32> {
    let mut status = None;
    eventually("the daemon ends", Duration::from_secs(10), || {
        status = daemon.exit_status();
        status.is_some()
    });
    status.and_then(|status| status.code())
}
