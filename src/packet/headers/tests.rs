use super::*;
use crate::packet::samples::Sample;
use proptest::prelude::*;

/// An IPv6 packet whose payload is `chain`, the first of type `next`.
fn with_chain(next: u8, chain: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&u16::try_from(chain.len()).unwrap().to_be_bytes());
    packet.extend_from_slice(&[next, 64]);
    packet.extend_from_slice(&[0xfd; 32]);
    packet.extend_from_slice(chain);
    packet
}

#[test]
fn the_fields_of_an_ipv4_tcp_packet_are_found_behind_options() {
    let sample =
        Sample { ip_options: vec![1; 8], tcp_options: vec![1; 12], payload: 5, ..Sample::TCP4 };
    let mut packet = sample.build();
    packet[1] |= 3;
    let headers = Headers::parse(&packet).unwrap();
    assert_eq!(headers.version, Version::V4);
    assert_eq!(headers.source, IpAddr::from([10, 64, 1, 2]));
    assert_eq!(headers.destination, IpAddr::from([10, 64, 2, 2]));
    assert_eq!((headers.protocol, headers.transport_offset), (TCP, 28));
    assert_eq!(headers.transport, Transport::Tcp { header_length: 32 });
    assert_eq!((headers.payload_offset(), headers.total_length), (Some(60), 65));
    assert_eq!((headers.transport_length(), headers.checksum_offset()), (37, Some(16)));
    assert!(!headers.fragment && !headers.extension_headers);
    assert_eq!(headers.ecn, Ecn::Congestion);
}

#[test]
fn the_fields_of_an_ipv6_udp_packet_are_found() {
    let mut packet = Sample { payload: 3, ..Sample::UDP6 }.build();
    packet[1] = 0x20;
    let headers = Headers::parse(&packet).unwrap();
    assert_eq!(headers.version, Version::V6);
    assert_eq!(headers.source, "fd64:1::2".parse::<IpAddr>().unwrap());
    assert_eq!(headers.destination, "fd64:2::2".parse::<IpAddr>().unwrap());
    assert_eq!((headers.protocol, headers.transport_offset), (UDP, 40));
    assert_eq!((headers.transport, headers.payload_offset()), (Transport::Udp, Some(48)));
    assert_eq!((headers.total_length, headers.checksum_offset()), (51, Some(6)));
    assert_eq!(headers.ecn, Ecn::Capable0);
}

#[test]
fn bytes_after_the_packet_are_not_part_of_it() {
    let mut packet = Sample { payload: 3, ..Sample::UDP4 }.build();
    packet.extend_from_slice(&[0; 9]);
    assert_eq!(Headers::parse(&packet).unwrap().total_length, packet.len() - 9);
}

#[test]
fn a_packet_cut_anywhere_is_truncated() {
    for sample in [Sample::TCP4, Sample::TCP6] {
        let packet = sample.build();
        for length in 1..packet.len() {
            assert_eq!(Headers::parse(&packet[..length]), Err(Malformed::Truncated));
        }
    }
}

#[test]
fn only_versions_4_and_6_are_packets() {
    assert_eq!(Headers::parse(&[]), Err(Malformed::Version));
    for nibble in (0..16_u8).filter(|nibble| ![4, 6].contains(nibble)) {
        assert_eq!(Headers::parse(&[nibble << 4; 60]), Err(Malformed::Version));
    }
}

#[test]
fn ipv4_lengths_that_contradict_each_other_are_malformed() {
    let mut packet = Sample::TCP4.build();
    packet[0] = 0x44;
    assert_eq!(Headers::parse(&packet), Err(Malformed::Length));
    let mut packet = Sample::TCP4.build();
    packet[2..4].copy_from_slice(&19_u16.to_be_bytes());
    assert_eq!(Headers::parse(&packet), Err(Malformed::Length));
}

#[test]
fn a_transport_header_cut_short_is_opaque() {
    let mut packet = Sample { payload: 0, ..Sample::TCP4 }.build();
    packet[32] = 0x60;
    assert_eq!(Headers::parse(&packet).unwrap().transport, Transport::Opaque);
    packet[32] = 0x40;
    assert_eq!(Headers::parse(&packet).unwrap().transport, Transport::Opaque);
    let seven = with_chain(UDP, &[0; 7]);
    assert_eq!(Headers::parse(&seven).unwrap().transport, Transport::Opaque);
}

