//! The frame header, in front of everything either end says.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+-------------------------------+
//! |     type      |     flags     |           gso_size            |
//! +---------------+---------------+-------------------------------+
//! |                          body length                          |
//! +---------------------------------------------------------------+
//! |                            body ...
//! ```
//!
//! `flags` and `gso_size` belong to DATA and are zero in every other frame. Bit 0 of `flags` says
//! that the packet's transport checksum is incomplete: it holds the pseudo-header sum only.

/// Bytes of a frame header.
pub const HEADER_LEN: usize = 8;

/// The longest DATA body: an IPv6 packet with the largest payload length, without jumbograms
/// (RFC 8200 section 3).
pub const MAX_PACKET: usize = 40 + 65_535;

/// The longest body of any other frame.
pub const MAX_CONTROL: usize = 1024;

const FLAG_CHECKSUM_INCOMPLETE: u8 = 0x01;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The first frame in each direction, see [`super::hello`].
    Hello,
    /// One packet, or one super-packet.
    Data {
        /// Transport payload bytes of each segment; 0 when the packet is not a super-packet.
        gso_size: u16,
        /// The transport checksum holds the pseudo-header sum and is still to be completed.
        checksum_incomplete: bool,
    },
    /// Asks for a PONG with the same 8-byte body.
    Ping,
    /// Answers a PING.
    Pong,
    /// The last frame of a stream, see [`super::bye`].
    Bye,
}

/// Whether these are the first bytes of a TLS record (RFC 8446 section 5.1), which may be shorter
/// than a frame header: an alert is.
pub fn starts_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x14..=0x17, 0x03, ..])
}

/// A parsed frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What follows.
    pub kind: Kind,
    /// Bytes of the body; at most [`MAX_PACKET`], or [`MAX_CONTROL`] unless it is DATA.
    pub length: usize,
}

/// Why eight bytes are no frame header. The stream can't be followed any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A TLS record where a frame belongs.
    #[error("the peer speaks TLS where this end expects plaintext: set security.mode alike")]
    Tls,
    /// The type is none of ours.
    #[error("frame of unknown type {0}: the peer is no tunnel64d, or a newer one")]
    Type(u8),
    /// The body is longer than any frame of its type may be.
    #[error("frame of {length} bytes, at most {limit} are allowed")]
    TooLong {
        /// The length that was announced.
        length: u32,
        /// The longest that its type allows.
        limit: usize,
    },
    /// A body length that its type can't have.
    #[error("frame of type {kind} with {length} bytes")]
    Length {
        /// The frame's type.
        kind: u8,
        /// The length that was announced.
        length: u32,
    },
    /// A bit is set that means nothing.
    #[error("frame of type {0} with undefined bits set")]
    Reserved(u8),
}

impl Header {
    /// Parses a frame header and checks its length against what its type allows.
    ///
    /// # Errors
    /// [`Malformed`]: the connection has to be closed, there is no way to find the next frame.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, Malformed> {
        let [kind, flags, gso_high, gso_low, length @ ..] = *bytes;
        let gso_size = u16::from_be_bytes([gso_high, gso_low]);
        let announced = u32::from_be_bytes(length);
        if starts_tls(bytes) {
            return Err(Malformed::Tls);
        }
        let parsed = match kind {
            1 => Kind::Hello,
            2 => {
                Kind::Data { gso_size, checksum_incomplete: flags & FLAG_CHECKSUM_INCOMPLETE != 0 }
            }
            3 => Kind::Ping,
            4 => Kind::Pong,
            5 => Kind::Bye,
            _ => return Err(Malformed::Type(kind)),
        };
        let (limit, reserved) = match parsed {
            Kind::Data { .. } => (MAX_PACKET, flags & !FLAG_CHECKSUM_INCOMPLETE != 0),
            _ => (MAX_CONTROL, flags != 0 || gso_size != 0),
        };
        if reserved {
            return Err(Malformed::Reserved(kind));
        }
        let length = usize::try_from(announced).unwrap_or(usize::MAX);
        if length > limit {
            return Err(Malformed::TooLong { length: announced, limit });
        }
        let fits = match parsed {
            Kind::Ping | Kind::Pong => length == 8,
            Kind::Data { .. } | Kind::Bye => length > 0,
            Kind::Hello => true,
        };
        if !fits {
            return Err(Malformed::Length { kind, length: announced });
        }
        Ok(Self { kind: parsed, length })
    }

    /// The header's bytes.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let (kind, flags, gso_size) = match self.kind {
            Kind::Hello => (1, 0, 0),
            Kind::Data { gso_size, checksum_incomplete } => {
                (2, u8::from(checksum_incomplete) * FLAG_CHECKSUM_INCOMPLETE, gso_size)
            }
            Kind::Ping => (3, 0, 0),
            Kind::Pong => (4, 0, 0),
            Kind::Bye => (5, 0, 0),
        };
        let [gso_high, gso_low] = gso_size.to_be_bytes();
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        let [a, b, c, d] = length.to_be_bytes();
        [kind, flags, gso_high, gso_low, a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_kind_survives_the_wire() {
        for (kind, length) in [
            (Kind::Hello, 60),
            (Kind::Data { gso_size: 1400, checksum_incomplete: true }, MAX_PACKET),
            (Kind::Data { gso_size: 0, checksum_incomplete: false }, 40),
            (Kind::Ping, 8),
            (Kind::Pong, 8),
            (Kind::Bye, 1),
        ] {
            let header = Header { kind, length };
            assert_eq!(Header::parse(&header.to_bytes()), Ok(header));
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_buffered() {
        let data = [2, 0, 0, 0, 0, 1, 0, 0x28];
        assert_eq!(
            Header::parse(&data),
            Err(Malformed::TooLong { length: 65_576, limit: MAX_PACKET })
        );
        let bye = [5, 0, 0, 0, 0, 0, 4, 1];
        assert_eq!(Header::parse(&bye), Err(Malformed::TooLong { length: 1025, limit: 1024 }));
    }

    #[test]
    fn a_tls_client_hello_and_an_alert_are_recognised() {
        let record = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01];
        assert_eq!(Header::parse(&record), Err(Malformed::Tls));
        assert!(starts_tls(&[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x2a]));
        assert!(!starts_tls(&[0x05, 0x03]) && !starts_tls(&[0x16]));
    }

    #[test]
    fn an_empty_packet_and_a_ping_of_another_size_are_refused() {
        assert!(matches!(
            Header::parse(&[2, 0, 0, 0, 0, 0, 0, 0]),
            Err(Malformed::Length { kind: 2, length: 0 })
        ));
        assert!(matches!(
            Header::parse(&[3, 0, 0, 0, 0, 0, 0, 9]),
            Err(Malformed::Length { kind: 3, length: 9 })
        ));
    }

    proptest! {
        #[test]
        fn whatever_parses_is_written_back_to_the_letter(bytes: [u8; HEADER_LEN]) {
            if let Ok(header) = Header::parse(&bytes) {
                prop_assert_eq!(header.to_bytes(), bytes);
            }
        }
    }
}
