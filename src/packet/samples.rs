//! Packets for tests, and slow, obvious versions of what the crate does fast.
//!
//! Knows nothing of the crate, so that an error in it can't hide here.

/// A TCP or UDP packet to build. Its checksum is incomplete: the field holds the pseudo-header sum.
#[derive(Debug, Clone)]
pub struct Sample {
    /// IPv6, else IPv4.
    pub six: bool,
    /// UDP, else TCP.
    pub udp: bool,
    /// IPv4 options, a multiple of 4 bytes.
    pub ip_options: Vec<u8>,
    /// TCP options, a multiple of 4 bytes.
    pub tcp_options: Vec<u8>,
    /// TCP flags.
    pub flags: u8,
    /// TCP sequence number.
    pub sequence: u32,
    /// IPv4 identification.
    pub id: u16,
    /// IPv4 "don't fragment".
    pub dont_fragment: bool,
    /// Bytes of payload.
    pub payload: usize,
    /// What the payload's bytes depend on.
    pub seed: u8,
}

pub const FIN: u8 = 0x01;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const ECE: u8 = 0x40;
pub const CWR: u8 = 0x80;

impl Sample {
    pub const TCP4: Sample = Sample::plain(false, false);
    pub const TCP6: Sample = Sample::plain(true, false);
    pub const UDP4: Sample = Sample::plain(false, true);
    pub const UDP6: Sample = Sample::plain(true, true);
    pub const ALL: [Sample; 4] = [Sample::TCP4, Sample::TCP6, Sample::UDP4, Sample::UDP6];

    const fn plain(six: bool, udp: bool) -> Sample {
        Sample {
            six,
            udp,
            ip_options: Vec::new(),
            tcp_options: Vec::new(),
            flags: ACK,
            sequence: 0xffff_f000,
            id: 0xfff0,
            dont_fragment: true,
            payload: 4000,
            seed: 1,
        }
    }

    /// Bytes of all headers.
    pub fn headers(&self) -> usize {
        let network = if self.six { 40 } else { 20 + self.ip_options.len() };
        network + if self.udp { 8 } else { 20 + self.tcp_options.len() }
    }

