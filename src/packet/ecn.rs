//! Marking congestion in the IP header (RFC 3168).

use super::checksum::Sum;

const CONGESTION_EXPERIENCED: u8 = 0b11;

/// Sets Congestion Experienced. Says false, and changes nothing, when the packet's sender does not
/// understand it (Not-ECT), or the bytes are no IP header.
pub fn mark(packet: &mut [u8]) -> bool {
    match packet.first().map(|first| first >> 4) {
        Some(4) => mark_v4(packet),
        Some(6) => mark_v6(packet),
        _ => false,
    }
}

/// ```text
/// | version, IHL | DSCP 6 bits, ECN 2 bits | ...                      (RFC 791)
/// ```
fn mark_v4(packet: &mut [u8]) -> bool {
    let header_length = packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
    let Some(header) = packet.get_mut(..header_length).filter(|header| header.len() >= 20) else {
        return false;
    };
    if header[1] & CONGESTION_EXPERIENCED == 0 {
        return false;
    }
    if header[1] & CONGESTION_EXPERIENCED != CONGESTION_EXPERIENCED {
        header[1] |= CONGESTION_EXPERIENCED;
        header[10..12].fill(0);
        let checksum = Sum::ZERO.bytes(header).checksum();
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    true
}

/// ```text
/// | version 4 bits, DSCP 4 bits | DSCP 2 bits, ECN 2 bits, flow label 4 bits |   (RFC 8200)
/// ```
fn mark_v6(packet: &mut [u8]) -> bool {
    let Some(byte) = packet.get_mut(1) else { return false };
    if *byte >> 4 & CONGESTION_EXPERIENCED == 0 {
        return false;
    }
    *byte |= CONGESTION_EXPERIENCED << 4;
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::headers::{Ecn, Headers};
    use crate::packet::samples::Sample;

    fn with_ecn(sample: Sample, bits: u8) -> Vec<u8> {
        let mut packet = sample.build();
        if packet[0] >> 4 == 4 {
            packet[1] |= bits;
            packet[10..12].fill(0);
            let checksum = Sum::ZERO.bytes(&packet[..20]).checksum();
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        } else {
            packet[1] |= bits << 4;
        }
        packet
    }

    #[test]
    fn a_capable_packet_is_marked_and_its_checksums_hold() {
        for sample in [Sample::TCP4, Sample::TCP6, Sample::UDP4, Sample::UDP6] {
            for bits in [0b01, 0b10, 0b11] {
                let mut packet = with_ecn(sample.clone(), bits);
                assert!(mark(&mut packet));
                assert_eq!(Headers::parse(&packet).unwrap().ecn, Ecn::Congestion);
                if packet[0] >> 4 == 4 {
                    assert_eq!(Sum::ZERO.bytes(&packet[..20]).fold(), 0xffff);
                }
            }
        }
    }

    #[test]
    fn a_packet_that_is_not_capable_is_left_alone() {
        for sample in [Sample::TCP4, Sample::TCP6] {
            let before = sample.build();
            let mut packet = before.clone();
            assert!(!mark(&mut packet));
            assert_eq!(packet, before);
        }
    }

    #[test]
    fn no_header_is_no_panic() {
        for bytes in [&[][..], &[0x60], &[0x45, 1], &[0x4f; 21], &[0x10, 3]] {
            assert!(!mark(&mut bytes.to_vec()));
        }
    }
}
