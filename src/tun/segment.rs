//! Software GSO: finishes what a packet needs, for a peer or a kernel that can't.
//!
//! The result is, byte for byte, what Linux makes of the same packet in `skb_segment` and its
//! protocol parts (`net/ipv4/af_inet.c`, `tcp_offload.c`, `udp_offload.c`); `tests/segmentation.rs`
//! compares them.

use crate::packet::checksum::Sum;
use crate::packet::headers::{Headers, Transport, Version};
use crate::packet::offload::{Misfit, Offload};

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// One finished packet, in two parts to be written after each other: so that a payload is copied
/// once, to where the caller wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// The packet's headers.
    pub headers: &'a [u8],
    /// What follows them.
    pub payload: &'a [u8],
}

impl Segment<'_> {
    /// Bytes of the whole packet.
    #[must_use]
    pub fn total_length(&self) -> usize {
        self.headers.len() + self.payload.len()
    }
}

/// Hands the finished packets that `packet` stands for to `emit`, in order, and returns how many.
///
/// The headers are rewritten in place for one segment after the other, so `packet` is spent
/// afterwards. Its checksum field must hold the pseudo-header sum if `offload` says so, as
/// [`offload_of`](super::vnet::offload_of) and [`rebuild`](super::sanitise::Sanitiser::rebuild) see
/// to. A single packet is emitted too, its checksum completed. Bytes beyond the IP length are not.
///
/// # Errors
/// A [`Misfit`] when the packet has no TCP or UDP header to work on; nothing was emitted then.
pub fn segment(
    packet: &mut [u8],
    headers: &Headers,
    offload: Offload,
    mut emit: impl FnMut(Segment<'_>),
) -> Result<usize, Misfit> {
    let offload = offload.normalised(headers);
    let packet = packet.get_mut(..headers.total_length).ok_or(Misfit::Transport)?;
    if offload.gso_size == 0 {
        if offload.checksum_incomplete {
            complete_checksum(packet, headers)?;
        }
        let (headers, payload) = packet.split_at(headers.transport_offset.min(packet.len()));
        emit(Segment { headers, payload });
        return Ok(1);
    }

    cut(packet, headers, offload, 1, |segment, _| emit(segment))
}

/// Hands smaller super-packets of at most `most` segments each to `emit`, in order, each with what
/// it still needs. Segmented in turn, they come to the same packets as the whole one.
///
/// As [`segment`] it spends `packet`, whose checksum must be incomplete.
///
/// # Errors
/// As [`segment`].
pub fn divide(
    packet: &mut [u8],
    headers: &Headers,
    offload: Offload,
    most: u16,
    emit: impl FnMut(Segment<'_>, Offload),
) -> Result<usize, Misfit> {
    let packet = packet.get_mut(..headers.total_length).ok_or(Misfit::Transport)?;
    cut(packet, headers, offload, most.max(1), emit)
}

fn cut(
    packet: &mut [u8],
    headers: &Headers,
    offload: Offload,
    most: u16,
    mut emit: impl FnMut(Segment<'_>, Offload),
) -> Result<usize, Misfit> {
    if headers.fragment {
        return Err(Misfit::Fragment);
    }
    if !offload.checksum_incomplete {
        return Err(Misfit::ChecksumComplete);
    }
    let gso_size = usize::from(offload.gso_size.max(1));
    let payload_offset = headers.payload_offset().ok_or(Misfit::Transport)?;
    let (head, payload) = packet.split_at_mut_checked(payload_offset).ok_or(Misfit::Transport)?;
    let mut patch = Patch::of(head, headers)?;
    let mut chunks = payload.chunks(gso_size * usize::from(most)).peekable();
    let mut count = 0;
    while let Some(chunk) = chunks.next() {
        let segments = u16::try_from(chunk.len().div_ceil(gso_size)).unwrap_or(u16::MAX);
        patch.apply(head, chunk, segments, chunks.peek().is_none())?;
        let left = if segments > 1 { offload } else { Offload::NONE };
        emit(Segment { headers: head, payload: chunk }, left);
        count += 1;
    }
    Ok(count)
}

/// Completes the checksum of a single packet whose field holds the pseudo-header sum.
///
/// Takes the field's word for that sum instead of computing it: behind a routing header only the
/// kernel knows which address it covers.
///
/// # Errors
/// [`Misfit::Transport`] when the packet has no TCP or UDP header.
pub fn complete_checksum(packet: &mut [u8], headers: &Headers) -> Result<(), Misfit> {
    let transport =
        packet.get_mut(headers.transport_offset..headers.total_length).ok_or(Misfit::Transport)?;
    // Not only for UDP: the kernel's `skb_checksum_help` does not ask, and in TCP both are right.
    let checksum = nonzero(Sum::ZERO.bytes(transport).checksum());
    write_checksum(transport, headers, checksum)
}

/// What changes from one segment to the next.
struct Patch<'a> {
    headers: &'a Headers,
    /// The pseudo-header sum of the super-packet without its length.
    seed: Sum,
    identification: u16,
    sequence: u32,
    flags: u8,
}

impl<'a> Patch<'a> {
    fn of(head: &[u8], headers: &'a Headers) -> Result<Patch<'a>, Misfit> {
        let transport = &head[headers.transport_offset..];
        let field = headers.checksum_offset().ok_or(Misfit::Transport)?;
        let length = u16::try_from(headers.transport_length()).map_err(|_| Misfit::SegmentSize)?;
        let seed = Sum::ZERO.bytes(&transport[field..field + 2]).word(!length);
        let mut patch = Patch { headers, seed, identification: 0, sequence: 0, flags: 0 };
        if headers.version == Version::V4 {
            patch.identification = u16::from_be_bytes([head[4], head[5]]);
        }
        if let Transport::Tcp { .. } = headers.transport {
            patch.sequence =
                u32::from_be_bytes([transport[4], transport[5], transport[6], transport[7]]);
            patch.flags = transport[13];
        }
        Ok(patch)
    }

    /// Turns `head` into the headers of the packet that carries `chunk`, and steps on. One of
    /// several segments is left with an incomplete checksum.
    #[inline]
    fn apply(
        &mut self,
        head: &mut [u8],
        chunk: &[u8],
        segments: u16,
        last: bool,
    ) -> Result<(), Misfit> {
        let total_length = head.len() + chunk.len();
        let (network, transport) = head.split_at_mut(self.headers.transport_offset);
        // An IPv6 header does not count itself.
        let network_length = match self.headers.version {
            Version::V4 => total_length,
            Version::V6 => total_length - 40,
        };
        let network_length = u16::try_from(network_length).map_err(|_| Misfit::SegmentSize)?;
        let transport_length =
            u16::try_from(transport.len() + chunk.len()).map_err(|_| Misfit::SegmentSize)?;

        match self.headers.version {
            Version::V4 => {
                network[2..4].copy_from_slice(&network_length.to_be_bytes());
                // Counts on even where fragmentation is forbidden, as Linux does.
                network[4..6].copy_from_slice(&self.identification.to_be_bytes());
                network[10..12].fill(0);
                let checksum = Sum::ZERO.bytes(network).checksum();
                network[10..12].copy_from_slice(&checksum.to_be_bytes());
                self.identification = self.identification.wrapping_add(segments);
            }
            Version::V6 => network[4..6].copy_from_slice(&network_length.to_be_bytes()),
        }

        match self.headers.transport {
            Transport::Tcp { .. } => {
                transport[4..8].copy_from_slice(&self.sequence.to_be_bytes());
                transport[13] = if last { self.flags } else { self.flags & !(FIN | PSH) };
                transport[16..18].fill(0);
                // CWR answers one mark, so it is said once.
                self.flags &= !CWR;
                let length = u32::try_from(chunk.len()).map_err(|_| Misfit::SegmentSize)?;
                self.sequence = self.sequence.wrapping_add(length);
            }
            Transport::Udp => {
                transport[4..6].copy_from_slice(&transport_length.to_be_bytes());
                transport[6..8].fill(0);
            }
            Transport::Opaque => return Err(Misfit::Transport),
        }
        let seed = self.seed.word(transport_length);
        if segments > 1 {
            return write_checksum(transport, self.headers, seed.fold());
        }
        // Both headers are an even number of bytes long, so the payload adds up behind them.
        let checksum = seed.bytes(transport).bytes(chunk).checksum();
        let checksum = match self.headers.transport {
            Transport::Udp => nonzero(checksum),
            _ => checksum,
        };
        write_checksum(transport, self.headers, checksum)
    }
}

/// In UDP zero says "no checksum", and all ones is the same number.
#[inline]
fn nonzero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

#[inline]
fn write_checksum(transport: &mut [u8], headers: &Headers, checksum: u16) -> Result<(), Misfit> {
    let offset = headers.checksum_offset().ok_or(Misfit::Transport)?;
    let field = transport.get_mut(offset..offset + 2).ok_or(Misfit::Transport)?;
    field.copy_from_slice(&checksum.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::samples::{
        ACK, CWR, ECE, FIN, PSH, Sample, checksums_hold, naive_complete, naive_segments,
        summing_to_zero, train_summing_to_zero,
    };
    use proptest::prelude::*;

    const INCOMPLETE: Offload = Offload { gso_size: 0, checksum_incomplete: true };

    fn segments(mut packet: Vec<u8>, offload: Offload) -> Result<Vec<Vec<u8>>, Misfit> {
        let headers = Headers::parse(&packet).unwrap();
        let mut all = Vec::new();
        let count = segment(&mut packet, &headers, offload, |segment| {
            let whole = [segment.headers, segment.payload].concat();
            assert_eq!(whole.len(), segment.total_length());
            all.push(whole);
        })?;
        assert_eq!(count, all.len());
        Ok(all)
    }

    fn cut_up(sample: &Sample, gso_size: u16) -> Vec<Vec<u8>> {
        segments(sample.build(), Offload { gso_size, ..INCOMPLETE }).unwrap()
    }

    #[test]
    fn fin_and_psh_stay_with_the_last_segment_and_cwr_with_the_first() {
        for base in [Sample::TCP4, Sample::TCP6] {
            let sample = Sample { flags: ACK | FIN | PSH | CWR | ECE, ..base };
            let flags: Vec<u8> = cut_up(&sample, 1400)
                .iter()
                .map(|segment| segment[sample.headers() - 20 + 13])
                .collect();
            assert_eq!(flags, [ACK | ECE | CWR, ACK | ECE, ACK | ECE | FIN | PSH]);
        }
    }

    #[test]
    fn sequence_and_identification_count_on_and_wrap() {
        let segments = cut_up(&Sample { sequence: 0xffff_ff00, id: 0xffff, ..Sample::TCP4 }, 1400);
        let sequences: Vec<&[u8]> = segments.iter().map(|segment| &segment[24..28]).collect();
        assert_eq!(sequences, [[0xff, 0xff, 0xff, 0], [0, 0, 4, 0x78], [0, 0, 9, 0xf0]]);
        let ids: Vec<&[u8]> = segments.iter().map(|segment| &segment[4..6]).collect();
        assert_eq!(ids, [[0xff, 0xff], [0, 0], [0, 1]]);
    }

    #[test]
    fn the_last_segment_is_as_short_as_its_payload() {
        for sample in Sample::ALL {
            let lengths: Vec<usize> = cut_up(&sample, 1400).iter().map(Vec::len).collect();
            let headers = sample.headers();
            assert_eq!(lengths, [headers + 1400, headers + 1400, headers + 1200]);
        }
    }

    #[test]
    fn a_super_packet_of_one_segment_has_its_checksum_completed() {
        for sample in Sample::ALL {
            let mut expected = sample.build();
            naive_complete(&mut expected);
            assert_eq!(cut_up(&sample, 4000), [expected.clone()]);
            assert_eq!(cut_up(&sample, 0), [expected]);
        }
    }

    #[test]
    fn a_finished_packet_passes_unchanged() {
        let mut packet = Sample { payload: 11, ..Sample::UDP6 }.build();
        naive_complete(&mut packet);
        assert_eq!(segments(packet.clone(), Offload::NONE).unwrap(), [packet]);
        let mut opaque = Sample { payload: 11, ..Sample::TCP4 }.build();
        opaque[9] = 1;
        assert_eq!(segments(opaque.clone(), Offload::NONE).unwrap(), [opaque]);
    }

    #[test]
    fn bytes_beyond_the_ip_length_are_not_sent() {
        let sample = Sample { payload: 11, ..Sample::TCP4 };
        let longer = [&sample.build()[..], &[0xee; 5]].concat();
        assert_eq!(segments(longer, INCOMPLETE).unwrap(), cut_up(&sample, 0));
    }

    #[test]
    fn a_checksum_of_zero_is_written_as_all_ones_but_for_tcp_segments() {
        for sample in Sample::ALL {
            let field = sample.headers() - if sample.udp { 2 } else { 4 };
            let single = segments(summing_to_zero(&sample), INCOMPLETE).unwrap();
            assert_eq!(single[0][field..field + 2], [0xff, 0xff]);
            assert!(checksums_hold(&single[0]));
            let offload = Offload { gso_size: 100, ..INCOMPLETE };
            let cut = segments(train_summing_to_zero(&sample, 100), offload).unwrap();
            let expected = if sample.udp { [0xff, 0xff] } else { [0, 0] };
            assert_eq!(cut[0][field..field + 2], expected);
            assert!(checksums_hold(&cut[0]));
        }
    }

    #[test]
    fn extension_headers_are_repeated_and_the_kernels_sum_is_kept() {
        // Behind a routing header the pseudo-header has another address than the IP header, so
        // the seed differs from what the addresses tell.
        let sample = Sample { payload: 300, ..Sample::UDP6 };
        let plain = sample.build();
        let mut packet = [&plain[..40], &[17, 0, 1, 4, 0, 0, 0, 0], &plain[40..]].concat();
        packet[6] = 60;
        packet[4..6].copy_from_slice(&(8 + 8 + 300_u16).to_be_bytes());
        packet[24..26].copy_from_slice(&[0xfc, 0x00]);
        let cut = segments(packet, Offload { gso_size: 100, ..INCOMPLETE }).unwrap();
        let expected = naive_segments(&plain, 100);
        assert_eq!(cut.len(), 3);
        for (segment, expected) in cut.iter().zip(expected) {
            assert_eq!(segment[4..6], (8 + 8 + 100_u16).to_be_bytes());
            assert_eq!(segment[40..48], [17, 0, 1, 4, 0, 0, 0, 0]);
            assert_eq!(segment[48..], expected[40..]);
        }
    }

    #[test]
    fn what_has_no_segments_is_a_misfit_and_emits_nothing() {
        let gso = Offload { gso_size: 100, ..INCOMPLETE };
        let mut icmp = Sample::TCP4.build();
        icmp[9] = 1;
        assert_eq!(segments(icmp.clone(), gso), Err(Misfit::Transport));
        assert_eq!(segments(icmp, INCOMPLETE), Err(Misfit::Transport));
        let complete = Offload { gso_size: 100, checksum_incomplete: false };
        assert_eq!(segments(Sample::TCP4.build(), complete), Err(Misfit::ChecksumComplete));
        let headers = Headers::parse(&Sample::TCP4.build()).unwrap();
        let mut short = Sample { payload: 9, ..Sample::TCP4 }.build();
        let never = |_: Segment<'_>| unreachable!();
        assert_eq!(segment(&mut short, &headers, gso, never), Err(Misfit::Transport));
    }

    fn sample() -> impl Strategy<Value = Sample> {
        (
            any::<(bool, bool, bool, u8)>(),
            (0_usize..=10, 0_usize..=10),
            any::<(u32, u16, u8)>(),
            prop_oneof![0_usize..3000, 0_usize..65_000],
        )
            .prop_map(
                |((six, udp, dont_fragment, flags), options, (sequence, id, seed), payload)| {
                    let sample = Sample {
                        six,
                        udp,
                        dont_fragment,
                        flags,
                        sequence,
                        id,
                        seed,
                        ip_options: vec![1; options.0 * 4],
                        tcp_options: vec![1; options.1 * 4],
                        ..Sample::TCP4
                    };
                    Sample { payload: payload.min(65_535 - sample.headers()), ..sample }
                },
            )
    }

    proptest! {
        #[test]
        fn segments_are_those_of_the_naive_segmenter(sample in sample(), gso_size in 8_u16..9000) {
            let packet = sample.build();
            let segments = cut_up(&sample, gso_size);
            let mut payload = Vec::new();
            for segment in &segments {
                let headers = Headers::parse(segment).unwrap();
                prop_assert_eq!(headers.total_length, segment.len());
                prop_assert!(segment.len() <= sample.headers() + usize::from(gso_size));
                prop_assert!(checksums_hold(segment));
                payload.extend_from_slice(&segment[sample.headers()..]);
            }
            prop_assert_eq!(&payload, &packet[sample.headers()..]);
            if sample.payload > usize::from(gso_size) {
                prop_assert_eq!(segments, naive_segments(&packet, gso_size.into()));
            }
        }

        #[test]
        fn pieces_come_to_the_same_segments_as_the_whole(
            sample in sample(),
            gso_size in 8_u16..3000,
            most in 1_u16..9,
        ) {
            let offload = Offload { gso_size, ..INCOMPLETE };
            let mut packet = sample.build();
            let headers = Headers::parse(&packet).unwrap();
            let mut pieces = Vec::new();
            divide(&mut packet, &headers, offload, most, |piece, left| {
                pieces.push(([piece.headers, piece.payload].concat(), left));
            }).unwrap();
            let longest = sample.headers() + usize::from(gso_size) * usize::from(most);
            prop_assert!(pieces.iter().all(|(piece, _)| piece.len() <= longest));
            let again: Vec<_> = pieces
                .into_iter()
                .flat_map(|(piece, left)| segments(piece, left).unwrap())
                .collect();
            if sample.payload > usize::from(gso_size) {
                prop_assert_eq!(again, cut_up(&sample, gso_size));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 40..200),
            first in prop::sample::select(vec![0x45_u8, 0x46, 0x60]),
            protocol in prop::sample::select(vec![6_u8, 17, 60, 44]),
            gso_size in 0_u16..50,
            checksum_incomplete: bool,
        ) {
            bytes[0] = first;
            let length = u8::try_from(bytes.len()).unwrap();
            if first == 0x60 {
                bytes[4..7].copy_from_slice(&[0, length - 40, protocol]);
            } else {
                bytes[2..4].copy_from_slice(&[0, length]);
                bytes[9] = protocol;
            }
            if let Ok(headers) = Headers::parse(&bytes) {
                let offload = Offload { gso_size, checksum_incomplete };
                let _ = segment(&mut bytes, &headers, offload, |_| ());
            }
        }
    }
}
