//! Our offload against the kernel's.
//!
//! The kernel forwards what is written into one TUN to another, whose segments are read:
//! `forwarding` has the picture. With offload off at the far one the kernel must cut super-packets,
//! and its segments are compared with ours byte for byte; with offload on they cross whole.

#![allow(clippy::unwrap_used)]

mod forwarding;
#[allow(dead_code)] // The library's own tests use all of it.
#[path = "../src/packet/samples.rs"]
mod samples;

use forwarding::{ALL_OFFLOADS, Path, in_namespace};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use samples::{
    ACK, CWR, ECE, FIN, PSH, Sample, fix_ipv4_checksum, naive_complete, summing_to_zero,
    train_summing_to_zero,
};
use std::io::ErrorKind;
use tunnel64d::packet::headers::Headers;
use tunnel64d::packet::offload::{Accepts, Offload};
use tunnel64d::tun::sanitise::{Refusal, Sanitiser};
use tunnel64d::tun::segment::segment;
use tunnel64d::tun::vnet::{GSO_ECN, VnetHeader, offload_of};

const MTU: u16 = 1500;
const SANITISER: Sanitiser = Sanitiser { mtu: MTU, accepts: Accepts::ALL };

/// What forwarding does to a packet.
fn forwarded(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 6 {
        packet[7] -= 1;
    } else {
        packet[8] -= 1;
        fix_ipv4_checksum(&mut packet);
    }
    packet
}

fn our_segments(mut packet: Vec<u8>, offload: Offload) -> Vec<Vec<u8>> {
    let headers = Headers::parse(&packet).unwrap();
    let mut segments = Vec::new();
    segment(&mut packet, &headers, offload, |segment| {
        segments.push([segment.headers, segment.payload].concat());
    })
    .unwrap();
    segments
}

fn assert_same_segments(path: &mut Path, sample: &Sample, gso_size: u16) {
    assert_packet_has_same_segments(path, sample.build(), gso_size, &format!("{sample:?}"));
}

/// The kernel's segments of `packet` are ours. Returns them.
fn assert_packet_has_same_segments(
    path: &mut Path,
    mut packet: Vec<u8>,
    gso_size: u16,
    what: &str,
) -> Vec<Vec<u8>> {
    let offload = Offload { gso_size, checksum_incomplete: true };
    let context = format!("{what} cut to {gso_size}");
    let ours = our_segments(packet.clone(), offload);
    // The seed is the sanitiser's to write, so the peer's is spoilt.
    let headers = Headers::parse(&packet).unwrap();
    let field = headers.transport_offset + headers.checksum_offset().unwrap();
    packet[field] ^= 0x5a;
    let sanitised =
        SANITISER.rebuild(&mut packet, offload).unwrap_or_else(|e| panic!("{context}: {e}"));
    path.write(&sanitised.vnet, &packet).unwrap_or_else(|e| panic!("{context}: {e}"));
    assert_arrives(path, &ours, &context);
    ours
}

/// What comes out of the kernel is `ours`, forwarded.
fn assert_arrives(path: &mut Path, ours: &[Vec<u8>], context: &str) {
    let kernels = path.read(ours.len());
    assert_eq!(kernels.len(), ours.len(), "{context}");
    for (index, ((vnet, kernels), ours)) in kernels.into_iter().zip(ours).enumerate() {
        assert_eq!((vnet.flags, vnet.gso_type), (0, 0), "{context}: segment {index}");
        // Headers first: a difference in 1500 bytes is hard to read.
        let (kernel_head, ours) = (&kernels[..60.min(kernels.len())], forwarded(ours.clone()));
        assert_eq!(kernel_head, &ours[..60.min(ours.len())], "{context}: segment {index}");
        assert!(kernels == ours, "{context}: payload of segment {index}");
    }
}

const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];

#[test]
fn tcp_segments_are_the_kernels() {
    in_namespace(0, MTU, |path| {
        for base in [Sample::TCP4, Sample::TCP6] {
            let room = usize::from(MTU) - base.headers() - TIMESTAMPS.len();
            let full = u16::try_from(room).unwrap();
            for flags in [ACK, ACK | PSH, ACK | FIN | PSH, ACK | CWR, ACK | CWR | ECE | FIN | PSH] {
                for payload in [room + 1, 3 * room, 3 * room + 777, 64_000] {
                    let sample =
                        Sample { flags, payload, tcp_options: TIMESTAMPS.to_vec(), ..base.clone() };
                    assert_same_segments(path, &sample, full);
                }
            }
            for (payload, gso_size) in [(17, 8), (1000, 9), (65_535 - 60, 536), (8192, 8)] {
                assert_same_segments(path, &Sample { payload, ..base.clone() }, gso_size);
            }
        }
    });
}

