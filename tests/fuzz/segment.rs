//! Software GSO: the segments of what the sanitiser lets through are those that a slow, obvious
//! version makes.
//!
//! Input: gso_size (little-endian), then the packet, whose lengths are put right.

use super::put_lengths_right;
use tunnel64d::packet::offload::{Accepts, Offload};
use tunnel64d::tun::sanitise::Sanitiser;
use tunnel64d::tun::segment::segment;

// The library's own tests use all of it. All of it is test code, though not of a test module here.
#[allow(dead_code, clippy::unwrap_used)]
#[path = "../../src/packet/samples.rs"]
mod samples;

const MTU: u16 = 1500;

/// Tries one input.
pub fn run(data: &[u8]) {
    let Some((size, packet)) = data.split_first_chunk() else { return };
    let offload = Offload { gso_size: u16::from_le_bytes(*size), checksum_incomplete: true };
    let mut packet = packet.to_vec();
    put_lengths_right(&mut packet);
    let sanitiser = Sanitiser { mtu: MTU, accepts: Accepts::ALL };
    let Ok(sane) = sanitiser.rebuild(&mut packet, offload) else { return };

    let normal = offload.normalised(&sane.headers);
    let expected = if normal.gso_size == 0 {
        let mut whole = packet.clone();
        samples::naive_complete(&mut whole);
        // Zero is never written where it could mean "none"; all ones is the same number.
        vec![whole]
    } else {
        samples::naive_segments(&packet, normal.gso_size.into())
    };
    let mut segments = Vec::new();
    let count = segment(&mut packet, &sane.headers, offload, |segment| {
        segments.push([segment.headers, segment.payload].concat());
    });
    assert_eq!(count, Ok(segments.len()));
    assert_eq!(segments.len(), expected.len());
    for (segment, expected) in segments.iter().zip(&expected) {
        assert!(segment.len() <= usize::from(MTU));
        assert!(segment == expected || same_but_for_zero(segment, expected));
    }
}

/// A single TCP packet's checksum of zero is written as all ones, as the kernel does.
fn same_but_for_zero(segment: &[u8], expected: &[u8]) -> bool {
    let field = samples::transport_offset(segment) + 16;
    let mut changed = expected.to_vec();
    changed[field..field + 2].fill(0xff);
    expected[field..field + 2] == [0, 0] && segment == changed
}
