//! One connection's TLS: the handshake on rustls's unbuffered interface, then records of our own.

use std::fmt;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{CertificateError, OtherError, PeerIncompatible};

use crate::transport::keys::PublicKey;
use crate::transport::window::Window;

use super::records::{RECORD, Records, Secrets};
use super::{ALPN, Ciphers, Error};

/// One connection's TLS state. It does no I/O: bytes in, bytes out.
pub(in crate::transport) struct Session {
    pub(super) state: State,
    pub(super) ours: PublicKey,
}

pub(super) enum State {
    Handshake(Handshake),
    Established(Box<Established>),
    /// The handshake has failed.
    Failed,
}

pub(super) enum Handshake {
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
            State::Handshake(Handshake::Client(_)) => "Session(client)",
            State::Handshake(Handshake::Server(_)) => "Session(server)",
            State::Established(_) => "Session(established)",
            State::Failed => "Session(failed)",
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
    pub(super) fn new(handshake: Handshake, ours: PublicKey) -> Self {
        Self { state: State::Handshake(handshake), ours }
    }

    /// Takes what came from the peer: data is added to `plain`, what TLS itself has to say to
    /// `answer`. Whole records only are consumed; the rest has to be there again the next time.
    pub fn open(
        &mut self,
        input: &mut [u8],
        plain: &mut Window,
        answer: &mut Window,
    ) -> Result<Opened, Error> {
        let mut consumed = 0;
        if let State::Handshake(handshake) = &mut self.state {
            let went = handshake.go_on(input, plain, answer);
            let opened = match went {
                Ok(opened) => opened,
                Err(error) => return Err(self.explain(error)),
            };
            if !opened.ready {
                return Ok(opened);
            }
            consumed = opened.consumed;
            self.establish()?;
        }
        let State::Established(established) = &mut self.state else {
            return Err(rustls::Error::HandshakeNotComplete.into());
        };
        let records = &mut established.records;
        match records.open(&input[consumed..], plain) {
            Ok(opened) => Ok(Opened {
                consumed: consumed + opened.consumed,
                ready: !opened.closed,
                closed: opened.closed,
            }),
            Err(error) => {
                records.explain(&error, answer);
                Err(self.explain(error))
            }
        }
    }

    /// Seals `plain` into records that are added to `sealed`.
    pub fn seal(&mut self, plain: &[u8], sealed: &mut Window) -> Result<(), Error> {
        match &mut self.state {
            State::Established(established) => Ok(established.records.seal(plain, sealed)?),
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

    fn establish(&mut self) -> Result<(), Error> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Handshake(handshake) => {
                self.state = State::Established(Box::new(handshake.establish()?));
            }
            other => self.state = other,
        }
        Ok(())
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

impl Handshake {
    /// Goes on as far as what has come allows.
    fn go_on(
        &mut self,
        input: &mut [u8],
        plain: &mut Window,
        answer: &mut Window,
    ) -> Result<Opened, rustls::Error> {
        let mut opened = Opened::default();
        loop {
            let (discard, next) = self.step(&mut input[opened.consumed..], plain, answer);
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
                        let _ = self.step(rest, &mut Window::default(), answer);
                    }
                    return Err(error);
                }
            }
        }
    }

    fn step(
        &mut self,
        input: &mut [u8],
        plain: &mut Window,
        answer: &mut Window,
    ) -> (usize, Result<Next, rustls::Error>) {
        match self {
            Self::Client(side) => step(side.process_tls_records(input), plain, answer),
            Self::Server(side) => step(side.process_tls_records(input), plain, answer),
        }
    }

    fn has_something_to_say(&self) -> bool {
        match self {
            Self::Client(side) => side.wants_write(),
            Self::Server(side) => side.wants_write(),
        }
    }

    /// Takes the keys that were agreed on out of it.
    fn establish(self) -> Result<Established, Error> {
        let (peer, ciphers) = (self.peer(), self.ciphers());
        let (keys, secrets) = match self {
            Self::Client(side) => {
                let (keys, connection) = side.dangerous_into_kernel_connection()?;
                (keys, Secrets::Client(connection))
            }
            Self::Server(side) => {
                let (keys, connection) = side.dangerous_into_kernel_connection()?;
                (keys, Secrets::Server(connection))
            }
        };
        Ok(Established { records: Records::new(keys, secrets)?, peer, ciphers })
    }

    fn peer(&self) -> Result<PublicKey, Error> {
        let (alpn, shown) = match self {
            Self::Client(connection) => {
                (connection.alpn_protocol(), connection.peer_certificates())
            }
            Self::Server(connection) => {
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
        let (suite, group) = match self {
            Self::Client(side) => {
                (side.negotiated_cipher_suite(), side.negotiated_key_exchange_group())
            }
            Self::Server(side) => {
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

/// Does what one state asks for. Gives the bytes of input that are done with, and what comes next.
fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &mut Window,
    answer: &mut Window,
) -> (usize, Result<Next, rustls::Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let next = state.and_then(|state| {
        match state {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    plain.extend(record.payload);
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
