//! What arrives on a connection, in pieces: frames, and what becomes of each before the kernel.
//!
//! Input: the length of the pieces less one, then the bytes that arrive.

use tunnel64d::packet::offload::{Accepts, Offload};
use tunnel64d::transport::fuzzing::Frames;
use tunnel64d::tun::sanitise::Sanitiser;
use tunnel64d::wire::bye::Bye;
use tunnel64d::wire::frame::{HEADER_LEN, Kind, MAX_CONTROL, MAX_PACKET, Malformed};
use tunnel64d::wire::hello::Hello;

const SANITISER: Sanitiser = Sanitiser { mtu: 1500, accepts: Accepts::ALL };

/// Tries one input.
pub fn run(data: &[u8]) {
    let Some((&piece, bytes)) = data.split_first() else { return };
    let in_pieces = arrive(bytes, usize::from(piece) + 1);
    let at_once = arrive(bytes, usize::MAX);
    assert_eq!(in_pieces, at_once, "pieces make no difference");
}

type Seen = Vec<(Kind, Vec<u8>)>;

fn arrive(mut bytes: &[u8], piece: usize) -> (Seen, Option<Malformed>) {
    let mut frames = Frames::default();
    let mut seen = Vec::new();
    while !bytes.is_empty() {
        let read = frames.read(&bytes[..piece.min(bytes.len())]);
        assert!(read > 0, "there is always room");
        bytes = &bytes[read..];
        loop {
            let frame = match frames.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(malformed) => return (seen, Some(malformed)),
            };
            assert_eq!(frame.header.length, frame.body.len());
            let longest = match frame.header.kind {
                Kind::Data { gso_size, checksum_incomplete } => {
                    let offload = Offload { gso_size, checksum_incomplete };
                    let _ = SANITISER.rebuild(frame.body, offload);
                    MAX_PACKET
                }
                Kind::Hello => {
                    let _ = Hello::parse(frame.body);
                    MAX_CONTROL
                }
                Kind::Bye => {
                    log(&Bye::parse(frame.body));
                    MAX_CONTROL
                }
                Kind::Ping | Kind::Pong => 8,
            };
            assert!(frame.body.len() <= longest);
            seen.push((frame.header.kind, frame.body.to_vec()));
        }
        assert!(frames.capacity() <= 4 * (HEADER_LEN + MAX_PACKET) + MAX_PACKET);
    }
    (seen, None)
}

/// What goes into a log can't forge a line there.
fn log(bye: &Bye) {
    let line = format!("{}: {}", bye.reason, bye.text);
    assert!(!line.contains(char::is_control), "{line:?}");
}
