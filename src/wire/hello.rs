//! HELLO: the first frame in each direction, by which two ends agree on a session.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------------------------------------------------------+
//! |                       magic "tunnel64"                        |
//! |                                                               |
//! +---------------+---------------+---------------+---------------+
//! |  version min  |  version max  | stream index  | stream count  |
//! +---------------+---------------+---------------+---------------+
//! |                     session id (16 bytes)                     |
//! +---------------------------------------------------------------+
//! |                      instance (16 bytes)                      |
//! +---------------------------------------------------------------+
//! |                         feature bits                          |
//! +-------------------------------+-------------------------------+
//! |           inner MTU           |            reserved           |
//! +-------------------------------+-------------------------------+
//! |                   keepalive in milliseconds                   |
//! +---------------------------------------------------------------+
//! |                   longest DATA body accepted                  |
//! +---------------------------------------------------------------+
//! |  what a later version adds; ignored by this one ...
//! ```

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::frame::MAX_CONTROL;

/// The protocol versions this implementation speaks.
pub const VERSIONS: RangeInclusive<u8> = 1..=1;

const MAGIC: [u8; 8] = *b"tunnel64";
const LEN: usize = 60;

/// Names a session; chosen at random by the end that dials.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SessionId(pub [u8; 16]);

/// Names a running process; chosen at random when it starts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instance(pub [u8; 16]);

/// What an end says of itself and of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The protocol versions that the sender speaks.
    pub versions: RangeInclusive<u8>,
    /// Which stream of the session this connection is, from 0.
    pub stream: u8,
    /// How many streams the sender is ready for, 1 to 16.
    pub streams: u8,
    /// The session that the stream belongs to. The end that accepts repeats the dialler's.
    pub session: SessionId,
    /// The process that speaks.
    pub instance: Instance,
    /// What the sender accepts: a bit a feature, unknown ones are ignored.
    pub features: u32,
    /// The MTU of the sender's TUN interface.
    pub mtu: u16,
    /// The silence after which the sender asks whether the peer is there; for information.
    pub keepalive: Duration,
    /// The longest DATA body that the sender accepts, in bytes.
    pub max_packet: u32,
}

/// Why a HELLO can't be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Less than the fixed part.
    #[error("HELLO of {0} bytes, at least {LEN} are needed")]
    Short(usize),
    /// The magic is not there.
    #[error("HELLO without its magic: the peer is no tunnel64d")]
    Magic,
    /// A value outside its range.
    #[error("HELLO with an impossible {0}")]
    Value(&'static str),
}

impl Hello {
    /// Parses a HELLO body.
    ///
    /// # Errors
    /// [`Malformed`] when it is too short, lacks the magic, or holds a value outside its range.
    pub fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let fixed: &[u8; LEN] = body.first_chunk().ok_or(Malformed::Short(body.len()))?;
        let mut fields = Fields(fixed);
        if fields.take::<8>() != MAGIC {
            return Err(Malformed::Magic);
        }
        let [first, last, stream, streams] = fields.take();
        let session = SessionId(fields.take());
        let instance = Instance(fields.take());
        let features = u32::from_be_bytes(fields.take());
        let mtu = u16::from_be_bytes(fields.take());
        let _reserved: [u8; 2] = fields.take();
        let keepalive = Duration::from_millis(u32::from_be_bytes(fields.take()).into());
        let max_packet = u32::from_be_bytes(fields.take());
        if first == 0 || first > last {
            return Err(Malformed::Value("version range"));
        }
        if !(1..=16).contains(&streams) || stream >= 16 {
            return Err(Malformed::Value("stream index or count"));
        }
        if mtu < 1280 {
            return Err(Malformed::Value("MTU"));
        }
        if max_packet < u32::from(mtu) {
            return Err(Malformed::Value("packet limit"));
        }
        let versions = first..=last;
        Ok(Self {
            versions,
            stream,
            streams,
            session,
            instance,
            features,
            mtu,
            keepalive,
            max_packet,
        })
    }

    /// The body of the HELLO frame.
    pub fn to_body(&self) -> Vec<u8> {
        const { assert!(LEN <= MAX_CONTROL) };
        let mut body = Vec::with_capacity(LEN);
        body.extend_from_slice(&MAGIC);
        body.extend_from_slice(&[
            *self.versions.start(),
            *self.versions.end(),
            self.stream,
            self.streams,
        ]);
        body.extend_from_slice(&self.session.0);
        body.extend_from_slice(&self.instance.0);
        body.extend_from_slice(&self.features.to_be_bytes());
        body.extend_from_slice(&self.mtu.to_be_bytes());
        body.extend_from_slice(&[0; 2]);
        let keepalive = u32::try_from(self.keepalive.as_millis()).unwrap_or(u32::MAX);
        body.extend_from_slice(&keepalive.to_be_bytes());
        body.extend_from_slice(&self.max_packet.to_be_bytes());
        debug_assert_eq!(body.len(), LEN);
        body
    }

    /// The highest version that both ends speak.
    pub fn common_version(&self, ours: &RangeInclusive<u8>) -> Option<u8> {
        let highest = *self.versions.end().min(ours.end());
        (self.versions.contains(&highest) && ours.contains(&highest)).then_some(highest)
    }
}

