//! One connection's TLS on rustls's unbuffered interface.

use std::fmt;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{CertificateError, OtherError, PeerIncompatible};

use crate::transport::keys::PublicKey;
use crate::transport::window::Window;

use super::{ALPN, Ciphers, Error};

/// Plaintext bytes in a full record (RFC 8446 section 5.1).
pub(in crate::transport) const RECORD: usize = 16 * 1024;

/// What sealing adds to a record: its header, the inner content type and the AEAD's tag.
const OVERHEAD: usize = 5 + 1 + 16;

/// One connection's TLS state. It does no I/O: bytes in, bytes out.
pub(in crate::transport) struct Session {
    pub(super) side: Side,
    pub(super) ours: PublicKey,
}

pub(super) enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.side {
            Side::Client(_) => "Session(client)",
            Side::Server(_) => "Session(server)",
        })
    }
}

/// What a call of [`Session::open`] came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport) struct Opened {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// Whether the handshake is complete and data may be sealed.
    pub ready: bool,
    /// Whether the peer has closed its direction.
    pub closed: bool,
}

impl Session {
    /// Takes what came from the peer, decrypting in place: data goes to `plain`, what TLS itself
    /// has to say is added to `answer`. Whole records only are consumed.
    pub fn open(
        &mut self,
        input: &mut [u8],
        mut plain: impl FnMut(&[u8]),
        answer: &mut Window,
    ) -> Result<Opened, Error> {
        let mut opened = Opened::default();
        loop {
            let (discard, next) = self.step(&mut input[opened.consumed..], &mut plain, answer);
            opened.consumed += discard;
            match next {
                Ok(Next::Again) => {}
                Ok(Next::Blocked) => return Ok(opened),
                Ok(Next::Ready) => return Ok(Opened { ready: true, ..opened }),
                Ok(Next::Closed) => return Ok(Opened { closed: true, ..opened }),
                Err(error) => {
                    // What is left to do is to tell the peer.
                    let rest = &mut input[opened.consumed..];
                    while self.has_something_to_say() {
                        let _ = self.step(rest, &mut |_: &[u8]| {}, answer);
                    }
                    return Err(self.explain(error));
                }
            }
        }
    }

    fn step(
        &mut self,
        input: &mut [u8],
        plain: &mut impl FnMut(&[u8]),
        answer: &mut Window,
    ) -> (usize, Result<Next, rustls::Error>) {
        match &mut self.side {
            Side::Client(side) => step(side.process_tls_records(input), plain, answer),
            Side::Server(side) => step(side.process_tls_records(input), plain, answer),
        }
    }

    fn has_something_to_say(&self) -> bool {
        match &self.side {
            Side::Client(side) => side.wants_write(),
            Side::Server(side) => side.wants_write(),
        }
    }

    /// Seals `plain` into records at the front of `room`, which must be [`sealed_len`] long, and
    /// gives their length. `input` is what [`Self::open`] has left, and was called for just
    /// before: rustls remembers where in it an incomplete message lies.
    pub fn seal(
        &mut self,
        plain: &[u8],
        room: &mut [u8],
        input: &mut [u8],
    ) -> Result<usize, Error> {
        let sealed = match &mut self.side {
            Side::Client(side) => seal(side.process_tls_records(input), plain, room),
            Side::Server(side) => seal(side.process_tls_records(input), plain, room),
        };
        sealed.map_err(|error| self.explain(error))
    }

    /// The key that the peer has proved to hold, once the handshake is complete.
    pub fn peer(&self) -> Result<PublicKey, Error> {
        let (alpn, shown) = match &self.side {
            Side::Client(connection) => {
                (connection.alpn_protocol(), connection.peer_certificates())
            }
            Side::Server(connection) => {
                (connection.alpn_protocol(), connection.peer_certificates())
            }
        };
        if alpn != Some(ALPN) {
            return Err(Error::Protocol);
        }
        let shown = shown.and_then(<[_]>::first).ok_or(Error::KeyKind)?;
        PublicKey::from_spki(shown).ok_or(Error::KeyKind)
    }

    /// What was agreed on; `None` before the handshake is complete.
    pub fn ciphers(&self) -> Option<Ciphers> {
        let (suite, group) = match &self.side {
            Side::Client(side) => {
                (side.negotiated_cipher_suite(), side.negotiated_key_exchange_group())
            }
            Side::Server(side) => {
                (side.negotiated_cipher_suite(), side.negotiated_key_exchange_group())
            }
        };
        Some(Ciphers {
            suite: suite?.suite().as_str()?.replace("TLS13_", "TLS_"),
            key_exchange: group?.name().as_str()?.to_owned(),
        })
    }

    fn explain(&self, error: rustls::Error) -> Error {
        use rustls::AlertDescription as Alert;
        match &error {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) => {
                cause.downcast_ref::<Error>().cloned().unwrap_or(Error::Other(error))
            }
            rustls::Error::AlertReceived(
                Alert::BadCertificate
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::CertificateRequired,
            ) => Error::Refused(self.ours),
            rustls::Error::NoApplicationProtocol
            | rustls::Error::AlertReceived(Alert::NoApplicationProtocol) => Error::Protocol,
            rustls::Error::InvalidMessage(_) => Error::NotTls,
            rustls::Error::PeerIncompatible(
                PeerIncompatible::IncorrectCertificateTypeExtension,
            ) => Error::KeyKind,
            _ => Error::Other(error),
        }
    }
}

/// Bytes of the records that `plain` bytes are sealed into.
pub(in crate::transport) const fn sealed_len(plain: usize) -> usize {
    plain + plain.div_ceil(RECORD) * OVERHEAD
}

enum Next {
    Again,
    Blocked,
    Ready,
    Closed,
}

/// Does what one state asks for. Gives the bytes of input that are done with, and what comes next.
fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &mut impl FnMut(&[u8]),
    answer: &mut Window,
) -> (usize, Result<Next, rustls::Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let next = state.and_then(|state| {
        match state {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    plain(record.payload);
                }
            }
            ConnectionState::EncodeTlsData(mut data) => {
                encode(|room| data.encode(room), answer)?;
            }
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::WriteTraffic(_) => return Ok(Next::Ready),
            ConnectionState::BlockedHandshake => return Ok(Next::Blocked),
            ConnectionState::PeerClosed | ConnectionState::Closed => return Ok(Next::Closed),
            // Early data, which is not offered, and what a later rustls may add.
            _ => return Err(rustls::Error::General("unexpected TLS state".into())),
        }
        Ok(Next::Again)
    });
    (discard, next)
}

fn seal<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &[u8],
    room: &mut [u8],
) -> Result<usize, rustls::Error> {
    let ConnectionState::WriteTraffic(mut traffic) = status.state? else {
        return Err(rustls::Error::HandshakeNotComplete);
    };
    traffic.encrypt(plain, room).map_err(|error| match error {
        EncryptError::EncryptExhausted => rustls::Error::EncryptError,
        other => rustls::Error::General(other.to_string()),
    })
}

fn encode(
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
    answer: &mut Window,
) -> Result<(), rustls::Error> {
    let mut at_least = RECORD;
    loop {
        match encode(answer.room(at_least)) {
            Ok(length) => {
                answer.added(length);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(needed)) => at_least = needed.required_size,
            Err(error) => return Err(rustls::Error::General(error.to_string())),
        }
    }
}
