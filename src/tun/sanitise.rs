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
mod tests {
    use super::*;
    use crate::packet::samples::{ACK, CWR, Sample, fix_ipv4_checksum};
    use crate::tun::vnet::offload_of;
    use proptest::prelude::*;

    const SANITISER: Sanitiser = Sanitiser { mtu: 1500, accepts: Accepts::ALL };

    fn gso(gso_size: u16) -> Offload {
        Offload { gso_size, checksum_incomplete: true }
    }

    fn rebuild(sample: &Sample, offload: Offload) -> Result<VnetHeader, Refusal> {
        SANITISER.rebuild(&mut sample.build(), offload).map(|sanitised| sanitised.vnet)
    }

    fn refusal(mut packet: Vec<u8>, offload: Offload) -> Refusal {
        SANITISER.rebuild(&mut packet, offload).unwrap_err()
    }

    #[test]
    fn a_super_packet_gets_the_header_its_bytes_call_for() {
        let kinds = [GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, GSO_UDP_L4];
        for (sample, kind) in Sample::ALL.iter().zip(kinds) {
            let vnet = rebuild(sample, gso(1400)).unwrap();
            let transport = if sample.six { 40 } else { 20 };
            assert_eq!((vnet.flags, vnet.gso_type, vnet.gso_size.get()), (NEEDS_CSUM, kind, 1400));
            assert_eq!(usize::from(vnet.hdr_len.get()), sample.headers());
            assert_eq!(vnet.csum_start.get(), transport);
            assert_eq!(vnet.csum_offset.get(), if sample.udp { 6 } else { 16 });
        }
    }

    #[test]
    fn what_the_kernel_reads_back_is_what_the_frame_said() {
        for sample in Sample::ALL {
            for offload in [gso(1400), Offload::NONE, gso(0)] {
                let payload = if offload.gso_size == 0 { 100 } else { 4000 };
                let mut packet = Sample { payload, ..sample.clone() }.build();
                let Sanitised { vnet, headers } = SANITISER.rebuild(&mut packet, offload).unwrap();
                assert_eq!(offload_of(&vnet, &mut packet, &headers), Ok(offload));
            }
        }
    }

    #[test]
    fn the_ecn_bit_follows_the_cwr_flag_of_a_tcp_super_packet_only() {
        let of = |sample: Sample, payload| {
            let sample = Sample { flags: ACK | CWR, payload, ..sample };
            rebuild(&sample, gso(1400)).unwrap().gso_type
        };
        assert_eq!(of(Sample::TCP4, 4000), GSO_TCPV4 | GSO_ECN);
        assert_eq!(of(Sample::TCP6, 4000), GSO_TCPV6 | GSO_ECN);
        assert_eq!(of(Sample::TCP6, 1000), GSO_NONE);
        let mut train = Sample::UDP4.build();
        train[33] = 0xff;
        assert_eq!(SANITISER.rebuild(&mut train, gso(1400)).unwrap().vnet.gso_type, GSO_UDP_L4);
    }

    #[test]
    fn a_super_packet_of_one_segment_becomes_a_single_packet() {
        for sample in Sample::ALL {
            for size in [1, 1000] {
                let vnet =
                    rebuild(&Sample { payload: usize::from(size), ..sample.clone() }, gso(size))
                        .unwrap();
                assert_eq!((vnet.flags, vnet.gso_type, vnet.gso_size.get()), (NEEDS_CSUM, 0, 0));
            }
        }
    }

    #[test]
    fn a_peers_checksum_seed_is_overwritten() {
        for sample in Sample::ALL {
            let mut packet = sample.build();
            let field = Headers::parse(&packet).unwrap();
            let field = field.transport_offset + field.checksum_offset().unwrap();
            packet[field..field + 2].fill(0x5a);
            SANITISER.rebuild(&mut packet, gso(1400)).unwrap();
            assert_eq!(packet, sample.build());
        }
    }

    #[test]
    fn a_finished_packet_is_not_touched() {
        let mut packet = Sample { payload: 100, ..Sample::UDP4 }.build();
        packet[26..28].fill(0);
        let before = packet.clone();
        let vnet = SANITISER.rebuild(&mut packet, Offload::NONE).unwrap().vnet;
        assert_eq!((vnet.flags, vnet.gso_type), (0, GSO_NONE));
        assert_eq!(packet, before);
    }

