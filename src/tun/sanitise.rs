//! From a peer's frame to what the kernel may be handed.
//!
//! A peer is authenticated, which makes it known, not right: a bug or a break-in at its end must
//! not reach our kernel's segmentation code, which has trusted vnet headers too much before
//! (CVE-2024-43817, CVE-2024-43897, CVE-2024-49947). So a frame carries nothing but the packet,
//! its segment size and whether the checksum is open; offsets and kinds are worked out here from
//! the packet itself, and the checksum field is seeded anew.

use super::vnet::{GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, VnetHeader};
use crate::packet::headers::{Headers, Malformed, Transport, UDP_HEADER, Version};
use crate::packet::offload::{Accepts, Misfit, Offload, seed_checksum};
use zerocopy::native_endian::U16;

/// What this end takes: fixed for the life of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sanitiser {
    /// The TUN interface's MTU in bytes.
    pub mtu: u16,
    /// Which super-packets our HELLO announced.
    pub accepts: Accepts,
}

/// A packet fit to be written to the TUN interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sanitised {
    /// What goes before it.
    pub vnet: VnetHeader,
    /// Its headers, for the source filter.
    pub headers: Headers,
}

/// Why a packet from the peer was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The first nibble is neither 4 nor 6.
    #[error("the packet is neither IPv4 nor IPv6")]
    Version,
    /// The IP headers don't hold together.
    #[error("the packet's IP headers are malformed")]
    Headers,
    /// The IP header tells another length than the frame has.
    #[error("the packet's length is not that of its frame")]
    Length,
    /// A single packet longer than the interface's MTU: the two ends' MTUs differ.
    #[error("the packet is longer than our MTU")]
    TooLong,
    /// Offload asked for a fragment.
    #[error("offload is asked for a fragment")]
    Fragment,
    /// Offload asked for a packet with IPv6 extension headers.
    #[error("offload is asked for a packet with IPv6 extension headers")]
    ExtensionHeaders,
    /// Offload asked for something without a whole TCP or UDP header.
    #[error("offload is asked for a packet without a whole TCP or UDP header")]
    Transport,
    /// The UDP header tells another length than the packet has.
    #[error("the UDP length is not that of the packet")]
    UdpLength,
    /// Segments below the least size, or above what our MTU leaves.
    #[error("the super-packet's segments are too small or exceed our MTU")]
    SegmentSize,
    /// More segments than a kernel takes, or than one frame should cause.
    #[error("the super-packet has too many segments")]
    SegmentCount,
    /// A super-packet with a complete checksum is a contradiction.
    #[error("the super-packet claims a complete checksum")]
    ChecksumComplete,
    /// A kind of offload that our HELLO did not announce.
    #[error("the packet needs an offload that we did not announce")]
    NotAnnounced,
}

impl Refusal {
    /// Every variant, in the order of its number.
    pub const ALL: [Refusal; 12] = [
        Refusal::Version,
        Refusal::Headers,
        Refusal::Length,
        Refusal::TooLong,
        Refusal::Fragment,
        Refusal::ExtensionHeaders,
        Refusal::Transport,
        Refusal::UdpLength,
        Refusal::SegmentSize,
        Refusal::SegmentCount,
        Refusal::ChecksumComplete,
        Refusal::NotAnnounced,
    ];

    /// The name as a metrics label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Refusal::Version => "version",
            Refusal::Headers => "headers",
            Refusal::Length => "length",
            Refusal::TooLong => "too_long",
            Refusal::Fragment => "fragment",
            Refusal::ExtensionHeaders => "extension_headers",
            Refusal::Transport => "transport",
            Refusal::UdpLength => "udp_length",
            Refusal::SegmentSize => "segment_size",
            Refusal::SegmentCount => "segment_count",
            Refusal::ChecksumComplete => "checksum_complete",
            Refusal::NotAnnounced => "not_announced",
        }
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Refusal {
        match malformed {
            Malformed::Version => Refusal::Version,
            Malformed::Truncated => Refusal::Length,
            Malformed::Length | Malformed::TooManyExtensionHeaders => Refusal::Headers,
        }
    }
}

