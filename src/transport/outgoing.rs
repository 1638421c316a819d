//! Frames on their way out: whole frames in, vectored writes out.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use crate::packet::buffer::{Buffer, Pool};

/// Frames handed to the kernel in one call.
const FRAMES_A_WRITE: usize = 64;

/// Frames that wait to be written, the first perhaps in part.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    frames: VecDeque<Buffer>,
    written_of_first: usize,
    bytes: usize,
}

impl Outgoing {
    /// Adds a frame at the end.
    pub(super) fn push(&mut self, frame: Buffer) {
        self.bytes += frame.frame().len();
        self.frames.push_back(frame);
    }

    /// Adds a frame before all others but one that is written in part.
    pub(super) fn push_first(&mut self, frame: Buffer) {
        self.bytes += frame.frame().len();
        self.frames.insert(usize::from(self.written_of_first > 0), frame);
    }

    /// Drops every frame but one that is written in part: the stream must stay in frames.
    pub(super) fn drop_unstarted(&mut self) {
        self.frames.truncate(usize::from(self.written_of_first > 0));
        let left: usize = self.frames.iter().map(|frame| frame.frame().len()).sum();
        self.bytes = left - self.written_of_first;
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes once; frames that are written whole go back to `pool`.
    pub(super) fn write(
        &mut self,
        write: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
        pool: &mut Pool,
    ) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); FRAMES_A_WRITE];
        let mut count = 0;
        for (slice, frame) in slices.iter_mut().zip(&self.frames) {
            let skip = if count == 0 { self.written_of_first } else { 0 };
            *slice = IoSlice::new(&frame.frame()[skip..]);
            count += 1;
        }
        let mut written = write(&slices[..count])?;
        if written == 0 && self.bytes > 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.bytes -= written;
        written += self.written_of_first;
        while let Some(first) = self.frames.front() {
            let length = first.frame().len();
            if written < length {
                break;
            }
            written -= length;
            self.frames.pop_front().into_iter().for_each(|frame| pool.recycle(frame));
        }
        self.written_of_first = written;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(fill: u8, length: usize) -> Buffer {
        let mut buffer = Buffer::copy_of(&vec![fill; length]);
        buffer.set_header([fill; 8]);
        buffer
    }

    fn write_some(outgoing: &mut Outgoing, sink: &mut Vec<u8>, most: usize) {
        let write = |slices: &[IoSlice<'_>]| {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            let some = all.len().min(most);
            sink.extend_from_slice(&all[..some]);
            Ok(some)
        };
        outgoing.write(write, &mut Pool::default()).unwrap();
    }

    proptest! {
        #[test]
        fn partial_writes_lose_and_repeat_nothing(
            lengths in prop::collection::vec(1usize..300, 1..200),
            most in 1usize..2000,
        ) {
            let mut outgoing = Outgoing::default();
            let mut expected = Vec::new();
            for (index, length) in lengths.iter().enumerate() {
                let frame = frame(u8::try_from(index).unwrap(), *length);
                expected.extend_from_slice(frame.frame());
                outgoing.push(frame);
            }
            let mut sink = Vec::new();
            while outgoing.bytes() > 0 {
                write_some(&mut outgoing, &mut sink, most);
                prop_assert_eq!(outgoing.bytes(), expected.len() - sink.len());
            }
            prop_assert_eq!(sink, expected);
        }
    }

    #[test]
    fn a_control_frame_overtakes_data_but_never_splits_a_frame() {
        let mut outgoing = Outgoing::default();
        outgoing.push(frame(1, 10));
        outgoing.push(frame(2, 10));
        let mut sink = Vec::new();
        write_some(&mut outgoing, &mut sink, 5);
        outgoing.push_first(frame(9, 4));
        while outgoing.bytes() > 0 {
            write_some(&mut outgoing, &mut sink, 1000);
        }
        assert_eq!(sink, [[1; 18].as_slice(), &[9; 12], &[2; 18]].concat());
    }

    #[test]
    fn what_is_dropped_at_the_end_leaves_a_started_frame_whole() {
        let mut outgoing = Outgoing::default();
        outgoing.push(frame(1, 10));
        outgoing.push(frame(2, 10));
        let mut sink = Vec::new();
        write_some(&mut outgoing, &mut sink, 5);
        outgoing.drop_unstarted();
        outgoing.push_first(frame(9, 1));
        write_some(&mut outgoing, &mut sink, 1000);
        assert_eq!(sink, [[1; 18].as_slice(), &[9; 9]].concat());
        assert_eq!(outgoing.bytes(), 0);
    }
}
