//! The header that the kernel puts before a packet it hands us, and wants before one it takes.

use crate::packet::checksum::Sum;
use crate::packet::headers::{Headers, TCP, UDP, Version};
use crate::packet::offload::{Offload, seed_checksum};
use zerocopy::native_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a [`VnetHeader`].
pub const HEADER_LEN: usize = 10;

/// `flags`: the checksum at `csum_start + csum_offset` is incomplete.
pub const NEEDS_CSUM: u8 = 1;
/// `gso_type`: a single packet.
pub const GSO_NONE: u8 = 0;
/// `gso_type`: a TCP super-packet over IPv4.
pub const GSO_TCPV4: u8 = 1;
/// `gso_type`: a TCP super-packet over IPv6.
pub const GSO_TCPV6: u8 = 4;
/// `gso_type`: a train of UDP datagrams.
pub const GSO_UDP_L4: u8 = 5;
/// `gso_type`, beside a TCP one: the CWR flag is set and belongs to the first segment only.
pub const GSO_ECN: u8 = 0x80;

/// `struct virtio_net_hdr` (`include/uapi/linux/virtio_net.h`), in the host's byte order.
///
/// ```text
///   0       1       2       3       4       5       6       7       8       9
/// | flags | type  |    hdr_len    |   gso_size    |  csum_start   |  csum_offset  |
/// ```
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct VnetHeader {
    /// [`NEEDS_CSUM`], or `DATA_VALID` (2): verified already, which is no news on the wire.
    pub flags: u8,
    /// One of the `GSO_` kinds.
    pub gso_type: u8,
    /// Bytes of all headers. A hint for memory when writing; when reading, no promise at all.
    pub hdr_len: U16,
    /// Bytes of payload in each segment but the last.
    pub gso_size: U16,
    /// Where the sum of an incomplete checksum starts, from the packet's start.
    pub csum_start: U16,
    /// Where its field is, from there.
    pub csum_offset: U16,
}

const _: () = assert!(size_of::<VnetHeader>() == HEADER_LEN);

/// Why a packet that the kernel handed us can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// A kind of super-packet that we did not ask for.
    #[error("the kernel sent an unknown kind of super-packet")]
    GsoType,
    /// The header tells of another packet than the one behind it.
    #[error("the kernel's header does not fit its packet")]
    Mismatch,
}

/// What the kernel wants done with the packet behind `header`.
///
/// Afterwards an incomplete checksum is that of the packet's own TCP or UDP header and its field
/// holds the pseudo-header sum. Two rarities are settled here, in place, so that nobody else needs
/// to know them: super-packets that a network card merged and verified carry no seed, and a
/// checksum left open *inside* a tunnelled packet (IPIP or VXLAN out of a virtual machine) has no
/// place in an [`Offload`], so it is completed.
///
/// # Errors
/// [`Unusable`]: drop the packet and count it.
#[inline]
pub fn offload_of(
    header: &VnetHeader,
    packet: &mut [u8],
    headers: &Headers,
) -> Result<Offload, Unusable> {
    let needs_checksum = header.flags & NEEDS_CSUM != 0;
    let (start, offset) =
        (usize::from(header.csum_start.get()), usize::from(header.csum_offset.get()));
    let own_checksum =
        start == headers.transport_offset && Some(offset) == headers.checksum_offset();

    let of_kind = match header.gso_type & !GSO_ECN {
        GSO_NONE if !needs_checksum => return Ok(Offload::NONE),
        GSO_NONE if own_checksum => {
            return Ok(Offload { gso_size: 0, checksum_incomplete: true });
        }
        GSO_NONE => return complete_inner_checksum(packet, start, offset),
        GSO_TCPV4 => headers.version == Version::V4 && headers.protocol == TCP,
        GSO_TCPV6 => headers.version == Version::V6 && headers.protocol == TCP,
        GSO_UDP_L4 => headers.protocol == UDP,
        _ => return Err(Unusable::GsoType),
    };
    let gso_size = header.gso_size.get();
    if !of_kind || gso_size == 0 || (needs_checksum && !own_checksum) {
        return Err(Unusable::Mismatch);
    }
    if !needs_checksum {
        seed_checksum(packet, headers).map_err(|_| Unusable::Mismatch)?;
    }
    Ok(Offload { gso_size, checksum_incomplete: true })
}

