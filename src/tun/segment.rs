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
mod tests;
