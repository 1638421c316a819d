//! One pass over the headers of an IP packet.
//!
//! Parsed once, where a packet enters, and handed along: the flow key, the queue, segmentation and
//! the sanitiser all work from the same [`Headers`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The protocol number of TCP.
pub const TCP: u8 = 6;
/// The protocol number of UDP.
pub const UDP: u8 = 17;
/// Bytes of a UDP header.
pub const UDP_HEADER: usize = 8;

/// Extension headers that one IPv6 packet may have before it counts as malformed.
///
/// RFC 8200 §4.1 lets each of six kinds appear once, one of them twice.
pub const MAX_EXTENSION_HEADERS: usize = 8;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// The version of the Internet Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// RFC 791.
    V4,
    /// RFC 8200.
    V6,
}

/// The congestion field, the low two bits of the traffic class (RFC 3168 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ecn {
    /// The sender does not understand marks: congestion is told by a drop.
    NotCapable,
    /// ECT(1).
    Capable1,
    /// ECT(0).
    Capable0,
    /// Congestion experienced: marked on its way.
    Congestion,
}

/// What follows the IP headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP with its whole header in the packet, options included.
    Tcp {
        /// Bytes of the header, 20 to 60.
        header_length: usize,
    },
    /// UDP with its whole header in the packet.
    Udp,
    /// Anything else: another protocol, a fragment, a header cut short.
    Opaque,
}

/// The headers of one packet. Offsets and lengths count bytes from its start and lie within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// The first nibble.
    pub version: Version,
    /// Who sent it.
    pub source: IpAddr,
    /// Whom the IP header names as receiver: with a routing header the next stop, not the last.
    pub destination: IpAddr,
    /// The protocol after all extension headers.
    pub protocol: u8,
    /// Where that protocol's header begins.
    pub transport_offset: usize,
    /// What that header is.
    pub transport: Transport,
    /// The length that the IP header tells; the slice may be longer, never shorter.
    pub total_length: usize,
    /// Whether this is a part of a packet. An IPv6 packet in a single fragment (RFC 6946) is whole.
    pub fragment: bool,
    /// Whether there are IPv6 extension headers.
    pub extension_headers: bool,
    /// The congestion field.
    pub ecn: Ecn,
}

/// Why bytes are not an IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The first nibble is neither 4 nor 6, or there is none.
    #[error("the packet is neither IPv4 nor IPv6")]
    Version,
    /// The packet ends within its IP headers, or before the length they tell.
    #[error("the packet is shorter than its headers say")]
    Truncated,
    /// A header length that cannot be, or one beyond the packet's own length.
    #[error("the packet's header lengths contradict each other")]
    Length,
    /// More than [`MAX_EXTENSION_HEADERS`].
    #[error("the packet has too many IPv6 extension headers")]
    TooManyExtensionHeaders,
}

impl Headers {
    /// Reads the headers of the packet at the start of `packet`.
    ///
    /// # Errors
    /// [`Malformed`] when the IP headers don't hold together. A transport header that doesn't is
    /// no error, for such a packet can still be forwarded: it is [`Transport::Opaque`].
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<Headers, Malformed> {
        match packet.first().map(|first| first >> 4) {
            Some(4) => ipv4(packet),
            Some(6) => ipv6(packet),
            _ => Err(Malformed::Version),
        }
    }

    /// Bytes from the transport header to the packet's end.
    #[must_use]
    #[inline]
    pub fn transport_length(&self) -> usize {
        self.total_length - self.transport_offset
    }

    /// Where the TCP or UDP header ends and the payload begins.
    #[must_use]
    #[inline]
    pub fn payload_offset(&self) -> Option<usize> {
        match self.transport {
            Transport::Tcp { header_length } => Some(self.transport_offset + header_length),
            Transport::Udp => Some(self.transport_offset + UDP_HEADER),
            Transport::Opaque => None,
        }
    }

    /// Where the checksum field of the TCP or UDP header lies within that header.
    #[must_use]
    #[inline]
    pub fn checksum_offset(&self) -> Option<usize> {
        match self.transport {
            Transport::Tcp { .. } => Some(16),
            Transport::Udp => Some(6),
            Transport::Opaque => None,
        }
    }
}

/// ```text
///  0                   1                   2                   3      RFC 791 §3.1
/// |Version|  IHL  |   DSCP    |ECN|          Total Length         |
/// |         Identification        |0 D M|     Fragment Offset     |
/// |  Time to Live |    Protocol   |        Header Checksum        |
/// |                         Source Address                        |
/// |                      Destination Address                      |
/// |                    Options, (IHL - 5) words                   |
/// ```
#[inline]
fn ipv4(packet: &[u8]) -> Result<Headers, Malformed> {
    let fixed = packet.first_chunk::<IPV4_HEADER>().ok_or(Malformed::Truncated)?;
    let header_length = usize::from(fixed[0] & 0x0f) * 4;
    let total_length = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if header_length < IPV4_HEADER || total_length < header_length {
        return Err(Malformed::Length);
    }
    let whole = packet.get(..total_length).ok_or(Malformed::Truncated)?;
    // More fragments to come, or an offset: all but the "don't fragment" and reserved bits.
    let fragment = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x3fff != 0;
    let protocol = fixed[9];
    Ok(Headers {
        version: Version::V4,
        source: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]).into(),
        destination: Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]).into(),
        protocol,
        transport_offset: header_length,
        transport: transport(protocol, fragment, &whole[header_length..]),
        total_length,
        fragment,
        extension_headers: false,
        ecn: ecn(fixed[1]),
    })
}

