//! One connection's TLS: the handshake on rustls's unbuffered interface, then records of our own.

use std::fmt;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{CertificateError, InvalidMessage, OtherError, PeerIncompatible};

use crate::transport::keys::PublicKey;
use crate::transport::window::Window;

use super::records::{HEADER, Progress, RECORD, Records, Secrets};
use super::{ALPN, Ciphers, Error};

/// What may have come of the handshake and not be complete: several times the longest that two ends
/// say at once. rustls would wait for a message of 64 KiB, in records of any length.
const UNFINISHED: usize = 2 * RECORD;

/// One connection's TLS state. It does no I/O: bytes in, bytes out.
pub(in crate::transport) struct Session {
    pub(super) state: State,
    pub(super) ours: PublicKey,
}

pub(super) enum State {
    Handshake(Handshake),
    Established(Box<Established>),
    /// Something went wrong: nothing is opened or sealed any more.
    Failed,
}

pub(super) struct Handshake {
    side: Side,
    /// Bytes at the front of the input that rustls has seen and may want to see again: whole
    /// records.
    seen: usize,
}

pub(super) enum Side {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

pub(super) struct Established {
    pub(super) records: Records,
    peer: Result<PublicKey, Error>,
    ciphers: Option<Ciphers>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::Handshake(_) => "Session(handshake)",
            State::Established(_) => "Session(established)",
            State::Failed => "Session(failed)",
        })
    }
}

impl Session {
    pub(super) fn new(side: Side, ours: PublicKey) -> Self {
        Self { state: State::Handshake(Handshake { side, seen: 0 }), ours }
    }

    /// Takes what came from the peer: data is added to `plain`, what TLS itself has to say to
    /// `answer`. Whole records only are consumed; the rest has to be there again the next time.
    /// After an error nothing is taken any more.
    pub fn open(
        &mut self,
        input: &mut [u8],
        plain: &mut Window,
        answer: &mut Window,
    ) -> Result<Progress, Error> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Handshake(mut handshake) => {
                let opened = handshake.go_on(input, answer).map_err(|error| match error {
                    rustls::Error::InvalidMessage(_) => Error::NotTls,
                    other => self.explain(other),
                })?;
                if !opened.ready {
                    self.state = State::Handshake(handshake);
                    return Ok(opened);
                }
                self.state = State::Established(Box::new(handshake.establish()?));
                let behind = self.open(&mut input[opened.consumed..], plain, answer)?;
                Ok(Progress { consumed: opened.consumed + behind.consumed, ..behind })
            }
            State::Established(mut established) => {
                let records = &mut established.records;
                let opened = records.open(input, plain).map_err(|error| {
                    records.tell(&error, answer);
                    self.explain(error)
                })?;
                self.state = State::Established(established);
                Ok(opened)
            }
            State::Failed => Err(rustls::Error::HandshakeNotComplete.into()),
        }
    }

    /// Whether the handshake is complete: the peer has proved its key.
    pub fn is_established(&self) -> bool {
        matches!(self.state, State::Established(_))
    }

    /// Seals `plain` into records that are added to `sealed`.
    pub fn seal(&mut self, plain: &[u8], sealed: &mut Window) -> Result<(), Error> {
        match &mut self.state {
            State::Established(established) => Ok(established.records.seal(plain, sealed)?),
            _ => Err(rustls::Error::HandshakeNotComplete.into()),
        }
    }

    /// Seals one record of any type.
    #[cfg(any(fuzzing, debug_assertions))]
    pub fn seal_as(&mut self, kind: u8, plain: &[u8], sealed: &mut Window) -> Result<(), Error> {
        match &mut self.state {
            State::Established(established) => {
                Ok(established.records.seal_as(kind, plain, sealed)?)
            }
            _ => Err(rustls::Error::HandshakeNotComplete.into()),
        }
    }

    /// The key that the peer has proved to hold, once the handshake is complete.
    pub fn peer(&self) -> Result<PublicKey, Error> {
        match &self.state {
            State::Established(established) => established.peer.clone(),
            _ => Err(rustls::Error::HandshakeNotComplete.into()),
        }
    }

    /// What was agreed on; `None` before the handshake is complete.
    pub fn ciphers(&self) -> Option<Ciphers> {
        match &self.state {
            State::Established(established) => established.ciphers.clone(),
            _ => None,
        }
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
            rustls::Error::PeerIncompatible(
                PeerIncompatible::IncorrectCertificateTypeExtension,
            ) => Error::KeyKind,
            _ => Error::Other(error),
        }
    }
}

