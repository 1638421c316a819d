//! What makes two packets part of one flow.

use super::headers::{Headers, Transport};
use std::net::IpAddr;

/// The addresses, protocol and ports of a packet: packets with equal keys must stay in order.
///
/// Fragments have no ports, so that all parts of a packet have one key; nor has anything but TCP
/// and UDP. Hash it with a `RandomState` kept for the life of the queue: a peer who could guess
/// the hash could put its flow into everybody's bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    source: IpAddr,
    destination: IpAddr,
    ports: [u8; 4],
    protocol: u8,
}

impl FlowKey {
    /// The key of a packet and the headers parsed from it.
    #[must_use]
    #[inline]
    pub fn of(packet: &[u8], headers: &Headers) -> FlowKey {
        let ports = match headers.transport {
            Transport::Tcp { .. } | Transport::Udp => {
                packet.get(headers.transport_offset..).and_then(<[u8]>::first_chunk)
            }
            Transport::Opaque => None,
        };
        FlowKey {
            source: headers.source,
            destination: headers.destination,
            ports: ports.copied().unwrap_or_default(),
            protocol: headers.protocol,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::samples::Sample;
    use std::hash::{BuildHasher, RandomState};

    fn key(packet: &[u8]) -> FlowKey {
        FlowKey::of(packet, &Headers::parse(packet).unwrap())
    }

    #[test]
    fn packets_of_one_connection_share_a_key_and_its_hash() {
        let state = RandomState::new();
        for sample in Sample::ALL {
            let (one, other) = (
                key(&sample.build()),
                key(&Sample { payload: 7, sequence: 99, id: 3, ..sample }.build()),
            );
            assert_eq!(one, other);
            assert_eq!(state.hash_one(one), state.hash_one(other));
        }
    }

    #[test]
    fn every_part_of_the_five_tuple_tells_flows_apart() {
        let packet = Sample::TCP4.build();
        for offset in [15, 19, 20, 21, 22, 23] {
            let mut other = packet.clone();
            other[offset] ^= 1;
            assert_ne!(key(&packet), key(&other), "byte {offset}");
        }
        assert_ne!(key(&packet), key(&Sample::UDP4.build()));
    }

    #[test]
    fn all_fragments_of_a_packet_share_a_key() {
        let mut first = Sample::UDP4.build();
        first[6] = 0x20;
        let mut later = first.clone();
        later[6..8].copy_from_slice(&[0, 9]);
        later[20..28].fill(0xaa);
        assert_eq!(key(&first), key(&later));
    }
}
