//! A byte buffer that is filled at its end and emptied at its front.

/// Bytes between the part that is done with and the part that is free.
#[derive(Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Window {
    /// What is in it.
    pub(super) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// What is in it, to be changed in place.
    pub(super) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// Bytes that are in it.
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Bytes that it holds room for, filled or free.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// The free part, at least this long. Moves what is in it only when it must, and grows only
    /// when there is no other way.
    pub(super) fn room(&mut self, at_least: usize) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
        if self.bytes.len() - self.end < at_least {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if self.bytes.len() - self.end < at_least {
                self.bytes.resize(self.end + at_least, 0);
            }
        }
        &mut self.bytes[self.end..]
    }

    /// The first bytes of the free part have been filled.
    pub(super) fn added(&mut self, length: usize) {
        self.end += length;
        debug_assert!(self.end <= self.bytes.len());
    }

    /// Adds a copy of these bytes.
    #[cfg(test)]
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.added(bytes.len());
    }

    /// Takes bytes off the front.
    pub(super) fn take(&mut self, length: usize) -> &mut [u8] {
        let start = self.start;
        self.start += length;
        debug_assert!(self.start <= self.end);
        &mut self.bytes[start..start + length]
    }
}

impl std::fmt::Debug for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Window({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn it_holds_what_was_added_and_not_yet_taken(
            turns in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..50), 0usize..60), 1..50),
        ) {
            let mut window = Window::default();
            let mut expected = VecDeque::new();
            for (added, taken) in turns {
                window.extend(&added);
                expected.extend(&added);
                let taken = taken.min(window.len());
                let front: Vec<u8> = expected.drain(..taken).collect();
                prop_assert_eq!(window.take(taken).to_vec(), front);
                prop_assert_eq!(window.filled().to_vec(), Vec::from(expected.clone()));
            }
            prop_assert!(window.bytes.len() < 3000);
        }
    }
}
