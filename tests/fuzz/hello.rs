//! HELLO and BYE: what parses is written the same again, and means the same.

use std::time::Duration;

use tunnel64d::link::negotiate::Ours;
use tunnel64d::wire::bye::Bye;
use tunnel64d::wire::hello::{Hello, Instance};

/// Tries one input.
pub fn run(data: &[u8]) {
    let bye = Bye::parse(data);
    assert!(!format!("{}{}", bye.reason, bye.text).contains(char::is_control));

    let Ok(hello) = Hello::parse(data) else { return };
    let body = hello.to_body();
    assert_eq!(Hello::parse(&body).as_ref(), Ok(&hello));
    assert!(body.len() <= data.len(), "later versions may say more, not less");

    let ours = Ours {
        streams: 4,
        instance: Instance([1; 16]),
        features: u32::MAX,
        mtu: 1500,
        keepalive: Duration::from_secs(10),
        max_packet: 65_575,
    };
    if let Ok(agreed) = ours.agree(&hello) {
        assert!((1..=ours.streams.min(hello.streams)).contains(&agreed.streams));
        assert!((1280..=ours.mtu.min(hello.mtu)).contains(&agreed.mtu));
    }
}
