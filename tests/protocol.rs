//! `docs/protocol.md` says what the code does: its examples are decoded and encoded again, and its
//! tables of limits, features and reasons compared.

use std::collections::BTreeMap;
use std::time::Duration;

use tunnel64d::config::DEFAULT_PORT;
use tunnel64d::link::negotiate::{MAX_STREAMS, Ours};
use tunnel64d::packet::headers::Headers;
use tunnel64d::packet::offload::{
    Accepts, MAX_TCP_SEGMENTS, MAX_UDP_SEGMENTS, MIN_GSO_SIZE, Offload,
};
use tunnel64d::tun::sanitise::Sanitiser;
use tunnel64d::tun::segment::segment;
use tunnel64d::wire::bye::{self, Bye};
use tunnel64d::wire::frame::{HEADER_LEN, Header, Kind, MAX_CONTROL, MAX_PACKET};
use tunnel64d::wire::hello::{Hello, Instance, SessionId};

const DOCUMENT: &str = include_str!("../docs/protocol.md");

const SINGLE: Kind = Kind::Data { gso_size: 0, checksum_incomplete: false };

#[test]
fn every_example_is_tested() {
    let names: Vec<_> = examples().into_keys().collect();
    assert_eq!(names, ["answer", "control", "cut", "hello", "packet", "train"]);
}

#[test]
fn the_hello_of_a_dialler_is_what_the_document_says() {
    let hello = Hello {
        versions: 1..=1,
        stream: 0,
        streams: 2,
        session: SessionId(0xa772_632b_fefb_5204_81d0_e789_f7c5_bfc4_u128.to_be_bytes()),
        instance: Instance(0x5301_b91d_f1e0_ed04_b8cc_3070_f8bb_7c9f_u128.to_be_bytes()),
        features: Accepts::ALL.bits(),
        mtu: 1500,
        keepalive: Duration::from_secs(10),
        max_packet: 65_575,
    };
    assert_eq!(hello_in("hello"), hello);
}

#[test]
fn the_answer_agrees_on_what_the_document_says() {
    let (hello, answer) = (hello_in("hello"), hello_in("answer"));
    assert_eq!((answer.session, answer.stream), (hello.session, hello.stream));
    assert!(hello.instance < answer.instance);
    let dialler = Ours {
        streams: hello.streams,
        instance: hello.instance,
        features: hello.features,
        mtu: hello.mtu,
        keepalive: hello.keepalive,
        max_packet: hello.max_packet,
    };
    let agreed = dialler.agree(&answer).expect("a common version and another instance");
    assert_eq!((agreed.version, agreed.streams, agreed.mtu), (1, 2, 1500));
    let tcp = Accepts::CHECKSUM.union(Accepts::TSO4).union(Accepts::TSO6);
    assert_eq!(Accepts::from_bits_truncate(agreed.features), tcp);
}

#[test]
fn the_finished_packet_passes_as_it_is() {
    let [(kind, packet)] = &frames("packet")[..] else { panic!("one frame") };
    assert_eq!(*kind, SINGLE);
    let mut sane = packet.clone();
    let receiver = Sanitiser { mtu: 1280, accepts: Accepts::NONE };
    receiver.rebuild(&mut sane, Offload::NONE).expect("a packet like any other");
    assert_eq!(sane, *packet);
}

#[test]
fn the_super_packet_passes_whole_or_is_cut() {
    let [(Kind::Data { gso_size, checksum_incomplete }, train)] = &frames("train")[..] else {
        panic!("one DATA frame")
    };
    let offload = Offload { gso_size: *gso_size, checksum_incomplete: *checksum_incomplete };
    assert_eq!(offload, Offload { gso_size: 8, checksum_incomplete: true });

    let mut sane = train.clone();
    let receiver = Sanitiser { mtu: 1500, accepts: Accepts::ALL };
    receiver.rebuild(&mut sane, offload).expect("every bit is announced");
    assert_eq!(sane, *train, "the document's pseudo-header sum is ours");

    let headers = Headers::parse(train).expect("a packet");
    let answer = Accepts::from_bits_truncate(hello_in("answer").features);
    assert!(!answer.takes(&headers, offload));
    let mut cut = Vec::new();
    segment(&mut train.clone(), &headers, offload, |segment| {
        cut.push((SINGLE, [segment.headers, segment.payload].concat()));
    })
    .expect("a train of datagrams");
    assert_eq!(cut, frames("cut"));
}