    pub fn build(&self) -> Vec<u8> {
        let mut transport = Vec::new();
        transport.extend_from_slice(&40_001_u16.to_be_bytes());
        transport.extend_from_slice(&9_u16.to_be_bytes());
        if self.udp {
            transport.extend_from_slice(&be16(8 + self.payload));
            transport.extend_from_slice(&[0, 0]);
        } else {
            transport.extend_from_slice(&self.sequence.to_be_bytes());
            transport.extend_from_slice(&0x0102_0304_u32.to_be_bytes());
            let words = u8::try_from(5 + self.tcp_options.len() / 4).unwrap();
            transport.extend_from_slice(&[words << 4, self.flags, 0x20, 0, 0, 0, 0, 0]);
            transport.extend_from_slice(&self.tcp_options);
        }
        transport.extend((0..self.payload).map(|i| (i * 7 + i / 251).to_le_bytes()[0] ^ self.seed));

        let protocol = if self.udp { 17 } else { 6 };
        let length = be16(transport.len());
        let mut packet = Vec::new();
        let addresses = if self.six {
            packet.extend_from_slice(&[0x60, 0, 0, 0, length[0], length[1], protocol, 64]);
            let mut addresses = [0_u8; 32];
            addresses[..4].copy_from_slice(&[0xfd, 0x64, 0, 1]);
            addresses[15] = 2;
            addresses[16..20].copy_from_slice(&[0xfd, 0x64, 0, 2]);
            addresses[31] = 2;
            addresses.to_vec()
        } else {
            let header = 20 + self.ip_options.len();
            let total = be16(header + transport.len());
            let id = self.id.to_be_bytes();
            let words = u8::try_from(header / 4).unwrap();
            let flags = if self.dont_fragment { 0x40 } else { 0 };
            packet.extend_from_slice(&[0x40 | words, 0, total[0], total[1], id[0], id[1], flags]);
            packet.extend_from_slice(&[0, 64, protocol, 0, 0]);
            vec![10, 64, 1, 2, 10, 64, 2, 2]
        };
        packet.extend_from_slice(&addresses);
        if !self.six {
            packet.extend_from_slice(&self.ip_options);
            fix_ipv4_checksum(&mut packet);
        }
        let pseudo = naive_sum(&[&addresses[..], &[0, protocol], &length].concat());
        let field = if self.udp { 6 } else { 16 };
        transport[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
        packet.extend_from_slice(&transport);
        packet
    }
}

/// RFC 1071, word by word.
pub fn naive_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// Writes the header checksum of the IPv4 packet, or bare header, in `packet`.
pub fn fix_ipv4_checksum(packet: &mut [u8]) {
    let header = usize::from(packet[0] & 0x0f) * 4;
    packet[10..12].fill(0);
    let checksum = !naive_sum(&packet[..header]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// Where the transport header begins in a packet without extension headers.
pub fn transport_offset(packet: &[u8]) -> usize {
    if packet[0] >> 4 == 6 { 40 } else { usize::from(packet[0] & 0x0f) * 4 }
}

/// Whether the packet's IPv4 header checksum and its TCP or UDP checksum are right.
pub fn checksums_hold(packet: &[u8]) -> bool {
    let offset = transport_offset(packet);
    let (addresses, protocol) = if packet[0] >> 4 == 6 {
        (&packet[8..40], packet[6])
    } else {
        (&packet[12..20], packet[9])
    };
    let network = packet[0] >> 4 == 6 || naive_sum(&packet[..offset]) == 0xffff;
    let length = be16(packet.len() - offset);
    let covered = [addresses, &[0, protocol], &length, &packet[offset..]].concat();
    let present = protocol != 17 || packet[offset + 6..offset + 8] != [0, 0];
    network && present && naive_sum(&covered) == 0xffff
}

/// Writes the TCP or UDP checksum of a packet without extension headers from scratch.
pub fn naive_complete(packet: &mut [u8]) {
    let offset = transport_offset(packet);
    let (addresses, protocol) = if packet[0] >> 4 == 6 {
        (packet[8..40].to_vec(), packet[6])
    } else {
        (packet[12..20].to_vec(), packet[9])
    };
    let field = offset + if protocol == 17 { 6 } else { 16 };
    packet[field..field + 2].fill(0);
    let length = be16(packet.len() - offset);
    let mut checksum =
        !naive_sum(&[&addresses[..], &[0, protocol], &length, &packet[offset..]].concat());
    if protocol == 17 && checksum == 0 {
        checksum = 0xffff;
    }
    packet[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// The segments of a super-packet, each built by itself.
pub fn naive_segments(packet: &[u8], gso_size: usize) -> Vec<Vec<u8>> {
    let offset = transport_offset(packet);
    let six = packet[0] >> 4 == 6;
    let udp = (if six { packet[6] } else { packet[9] }) == 17;
    let start = offset + if udp { 8 } else { usize::from(packet[offset + 12] >> 4) * 4 };
    let pieces: Vec<&[u8]> = packet[start..].chunks(gso_size).collect();
    let mut segments = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let mut segment = [&packet[..start], piece].concat();
        let total = segment.len();
        if six {
            segment[4..6].copy_from_slice(&be16(total - 40));
        } else {
            segment[2..4].copy_from_slice(&be16(total));
            let id = u16::from_be_bytes([packet[4], packet[5]]);
            let id = id.wrapping_add(u16::try_from(index).unwrap());
            segment[4..6].copy_from_slice(&id.to_be_bytes());
            fix_ipv4_checksum(&mut segment);
        }
        if udp {
            segment[offset + 4..offset + 6].copy_from_slice(&be16(total - offset));
        } else {
            let sequence = u32::from_be_bytes(packet[offset + 4..offset + 8].try_into().unwrap());
            let sequence = sequence.wrapping_add(u32::try_from(index * gso_size).unwrap());
            segment[offset + 4..offset + 8].copy_from_slice(&sequence.to_be_bytes());
            if index != 0 {
                segment[offset + 13] &= !CWR;
            }
            if index + 1 != pieces.len() {
                segment[offset + 13] &= !(FIN | PSH);
            }
        }
        naive_complete(&mut segment);
        segments.push(segment);
    }
    segments
}

/// The packet of `sample`, its last word chosen so that its checksum comes out as zero. Wants an
/// even payload.
pub fn summing_to_zero(sample: &Sample) -> Vec<u8> {
    let mut packet = sample.build();
    let word = packet.len() - 2;
    packet[word..].fill(0);
    let mut complete = packet.clone();
    naive_complete(&mut complete);
    let field = transport_offset(&packet) + if sample.udp { 6 } else { 16 };
    packet[word..].copy_from_slice(&complete[field..field + 2]);
    packet
}

/// A train of datagrams of `gso_size` bytes each, the first of which sums to zero by itself.
pub fn train_summing_to_zero(sample: &Sample, gso_size: usize) -> Vec<u8> {
    let first = summing_to_zero(&Sample { payload: gso_size, ..sample.clone() });
    let mut train = sample.build();
    let start = sample.headers();
    train[start..start + gso_size].copy_from_slice(&first[start..]);
    train
}

fn be16(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap().to_be_bytes()
}
