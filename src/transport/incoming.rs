//! Bytes on their way in: reads of any size in, whole frames out.

use std::io;

use crate::wire::frame::{HEADER_LEN, Header, MAX_PACKET, Malformed};

/// A frame never needs more than this.
const LARGEST_FRAME: usize = HEADER_LEN + MAX_PACKET;

/// Room for several super-packets, so that little is moved to the front and one read takes much.
const CAPACITY: usize = 4 * LARGEST_FRAME;

/// A whole frame, still in the read buffer.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Its header.
    pub header: Header,
    /// Its body; may be changed in place.
    pub body: &'a mut [u8],
}

/// What has been read and not yet taken.
#[derive(Default)]
pub(super) struct Incoming {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Incoming {
    /// Reads once into the room there is, which is never empty once [`Self::next_frame`] has said
    /// that no whole frame is left.
    pub(super) fn fill(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.bytes.is_empty() {
            self.bytes = vec![0; CAPACITY];
        }
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if CAPACITY - self.start < LARGEST_FRAME {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let length = read(&mut self.bytes[self.end..])?;
        self.end += length;
        Ok(length)
    }

    /// The next whole frame.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame<'_>>, Malformed> {
        let Some(header) = self.bytes[self.start..self.end].first_chunk() else {
            return Ok(None);
        };
        let header = Header::parse(header)?;
        let body = self.start + HEADER_LEN;
        let next = body + header.length;
        if next > self.end {
            return Ok(None);
        }
        self.start = next;
        Ok(Some(Frame { header, body: &mut self.bytes[body..next] }))
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Incoming({} bytes)", self.end - self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::Kind;
    use proptest::prelude::*;

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
            let mut incoming = Incoming::default();
            let mut rest = wire.as_slice();
            let mut seen = Vec::new();
            for most in reads.iter().cycle() {
                while let Some(frame) = incoming.next_frame().unwrap() {
                    prop_assert!(frame.body.iter().all(|byte| usize::from(*byte) == seen.len()));
                    seen.push(frame.body.len());
                }
                if rest.is_empty() {
                    break;
                }
                incoming.fill(|room| {
                    assert!(!room.is_empty());
                    let length = room.len().min(*most).min(rest.len());
                    room[..length].copy_from_slice(&rest[..length]);
                    rest = &rest[length..];
                    Ok(length)
                }).unwrap();
            }
            prop_assert_eq!(seen, lengths);
        }
    }
}
