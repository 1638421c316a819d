//! What a packet still needs done to it, and who can do it.
//!
//! A super-packet is many packets of one flow under one set of headers; whoever sends it on to a
//! wire cuts it (generic segmentation offload, GSO). An incomplete checksum is one whose field
//! holds the pseudo-header sum only; whoever sends the packet on adds the rest.

use super::checksum;
use super::headers::{Headers, Transport, Version};

/// The least payload of a segment in a super-packet that crosses the tunnel whole, in bytes.
///
/// Linux lets a peer's MSS go down to 48 (`tcp_min_snd_mss`), of which options may take 40.
pub const MIN_GSO_SIZE: u16 = 8;
/// The most segments of a TCP super-packet that crosses whole: 64 KiB in segments of 64 bytes,
/// which no real path has. It bounds what one frame can make the receiver's kernel allocate.
pub const MAX_TCP_SEGMENTS: usize = 1024;
/// The most datagrams of a UDP super-packet that crosses whole: `UDP_MAX_SEGMENTS` in
/// `include/linux/udp.h`, which newer kernels have raised to 128.
pub const MAX_UDP_SEGMENTS: usize = 64;

/// What a packet needs besides its bytes: what the wire carries.
///
/// The pair of a `gso_size` and a complete checksum does not exist: cutting a packet changes its
/// checksum, so that a super-packet's is incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offload {
    /// Bytes of payload in each segment but the last; 0 for a single packet.
    pub gso_size: u16,
    /// Whether the TCP or UDP checksum field holds the pseudo-header sum only.
    pub checksum_incomplete: bool,
}

/// Why an [`Offload`] does not fit its packet, or the packet can't cross whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// A part of a packet has no checksum and no segments of its own.
    #[error("offload is asked for a fragment")]
    Fragment,
    /// Kernels have been wrong about offload behind extension headers too often to hand them any.
    #[error("offload is asked for a packet with IPv6 extension headers")]
    ExtensionHeaders,
    /// Offload is defined for TCP and UDP, with their whole header in the packet.
    #[error("offload is asked for a packet without a whole TCP or UDP header")]
    Transport,
    /// A super-packet of less than [`MIN_GSO_SIZE`] bytes a segment.
    #[error("the segments of the super-packet are too small")]
    SegmentSize,
    /// More than [`MAX_TCP_SEGMENTS`] or [`MAX_UDP_SEGMENTS`].
    #[error("the super-packet has too many segments")]
    SegmentCount,
    /// Cutting a packet changes its checksum, so that a complete one can't be meant.
    #[error("the super-packet claims a complete checksum")]
    ChecksumComplete,
}

impl Offload {
    /// A finished single packet: the ordinary case.
    pub const NONE: Offload = Offload { gso_size: 0, checksum_incomplete: false };

    /// The same need, with a super-packet of one segment told as the single packet it is.
    #[must_use]
    #[inline]
    pub fn normalised(self, headers: &Headers) -> Offload {
        match headers.payload_offset() {
            Some(offset) if headers.total_length - offset <= usize::from(self.gso_size) => {
                Offload { gso_size: 0, ..self }
            }
            _ => self,
        }
    }

    /// Which capability carries the packet whole.
    ///
    /// # Errors
    /// A [`Misfit`] when none does: the packet must be finished in software first.
    #[inline]
    pub fn needs(self, headers: &Headers) -> Result<Accepts, Misfit> {
        if self == Offload::NONE {
            return Ok(Accepts::NONE);
        }
        if headers.fragment {
            return Err(Misfit::Fragment);
        }
        if headers.extension_headers {
            return Err(Misfit::ExtensionHeaders);
        }
        let payload_offset = headers.payload_offset().ok_or(Misfit::Transport)?;
        if !self.checksum_incomplete {
            return Err(Misfit::ChecksumComplete);
        }
        if self.normalised(headers).gso_size == 0 {
            return Ok(Accepts::CHECKSUM);
        }
        if self.gso_size < MIN_GSO_SIZE {
            return Err(Misfit::SegmentSize);
        }
        let segments = (headers.total_length - payload_offset).div_ceil(usize::from(self.gso_size));
        let (most, tso_or_uso) = match (headers.transport, headers.version) {
            (Transport::Udp, Version::V4) => (MAX_UDP_SEGMENTS, Accepts::USO4),
            (Transport::Udp, Version::V6) => (MAX_UDP_SEGMENTS, Accepts::USO6),
            (_, Version::V4) => (MAX_TCP_SEGMENTS, Accepts::TSO4),
            (_, Version::V6) => (MAX_TCP_SEGMENTS, Accepts::TSO6),
        };
        if segments > most {
            return Err(Misfit::SegmentCount);
        }
        Ok(Accepts(Accepts::CHECKSUM.0 | tso_or_uso.0))
    }
}

/// Which super-packets an end takes whole. The bits are those of HELLO's feature field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Accepts(u32);

impl Accepts {
    /// Finished single packets only.
    pub const NONE: Accepts = Accepts(0);
    /// Packets whose checksum is incomplete. Without it no super-packet is accepted.
    pub const CHECKSUM: Accepts = Accepts(1);
    /// TCP super-packets over IPv4.
    pub const TSO4: Accepts = Accepts(2);
    /// TCP super-packets over IPv6.
    pub const TSO6: Accepts = Accepts(4);
    /// Trains of UDP datagrams over IPv4.
    pub const USO4: Accepts = Accepts(8);
    /// Trains of UDP datagrams over IPv6.
    pub const USO6: Accepts = Accepts(16);
    /// All of them.
    pub const ALL: Accepts = Accepts(31);