#[test]
fn the_longest_super_packet_that_ipv6_can_tell_is_cut_as_the_kernel_does() {
    in_namespace(0, MTU, |path| {
        let payload = 65_535 - 20;
        assert_same_segments(path, &Sample { payload, ..Sample::TCP6 }, 1440);
    });
}

#[test]
fn udp_datagrams_are_the_kernels() {
    in_namespace(0, MTU, |path| {
        for base in [Sample::UDP4, Sample::UDP6] {
            let most = u16::try_from(usize::from(MTU) - base.headers()).unwrap();
            for (payload, gso_size) in [
                (17, 8),
                (64 * 8, 8),
                (1000, 333),
                (64 * 999, 999),
                (60_001, most),
                (2 * 1200, 1200),
            ] {
                assert_same_segments(path, &Sample { payload, ..base.clone() }, gso_size);
            }
        }
    });
}

#[test]
fn ipv4_options_and_identification_are_the_kernels() {
    in_namespace(0, MTU, |path| {
        for base in [Sample::TCP4, Sample::UDP4] {
            for (dont_fragment, id) in [(true, 0), (false, 0), (true, 0xffff), (false, 0xfffe)] {
                for options in [0, 4, 40] {
                    let ip_options = vec![1; options];
                    let sample = Sample { dont_fragment, id, ip_options, ..base.clone() };
                    assert_same_segments(path, &sample, 700);
                }
            }
        }
    });
}