impl Handshake {
    /// Goes on as far as what has come allows. rustls is shown one record more each time that it
    /// wants to know more: what stands behind the last record of the handshake is not its business.
    fn go_on(&mut self, input: &mut [u8], answer: &mut Window) -> Result<Progress, rustls::Error> {
        let (mut opened, mut shown) = (Progress::default(), self.seen);
        loop {
            let rest = &mut input[opened.consumed..];
            let (discard, next) = self.step(&mut rest[..shown], answer);
            opened.consumed += discard;
            shown -= discard;
            self.seen = self.seen.saturating_sub(discard);
            match next {
                Ok(Next::Again) => {}
                Ok(Next::Blocked) => match record(&input[opened.consumed + shown..]) {
                    Some(Ok(length)) => {
                        shown += length;
                        self.seen = shown;
                    }
                    // Enough to see that it is no TLS.
                    Some(Err(part)) => shown += part,
                    None if shown >= UNFINISHED => {
                        return Err(InvalidMessage::HandshakePayloadTooLarge.into());
                    }
                    None => return Ok(opened),
                },
                Ok(Next::Ready) => return Ok(Progress { ready: true, ..opened }),
                Ok(Next::Closed) => return Ok(Progress { closed: true, ..opened }),
                Err(error) => {
                    // What is left to do is to tell the peer.
                    let rest = &mut input[opened.consumed..][..shown];
                    while self.has_something_to_say() {
                        let _ = self.step(rest, answer);
                    }
                    return Err(error);
                }
            }
        }
    }

    fn step(
        &mut self,
        input: &mut [u8],
        answer: &mut Window,
    ) -> (usize, Result<Next, rustls::Error>) {
        match &mut self.side {
            Side::Client(side) => step(side.process_tls_records(input), answer),
            Side::Server(side) => step(side.process_tls_records(input), answer),
        }
    }

    fn has_something_to_say(&self) -> bool {
        match &self.side {
            Side::Client(side) => side.wants_write(),
            Side::Server(side) => side.wants_write(),
        }
    }

    /// Takes the keys that were agreed on out of it.
    fn establish(self) -> Result<Established, Error> {
        let (peer, ciphers) = (self.peer(), self.ciphers());
        let (keys, secrets) = match self.side {
            Side::Client(side) => {
                let (keys, connection) = side.dangerous_into_kernel_connection()?;
                (keys, Secrets::Client(connection))
            }
            Side::Server(side) => {
                let (keys, connection) = side.dangerous_into_kernel_connection()?;
                (keys, Secrets::Server(connection))
            }
        };
        Ok(Established { records: Records::new(keys, secrets)?, peer, ciphers })
    }

    fn peer(&self) -> Result<PublicKey, Error> {
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

    fn ciphers(&self) -> Option<Ciphers> {
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
}

enum Next {
    Again,
    Blocked,
    Ready,
    Closed,
}

/// The length of the record that `input` begins with, or of the part of it that has come.
fn record(input: &[u8]) -> Option<Result<usize, usize>> {
    let length = match input {
        [] => return None,
        [_, _, _, high, low, ..] => HEADER + usize::from(u16::from_be_bytes([*high, *low])),
        _ => HEADER,
    };
    Some(if length <= input.len() { Ok(length) } else { Err(input.len()) })
}

/// Does what one state asks for. Gives the bytes of input that are done with, and what comes next.
fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    answer: &mut Window,
) -> (usize, Result<Next, rustls::Error>) {
    let UnbufferedStatus { discard, state } = status;
    let next = state.and_then(|state| {
        match state {
            ConnectionState::EncodeTlsData(mut data) => {
                encode(|room| data.encode(room), answer)?;
            }
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::WriteTraffic(_) => return Ok(Next::Ready),
            ConnectionState::BlockedHandshake => return Ok(Next::Blocked),
            ConnectionState::PeerClosed | ConnectionState::Closed => return Ok(Next::Closed),
            // Data, of which it is shown none, early data, which is not offered, and what a later
            // rustls may add.
            _ => return Err(rustls::Error::General("unexpected TLS state".into())),
        }
        Ok(Next::Again)
    });
    (discard, next)
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