#[cold]
fn complete_inner_checksum(
    packet: &mut [u8],
    start: usize,
    offset: usize,
) -> Result<Offload, Unusable> {
    let covered = packet.get_mut(start..).ok_or(Unusable::Mismatch)?;
    let checksum = match Sum::ZERO.bytes(covered).checksum() {
        // Zero says "none" in UDP, and in every other protocol is the same number as all ones.
        0 => 0xffff,
        checksum => checksum,
    };
    let field = covered.get_mut(offset..offset + 2).ok_or(Unusable::Mismatch)?;
    field.copy_from_slice(&checksum.to_be_bytes());
    Ok(Offload::NONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::samples::{Sample, checksums_hold, naive_sum};

    /// The header that the kernel writes before `sample` as a super-packet.
    fn header(sample: &Sample, gso_type: u8, gso_size: u16) -> VnetHeader {
        let transport = if sample.six { 40 } else { 20 + sample.ip_options.len() };
        VnetHeader {
            flags: NEEDS_CSUM,
            gso_type,
            hdr_len: U16::new(u16::try_from(sample.headers()).unwrap()),
            gso_size: U16::new(gso_size),
            csum_start: U16::new(u16::try_from(transport).unwrap()),
            csum_offset: U16::new(if sample.udp { 6 } else { 16 }),
        }
    }

    fn offload(header: &VnetHeader, packet: &mut [u8]) -> Result<Offload, Unusable> {
        let headers = Headers::parse(packet).unwrap();
        offload_of(header, packet, &headers)
    }

    const KINDS: [u8; 4] = [GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, GSO_UDP_L4];
    const WHOLE: Offload = Offload { gso_size: 1000, checksum_incomplete: true };

    #[test]
    fn the_layout_is_the_kernels() {
        let header = VnetHeader {
            flags: 1,
            gso_type: 4,
            hdr_len: U16::new(0x0203),
            gso_size: U16::new(0x0405),
            csum_start: U16::new(0x0607),
            csum_offset: U16::new(0x0809),
        };
        let words = [0x0203_u16, 0x0405, 0x0607, 0x0809].map(u16::to_ne_bytes).concat();
        assert_eq!(header.as_bytes(), [&[1, 4], &words[..]].concat());
    }

    #[test]
    fn every_kind_of_super_packet_is_understood_and_left_as_it_is() {
        for (sample, kind) in Sample::ALL.iter().zip(KINDS) {
            let mut packet = sample.build();
            assert_eq!(offload(&header(sample, kind, 1000), &mut packet), Ok(WHOLE));
            assert_eq!(packet, sample.build());
        }
    }

    #[test]
    fn the_ecn_bit_does_not_change_the_kind() {
        let mut packet = Sample::TCP6.build();
        let header = header(&Sample::TCP6, GSO_TCPV6 | GSO_ECN, 1000);
        assert_eq!(offload(&header, &mut packet), Ok(WHOLE));
    }

    #[test]
    fn a_verified_checksum_is_an_ordinary_packet() {
        let mut packet = Sample::TCP4.build();
        let header = VnetHeader { flags: 2, ..VnetHeader::default() };
        assert_eq!(offload(&header, &mut packet), Ok(Offload::NONE));
    }

    #[test]
    fn the_header_length_is_never_trusted() {
        for length in [0, u16::MAX] {
            let mut packet = Sample::TCP4.build();
            let header =
                VnetHeader { hdr_len: U16::new(length), ..header(&Sample::TCP4, GSO_TCPV4, 1000) };
            assert_eq!(offload(&header, &mut packet), Ok(WHOLE));
        }
    }

    #[test]
    fn a_super_packet_verified_by_the_card_gets_its_seed() {
        let mut packet = Sample::TCP4.build();
        packet[36..38].fill(0xaa);
        let header = VnetHeader { flags: 2, ..header(&Sample::TCP4, GSO_TCPV4, 1000) };
        assert_eq!(offload(&header, &mut packet), Ok(WHOLE));
        assert_eq!(packet, Sample::TCP4.build());
    }

    #[test]
    fn unknown_kinds_are_unusable() {
        for kind in [2, 3, 6, 0x20, 0x7f, 0xff] {
            let header = header(&Sample::UDP4, kind, 1000);
            assert_eq!(offload(&header, &mut Sample::UDP4.build()), Err(Unusable::GsoType));
        }
    }

    #[test]
    fn a_header_that_tells_of_another_packet_is_unusable() {
        let mismatch = |header, sample: &Sample| {
            assert_eq!(offload(&header, &mut sample.build()), Err(Unusable::Mismatch));
        };
        mismatch(header(&Sample::TCP4, GSO_TCPV6, 1000), &Sample::TCP4);
        mismatch(header(&Sample::TCP6, GSO_TCPV4, 1000), &Sample::TCP6);
        mismatch(header(&Sample::UDP4, GSO_TCPV4, 1000), &Sample::UDP4);
        mismatch(header(&Sample::TCP4, GSO_UDP_L4, 1000), &Sample::TCP4);
        mismatch(header(&Sample::TCP4, GSO_TCPV4, 0), &Sample::TCP4);
        let good = header(&Sample::TCP4, GSO_TCPV4, 1000);
        mismatch(VnetHeader { csum_start: U16::new(40), ..good }, &Sample::TCP4);
        mismatch(VnetHeader { csum_offset: U16::new(6), ..good }, &Sample::TCP4);
    }

    #[test]
    fn a_checksum_left_open_inside_a_tunnelled_packet_is_completed() {
        let inner = Sample { payload: 99, ..Sample::TCP4 };
        let mut packet = [&Sample::TCP4.build()[..20], &inner.build()[..]].concat();
        packet[2..4].copy_from_slice(&(20 + 40 + 99_u16).to_be_bytes());
        packet[9] = 4;
        let header = VnetHeader {
            flags: NEEDS_CSUM,
            csum_start: U16::new(40),
            csum_offset: U16::new(16),
            ..VnetHeader::default()
        };
        assert_eq!(offload(&header, &mut packet), Ok(Offload::NONE));
        assert!(checksums_hold(&packet[20..]));
        for (start, offset) in [(u16::MAX, 0), (40, u16::MAX), (158, 0), (40, 118)] {
            let header =
                VnetHeader { csum_start: U16::new(start), csum_offset: U16::new(offset), ..header };
            assert_eq!(offload(&header, &mut packet), Err(Unusable::Mismatch), "{start} {offset}");
        }
    }

    #[test]
    fn an_inner_checksum_of_zero_is_sent_as_all_ones() {
        let mut packet = [0x45, 0, 0, 24, 0, 0, 0, 0, 64, 47, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
            .into_iter()
            .chain([0xff, 0xff, 0, 0])
            .collect::<Vec<u8>>();
        let header = VnetHeader {
            flags: NEEDS_CSUM,
            csum_start: U16::new(20),
            csum_offset: U16::new(2),
            ..VnetHeader::default()
        };
        assert_eq!(offload(&header, &mut packet), Ok(Offload::NONE));
        assert_eq!(packet[22..], [0xff, 0xff]);
        assert_eq!(naive_sum(&packet[20..]), 0xffff);
    }
}