/// The sanitiser never lets such a packet through, but our own kernel may hand us one.
#[test]
fn super_packets_behind_extension_headers_are_cut_as_the_kernel_does() {
    in_namespace(0, MTU, |path| {
        let offload = Offload { gso_size: 1000, checksum_incomplete: true };
        for sample in [Sample::TCP6, Sample::UDP6] {
            let plain = sample.build();
            let options = [plain[6], 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let mut packet = [&plain[..40], &options, &plain[40..]].concat();
            let length = u16::try_from(packet.len() - 40).unwrap();
            packet[4..6].copy_from_slice(&length.to_be_bytes());
            packet[6] = 60;
            let mut vnet = SANITISER.rebuild(&mut plain.clone(), offload).unwrap().vnet;
            vnet.hdr_len += 16;
            vnet.csum_start += 16;
            path.write(&vnet, &packet).unwrap();
            assert_arrives(path, &our_segments(packet, offload), &format!("{sample:?}"));
        }
    });
}

#[test]
fn single_packets_with_an_incomplete_checksum_are_finished_as_the_kernel_does() {
    in_namespace(0, MTU, |path| {
        for base in Sample::ALL {
            for (payload, gso_size) in [(0, 0), (1, 0), (99, 0), (1400, 0), (1400, 1400), (5, 9)] {
                assert_same_segments(path, &Sample { payload, ..base.clone() }, gso_size);
            }
        }
    });
}

#[test]
fn a_checksum_of_zero_is_written_as_the_kernel_writes_it() {
    in_namespace(0, MTU, |path| {
        for base in Sample::ALL {
            let sample = Sample { payload: 1000, ..base };
            let field = sample.headers() - if sample.udp { 2 } else { 4 };
            for (packet, gso_size) in
                [(summing_to_zero(&sample), 0), (train_summing_to_zero(&sample, 300), 300)]
            {
                let what = format!("{sample:?}");
                let segments = assert_packet_has_same_segments(path, packet, gso_size, &what);
                let is_zero_kept = gso_size != 0 && !sample.udp;
                let written = if is_zero_kept { [0, 0] } else { [0xff, 0xff] };
                assert_eq!(segments[0][field..field + 2], written, "{what}");
            }
        }
    });
}

fn any_sample() -> impl Strategy<Value = (Sample, u16)> {
    (
        (any::<bool>(), any::<bool>(), any::<bool>(), any::<u8>()),
        (0_usize..=10, 0_usize..=10),
        any::<(u32, u16, u8)>(),
        (1_usize..=64, 8_u16..1400, 0_usize..1400),
    )
        .prop_map(
            |((six, udp, dont_fragment, flags), options, (sequence, id, seed), shape)| {
                let (segments, gso_size, rest) = shape;
                let sample = Sample {
                    six,
                    udp,
                    dont_fragment,
                    // SYN or RST in a super-packet is for firewalls; segmentation does not look.
                    flags,
                    sequence,
                    id,
                    seed,
                    ip_options: vec![1; options.0 * 4],
                    tcp_options: vec![1; options.1 * 4],
                    ..Sample::TCP4
                };
                let headers = sample.headers();
                let gso_size = gso_size.min(u16::try_from(usize::from(MTU) - headers).unwrap());
                let size = usize::from(gso_size);
                let payload = ((segments - 1) * size + rest % size + 1).min(65_535 - headers);
                (Sample { payload, ..sample }, gso_size)
            },
        )
}

#[test]
fn segments_of_any_shape_are_the_kernels() {
    in_namespace(0, MTU, |path| {
        let path = std::cell::RefCell::new(path);
        let config = Config { cases: 1500, failure_persistence: None, ..Config::default() };
        TestRunner::new(config)
            .run(&any_sample(), |(sample, gso_size)| {
                assert_same_segments(&mut path.borrow_mut(), &sample, gso_size);
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn super_packets_cross_the_kernel_whole_and_are_understood_at_the_other_side() {
    in_namespace(ALL_OFFLOADS, MTU, |path| {
        for base in Sample::ALL {
            for (flags, gso_size) in [(ACK, 1400), (ACK | CWR | PSH, 1400), (ACK, 0)] {
                let payload = if gso_size == 0 { 1000 } else { 32_100 };
                let sample = Sample { flags, payload, ..base.clone() };
                let offload = Offload { gso_size, checksum_incomplete: true };
                let mut packet = sample.build();
                let vnet = SANITISER.rebuild(&mut packet, offload).unwrap().vnet;
                path.write(&vnet, &packet).unwrap();
                let arrived = path.read(1);
                assert_eq!(arrived.len(), 1, "{sample:?}");
                let (header, mut arrived) = arrived.into_iter().next().unwrap();
                let headers = Headers::parse(&arrived).unwrap();
                assert_eq!(offload_of(&header, &mut arrived, &headers), Ok(offload));
                assert_eq!(arrived, forwarded(packet), "{sample:?}");
                assert_eq!(header.gso_type, vnet.gso_type, "the ECN bit follows CWR");
            }
        }
    });
}

#[test]
fn finished_packets_of_any_kind_and_length_pass_unchanged() {
    let mtu = u16::MAX;
    in_namespace(0, mtu, move |path| {
        let sanitiser = Sanitiser { mtu, accepts: Accepts::NONE };
        let mut packets = Vec::new();
        for base in Sample::ALL {
            for length in [60, 61, 99, 1500, 1501, 4095, 4096, 9000, 65_534, 65_535] {
                let mut packet =
                    Sample { payload: length - base.headers(), ..base.clone() }.build();
                naive_complete(&mut packet);
                packets.push(packet);
            }
        }
        let shape = |base: &Sample, change: &dyn Fn(&mut [u8])| {
            let mut packet = Sample { payload: 64, ..base.clone() }.build();
            change(&mut packet);
            if packet[0] >> 4 == 4 {
                fix_ipv4_checksum(&mut packet);
            }
            packet
        };
        // An unknown protocol, a lying data offset, a later fragment, nothing but an IP header.
        packets.push(shape(&Sample::TCP4, &|packet| packet[9] = 132));
        packets.push(shape(&Sample::TCP4, &|packet| packet[32] = 0xf0));
        packets.push(shape(&Sample::UDP4, &|packet| packet[6..8].copy_from_slice(&[0, 9])));
        packets.push(shape(&Sample::UDP4, &|packet| packet[2..4].copy_from_slice(&[0, 20])));
        packets.last_mut().unwrap().truncate(20);
        packets.push(shape(&Sample::UDP6, &|packet| packet[6] = 59));
        packets.push(shape(&Sample::UDP6, &|packet| packet[4..7].copy_from_slice(&[0, 0, 59])));
        packets.last_mut().unwrap().truncate(40);
        packets.push(shape(&Sample::UDP6, &|packet| {
            packet[6] = 60;
            packet[40..48].copy_from_slice(&[17, 0, 1, 4, 0, 0, 0, 0]);
        }));
        for packet in packets {
            let mut sanitised = packet.clone();
            let vnet = sanitiser.rebuild(&mut sanitised, Offload::NONE).unwrap().vnet;
            assert_eq!(sanitised, packet);
            path.write(&vnet, &packet).unwrap();
            let arrived: Vec<Vec<u8>> =
                path.read(1).into_iter().map(|(_, packet)| packet).collect();
            assert!(arrived == [forwarded(packet.clone())], "{:?}", &packet[..20]);
        }
    });
}

/// A frame that a hostile peer could send: a plausible packet, some bytes of it wrong, any offload.
fn hostile() -> impl Strategy<Value = (Vec<u8>, Offload)> {
    let interesting = prop_oneof![
        Just(0_u8),
        Just(1),
        Just(0x40),
        Just(0x45),
        Just(0x4f),
        Just(0x60),
        Just(6),
        Just(17),
        Just(44),
        Just(50),
        Just(51),
        Just(59),
        Just(60),
        Just(0x80),
        Just(0xff),
        any::<u8>(),
    ];
    let gso_size = prop_oneof![Just(0_u16), 1_u16..16, 16_u16..1500, any::<u16>()];
    (
        any_sample(),
        prop::collection::vec((prop_oneof![0_usize..70, 0_usize..70_000], interesting), 0..4),
        prop::option::weighted(0.2, 0_usize..70_000),
        (gso_size, prop::bool::weighted(0.8), prop::bool::weighted(0.5)),
        prop::bool::weighted(0.5),
    )
        .prop_map(
            |((sample, fair), flips, cut, (unfair, checksum_incomplete, is_fair), fixed)| {
                let mut packet = sample.build();
                for (offset, value) in flips {
                    if let Some(byte) = packet.get_mut(offset) {
                        *byte = value;
                    }
                }
                if let Some(length) = cut {
                    packet.truncate(length);
                }
                // Half of them with a length and checksum that get past the first checks.
                if fixed && packet.len() >= 60 {
                    let length = u16::try_from(packet.len()).unwrap();
                    if packet[0] >> 4 == 6 {
                        packet[4..6].copy_from_slice(&(length - 40).to_be_bytes());
                    } else {
                        packet[2..4].copy_from_slice(&length.to_be_bytes());
                        fix_ipv4_checksum(&mut packet);
                    }
                }
                let gso_size = if is_fair { fair } else { unfair };
                (packet, Offload { gso_size, checksum_incomplete })
            },
        )
}

#[test]
fn the_kernel_takes_whatever_the_sanitiser_lets_through() {
    in_namespace(0, MTU, |path| {
        let path = std::cell::RefCell::new(path);
        let passed = std::cell::Cell::new(0);
        let refused = std::cell::RefCell::new(std::collections::HashSet::<Refusal>::new());
        let config = Config { cases: 20_000, failure_persistence: None, ..Config::default() };
        TestRunner::new(config)
            .run(&hostile(), |(mut packet, offload)| {
                match SANITISER.rebuild(&mut packet, offload) {
                    Ok(sanitised) => {
                        passed.set(passed.get() + 1);
                        let mut path = path.borrow_mut();
                        let written = path.write(&sanitised.vnet, &packet);
                        prop_assert!(written.is_ok(), "{:?}: {:?}", sanitised, written);
                        path.drain(&mut Vec::new());
                    }
                    Err(refusal) => {
                        refused.borrow_mut().insert(refusal);
                    }
                }
                Ok(())
            })
            .unwrap();
        println!("{} frames passed", passed.get());
        // Without these the test would prove nothing.
        assert!(passed.get() > 2000, "{} frames passed", passed.get());
        let expected = Refusal::ALL.len() - 1;
        assert_eq!(refused.borrow().len(), expected, "{:?}", refused.borrow());
    });
}

/// Why the sanitiser is as strict as it is: what the kernel does with headers that it didn't build.
#[test]
fn the_kernel_refuses_headers_that_do_not_fit() {
    in_namespace(0, MTU, |path| {
        let offload = Offload { gso_size: 400, checksum_incomplete: true };
        let mut refused = |sample: &Sample, spoil: &dyn Fn(&mut VnetHeader)| {
            let mut packet = sample.build();
            let mut vnet = SANITISER.rebuild(&mut packet, offload).unwrap().vnet;
            spoil(&mut vnet);
            match path.write(&vnet, &packet) {
                Ok(_) => false,
                Err(error) if error.kind() == ErrorKind::InvalidInput => true,
                Err(error) => panic!("{error}"),
            }
        };
        for sample in Sample::ALL {
            assert!(!refused(&sample, &|_| ()));
            assert!(refused(&sample, &|vnet| vnet.hdr_len = u16::MAX.into()));
            assert!(refused(&sample, &|vnet| vnet.csum_start = u16::MAX.into()));
            assert!(refused(&sample, &|vnet| vnet.csum_start = 2.into()));
            assert!(refused(&sample, &|vnet| vnet.csum_offset = 8.into()));
            assert!(refused(&sample, &|vnet| vnet.gso_size = 0.into()));
            assert!(refused(&sample, &|vnet| vnet.gso_size = u16::MAX.into()));
            assert!(refused(&sample, &|vnet| vnet.gso_type = 2));
            assert_eq!(refused(&sample, &|vnet| vnet.flags = 0), sample.udp);
            assert_eq!(refused(&sample, &|vnet| vnet.gso_type |= GSO_ECN), sample.udp);
            // 4000 bytes in 129 datagrams or more.
            assert_eq!(refused(&sample, &|vnet| vnet.gso_size = 31.into()), sample.udp);
        }
    });
}
