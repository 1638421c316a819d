use std::os::unix::net::{UnixListener, UnixStream};

use nix::unistd::pipe;
use socket2::SockRef;
use tokio::io::sink;
use tokio::net::{TcpListener, TcpStream};

use super::intake::PACKETS_A_TURN;
use super::*;
use crate::datapath::Unreadable;
use crate::packet::buffer::MAX_PACKET;
use crate::packet::headers::Ecn;
use crate::packet::samples::Sample;
use crate::transport::Protection;
use crate::tun::device::Opened;

fn outbound() -> Outbound {
    // However slow this machine is, nothing is dropped for it.
    let codel =
        codel::Parameters { target: Duration::from_secs(60), interval: Duration::from_secs(600) };
    let parameters = QueueParameters { codel, limit: 8 << 20, mark: true };
    Outbound::new(parameters, Arc::default())
}

/// An end of a pipe that can't be read from, whose other end is gone: always ready, and every read
/// is an error.
#[tokio::test]
async fn a_queue_where_every_read_fails_is_an_error_and_no_packet() {
    let (other, unreadable) = pipe().unwrap();
    drop(other);
    let queue = Opened::of(unreadable).watch().unwrap();
    queue.readable().await;
    let mut outbound = outbound();
    let Err(Unreadable::Failing(error)) = outbound.read(&queue, Time::now()) else {
        panic!("it was read")
    };
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    assert_eq!(outbound.counters.drops(Drop::MalformedFromKernel), 0);
}

/// A TUN queue says EINVAL for a packet that it has thrown away. So does a socket that listens.
#[tokio::test]
async fn where_every_read_costs_a_packet_all_of_them_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
    listener.set_nonblocking(true).unwrap();
    let _waits = UnixStream::connect(directory.path().join("socket")).unwrap();
    let queue = Opened::of(listener.into()).watch().unwrap();
    queue.readable().await;
    let mut outbound = outbound();
    let Err(Unreadable::Failing(error)) = outbound.read(&queue, Time::now()) else {
        panic!("it was read")
    };
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    assert_eq!(outbound.counters.drops(Drop::MalformedFromKernel), PACKETS_A_TURN as u64);
}

/// A connection whose other end, given too, has yet to read anything.
async fn connection() -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (dialled, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let dialled = dialled.unwrap();
    // So that the kernel does not take everything.
    SockRef::from(&dialled).set_send_buffer_size(16 * 1024).unwrap();
    (Stream::dialled(dialled, address, &Protection::Plaintext).unwrap(), accepted.unwrap().0)
}

const PEER: PeerLimits = PeerLimits { accepts: Accepts::NONE, max_packet: MAX_PACKET };

