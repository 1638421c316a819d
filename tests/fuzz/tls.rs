//! A listener under TLS: strangers' bytes, and a peer's handshake with bytes changed on the way.
//!
//! Input: a first byte below 128 means that all that follows arrives as it is. From 192 on the peer
//! shakes hands, and what follows are the records that it seals: content type, length, plaintext.
//! Otherwise it shakes hands and sends frames, and what follows says what happens on the way, four
//! bytes each: flight and direction, offset (big-endian), what the byte there is XORed with; nothing
//! else than that may keep the two apart.

use std::sync::OnceLock;

use tunnel64d::transport::fuzzing::End;
use tunnel64d::transport::keys::PrivateKey;
use tunnel64d::transport::tls::Endpoint;
use tunnel64d::wire::frame::MAX_PACKET;

/// Longer than all that either end says in a handshake.
const MEMORY: usize = 256 * 1024;

/// What a stranger may have us hold of a message that is not complete.
const UNFINISHED: usize = 32 * 1024;

/// Tries one input.
pub fn run(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    match *first {
        0..128 => stranger(rest, usize::from(*first) * 16 + 1),
        128..192 => peer(rest),
        192.. => records(rest, *first % 2 == 0),
    }
}

/// A peer, proved to be one, that seals whatever it likes.
fn records(mut bytes: &[u8], dialler_speaks: bool) {
    let (dialler, listener) = endpoints();
    let mut dialler = End::dialler(dialler).expect("a session");
    let mut listener = End::listener(listener).expect("a session");
    for _ in 0..3 {
        dialler.open().expect("nothing is wrong");
        all(&mut listener, &dialler.write(None).expect("room")).expect("nothing is wrong");
        all(&mut dialler, &listener.write(None).expect("room")).expect("nothing is wrong");
    }
    let (speaks, hears) =
        if dialler_speaks { (&mut dialler, &mut listener) } else { (&mut listener, &mut dialler) };
    let mut data = 0;
    while let [kind, length, rest @ ..] = bytes {
        let (plain, rest) = rest.split_at(rest.len().min((*length).into()));
        speaks.seal_as(*kind, plain).expect("room");
        data += plain.len();
        if all(hears, &speaks.write(None).expect("room")).is_err() {
            return;
        }
        while hears.frames().next_frame().is_ok_and(|frame| frame.is_some()) {}
        assert!(hears.write(None).expect("room").is_empty(), "nothing is answered at once");
        bytes = rest;
    }
    assert!(hears.frames().capacity() <= data.max(MEMORY));
}

fn stranger(mut bytes: &[u8], piece: usize) {
    let mut listener = End::listener(&endpoints().1).expect("a session");
    while !bytes.is_empty() {
        match listener.read(&bytes[..piece.min(bytes.len())]) {
            Ok(read) => bytes = &bytes[read..],
            Err(error) => {
                assert!(!error.to_string().is_empty());
                break;
            }
        }
        assert!(matches!(listener.open(), Ok(false)), "a stranger gets no further");
    }
    assert_eq!(listener.frames().next_frame().map(|frame| frame.is_none()), Ok(true));
    assert_eq!(listener.frames().capacity(), 0, "nothing was opened");
    assert!(listener.held() <= UNFINISHED);
    assert!(listener.write(None).expect("room").len() < MEMORY);
}

fn peer(changes: &[u8]) {
    let (dialler, listener) = endpoints();
    let mut dialler = End::dialler(dialler).expect("a session");
    let mut listener = End::listener(listener).expect("a session");
    let mut changed = false;
    for flight in 0..6_u8 {
        let sent = [0x60 | flight; 300];
        let ready = dialler.open();
        let frame = matches!(ready, Ok(true)).then_some(&sent[..]);
        let Ok(mut there) = dialler.write(frame) else { return };
        changed |= change(&mut there, changes, flight * 2);
        let heard = all(&mut listener, &there);
        loop {
            let next = listener.frames().next_frame();
            match next.expect("what TLS let through is what was sent") {
                None => break,
                Some(frame) => assert!(frame.body.iter().all(|b| *b == frame.body[0])),
            }
        }
        let Ok(mut back) = listener.write(None) else { return };
        changed |= change(&mut back, changes, flight * 2 + 1);
        let answered = all(&mut dialler, &back);
        if heard.is_err() || answered.is_err() {
            assert!(changed, "{heard:?} {answered:?}");
            return;
        }
    }
    assert!(changed || matches!((dialler.open(), listener.open()), (Ok(true), Ok(true))));
    assert!(listener.frames().capacity() <= 2 * MAX_PACKET);
}

fn all(end: &mut End, mut bytes: &[u8]) -> Result<(), String> {
    while !bytes.is_empty() {
        let read = end.read(bytes).map_err(|error| error.to_string())?;
        bytes = &bytes[read..];
    }
    Ok(())
}

/// Changes bytes of one flight; whether that made a difference.
fn change(bytes: &mut [u8], changes: &[u8], flight: u8) -> bool {
    let mut changed = false;
    for change in changes.chunks_exact(4).filter(|change| change[0] == flight) {
        let offset = usize::from(u16::from_be_bytes([change[1], change[2]]));
        if let Some(byte) = bytes.get_mut(offset) {
            *byte ^= change[3];
            changed |= change[3] != 0;
        }
    }
    changed
}

/// A dialler's and a listener's end that know each other.
fn endpoints() -> &'static (Endpoint, Endpoint) {
    static ENDPOINTS: OnceLock<(Endpoint, Endpoint)> = OnceLock::new();
    ENDPOINTS.get_or_init(|| {
        let key = || PrivateKey::generate().expect("randomness");
        let (a, b) = (key(), key());
        let end = |key: &PrivateKey, peer: &PrivateKey| {
            Endpoint::new(key, vec![peer.public()]).expect("an endpoint")
        };
        (end(&a, &b), end(&b, &a))
    })
}
