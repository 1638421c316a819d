//! Whole frames out of bytes that arrived in pieces.

use crate::wire::frame::{HEADER_LEN, Header, MAX_PACKET, Malformed, starts_tls};

use super::window::Window;

/// A frame never needs more than this.
const LARGEST_FRAME: usize = HEADER_LEN + MAX_PACKET;

/// Bytes that one read may bring: several super-packets, so that little is moved to the front.
const A_READ: usize = 4 * LARGEST_FRAME;

/// The same for the first read: more than a TLS ClientHello, or HELLO, is long.
pub(super) const FIRST_READ: usize = 4 * 1024;

/// A whole frame, still in the read buffer.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Its header.
    pub header: Header,
    /// Its body; may be changed in place.
    pub body: &'a mut [u8],
}

/// Takes the next whole frame.
pub(super) fn next_frame(bytes: &mut Window) -> Result<Option<Frame<'_>>, Malformed> {
    let Some(header) = bytes.filled().first_chunk() else {
        return if starts_tls(bytes.filled()) { Err(Malformed::Tls) } else { Ok(None) };
    };
    let header = Header::parse(header)?;
    if bytes.len() < HEADER_LEN + header.length {
        return Ok(None);
    }
    bytes.take(HEADER_LEN);
    Ok(Some(Frame { header, body: bytes.take(header.length) }))
}

/// Room to read into: enough to complete any frame, and as much more as there is without moving
/// anything.
pub(super) fn room(bytes: &mut Window) -> &mut [u8] {
    let at_least = match bytes.len() {
        0 => a_read(bytes),
        some => LARGEST_FRAME.saturating_sub(some).max(1),
    };
    bytes.room(at_least)
}

/// Bytes that the next read into an empty window may bring. They grow with what has been taken out
/// of it, so that somebody who has yet to prove anything holds little memory.
pub(super) fn a_read(bytes: &Window) -> usize {
    (2 * bytes.capacity()).clamp(FIRST_READ, A_READ)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::Kind;
    use proptest::prelude::*;

    #[test]
    fn reads_grow_from_what_a_stranger_may_cost_to_what_bulk_needs() {
        let mut bytes = Window::default();
        let mut reads = Vec::new();
        while reads.last() != Some(&A_READ) {
            let length = room(&mut bytes).len();
            reads.push(length);
            bytes.added(length);
            bytes.take(length);
        }
        assert_eq!((reads[0], reads[1], reads.len()), (FIRST_READ, 2 * FIRST_READ, 8));
        assert_eq!(room(&mut bytes).len(), A_READ);
    }

    #[test]
    fn a_tls_alert_is_told_apart_though_it_is_shorter_than_a_header() {
        let mut bytes = Window::default();
        bytes.extend(&[0x15, 0x03]);
        assert_eq!(next_frame(&mut bytes).unwrap_err(), Malformed::Tls);
        let mut bytes = Window::default();
        bytes.extend(&[0x03, 0x03]);
        assert!(next_frame(&mut bytes).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn frames_come_out_whole_however_the_bytes_arrive(
            lengths in prop::collection::vec(prop_oneof![1usize..200, 60_000..MAX_PACKET], 1..20),
            reads in prop::collection::vec(1usize..100_000, 1..20),
        ) {
            let kind = Kind::Data { gso_size: 0, checksum_incomplete: false };
            let mut wire = Vec::new();
            for (index, length) in lengths.iter().enumerate() {
                wire.extend_from_slice(&Header { kind, length: *length }.to_bytes());
                wire.resize(wire.len() + length, u8::try_from(index).unwrap());
            }
            let mut bytes = Window::default();
            let mut rest = wire.as_slice();
            let mut seen = Vec::new();
            for most in reads.iter().cycle() {
                while let Some(frame) = next_frame(&mut bytes).unwrap() {
                    prop_assert!(frame.body.iter().all(|byte| usize::from(*byte) == seen.len()));
                    seen.push(frame.body.len());
                }
                if rest.is_empty() {
                    break;
                }
                let room = room(&mut bytes);
                prop_assert!(!room.is_empty() && room.len() <= A_READ);
                let length = room.len().min(*most).min(rest.len());
                room[..length].copy_from_slice(&rest[..length]);
                rest = &rest[length..];
                bytes.added(length);
            }
            prop_assert_eq!(seen, lengths);
        }
    }
}