#[tokio::test]
async fn what_comes_back_from_a_connection_that_ended_counts_once() {
    const PACKETS: usize = 1000;
    let packet = Sample { payload: 1400, ..Sample::UDP6 }.build();
    let mut outbound = outbound();
    for _ in 0..PACKETS {
        let (buffer, arrived) = (Buffer::copy_of(&packet), Time::now());
        let (offload, ecn) = (Offload::NONE, Ecn::NotCapable);
        outbound.enqueue(Queued { buffer, offload, flow: 1, ecn, arrived, returned: false });
    }

    let (mut first, unread) = connection().await;
    outbound.connected(&PEER);
    outbound.send(&mut first, &PEER, Time::now()).unwrap();
    assert!(first.unsent() > 0, "the kernel took all of it");
    outbound.take_back(&mut first, Time::now());
    drop((first, unread));

    let (mut second, mut other) = connection().await;
    let reader = tokio::spawn(async move { tokio::io::copy(&mut other, &mut sink()).await });
    outbound.connected(&PEER);
    while outbound.has_packets() || second.unsent() > 0 {
        outbound.send(&mut second, &PEER, Time::now()).unwrap();
        if second.unsent() > 0 {
            second.writable().await.unwrap();
        }
        tokio::task::yield_now().await;
    }
    let counters = &outbound.counters;
    assert_eq!(counters.sent.packets(), PACKETS as u64);
    assert_eq!(counters.sent.bytes(), (PACKETS * packet.len()) as u64);
    let waited: u64 = counters.queue_delay.buckets().iter().map(|(_, count)| count).sum();
    assert_eq!(waited, PACKETS as u64);
    drop(second);
    reader.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_would_be_cut_into_more_than_the_peer_takes_is_dropped() {
    let packet = Sample { payload: 3000, ..Sample::TCP6 }.build();
    let (mut stream, _unread) = connection().await;
    for (max_packet, dropped) in [(1500, 0), (1499, 1)] {
        let mut outbound = outbound();
        let offload = Offload { gso_size: 1440, checksum_incomplete: true };
        let (buffer, arrived) = (Buffer::copy_of(&packet), Time::now());
        let ecn = Ecn::NotCapable;
        outbound.enqueue(Queued { buffer, offload, flow: 1, ecn, arrived, returned: false });
        outbound.send(&mut stream, &PeerLimits { max_packet, ..PEER }, Time::now()).unwrap();
        assert_eq!(outbound.counters.drops(Drop::TooLong), dropped, "{max_packet}");
        assert_eq!(outbound.counters.sent.packets(), 1 - dropped, "{max_packet}");
    }
}

#[test]
fn what_waited_for_a_fast_line_is_divided_for_one_of_which_nothing_is_known() {
    let mut outbound = outbound();
    let seen = Seen {
        acknowledged: 0,
        delivery_rate: 1 << 40,
        round_trip: Duration::ZERO,
        least_round_trip: Duration::ZERO,
        in_flight: 0,
        unsent: 0,
        probes: None,
    };
    outbound.line.look(Time::now(), seen);
    let packet = Sample { payload: 60_000, ..Sample::TCP6 }.build();
    let (buffer, arrived) = (Buffer::copy_of(&packet), Time::now());
    let offload = Offload { gso_size: 1440, checksum_incomplete: true };
    let ecn = Ecn::NotCapable;
    outbound.enqueue(Queued { buffer, offload, flow: 1, ecn, arrived, returned: false });
    assert_eq!(outbound.depth(Time::now()).packets, 1);
    outbound.connected(&PEER);
    let pieces = outbound.take_queue();
    let longest = pieces.iter().map(|piece| piece.buffer.packet().len()).max();
    assert!(pieces.len() > 1 && longest < Some(17_000), "{} of {longest:?}", pieces.len());
}

#[test]
fn memory_is_given_back_when_a_burst_is_over_and_not_oftener_than_once_in_a_while() {
    let mut outbound = outbound();
    let now = Time::since_boot(Duration::from_secs(100));
    let burst = |outbound: &mut Outbound, bytes| {
        let buffer = Buffer::copy_of(&vec![0x60; bytes]);
        let (offload, ecn) = (Offload::NONE, Ecn::NotCapable);
        outbound.enqueue(Queued { buffer, offload, flow: 1, ecn, arrived: now, returned: false });
    };
    burst(&mut outbound, MUCH / 2);
    outbound.clear();
    outbound.tidy(now);
    assert!(outbound.most_held > 0, "that is little");

    burst(&mut outbound, MUCH + 1);
    outbound.tidy(now);
    assert!(outbound.most_held > MUCH, "it is in use");
    outbound.clear();
    outbound.tidy(now);
    assert_eq!((outbound.most_held, outbound.tidied), (0, now));

    burst(&mut outbound, MUCH + 1);
    outbound.clear();
    outbound.tidy(now + TIDY / 2);
    assert!(outbound.most_held > MUCH, "it was given back a moment ago");
    outbound.tidy(now + TIDY);
    assert_eq!((outbound.most_held, outbound.tidied), (0, now + TIDY));
}