    #[test]
    fn an_unknown_version_is_refused() {
        assert_eq!(refusal(vec![0x55; 60], Offload::NONE), Refusal::Version);
        assert_eq!(refusal(vec![], Offload::NONE), Refusal::Version);
    }

    #[test]
    fn malformed_ip_headers_are_refused() {
        let mut packet = Sample { payload: 10, ..Sample::TCP4 }.build();
        packet[0] = 0x43;
        assert_eq!(refusal(packet, Offload::NONE), Refusal::Headers);
    }

    #[test]
    fn a_length_other_than_the_frames_is_refused() {
        let packet = Sample { payload: 10, ..Sample::TCP6 }.build();
        assert_eq!(refusal(packet[..packet.len() - 1].to_vec(), Offload::NONE), Refusal::Length);
        assert_eq!(refusal([&packet[..], &[0]].concat(), Offload::NONE), Refusal::Length);
    }

    #[test]
    fn a_jumbogram_is_refused() {
        let mut packet = Sample::TCP6.build();
        packet[4..6].fill(0);
        assert_eq!(refusal(packet, gso(1400)), Refusal::Length);
    }

    #[test]
    fn a_single_packet_may_fill_the_mtu_and_no_more() {
        for sample in Sample::ALL {
            let most = 1500 - sample.headers();
            for offload in [Offload::NONE, gso(0)] {
                let of = |payload| rebuild(&Sample { payload, ..sample.clone() }, offload);
                assert!(of(most).is_ok());
                assert_eq!(of(most + 1), Err(Refusal::TooLong));
            }
        }
    }

    #[test]
    fn segments_may_fill_the_mtu_and_no_more() {
        for sample in Sample::ALL {
            let most = u16::try_from(1500 - sample.headers()).unwrap();
            assert!(rebuild(&sample, gso(most)).is_ok());
            assert_eq!(rebuild(&sample, gso(most + 1)), Err(Refusal::SegmentSize));
            assert_eq!(rebuild(&sample, gso(u16::MAX)), Err(Refusal::SegmentSize));
            assert_eq!(rebuild(&sample, gso(7)), Err(Refusal::SegmentSize));
        }
    }

    #[test]
    fn headers_beyond_the_mtu_leave_no_room_for_segments() {
        let tiny = Sanitiser { mtu: 30, ..SANITISER };
        let refused = tiny.rebuild(&mut Sample::TCP4.build(), gso(8)).unwrap_err();
        assert_eq!(refused, Refusal::SegmentSize);
    }

    #[test]
    fn too_many_segments_are_refused() {
        let of = |sample: Sample, payload, size| rebuild(&Sample { payload, ..sample }, gso(size));
        assert!(of(Sample::UDP6, 64 * 100, 100).is_ok());
        assert_eq!(of(Sample::UDP6, 64 * 100 + 1, 100), Err(Refusal::SegmentCount));
        assert!(of(Sample::TCP4, 1024 * 50, 50).is_ok());
        assert_eq!(of(Sample::TCP4, 1024 * 50 + 1, 50), Err(Refusal::SegmentCount));
    }

    #[test]
    fn a_fragment_passes_without_offload_only() {
        let mut packet = Sample { payload: 100, ..Sample::UDP4 }.build();
        packet[6] = 0x20;
        fix_ipv4_checksum(&mut packet);
        assert!(SANITISER.rebuild(&mut packet.clone(), Offload::NONE).is_ok());
        assert_eq!(refusal(packet.clone(), gso(0)), Refusal::Fragment);
        assert_eq!(refusal(packet, gso(50)), Refusal::Fragment);
    }

    #[test]
    fn extension_headers_pass_without_offload_only() {
        let plain = Sample { payload: 100, ..Sample::UDP6 }.build();
        let mut packet = [&plain[..40], &[17, 0, 1, 4, 0, 0, 0, 0], &plain[40..]].concat();
        packet[5] += 8;
        packet[6] = 60;
        assert!(SANITISER.rebuild(&mut packet.clone(), Offload::NONE).is_ok());
        assert_eq!(refusal(packet.clone(), gso(0)), Refusal::ExtensionHeaders);
        assert_eq!(refusal(packet, gso(50)), Refusal::ExtensionHeaders);
    }

