use nix::unistd::pipe;

use super::*;
use crate::tun::device::Opened;

fn outbound() -> Outbound {
    let codel = codel::Parameters {
        target: Duration::from_millis(5),
        interval: Duration::from_millis(100),
    };
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