#[test]
fn the_control_frames_are_what_the_document_says() {
    let body = 7_u64.to_be_bytes().to_vec();
    let bye = bye::body(bye::Reason::Stopping, "");
    assert_eq!(
        frames("control"),
        [(Kind::Ping, body.clone()), (Kind::Pong, body), (Kind::Bye, bye)]
    );
}

#[test]
fn the_limits_are_those_of_the_code() {
    let limits: Vec<_> = rows("### Limits").into_iter().map(|(number, _)| number).collect();
    let code = [
        MAX_PACKET,
        MAX_CONTROL,
        MIN_GSO_SIZE.into(),
        MAX_TCP_SEGMENTS,
        MAX_UDP_SEGMENTS,
        MAX_STREAMS.into(),
    ];
    assert_eq!(limits, code);
    assert!(DOCUMENT.contains(&format!("The default port is {DEFAULT_PORT};")));
}

#[test]
fn the_feature_bits_are_those_of_the_code() {
    let bits = [
        ("CHECKSUM", Accepts::CHECKSUM),
        ("TSO4", Accepts::TSO4),
        ("TSO6", Accepts::TSO6),
        ("USO4", Accepts::USO4),
        ("USO6", Accepts::USO6),
    ];
    let code: Vec<_> = bits
        .iter()
        .map(|(name, accepts)| (accepts.bits().trailing_zeros() as usize, (*name).to_owned()))
        .collect();
    assert_eq!(rows("### Feature bits"), code);
}

#[test]
fn the_reasons_are_those_of_the_code() {
    let code: Vec<_> = (0..=u8::MAX)
        .map(|number| (usize::from(number), format!("{:?}", Bye::parse(&[number]).reason)))
        .filter(|(_, name)| !name.starts_with("Other"))
        .collect();
    assert_eq!(rows("### BYE"), code);
}

/// The first two columns of the first table with numbers after `heading`.
fn rows(heading: &str) -> Vec<(usize, String)> {
    let (_, section) = DOCUMENT.split_once(&format!("\n{heading}\n")).expect("the section");
    section
        .lines()
        .take_while(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
            let number = cells.next()?.parse().ok()?;
            Some((number, cells.next()?.to_owned()))
        })
        .collect()
}

/// The HELLO of an example, once it is known to encode to the same bytes.
fn hello_in(example: &str) -> Hello {
    let [(Kind::Hello, body)] = &frames(example)[..] else { panic!("{example} is one HELLO") };
    let hello = Hello::parse(body).expect("a valid HELLO");
    assert_eq!(hello.to_body(), *body, "{example}");
    hello
}

/// The frames of an example, once their headers are known to encode to the same bytes.
fn frames(example: &str) -> Vec<(Kind, Vec<u8>)> {
    let examples = examples();
    let mut bytes = examples[example].as_slice();
    let mut frames = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LEN>() {
        let parsed = Header::parse(header).expect("a frame header");
        assert_eq!(parsed.to_bytes(), *header, "{example}");
        let (body, rest) = rest.split_at(parsed.length);
        frames.push((parsed.kind, body.to_vec()));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "{example} ends within a frame");
    frames
}

/// The bytes of every block that is fenced as `hex NAME`, without what three blanks set apart.
fn examples() -> BTreeMap<&'static str, Vec<u8>> {
    let mut examples = BTreeMap::new();
    for block in DOCUMENT.split("\n```hex ").skip(1) {
        let (name, rest) = block.split_once('\n').expect("a name and lines");
        let (lines, _) = rest.split_once("\n```").expect("the end of the block");
        let bytes = lines
            .lines()
            .flat_map(|line| line.split("   ").next().unwrap_or_default().split_whitespace())
            .map(|byte| u8::from_str_radix(byte, 16).expect("two hexadecimal digits"))
            .collect();
        assert!(examples.insert(name, bytes).is_none(), "two examples are called {name}");
    }
    examples
}