#[test]
fn fragments_are_told_by_offset_and_by_more_to_come() {
    for (field, fragment) in [(0x2000, true), (0x0001, true), (0x4000, false), (0x8000, false)] {
        let mut packet = Sample::UDP4.build();
        packet[6..8].copy_from_slice(&u16::to_be_bytes(field));
        let headers = Headers::parse(&packet).unwrap();
        assert_eq!(headers.fragment, fragment, "{field:#06x}");
        assert_eq!(headers.transport == Transport::Opaque, fragment);
    }
}

#[test]
fn extension_headers_are_walked_to_the_transport() {
    let chain = [
        &[DESTINATION_OPTIONS, 1][..],
        &[0; 14],
        &[AUTHENTICATION, 0],
        &[0; 6],
        &[UDP, 1],
        &[0; 10],
        &[0; 8],
    ]
    .concat();
    let headers = Headers::parse(&with_chain(HOP_BY_HOP, &chain)).unwrap();
    assert_eq!((headers.protocol, headers.transport_offset), (UDP, 40 + 36));
    assert_eq!(headers.transport, Transport::Udp);
    assert!(headers.extension_headers && !headers.fragment);
}

#[test]
fn the_walk_stops_at_a_later_fragment_but_not_at_a_single_one() {
    let later = [&[TCP, 0, 0x00, 0x08, 0, 0, 0, 0][..], &[0xff; 40]].concat();
    let headers = Headers::parse(&with_chain(FRAGMENT, &later)).unwrap();
    assert!(headers.fragment);
    assert_eq!((headers.transport, headers.transport_offset), (Transport::Opaque, 48));
    let single = [&[UDP, 0, 0x00, 0x00, 0, 0, 0, 0][..], &[0; 8]].concat();
    let headers = Headers::parse(&with_chain(FRAGMENT, &single)).unwrap();
    assert!(!headers.fragment && headers.extension_headers);
    assert_eq!(headers.transport, Transport::Udp);
}

#[test]
fn a_first_fragment_is_a_fragment_though_its_offset_is_zero() {
    let first = [&[UDP, 0, 0x00, 0x01, 0, 0, 0, 0][..], &[0; 8]].concat();
    let headers = Headers::parse(&with_chain(FRAGMENT, &first)).unwrap();
    assert!(headers.fragment);
    assert_eq!((headers.protocol, headers.transport), (UDP, Transport::Opaque));
}

#[test]
fn an_extension_header_beyond_the_end_is_malformed() {
    assert_eq!(
        Headers::parse(&with_chain(HOP_BY_HOP, &[UDP, 1, 0, 0, 0, 0, 0, 0])),
        Err(Malformed::Length)
    );
    assert_eq!(Headers::parse(&with_chain(ROUTING, &[UDP, 0])), Err(Malformed::Length));
}

#[test]
fn a_jumbogram_is_malformed() {
    let mut packet = with_chain(HOP_BY_HOP, &[TCP, 0, 0xc2, 4, 0, 1, 0, 0]);
    packet[4..6].fill(0);
    assert_eq!(Headers::parse(&packet), Err(Malformed::Length));
}

#[test]
fn the_chain_of_extension_headers_is_bounded() {
    let of = |count: usize| {
        let mut chain = [DESTINATION_OPTIONS, 0, 0, 0, 0, 0, 0, 0].repeat(count - 1);
        chain.extend_from_slice(&[59, 0, 0, 0, 0, 0, 0, 0]);
        Headers::parse(&with_chain(DESTINATION_OPTIONS, &chain)).map(|headers| headers.protocol)
    };
    assert_eq!(of(MAX_EXTENSION_HEADERS), Ok(59));
    assert_eq!(of(MAX_EXTENSION_HEADERS + 1), Err(Malformed::TooManyExtensionHeaders));
}

fn assert_offsets_lie_within(packet: &[u8]) {
    if let Ok(headers) = Headers::parse(packet) {
        assert!(headers.total_length <= packet.len());
        assert!(headers.transport_offset <= headers.total_length);
        assert!(headers.payload_offset().is_none_or(|end| end <= headers.total_length));
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        assert_offsets_lie_within(&bytes);
    }

    #[test]
    fn arbitrary_bytes_under_a_plausible_ipv6_header_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        next in prop::sample::select(
            vec![HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION_OPTIONS, TCP, UDP],
        ),
    ) {
        assert_offsets_lie_within(&with_chain(next, &bytes));
    }

    #[test]
    fn arbitrary_bytes_under_a_plausible_ipv4_header_never_panic(
        first in 0x40_u8..0x50,
        length in 0_u8..220,
        mut bytes in prop::collection::vec(any::<u8>(), 20..200),
    ) {
        bytes[0] = first;
        bytes[2] = 0;
        bytes[3] = length;
        assert_offsets_lie_within(&bytes);
    }
}
