//! Inner TCP connections between hosts whose every byte is checked.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::harness::{Lab, eventually};

/// What a connection that nobody ends may wait for the next byte.
const PATIENCE: Duration = Duration::from_secs(60);

/// One end of an inner connection: a host and the address it is reached at.
pub type End<'a> = (&'a str, &'a str);

/// A connection from one host to another: the dialling end, then the accepting one.
pub fn connect(lab: &Lab, from: &str, to: End<'_>, port: u16) -> (TcpStream, TcpStream) {
    dial(lab, from, &listen(lab, to, port))
}

/// A listener in a host.
pub fn listen(lab: &Lab, to: End<'_>, port: u16) -> TcpListener {
    let address = SocketAddr::new(to.1.parse::<IpAddr>().expect("an address"), port);
    lab.inside(to.0, || TcpListener::bind(address)).expect("a free port")
}

/// A connection from a host to a listener: the dialling end, then the accepting one.
pub fn dial(lab: &Lab, from: &str, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let address = listener.local_addr().expect("a bound listener");
    let dialled = lab.inside(from, || TcpStream::connect_timeout(&address, PATIENCE));
    let dialled = dialled.unwrap_or_else(|error| panic!("{from} to {address}: {error}"));
    let (accepted, _) = listener.accept().expect("the connection that was just made");
    for stream in [&dialled, &accepted] {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    }
    (dialled, accepted)
}

/// Sends `bytes` from one host to another as fast as it goes; panics unless each arrives in place.
pub fn transfer(lab: &Lab, from: &str, to: End<'_>, port: u16, bytes: u64) {
    transfer_in_writes_of(1 << 18, lab, from, to, port, bytes);
}

/// As [`transfer`], with the length of each write: what iperf3 calls `-l`.
pub fn transfer_in_writes_of(
    length: usize,
    lab: &Lab,
    from: &str,
    to: End<'_>,
    port: u16,
    bytes: u64,
) {
    let (mut dialled, accepted) = connect(lab, from, to, port);
    let receiver = thread::spawn(move || verify(accepted, &AtomicU64::new(0)));
    let mut sent = 0;
    while sent < bytes {
        let left = usize::try_from(bytes - sent).expect("fits").min(length);
        sent += write(&mut dialled, sent, left);
    }
    drop(dialled);
    assert_eq!(receiver.join().expect("every byte in its place"), bytes, "{from} to {to:?}");
}

/// A stream that goes on until it is finished.
pub struct Stream {
    received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<u64>,
}

impl Stream {
    /// 1000 bytes every 20 ms.
    pub fn slow(lab: &Lab, from: &str, to: End<'_>, port: u16) -> Self {
        Self::start(connect(lab, from, to, port), 1000, Duration::from_millis(20))
    }

    /// As fast as it goes.
    pub fn fast(lab: &Lab, from: &str, to: End<'_>, port: u16) -> Self {
        Self::start(connect(lab, from, to, port), 1 << 18, Duration::ZERO)
    }

    fn start(
        (mut dialled, accepted): (TcpStream, TcpStream),
        length: usize,
        pause: Duration,
    ) -> Self {
        let received = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (count, stopped) = (received.clone(), stop.clone());
        let sender = thread::spawn(move || {
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                sent += write(&mut dialled, sent, length);
                thread::sleep(pause);
            }
            sent
        });
        let receiver = thread::spawn(move || verify(accepted, &count));
        let stream = Self { received, stop, sender, receiver };
        stream.await_progress("at its start", Duration::from_secs(10));
        stream
    }

    /// Bytes that have arrived so far, all of them right.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Returns when more bytes arrive, panics when none does within `limit`.
    pub fn await_progress(&self, when: &str, limit: Duration) {
        let before = self.received();
        eventually(&format!("the inner connection moves {when}"), limit, || {
            self.received() > before
        });
    }

    /// Ends the stream; panics unless every byte sent has arrived in its place.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().expect("the connection held");
        let received = self.receiver.join().expect("every byte in its place");
        assert_eq!(received, sent, "bytes were lost");
    }
}

/// Reads to the end of the stream, checking each byte; returns how many there were.
fn verify(mut stream: TcpStream, count: &AtomicU64) -> u64 {
    let mut buffer = vec![0; 1 << 18];
    let mut position = 0;
    loop {
        let length = match stream.read(&mut buffer) {
            Ok(0) => return position,
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => panic!("the inner connection broke after {position} bytes: {error}"),
        };
        let right = buffer[..length] == *pattern(position, length);
        assert!(right, "wrong bytes within {length} after {position}");
        position += length as u64;
        count.store(position, Ordering::Relaxed);
    }
}

fn write(stream: &mut TcpStream, position: u64, length: usize) -> u64 {
    if let Err(error) = stream.write_all(pattern(position, length)) {
        panic!("the inner connection broke after {position} bytes: {error}");
    }
    length as u64
}

/// The bytes that belong at a position of every stream, 1 MiB at most. They never repeat in step
/// with a packet, a frame or a power of two.
fn pattern(position: u64, length: usize) -> &'static [u8] {
    const PERIOD: usize = 1_048_583; // a prime
    const LONGEST: usize = 1 << 20;
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let bytes = BYTES.get_or_init(|| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let xorshift = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        let mut bytes: Vec<u8> = std::iter::repeat_with(xorshift).take(PERIOD).collect();
        bytes.extend_from_within(..LONGEST);
        bytes
    });
    let start = usize::try_from(position % PERIOD as u64).expect("below the period");
    &bytes[start..start + length]
}