impl From<Misfit> for Refusal {
    fn from(misfit: Misfit) -> Refusal {
        match misfit {
            Misfit::Fragment => Refusal::Fragment,
            Misfit::ExtensionHeaders => Refusal::ExtensionHeaders,
            Misfit::Transport => Refusal::Transport,
            Misfit::SegmentSize => Refusal::SegmentSize,
            Misfit::SegmentCount => Refusal::SegmentCount,
            Misfit::ChecksumComplete => Refusal::ChecksumComplete,
        }
    }
}

impl Sanitiser {
    /// Checks a peer's packet and builds the header that goes before it.
    ///
    /// The checksum field of a packet that needs one is overwritten with the pseudo-header sum:
    /// the kernel subtracts the length it finds in the UDP header from that sum when it cuts a
    /// train, so that a wrong seed would spoil every datagram.
    ///
    /// # Errors
    /// A [`Refusal`]: drop the packet and count it. It says nothing about the session.
    #[inline]
    pub fn rebuild(&self, packet: &mut [u8], offload: Offload) -> Result<Sanitised, Refusal> {
        let headers = Headers::parse(packet)?;
        if headers.total_length != packet.len() {
            return Err(Refusal::Length);
        }
        let needs = offload.needs(&headers)?;
        if !self.accepts.contains(needs) {
            return Err(Refusal::NotAnnounced);
        }
        let payload_offset = headers.payload_offset().unwrap_or(headers.transport_offset);
        let mtu = usize::from(self.mtu);
        if usize::from(offload.gso_size) > mtu.saturating_sub(payload_offset) {
            return Err(Refusal::SegmentSize);
        }
        let offload = offload.normalised(&headers);
        if offload.gso_size == 0 && headers.total_length > mtu {
            return Err(Refusal::TooLong);
        }

        let mut vnet = VnetHeader {
            // How much the kernel keeps in one piece, and so what it need not gather again.
            hdr_len: field(payload_offset)?,
            ..VnetHeader::default()
        };
        if offload.checksum_incomplete {
            if headers.transport == Transport::Udp && !udp_length_fits(packet, &headers) {
                return Err(Refusal::UdpLength);
            }
            seed_checksum(packet, &headers)?;
            vnet.flags = NEEDS_CSUM;
            vnet.csum_start = field(headers.transport_offset)?;
            vnet.csum_offset = field(headers.checksum_offset().ok_or(Refusal::Transport)?)?;
            vnet.gso_type = gso_type(packet, &headers, offload);
            vnet.gso_size = U16::new(offload.gso_size);
        }
        Ok(Sanitised { vnet, headers })
    }
}

fn field(offset: usize) -> Result<U16, Refusal> {
    u16::try_from(offset).map(U16::new).map_err(|_| Refusal::Headers)
}

fn udp_length_fits(packet: &[u8], headers: &Headers) -> bool {
    packet[headers.transport_offset..]
        .first_chunk::<UDP_HEADER>()
        .map(|udp| usize::from(u16::from_be_bytes([udp[4], udp[5]])))
        == Some(headers.transport_length())
}

fn gso_type(packet: &[u8], headers: &Headers, offload: Offload) -> u8 {
    const FLAGS: usize = 13;
    const CWR: u8 = 0x80;
    if offload.gso_size == 0 {
        return GSO_NONE;
    }
    let kind = match (headers.transport, headers.version) {
        (Transport::Udp, _) => return GSO_UDP_L4,
        (_, Version::V4) => GSO_TCPV4,
        (_, Version::V6) => GSO_TCPV6,
    };
    if packet[headers.transport_offset + FLAGS] & CWR != 0 { kind | GSO_ECN } else { kind }
}

#[cfg(test)]
mod tests;
