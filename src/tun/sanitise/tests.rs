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
            let vnet = rebuild(&Sample { payload: usize::from(size), ..sample.clone() }, gso(size))
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
