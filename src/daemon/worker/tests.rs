use std::io::Write;

use futures_util::poll;
use nix::fcntl::OFlag;
use nix::unistd::{pipe, pipe2};
use tokio::net::TcpListener;

use super::*;
use crate::packet::offload::Accepts;
use crate::queue::codel;
use crate::transport::Protection;
use crate::wire::frame::{Header, Kind};

fn worker(events: UnboundedSender<Event>) -> Worker {
    let codel = codel::Parameters {
        target: Duration::from_millis(5),
        interval: Duration::from_millis(100),
    };
    let parameters = Parameters {
        sanitiser: Sanitiser { mtu: 1500, accepts: Accepts::NONE },
        sources: Sources::new(Vec::new()),
        queue: QueueParameters { codel, limit: 8 << 20, mark: true },
        keepalive: Duration::from_secs(10),
        dead_after: Duration::from_secs(30),
        unacknowledged_limit: Duration::from_secs(35),
        counters: Arc::default(),
    };
    Worker::new(0, true, parameters, events)
}

/// A queue that is ready all the time and can't be read: a pipe's end for writing whose other end
/// is gone.
async fn unreadable() -> Arc<Queue> {
    let (other, end) = pipe().unwrap();
    drop(other);
    let queue = Opened::of(end).watch().unwrap();
    queue.readable().await;
    Arc::new(queue)
}

#[tokio::test]
async fn a_queue_that_is_ready_and_cannot_be_read_is_told_of_once_and_does_not_keep_the_loop_busy()
{
    let (events, mut told) = unbounded_channel();
    let mut worker = worker(events);
    worker.tun = Some(unreadable().await);
    let begun = Time::now();
    assert!(!worker.read(begun));
    assert!(matches!(told.try_recv(), Ok(Event::Unreadable(0, _))));
    assert!(worker.measure(begun).unreadable, "whoever asks is told as well");

    let mut alarm = Alarm::new();
    worker.retry_at = Some(Time::now() + Duration::from_secs(3600));
    assert!(poll!(std::pin::pin!(worker.something_to_move(&mut alarm))).is_pending());

    worker.retry_at = Some(begun + RETRY);
    assert!(!worker.read(begun + RETRY), "it is tried again");
    assert_eq!(worker.retry_at, Some(begun + RETRY + RETRY));
    assert!(told.try_recv().is_err(), "it was told of before");

    // One that can be read again ends that.
    let (readable, _kept) = pipe2(OFlag::O_NONBLOCK).unwrap();
    worker.tun = Some(Arc::new(Opened::of(readable).watch().unwrap()));
    assert!(!worker.read(begun + RETRY + RETRY));
    assert_eq!(worker.retry_at, None);
    assert!(!worker.measure(begun).unreadable);
}

#[tokio::test]
async fn a_peer_that_is_dismissed_and_never_stops_sending_does_not_keep_the_worker() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = port.local_addr().unwrap();
    let peer = thread::spawn(move || {
        let mut tcp = std::net::TcpStream::connect(address).unwrap();
        let kind = Kind::Data { gso_size: 0, checksum_incomplete: false };
        // Short ones: they come faster than they are delivered.
        let mut frame = Header { kind, length: 1 }.to_bytes().to_vec();
        frame.push(0);
        let frames = frame.repeat(10_000);
        while tcp.write_all(&frames).is_ok() {}
    });
    let (tcp, address) = port.accept().await.unwrap();
    let stream = Stream::accepted(tcp, address, &Protection::Plaintext).unwrap();
    let worker = worker(unbounded_channel().0);
    worker.dismiss(stream, Reason::Superseded);
    let mut turns = 0;
    while tokio::runtime::Handle::current().metrics().num_alive_tasks() > 0 {
        turns += 1;
        yield_now().await;
    }
    assert!(turns > 2, "the worker did nothing else meanwhile");
    peer.join().unwrap();
}