    /// The capabilities among `bits`; unknown bits are ignored.
    #[must_use]
    pub const fn from_bits_truncate(bits: u32) -> Accepts {
        Accepts(bits & Accepts::ALL.0)
    }

    /// The bits of HELLO's feature field.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of `other` are here.
    #[must_use]
    pub const fn contains(self, other: Accepts) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those of either.
    #[must_use]
    pub const fn union(self, other: Accepts) -> Accepts {
        Accepts(self.0 | other.0)
    }

    /// Those of both.
    #[must_use]
    pub const fn intersect(self, other: Accepts) -> Accepts {
        Accepts(self.0 & other.0)
    }

    /// Whether a packet can be handed over as it is, rather than finished in software.
    #[must_use]
    #[inline]
    pub fn takes(self, headers: &Headers, offload: Offload) -> bool {
        offload.needs(headers).is_ok_and(|needs| self.contains(needs))
    }
}

/// Writes the pseudo-header sum into the checksum field: what an incomplete checksum promises.
///
/// # Errors
/// [`Misfit::Transport`] when there is no TCP or UDP header, or `headers` are another packet's.
#[inline]
pub fn seed_checksum(packet: &mut [u8], headers: &Headers) -> Result<(), Misfit> {
    let offset = headers.checksum_offset().ok_or(Misfit::Transport)? + headers.transport_offset;
    let field = packet.get_mut(offset..offset + 2).ok_or(Misfit::Transport)?;
    let length = u16::try_from(headers.transport_length()).map_err(|_| Misfit::Transport)?;
    let sum =
        checksum::pseudo_header(headers.source, headers.destination, headers.protocol, length);
    field.copy_from_slice(&sum.fold().to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::samples::Sample;

    fn headers(sample: &Sample) -> Headers {
        Headers::parse(&sample.build()).unwrap()
    }

    fn gso(gso_size: u16) -> Offload {
        Offload { gso_size, checksum_incomplete: true }
    }

    #[test]
    fn each_kind_of_super_packet_needs_its_own_bit_and_checksums() {
        let kinds = [Accepts::TSO4, Accepts::TSO6, Accepts::USO4, Accepts::USO6];
        for (sample, kind) in Sample::ALL.iter().zip(kinds) {
            let headers = headers(sample);
            assert!(Accepts::CHECKSUM.union(kind).takes(&headers, gso(1000)));
            assert!(!kind.takes(&headers, gso(1000)), "segments have checksums");
            let others = Accepts::from_bits_truncate(!kind.bits());
            assert!(!others.takes(&headers, gso(1000)));
            assert!(others.takes(&headers, gso(0)));
            assert!(Accepts::NONE.takes(&headers, Offload::NONE));
            assert!(!Accepts::NONE.takes(&headers, gso(0)));
        }
    }

    #[test]
    fn one_segment_is_no_super_packet() {
        let headers = headers(&Sample::UDP6);
        assert_eq!(gso(4000).normalised(&headers), gso(0));
        assert_eq!(gso(3999).normalised(&headers), gso(3999));
        assert!(Accepts::CHECKSUM.takes(&headers, gso(4000)));
        assert!(!Accepts::CHECKSUM.takes(&headers, gso(3999)));
    }

    #[test]
    fn small_and_many_segments_do_not_cross_whole() {
        let of = |sample: Sample, payload, size| {
            gso(size).needs(&headers(&Sample { payload, ..sample })).map(|_| ())
        };
        assert_eq!(of(Sample::TCP4, 100, 7), Err(Misfit::SegmentSize));
        assert_eq!(of(Sample::TCP4, 100, 8), Ok(()));
        assert_eq!(of(Sample::TCP6, 1024 * 10, 10), Ok(()));
        assert_eq!(of(Sample::TCP6, 1024 * 10 + 1, 10), Err(Misfit::SegmentCount));
        assert_eq!(of(Sample::UDP4, 64 * 10, 10), Ok(()));
        assert_eq!(of(Sample::UDP4, 64 * 10 + 1, 10), Err(Misfit::SegmentCount));
    }

    #[test]
    fn what_the_kernel_should_not_be_asked_is_a_misfit() {
        let packet = headers(&Sample::TCP6);
        let needs = |headers: Headers| gso(1000).needs(&headers);
        assert_eq!(needs(Headers { fragment: true, ..packet }), Err(Misfit::Fragment));
        assert_eq!(
            needs(Headers { extension_headers: true, ..packet }),
            Err(Misfit::ExtensionHeaders)
        );
        assert_eq!(
            needs(Headers { transport: Transport::Opaque, ..packet }),
            Err(Misfit::Transport)
        );
        let complete = Offload { gso_size: 1000, checksum_incomplete: false };
        assert_eq!(complete.needs(&packet), Err(Misfit::ChecksumComplete));
    }

    #[test]
    fn unknown_feature_bits_are_ignored() {
        assert_eq!(Accepts::from_bits_truncate(u32::MAX), Accepts::ALL);
        assert_eq!(Accepts::from_bits_truncate(0x8000_0012).bits(), 0x12);
        assert_eq!(Accepts::ALL.intersect(Accepts::USO4), Accepts::USO4);
    }

    #[test]
    fn the_seeded_checksum_is_the_pseudo_header_sum() {
        for sample in Sample::ALL {
            let packet = sample.build();
            let parsed = Headers::parse(&packet).unwrap();
            let mut other = packet.clone();
            let field = parsed.transport_offset + parsed.checksum_offset().unwrap();
            other[field..field + 2].fill(0x5a);
            seed_checksum(&mut other, &parsed).unwrap();
            assert_eq!(packet, other);
            assert_eq!(seed_checksum(&mut other[..field + 1], &parsed), Err(Misfit::Transport));
        }
    }
}