/// Takes fixed-size fields off the front of the fixed part.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        // The fields add up to LEN, which a test proves.
        let (field, rest) = self.0.split_first_chunk().expect("fields fill the fixed part");
        self.0 = rest;
        *field
    }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Display for SessionId {
    /// The first four bytes: enough to tell sessions apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0[..4], f)
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Hello {
        Hello {
            versions: VERSIONS,
            stream: 2,
            streams: 4,
            session: SessionId([7; 16]),
            instance: Instance([9; 16]),
            features: 0b1_1111,
            mtu: 1500,
            keepalive: Duration::from_secs(10),
            max_packet: 65_575,
        }
    }

    fn body() -> Vec<u8> {
        sample().to_body()
    }

    #[test]
    fn it_survives_the_wire_and_ignores_what_a_later_version_adds() {
        let mut body = body();
        assert_eq!(Hello::parse(&body), Ok(sample()));
        body.extend_from_slice(b"more");
        assert_eq!(Hello::parse(&body), Ok(sample()));
    }

    #[test]
    fn every_truncation_is_refused() {
        let body = body();
        for length in 0..body.len() {
            assert_eq!(Hello::parse(&body[..length]), Err(Malformed::Short(length)));
        }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for (offset, value, what) in [
            (8, 0, "version range"),
            (8, 9, "version range"),
            (10, 16, "stream index or count"),
            (11, 0, "stream index or count"),
            (11, 17, "stream index or count"),
            (48, 0, "MTU"),
        ] {
            let mut body = body();
            body[offset] = value;
            assert_eq!(Hello::parse(&body), Err(Malformed::Value(what)), "byte {offset}");
        }
    }

    #[test]
    fn the_highest_common_version_is_chosen() {
        let mut hello = sample();
        hello.versions = 2..=5;
        assert_eq!(hello.common_version(&(1..=3)), Some(3));
        assert_eq!(hello.common_version(&(1..=9)), Some(5));
        assert_eq!(hello.common_version(&(1..=1)), None);
        assert_eq!(hello.common_version(&(6..=7)), None);
    }

    proptest! {
        #[test]
        fn any_body_parses_or_is_refused(body: Vec<u8>) {
            let _ = Hello::parse(&body);
        }

        #[test]
        fn any_fixed_part_parses_or_is_refused(mut body: [u8; LEN]) {
            body[..8].copy_from_slice(&MAGIC);
            if let Ok(hello) = Hello::parse(&body) {
                let again = hello.to_body();
                prop_assert_eq!(Hello::parse(&again), Ok(hello));
            }
        }
    }
}
