//! Frames on their way out: whole frames in; out come vectored writes, or, where a layer seals them
//! first, whole frames again.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use crate::packet::buffer::{Buffer, Pool};

/// Frames handed to the kernel in one call.
const FRAMES_A_WRITE: usize = 64;

/// Control frames that may wait. A peer that makes us answer without reading gets no answers.
const CONTROLS: usize = 8;

/// Frames that wait to be written: one that is written in part, then control frames, then data.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    started: Option<Buffer>,
    written_of_started: usize,
    controls: VecDeque<Buffer>,
    data: VecDeque<Buffer>,
    bytes: usize,
}

impl Outgoing {
    /// Adds a data frame.
    pub(super) fn push(&mut self, frame: Buffer) {
        self.bytes += frame.frame().len();
        self.data.push_back(frame);
    }

    /// Adds a control frame, unless too many wait already.
    pub(super) fn push_control(&mut self, frame: Buffer) {
        if self.controls.len() < CONTROLS {
            self.bytes += frame.frame().len();
            self.controls.push_back(frame);
        }
    }

    /// Takes the data frames that have not been started, in order.
    pub(super) fn take_data(&mut self) -> VecDeque<Buffer> {
        self.bytes -= self.data.iter().map(|frame| frame.frame().len()).sum::<usize>();
        std::mem::take(&mut self.data)
    }

    /// Takes the next frame, for a layer that keeps what is written in part itself.
    pub(super) fn pop(&mut self) -> Option<Buffer> {
        let frame = self.next()?;
        self.bytes -= frame.frame().len();
        Some(frame)
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
        let waiting = self.started.iter().chain(&self.controls).chain(&self.data);
        for (slice, frame) in slices.iter_mut().zip(waiting) {
            let skip = if count == 0 { self.written_of_started } else { 0 };
            *slice = IoSlice::new(&frame.frame()[skip..]);
            count += 1;
        }
        let written = write(&slices[..count])?;
        if written == 0 && self.bytes > 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.advance(written, pool);
        Ok(())
    }

    fn advance(&mut self, written: usize, pool: &mut Pool) {
        self.bytes -= written;
        let mut left = self.written_of_started + written;
        self.written_of_started = 0;
        while left > 0 {
            let Some(frame) = self.next() else { return };
            let length = frame.frame().len();
            if left < length {
                self.started = Some(frame);
                self.written_of_started = left;
                return;
            }
            left -= length;
            pool.recycle(frame);
        }
    }

    fn next(&mut self) -> Option<Buffer> {
        let started = self.started.take();
        started.or_else(|| self.controls.pop_front()).or_else(|| self.data.pop_front())
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
    fn control_frames_overtake_data_in_their_own_order_but_never_split_a_frame() {
        let mut outgoing = Outgoing::default();
        outgoing.push(frame(1, 10));
        outgoing.push(frame(2, 10));
        let mut sink = Vec::new();
        write_some(&mut outgoing, &mut sink, 5);
        outgoing.push_control(frame(8, 4));
        outgoing.push_control(frame(9, 4));
        while outgoing.bytes() > 0 {
            write_some(&mut outgoing, &mut sink, 1000);
        }
        assert_eq!(sink, [[1; 18].as_slice(), &[8; 12], &[9; 12], &[2; 18]].concat());
    }

    #[test]
    fn data_that_is_taken_back_leaves_a_started_frame_whole() {
        let mut outgoing = Outgoing::default();
        outgoing.push(frame(1, 10));
        outgoing.push(frame(2, 10));
        let mut sink = Vec::new();
        write_some(&mut outgoing, &mut sink, 5);
        let taken: Vec<_> = outgoing.take_data().into_iter().map(|f| f.packet()[0]).collect();
        assert_eq!(taken, [2]);
        outgoing.push_control(frame(9, 1));
        write_some(&mut outgoing, &mut sink, 1000);
        assert_eq!(sink, [[1; 18].as_slice(), &[9; 9]].concat());
        assert_eq!(outgoing.bytes(), 0);
    }

    #[test]
    fn a_peer_that_asks_without_reading_makes_nothing_grow() {
        let mut outgoing = Outgoing::default();
        for _ in 0..10_000 {
            outgoing.push_control(frame(4, 8));
        }
        assert!(outgoing.bytes() <= 16 * CONTROLS);
    }
}
