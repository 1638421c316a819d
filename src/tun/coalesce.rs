//! The opposite of segmentation: datagrams of one flow that came right after each other go on as
//! one train, which costs the tunnel and the far kernel about as much as a single one.
//!
//! A train is cut by the far kernel into what it was made of, byte for byte (but for the IPv4
//! identification where fragmentation is forbidden, which says nothing then: RFC 6864). Only
//! datagrams whose checksum is incomplete are taken: joining those with a complete one would hide
//! what a network has done to them. Nothing waits for others to come.

use crate::packet::buffer::Buffer;
use crate::packet::checksum::Sum;
use crate::packet::headers::{Headers, Transport, UDP_HEADER, Version};
use crate::packet::offload::{MAX_UDP_SEGMENTS, MIN_GSO_SIZE, Offload, seed_checksum};

/// The longest train, in bytes: the length field of IPv4.
const LONGEST: usize = 65_535;

const IPV4_HEADER: usize = 20;
const IPV4_DONT_FRAGMENT: u8 = 0x40;

/// Datagrams of one flow, the first with its headers.
#[derive(Debug)]
pub struct Train {
    buffer: Buffer,
    headers: Headers,
    /// Payload of each datagram but the last, in bytes.
    size: usize,
    datagrams: usize,
    /// Whether the last one was shorter: then none may follow.
    complete: bool,
}

impl Train {
    /// A train of this one datagram, or the packet back when it can't be part of any.
    ///
    /// # Errors
    /// The packet.
    pub fn begin(buffer: Buffer, headers: Headers, offload: Offload) -> Result<Self, Buffer> {
        match payload_of(buffer.packet(), &headers, offload) {
            Some(size) if size >= usize::from(MIN_GSO_SIZE) => {
                Ok(Self { buffer, headers, size, datagrams: 1, complete: false })
            }
            _ => Err(buffer),
        }
    }

    /// The headers of the first datagram.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Takes the packet in, if it fits behind the last one and the train stays within `limit`
    /// bytes; says whether it did.
    pub fn join(
        &mut self,
        packet: &[u8],
        headers: &Headers,
        offload: Offload,
        limit: usize,
    ) -> bool {
        let Some(size) = payload_of(packet, headers, offload) else { return false };
        let whole = self.buffer.packet();
        let fits = !self.complete
            && (1..=self.size).contains(&size)
            && self.datagrams < MAX_UDP_SEGMENTS
            && whole.len() + size <= limit.min(LONGEST)
            && self.follows(packet);
        if !fits {
            return false;
        }
        self.buffer.extend(&packet[headers.total_length - size..headers.total_length]);
        self.datagrams += 1;
        self.complete = size < self.size;
        true
    }

    /// The packet that the train is, and what is left to be done to it.
    pub fn end(self) -> (Buffer, Offload) {
        let Self { mut buffer, mut headers, size, datagrams, .. } = self;
        let single = Offload { gso_size: 0, checksum_incomplete: true };
        if datagrams == 1 {
            return (buffer, single);
        }
        headers.total_length = buffer.packet().len();
        let length = |from: usize| u16::try_from(headers.total_length - from).unwrap_or(u16::MAX);
        let offset = headers.transport_offset;
        let packet = buffer.packet_mut();
        match headers.version {
            Version::V4 => {
                packet[2..4].copy_from_slice(&length(0).to_be_bytes());
                packet[10..12].fill(0);
                let checksum = Sum::ZERO.bytes(&packet[..offset]).checksum();
                packet[10..12].copy_from_slice(&checksum.to_be_bytes());
            }
            Version::V6 => packet[4..6].copy_from_slice(&length(offset).to_be_bytes()),
        }
        packet[offset + 4..offset + 6].copy_from_slice(&length(offset).to_be_bytes());
        // The headers are this packet's, so it has the field.
        let _ = seed_checksum(packet, &headers);
        let gso_size = u16::try_from(size).unwrap_or(u16::MAX);
        (buffer, Offload { gso_size, ..single })
    }

    /// Whether the headers are those that cutting the train would give the next datagram.
    fn follows(&self, packet: &[u8]) -> bool {
        let first = self.buffer.packet();
        let ports = self.headers.transport_offset..self.headers.transport_offset + 4;
        if first[..2] != packet[..2] || first[ports.clone()] != packet[ports] {
            return false;
        }
        match self.headers.version {
            Version::V6 => first[2..4] == packet[2..4] && first[6..40] == packet[6..40],
            Version::V4 => {
                let id = |bytes: &[u8]| u16::from_be_bytes([bytes[4], bytes[5]]);
                let apart = usize::from(id(packet).wrapping_sub(id(first)));
                first[6..10] == packet[6..10]
                    && first[12..20] == packet[12..20]
                    && (first[6] & IPV4_DONT_FRAGMENT != 0 || apart == self.datagrams)
            }
        }
    }
}

