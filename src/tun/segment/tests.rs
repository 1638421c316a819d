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