    #[test]
    fn offload_needs_a_whole_tcp_or_udp_header() {
        let mut other = Sample { payload: 100, ..Sample::TCP4 }.build();
        other[9] = 132;
        assert_eq!(refusal(other, gso(50)), Refusal::Transport);
        for data_offset in [0x40, 0xf0] {
            let mut packet = Sample { payload: 39, ..Sample::TCP6 }.build();
            packet[52] = data_offset;
            assert!(SANITISER.rebuild(&mut packet.clone(), Offload::NONE).is_ok());
            assert_eq!(refusal(packet.clone(), gso(0)), Refusal::Transport);
            assert_eq!(refusal(packet, gso(10)), Refusal::Transport);
        }
    }

    #[test]
    fn a_udp_length_that_lies_is_refused_with_offload() {
        for length in [0_u16, 8, 107, 109, u16::MAX] {
            let mut packet = Sample { payload: 100, ..Sample::UDP6 }.build();
            packet[44..46].copy_from_slice(&length.to_be_bytes());
            assert_eq!(refusal(packet.clone(), gso(0)), Refusal::UdpLength);
            assert_eq!(refusal(packet, gso(50)), Refusal::UdpLength);
        }
    }

    #[test]
    fn a_super_packet_with_a_complete_checksum_is_refused() {
        let offload = Offload { gso_size: 1400, checksum_incomplete: false };
        assert_eq!(rebuild(&Sample::TCP4, offload), Err(Refusal::ChecksumComplete));
    }

    #[test]
    fn what_was_not_announced_is_refused() {
        let accepts = Accepts::CHECKSUM.union(Accepts::TSO6);
        let sanitiser = Sanitiser { accepts, ..SANITISER };
        assert!(sanitiser.rebuild(&mut Sample::TCP6.build(), gso(1400)).is_ok());
        for sample in [Sample::TCP4, Sample::UDP4, Sample::UDP6] {
            let refused = sanitiser.rebuild(&mut sample.build(), gso(1400)).unwrap_err();
            assert_eq!(refused, Refusal::NotAnnounced);
        }
    }

    #[test]
    fn every_refusal_has_a_label_of_its_own() {
        let labels: std::collections::HashSet<&str> =
            Refusal::ALL.iter().map(|refusal| refusal.as_str()).collect();
        assert_eq!(labels.len(), Refusal::ALL.len());
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index);
        }
    }

    fn assert_offsets_lie_within(mut packet: Vec<u8>, offload: Offload) {
        let before = packet.clone();
        let Ok(Sanitised { vnet, headers }) = SANITISER.rebuild(&mut packet, offload) else {
            return;
        };
        assert_eq!(Headers::parse(&packet), Ok(headers));
        assert!(usize::from(vnet.hdr_len.get()) <= packet.len());
        if vnet.flags == NEEDS_CSUM {
            let field = usize::from(vnet.csum_start.get() + vnet.csum_offset.get());
            assert!(field + 2 <= packet.len());
            packet[field..field + 2].copy_from_slice(&before[field..field + 2]);
        }
        assert_eq!(packet, before);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            gso_size: u16,
            checksum_incomplete: bool,
        ) {
            assert_offsets_lie_within(bytes, Offload { gso_size, checksum_incomplete });
        }

        #[test]
        fn a_packet_with_wrong_bytes_never_panics(
            kind in 0_usize..4,
            payload in 0_usize..300,
            flips in prop::collection::vec((0_usize..80, any::<u8>()), 0..4),
            gso_size in 0_u16..300,
            checksum_incomplete: bool,
        ) {
            let mut packet = Sample { payload, ..Sample::ALL[kind].clone() }.build();
            for (offset, value) in flips {
                if let Some(byte) = packet.get_mut(offset) {
                    *byte = value;
                }
            }
            assert_offsets_lie_within(packet, Offload { gso_size, checksum_incomplete });
        }
    }
}