/// The length of the payload of a datagram that may be part of a train.
fn payload_of(packet: &[u8], headers: &Headers, offload: Offload) -> Option<usize> {
    let plain = match headers.version {
        Version::V4 => headers.transport_offset == IPV4_HEADER,
        Version::V6 => !headers.extension_headers,
    };
    let single = offload == Offload { gso_size: 0, checksum_incomplete: true };
    if !plain || !single || headers.transport != Transport::Udp || headers.fragment {
        return None;
    }
    let told = packet.get(headers.transport_offset + 4..headers.transport_offset + 6)?;
    let told = usize::from(u16::from_be_bytes([told[0], told[1]]));
    let whole = told == headers.transport_length() && packet.len() == headers.total_length;
    whole.then(|| told - UDP_HEADER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::samples::{Sample, fix_ipv4_checksum};
    use crate::tun::segment::segment;
    use proptest::prelude::*;

    const SINGLE: Offload = Offload { gso_size: 0, checksum_incomplete: true };

    /// The trains that these packets become.
    fn coalesce(packets: &[Vec<u8>], limit: usize) -> Vec<(Buffer, Offload)> {
        let mut out = Vec::new();
        let mut train: Option<Train> = None;
        for packet in packets {
            let headers = Headers::parse(packet).unwrap();
            if train.as_mut().is_some_and(|train| train.join(packet, &headers, SINGLE, limit)) {
                continue;
            }
            out.extend(train.take().map(Train::end));
            match Train::begin(Buffer::copy_of(packet), headers, SINGLE) {
                Ok(begun) => train = Some(begun),
                Err(buffer) => out.push((buffer, SINGLE)),
            }
        }
        out.extend(train.map(Train::end));
        out
    }

    /// What the far kernel makes of a packet.
    fn cut(mut buffer: Buffer, offload: Offload) -> Vec<Vec<u8>> {
        let headers = Headers::parse(buffer.packet()).unwrap();
        let mut out = Vec::new();
        let emit = |segment: crate::tun::segment::Segment<'_>| {
            out.push([segment.headers, segment.payload].concat());
        };
        segment(buffer.packet_mut(), &headers, offload, emit).unwrap();
        out
    }

    fn datagrams(sample: &Sample, lengths: &[usize]) -> Vec<Vec<u8>> {
        let datagram = |(index, payload): (u16, &usize)| {
            let id = sample.id.wrapping_add(index);
            Sample { payload: *payload, id, seed: index.to_le_bytes()[0], ..sample.clone() }.build()
        };
        (0..).zip(lengths).map(datagram).collect()
    }

    proptest! {
        #[test]
        fn cutting_a_train_gives_back_the_datagrams(
            six: bool,
            dont_fragment: bool,
            lengths in prop::collection::vec(prop_oneof![Just(64_usize), Just(1200), 0_usize..1400], 1..200),
            limit in prop_oneof![Just(4000_usize), Just(usize::MAX)],
        ) {
            let sample = if six { Sample::UDP6 } else { Sample::UDP4 };
            let sample = Sample { dont_fragment, ..sample };
            let packets = datagrams(&sample, &lengths);
            let expected: Vec<_> =
                packets.iter().flat_map(|p| cut(Buffer::copy_of(p), SINGLE)).collect();
            let trains = coalesce(&packets, limit);
            for (buffer, offload) in &trains {
                let headers = Headers::parse(buffer.packet()).unwrap();
                prop_assert!(offload.needs(&headers).is_ok());
                prop_assert!(offload.gso_size == 0 || buffer.packet().len() <= limit);
            }
            let cut: Vec<_> = trains.into_iter().flat_map(|(b, offload)| cut(b, offload)).collect();
            prop_assert_eq!(cut, expected);
        }
    }

    #[test]
    fn equal_datagrams_become_trains_of_64_and_a_short_one_ends_its_train() {
        let lengths = |trains: Vec<(Buffer, Offload)>| -> Vec<_> {
            trains.iter().map(|(buffer, _)| buffer.packet().len() - 48).collect()
        };
        let many = datagrams(&Sample::UDP6, &[100; 130]);
        assert_eq!(lengths(coalesce(&many, usize::MAX)), [6400, 6400, 200]);
        let short = datagrams(&Sample::UDP6, &[100, 100, 40, 40, 100]);
        assert_eq!(lengths(coalesce(&short, usize::MAX)), [240, 40, 100]);
    }

    #[test]
    fn what_differs_in_more_than_length_stays_apart() {
        let change: [fn(&mut Vec<u8>); 7] = [
            |packet| packet[1] ^= 0x10,
            |packet| packet[3] ^= 1,
            |packet| packet[7] -= 1,
            |packet| packet[23] ^= 1,
            |packet| packet[39] ^= 1,
            |packet| packet[41] ^= 1,
            |packet| packet[43] ^= 1,
        ];
        for change in change {
            let mut packets = datagrams(&Sample::UDP6, &[100, 100]);
            change(&mut packets[1]);
            assert_eq!(coalesce(&packets, usize::MAX).len(), 2);
        }
    }

    #[test]
    fn an_ipv4_identification_that_matters_has_to_count_on() {
        for (dont_fragment, trains) in [(true, 1), (false, 2)] {
            let sample = Sample { dont_fragment, ..Sample::UDP4 };
            let mut packets = datagrams(&sample, &[100, 100]);
            packets[1][5] ^= 0x40;
            fix_ipv4_checksum(&mut packets[1]);
            assert_eq!(coalesce(&packets, usize::MAX).len(), trains);
        }
    }

    #[test]
    fn complete_checksums_tcp_options_and_contradictions_are_left_alone() {
        let begin = |packet: &[u8], offload| {
            let headers = Headers::parse(packet).unwrap();
            Train::begin(Buffer::copy_of(packet), headers, offload).is_ok()
        };
        let udp = Sample { payload: 100, ..Sample::UDP6 };
        assert!(begin(&udp.build(), SINGLE));
        assert!(!begin(&udp.build(), Offload::NONE));
        assert!(!begin(&udp.build(), Offload { gso_size: 50, ..SINGLE }));
        assert!(!begin(&Sample { payload: 100, ..Sample::TCP6 }.build(), SINGLE));
        assert!(!begin(&Sample { payload: 4, ..Sample::UDP6 }.build(), SINGLE));
        let options = Sample { ip_options: vec![1; 4], payload: 100, ..Sample::UDP4 };
        assert!(!begin(&options.build(), SINGLE));
        let mut lying = udp.build();
        lying[45] -= 1;
        assert!(!begin(&lying, SINGLE));
    }
}
