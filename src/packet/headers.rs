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
mod tests;