/// ```text
///  0                   1                   2                   3      RFC 8200 §3
/// |Version| Traffic Class, ECN low|           Flow Label          |
/// |         Payload Length        |  Next Header  |   Hop Limit   |
/// |                    Source Address, 16 bytes                   |
/// |                 Destination Address, 16 bytes                 |
/// ```
///
/// A jumbogram (RFC 2675) tells a payload length of 0, so that its hop-by-hop header lies beyond
/// its end: malformed, which is what it shall be here.
#[inline]
fn ipv6(packet: &[u8]) -> Result<Headers, Malformed> {
    let fixed = packet.first_chunk::<IPV6_HEADER>().ok_or(Malformed::Truncated)?;
    let source = fixed[8..].first_chunk::<16>().ok_or(Malformed::Truncated)?;
    let destination = fixed[24..].first_chunk::<16>().ok_or(Malformed::Truncated)?;
    let total_length = IPV6_HEADER + usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    let whole = packet.get(..total_length).ok_or(Malformed::Truncated)?;
    let chain = extension_headers(whole, fixed[6])?;
    Ok(Headers {
        version: Version::V6,
        source: Ipv6Addr::from(*source).into(),
        destination: Ipv6Addr::from(*destination).into(),
        protocol: chain.protocol,
        transport_offset: chain.end,
        transport: transport(chain.protocol, chain.fragment, &whole[chain.end..]),
        total_length,
        fragment: chain.fragment,
        extension_headers: chain.end != IPV6_HEADER,
        ecn: ecn(fixed[1] >> 4),
    })
}

/// The end of a chain of extension headers.
struct Chain {
    protocol: u8,
    end: usize,
    fragment: bool,
}

/// ```text
///  0                   1                   2                   3      RFC 8200 §4
/// |  Next Header  |  Hdr Ext Len  | hop-by-hop, routing, destination: 8 + 8 × length bytes
/// |  Next Header  |  Payload Len  | authentication (RFC 4302): 8 + 4 × length bytes
/// |  Next Header  |    Reserved   |    Fragment Offset      |Res|M|  fragment: 8 bytes
/// ```
#[inline]
fn extension_headers(whole: &[u8], first: u8) -> Result<Chain, Malformed> {
    let mut chain = Chain { protocol: first, end: IPV6_HEADER, fragment: false };
    for _ in 0..=MAX_EXTENSION_HEADERS {
        if !matches!(
            chain.protocol,
            HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS
        ) {
            return Ok(chain);
        }
        let header = whole[chain.end..].first_chunk::<8>().ok_or(Malformed::Length)?;
        let units = usize::from(header[1]);
        let length = match chain.protocol {
            FRAGMENT => 8,
            // Its least length is 12, and the field counts from there in words of 4, less 2.
            AUTHENTICATION => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        let position = u16::from_be_bytes([header[2], header[3]]);
        let in_fragment = chain.protocol == FRAGMENT;
        chain.end += length;
        if chain.end > whole.len() {
            return Err(Malformed::Length);
        }
        chain.protocol = header[0];
        if in_fragment {
            chain.fragment |= position & 0xfff9 != 0;
            // Behind the first fragment's header lies payload, whatever it calls itself.
            if position & 0xfff8 != 0 {
                return Ok(chain);
            }
        }
    }
    Err(Malformed::TooManyExtensionHeaders)
}

/// ```text
/// TCP  0-1 source port · 2-3 destination port · 4-7 sequence · 8-11 acknowledgement ·     RFC 9293 §3.1
///      12 data offset in words (high nibble) · 13 flags · 14-15 window · 16-17 checksum · 18-19 urgent
/// UDP  0-1 source port · 2-3 destination port · 4-5 length · 6-7 checksum                 RFC 768
/// ```
#[inline]
fn transport(protocol: u8, fragment: bool, bytes: &[u8]) -> Transport {
    match protocol {
        TCP if !fragment && bytes.len() >= TCP_HEADER => {
            let header_length = usize::from(bytes[12] >> 4) * 4;
            if (TCP_HEADER..=bytes.len()).contains(&header_length) {
                Transport::Tcp { header_length }
            } else {
                Transport::Opaque
            }
        }
        UDP if !fragment && bytes.len() >= UDP_HEADER => Transport::Udp,
        _ => Transport::Opaque,
    }
}

#[inline]
fn ecn(traffic_class: u8) -> Ecn {
    match traffic_class & 3 {
        0 => Ecn::NotCapable,
        1 => Ecn::Capable1,
        2 => Ecn::Capable0,
        _ => Ecn::Congestion,
    }
}

#[cfg(test)]
mod tests {
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
        for (field, fragment) in [(0x2000, true), (0x0001, true), (0x4000, false), (0x8000, false)]
        {
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
}
