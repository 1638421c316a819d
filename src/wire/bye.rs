//! BYE: the last frame of a stream, with the reason it ends.
//!
//! ```text
//! +---------------+------------------------ - - - -
//! |  reason (u8)  |  text for a log, UTF-8, at most 255 bytes
//! +---------------+------------------------ - - - -
//! ```

use std::fmt;

const MAX_TEXT: usize = 255;

/// Why a stream, or the session with it, ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// 1: the sender stops for good.
    Stopping,
    /// 2: the sender restarts and will be back at once.
    Restarting,
    /// 3: a newer stream or session took this one's place.
    Superseded,
    /// 4: both ends dialled, and the other session wins.
    Glare,
    /// 5: no common protocol version.
    Version,
    /// 6: the stream asks to join a session that the sender does not have.
    UnknownSession,
    /// 7: the peer broke the protocol.
    Protocol,
    /// 8: nothing was heard for longer than the sender's `dead_after`.
    Silent,
    /// 9: the endpoint leads back to the process that dialled it.
    Myself,
    /// 10: the sender no longer takes the receiver for its peer.
    Unwelcome,
    /// Any other number, from a newer peer.
    Other(u8),
}

/// A parsed BYE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bye {
    /// Why.
    pub reason: Reason,
    /// What else the sender had to say, for a log; control characters are replaced.
    pub text: String,
}

impl Reason {
    const fn code(self) -> u8 {
        match self {
            Self::Stopping => 1,
            Self::Restarting => 2,
            Self::Superseded => 3,
            Self::Glare => 4,
            Self::Version => 5,
            Self::UnknownSession => 6,
            Self::Protocol => 7,
            Self::Silent => 8,
            Self::Myself => 9,
            Self::Unwelcome => 10,
            Self::Other(code) => code,
        }
    }

    const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Stopping,
            2 => Self::Restarting,
            3 => Self::Superseded,
            4 => Self::Glare,
            5 => Self::Version,
            6 => Self::UnknownSession,
            7 => Self::Protocol,
            8 => Self::Silent,
            9 => Self::Myself,
            10 => Self::Unwelcome,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopping => "the peer stops",
            Self::Restarting => "the peer restarts",
            Self::Superseded => "a newer connection took over",
            Self::Glare => "both ends dialled, the other session wins",
            Self::Version => "no common protocol version",
            Self::UnknownSession => "the peer does not know the session",
            Self::Protocol => "the peer says we broke the protocol",
            Self::Silent => "the peer heard nothing from us",
            Self::Myself => "the endpoint leads back to ourselves",
            Self::Unwelcome => "the peer's new configuration does not take us any more",
            Self::Other(code) => return write!(f, "reason {code}"),
        })
    }
}

impl Bye {
    /// Parses a BYE body. Never fails: an empty one counts as reason 0.
    pub fn parse(body: &[u8]) -> Self {
        let (code, text) = body.split_first().map_or((0, &[][..]), |(code, text)| (*code, text));
        let text = String::from_utf8_lossy(&text[..text.len().min(MAX_TEXT)]);
        let text = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        Self { reason: Reason::from_code(code), text }
    }
}

/// The body of a BYE frame; `text` is cut at 255 bytes.
pub fn body(reason: Reason, text: &str) -> Vec<u8> {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut body = vec![reason.code()];
    body.extend_from_slice(&text.as_bytes()[..end]);
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_that_could_forge_a_log_line_is_defused() {
        let bye = Bye::parse(b"\x01done\n<3>forged");
        assert_eq!(bye.reason, Reason::Stopping);
        assert!(!bye.text.contains('\n'));
    }

    proptest! {
        #[test]
        fn every_reason_survives_the_wire(code: u8, text in "[a-z é€]{0,400}") {
            let reason = Reason::from_code(code);
            let body = body(reason, &text);
            let bye = Bye::parse(&body);
            prop_assert_eq!(bye.reason, reason);
            prop_assert!(text.starts_with(&bye.text));
            prop_assert!(body.len() <= 1 + MAX_TEXT);
        }

        #[test]
        fn any_body_parses(body: Vec<u8>) {
            let _ = Bye::parse(&body);
        }
    }
}
