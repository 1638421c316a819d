//! A packet from the peer: what the sanitiser lets through, the kernel may be handed.
//!
//! Input: flags, features, gso_size, MTU (both little-endian), then the packet. Flags, from the lowest
//! bit: the checksum is incomplete; lengths are put right; the MTU is what the segments need, and as
//! much more or less as the next byte says.

use super::put_lengths_right;
use tunnel64d::packet::headers::{Headers, Transport};
use tunnel64d::packet::offload::{Accepts, MAX_TCP_SEGMENTS, MAX_UDP_SEGMENTS, Offload};
use tunnel64d::tun::sanitise::{Sanitised, Sanitiser};
use tunnel64d::tun::vnet::{
    GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, offload_of,
};

/// Tries one input.
pub fn run(data: &[u8]) {
    let Some((&[flags, features, g0, g1, m0, m1], packet)) = data.split_first_chunk() else {
        return;
    };
    let mut packet = packet.to_vec();
    if flags & 2 != 0 {
        put_lengths_right(&mut packet);
    }
    let packet = packet.as_slice();
    let (gso_size, mut mtu) = (u16::from_le_bytes([g0, g1]), u16::from_le_bytes([m0, m1]));
    if let Ok(headers) = Headers::parse(packet) {
        assert!(headers.total_length <= packet.len());
        assert!(headers.transport_offset <= headers.total_length);
        assert!(headers.payload_offset().is_none_or(|end| end <= headers.total_length));
        if flags & 4 != 0 {
            let start = headers.payload_offset().unwrap_or(headers.transport_offset);
            let needed = gso_size.saturating_add(u16::try_from(start).unwrap_or(u16::MAX));
            mtu = needed.saturating_add_signed(i8::from_le_bytes([m0]).into());
        }
    }
    let accepts = Accepts::from_bits_truncate(features.into());
    let sanitiser = Sanitiser { mtu, accepts };
    let offload = Offload { gso_size, checksum_incomplete: flags & 1 != 0 };
    let mut sane = packet.to_vec();
    if let Ok(sanitised) = sanitiser.rebuild(&mut sane, offload) {
        check(sanitiser, offload, packet, &mut sane, &sanitised);
    }
}

/// `Documentation/networking` has no list of what the kernel relies on: it is
/// `virtio_net_hdr_to_skb` in `include/linux/virtio_net.h`, and the CVEs that our sanitiser names.
fn check(
    sanitiser: Sanitiser,
    offload: Offload,
    packet: &[u8],
    sane: &mut [u8],
    sanitised: &Sanitised,
) {
    let Sanitised { vnet, headers } = sanitised;
    let (length, mtu) = (sane.len(), usize::from(sanitiser.mtu));
    let hdr_len = usize::from(vnet.hdr_len.get());
    let field = usize::from(vnet.csum_start.get()) + usize::from(vnet.csum_offset.get());
    let gso_size = usize::from(vnet.gso_size.get());

    assert_eq!(headers.total_length, length);
    assert!(hdr_len <= length && vnet.flags & !NEEDS_CSUM == 0);
    assert!(hdr_len >= if packet[0] >> 4 == 6 { 40 } else { 20 });
    if vnet.flags == 0 {
        assert_eq!((vnet.gso_type, gso_size, field), (GSO_NONE, 0, 0));
        assert_eq!(sane, packet, "a finished packet is not touched");
        assert!(length <= mtu);
        return;
    }
    assert!(sanitiser.accepts.contains(Accepts::CHECKSUM) && offload.checksum_incomplete);
    assert!(!headers.fragment && !headers.extension_headers);
    assert!(field + 2 <= length);
    assert_eq!(vnet.csum_offset.get(), if headers.protocol == 17 { 6 } else { 16 });
    for (at, (before, after)) in packet.iter().zip(&*sane).enumerate() {
        assert!(before == after || at == field || at == field + 1, "only the checksum is seeded");
    }
    if vnet.gso_type == GSO_NONE {
        assert!(gso_size == 0 && length <= mtu);
    } else {
        assert!(gso_size > 0 && hdr_len + gso_size <= mtu && hdr_len + gso_size < length);
        let segments = (length - hdr_len).div_ceil(gso_size);
        let (most, feature) = match (vnet.gso_type & !GSO_ECN, packet[0] >> 4) {
            (GSO_TCPV4, 4) => (MAX_TCP_SEGMENTS, Accepts::TSO4),
            (GSO_TCPV6, 6) => (MAX_TCP_SEGMENTS, Accepts::TSO6),
            (GSO_UDP_L4, 4) => (MAX_UDP_SEGMENTS, Accepts::USO4),
            (GSO_UDP_L4, 6) => (MAX_UDP_SEGMENTS, Accepts::USO6),
            kind => panic!("{kind:?}"),
        };
        assert!(segments <= most && sanitiser.accepts.contains(feature));
        assert!(vnet.gso_type != GSO_UDP_L4 | GSO_ECN);
        assert!((headers.transport == Transport::Udp) == (vnet.gso_type == GSO_UDP_L4));
    }
    // What the kernel reads back is what was meant.
    let seeded = sane.to_vec();
    assert_eq!(offload_of(vnet, sane, headers), Ok(offload.normalised(headers)));
    assert_eq!(sane, seeded);
}
