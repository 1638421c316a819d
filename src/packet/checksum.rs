//! The Internet checksum (RFC 1071) and the pseudo-headers it covers.
//!
//! A ones' complement sum does not care about byte order as long as all words share one, so bytes
//! are added as the machine loads them and swapped once, at the end.

use std::net::IpAddr;

/// An unfolded ones' complement sum of 16-bit words.
///
/// Holds 2^32 additions before it could overflow: far more than any packet has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The sum of no words.
    pub const ZERO: Sum = Sum(0);

    /// Adds bytes that start at an even offset of what is summed. An odd last byte counts as if a
    /// zero followed.
    #[must_use]
    #[inline]
    pub fn bytes(self, bytes: &[u8]) -> Sum {
        // Eight independent lanes let the compiler keep them in vector registers.
        let mut lanes = [0_u64; 8];
        let mut rest = bytes;
        while let Some((block, tail)) = rest.split_first_chunk::<32>() {
            for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(4)) {
                *lane += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
            }
            rest = tail;
        }
        let mut sum = self.0 + lanes.iter().sum::<u64>();
        while let Some((word, tail)) = rest.split_first_chunk::<2>() {
            sum += u64::from(u16::from_ne_bytes(*word));
            rest = tail;
        }
        if let [last] = rest {
            sum += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        Sum(sum)
    }

    /// Adds one word, given as its value.
    #[must_use]
    #[inline]
    pub fn word(self, word: u16) -> Sum {
        Sum(self.0 + u64::from(word.to_be()))
    }

    /// The sum as one word: carries added back until none is left.
    #[must_use]
    #[inline]
    pub fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        #[allow(clippy::cast_possible_truncation)] // The loop has just seen to it.
        let word = sum as u16;
        u16::from_be(word)
    }

    /// What a checksum field holds: the complement of the folded sum.
    #[must_use]
    #[inline]
    pub fn checksum(self) -> u16 {
        !self.fold()
    }
}

/// The sum of the pseudo-header before a TCP segment or UDP datagram of `length` bytes, header
/// included (RFC 9293 §3.1, RFC 768, RFC 8200 §8.1).
///
/// ```text
/// IPv4  source (4)  · destination (4)  · zero (1) · protocol (1) · length (2)
/// IPv6  source (16) · destination (16) · length (4) · zero (3) · next header (1)
/// ```
///
/// Two addresses of different versions have no pseudo-header; they are summed as they are.
#[must_use]
pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: u16) -> Sum {
    address(address(Sum::ZERO, source), destination).word(u16::from(protocol)).word(length)
}

#[inline]
fn address(sum: Sum, address: IpAddr) -> Sum {
    match address {
        IpAddr::V4(address) => sum.bytes(&address.octets()),
        IpAddr::V6(address) => sum.bytes(&address.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::samples::naive_sum;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_rfc_1071_sums_to_ddf2() {
        let sum = Sum::ZERO.bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.fold(), 0xddf2);
        assert_eq!(sum.checksum(), !0xddf2);
    }

    #[test]
    fn all_ones_fold_to_ones_not_to_zero() {
        assert_eq!(Sum::ZERO.bytes(&[0xff; 65_535]).fold(), 0xff00);
        assert_eq!(Sum::ZERO.bytes(&[0xff; 65_534]).fold(), 0xffff);
    }

    #[test]
    fn the_pseudo_header_is_that_of_the_rfcs() {
        let four = pseudo_header([192, 0, 2, 1].into(), [198, 51, 100, 7].into(), 6, 40);
        let written = [192, 0, 2, 1, 198, 51, 100, 7, 0, 6, 0, 40];
        assert_eq!(four.fold(), naive_sum(&written));
        let (source, destination) = ([0x20; 16], [0xfd; 16]);
        let six = pseudo_header(source.into(), destination.into(), 17, 65_535);
        let written = [&source[..], &destination[..], &[0, 0, 0xff, 0xff], &[0, 0, 0, 17]].concat();
        assert_eq!(six.fold(), naive_sum(&written));
    }

    proptest! {
        #[test]
        fn any_bytes_sum_as_the_naive_loop_sums_them(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            prop_assert_eq!(Sum::ZERO.bytes(&bytes).fold(), naive_sum(&bytes));
        }

        #[test]
        fn a_sum_in_parts_is_the_sum_of_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            cut in 0_usize..150,
            word: u16,
        ) {
            let (head, tail) = bytes.split_at((cut * 2).min(bytes.len() & !1));
            let parts = Sum::ZERO.bytes(head).word(word).bytes(tail);
            let whole = Sum::ZERO.bytes(&[&word.to_be_bytes(), &bytes[..]].concat());
            prop_assert_eq!(parts.fold(), whole.fold());
        }
    }
}
