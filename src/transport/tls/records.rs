//! TLS 1.3 records once the handshake is done (RFC 8446 sections 5 and 4.6.3).
//!
//! rustls has agreed on the keys and derives the next ones. What it would do with them copies every
//! byte three times; here bytes are sealed, and opened, on their way from one buffer into another.
//!
//! ```text
//!   0      1        3        5                          5 + n              length
//!   ┌──────┬────────┬────────┬──────────────────────────┬──────┬──────────┐
//!   │ 23   │ 0x0303 │ length │ n bytes                  │ type │ tag (16) │
//!   └──────┴────────┴────────┴──────────────────────────┴──────┴──────────┘
//!   authenticated            sealed: type 23 is data, 22 a key update, 21 an alert
//! ```

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets,
    HandshakeType, InvalidMessage, PeerMisbehaved,
};

use crate::transport::window::Window;

/// Plaintext bytes in a full record (RFC 8446 section 5.1).
pub(in crate::transport) const RECORD: usize = 16 * 1024;

/// Bytes in front of what is sealed.
pub(super) const HEADER: usize = 5;

const TAG: usize = 16;

/// The longest that a sealed record may be, padding included (RFC 8446 section 5.4).
const LONGEST: usize = RECORD + 1 + TAG;

/// Records in a row that may come without data. Whoever sends more only wants to be work.
const FRUITLESS: u32 = 32;

/// Content types (RFC 8446 section 5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// `NewSessionTicket`, which means nothing to us (RFC 8446 section 4.6.1).
const TICKET: u8 = 4;

/// `KeyUpdate`: its type and length, and whether the other side shall update its own (RFC 8446
/// section 4.6.3).
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];
const NOT_REQUESTED: u8 = 0;
const REQUESTED: u8 = 1;

const FATAL: u8 = 2;

/// The records of one connection, both ways.
pub(super) struct Records {
    secrets: Secrets,
    sealing: Keys,
    opening: Keys,
    /// Records after which a key is replaced by the next.
    wears_out: u64,
    /// The peer waits for our next key.
    update_requested: bool,
    /// Records that have come since the last data.
    fruitless: u32,
    closed: bool,
}

/// Where the next keys come from.
pub(super) enum Secrets {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

/// One direction's key, and how many records it has protected.
struct Keys {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
}

/// How far a call of [`Session::open`](super::Session::open) got.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport) struct Progress {
    /// Bytes of the input that are done with: whole records.
    pub consumed: usize,
    /// Whether the handshake is complete and data may be sealed.
    pub ready: bool,
    /// Whether the peer has closed its direction.
    pub closed: bool,
}

impl Records {
    /// Goes on where a handshake ended.
    pub fn new(keys: ExtractedSecrets, secrets: Secrets) -> Result<Self, Error> {
        Ok(Self {
            wears_out: secrets.confidentiality_limit() / 2,
            secrets,
            sealing: Keys::new(keys.tx)?,
            opening: Keys::new(keys.rx)?,
            update_requested: false,
            fruitless: 0,
            closed: false,
        })
    }

    /// Seals `plain` into records, as few as it fits in.
    pub fn seal(&mut self, plain: &[u8], sealed: &mut Window) -> Result<(), Error> {
        for part in plain.chunks(RECORD) {
            if self.update_requested || self.sealing.sequence >= self.wears_out {
                self.update(sealed)?;
            }
            self.sealing.seal(DATA, part, sealed)?;
        }
        Ok(())
    }

    /// Opens the whole records at the front of `sealed`; data is added to `plain`.
    pub fn open(&mut self, sealed: &[u8], plain: &mut Window) -> Result<Progress, Error> {
        let mut rest = sealed;
        while let Some((header, body)) = rest.split_first_chunk::<HEADER>() {
            if self.closed {
                break;
            }
            let [kind, _, _, length @ ..] = *header;
            let length = usize::from(u16::from_be_bytes(length));
            if kind != DATA {
                return Err(unexpected(kind));
            }
            if length > LONGEST {
                return Err(Error::PeerSentOversizedRecord);
            }
            let Some((body, behind)) = body.split_at_checked(length) else { break };
            let (kind, length, room) = self.opening.open(*header, body, plain)?;
            self.fruitless = if kind == DATA && length > 0 { 0 } else { self.fruitless + 1 };
            if self.fruitless > FRUITLESS {
                return Err(PeerMisbehaved::TooManyEmptyFragments.into());
            }
            match kind {
                DATA => plain.added(length),
                HANDSHAKE => self.handshake(&room[..length])?,
                ALERT => self.alert(&room[..length])?,
                other => return Err(unexpected(other)),
            }
            rest = behind;
        }
        let consumed = sealed.len() - rest.len();
        Ok(Progress { consumed, ready: !self.closed, closed: self.closed })
    }

    /// Tells the peer why the connection ends, unless it was the peer who ended it.
    pub fn tell(&mut self, error: &Error, sealed: &mut Window) {
        let description = match error {
            Error::AlertReceived(_) => return,
            Error::DecryptError => AlertDescription::BadRecordMac,
            Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
            Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::PeerMisbehaved(_) => AlertDescription::UnexpectedMessage,
            Error::InvalidMessage(InvalidMessage::InvalidKeyUpdate) => {
                AlertDescription::IllegalParameter
            }
            Error::InvalidMessage(_) => AlertDescription::DecodeError,
            _ => AlertDescription::InternalError,
        };
        // Nothing is lost with it but the reason in the peer's log.
        let _ = self.sealing.seal(ALERT, &[FATAL, description.into()], sealed);
    }

    fn handshake(&mut self, mut message: &[u8]) -> Result<(), Error> {
        while let Some(behind) = self.behind_ticket(message) {
            if behind.is_empty() {
                return Ok(());
            }
            message = behind;
        }
        match message.strip_prefix(&KEY_UPDATE) {
            Some([NOT_REQUESTED]) => {}
            Some([REQUESTED]) => self.update_requested = true,
            Some(_) => return Err(InvalidMessage::InvalidKeyUpdate.into()),
            None => {
                return Err(Error::InappropriateHandshakeMessage {
                    expect_types: vec![HandshakeType::KeyUpdate],
                    got_type: message.first().copied().unwrap_or_default().into(),
                });
            }
        }
        self.opening = Keys::new(self.secrets.next_opening()?)?;
        Ok(())
    }

    /// What follows a ticket, which only listeners have to give away.
    fn behind_ticket<'a>(&self, messages: &'a [u8]) -> Option<&'a [u8]> {
        match (&self.secrets, messages) {
            (Secrets::Client(_), [TICKET, a, b, c, rest @ ..]) => {
                rest.get(usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).ok()?..)
            }
            _ => None,
        }
    }

    fn alert(&mut self, alert: &[u8]) -> Result<(), Error> {
        let [_, description] = *alert else {
            return Err(InvalidMessage::MessageTooShort.into());
        };
        match AlertDescription::from(description) {
            AlertDescription::CloseNotify => self.closed = true,
            AlertDescription::UserCanceled => {}
            other => return Err(Error::AlertReceived(other)),
        }
        Ok(())
    }

    fn update(&mut self, sealed: &mut Window) -> Result<(), Error> {
        let [kind, a, b, c] = KEY_UPDATE;
        self.sealing.seal(HANDSHAKE, &[kind, a, b, c, NOT_REQUESTED], sealed)?;
        self.sealing = Keys::new(self.secrets.next_sealing()?)?;
        self.update_requested = false;
        Ok(())
    }
}

impl Keys {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, Error> {
        use ConnectionTrafficSecrets as Secrets;
        let (algorithm, key, iv) = match &secrets {
            Secrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            Secrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            Secrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(Error::General("unknown cipher".into())),
        };
        let unusable = |_| Error::General("unusable key".into());
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(unusable)?;
        let iv = iv.as_ref().try_into().map_err(|_| Error::General("unusable IV".into()))?;
        Ok(Self { key: LessSafeKey::new(key), iv, sequence })
    }

    /// The nonce of the next record (RFC 8446 section 5.3). None comes twice: a record that fails
    /// has used its own up.
    fn nonce(&mut self) -> Result<Nonce, Error> {
        let mut nonce = self.iv;
        for (byte, count) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= count;
        }
        self.sequence = self.sequence.checked_add(1).ok_or(Error::EncryptError)?;
        Ok(Nonce::assume_unique_for_key(nonce))
    }

    /// Adds one record to `sealed`; `plain` is at most [`RECORD`] bytes.
    fn seal(&mut self, kind: u8, plain: &[u8], sealed: &mut Window) -> Result<(), Error> {
        let length = plain.len() + 1 + TAG;
        let [high, low] = u16::try_from(length).map_err(|_| Error::EncryptError)?.to_be_bytes();
        let header = [DATA, 3, 3, high, low];
        let record = &mut sealed.room(HEADER + length)[..HEADER + length];
        let (front, body) = record.split_at_mut(HEADER);
        front.copy_from_slice(&header);
        let (body, end) = body.split_at_mut(plain.len());
        let (nonce, header) = (self.nonce()?, Aad::from(header));
        self.key
            .seal_out_of_place_scatter(nonce, header, plain, body, &[kind], end)
            .map_err(|_| Error::EncryptError)?;
        sealed.added(HEADER + length);
        Ok(())
    }

    /// Opens one record into the free part of `plain`: its content type, its length without
    /// padding, and where it is.
    fn open<'a>(
        &mut self,
        header: [u8; HEADER],
        sealed: &[u8],
        plain: &'a mut Window,
    ) -> Result<(u8, usize, &'a [u8]), Error> {
        let (sealed, tag) = sealed.split_last_chunk::<TAG>().ok_or(Error::DecryptError)?;
        let room = &mut plain.room(sealed.len())[..sealed.len()];
        let (nonce, header) = (self.nonce()?, Aad::from(header));
        self.key
            .open_separate_gather(nonce, header, sealed, tag, room)
            .map_err(|_| Error::DecryptError)?;
        let end = room.iter().rposition(|byte| *byte != 0);
        let end = end.ok_or_else(|| unexpected(0))?;
        Ok((room[end], end, room))
    }
}

impl Secrets {
    fn next_sealing(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Self::Client(connection) => connection.update_tx_secret(),
            Self::Server(connection) => connection.update_tx_secret(),
        }
    }

    fn next_opening(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Self::Client(connection) => connection.update_rx_secret(),
            Self::Server(connection) => connection.update_rx_secret(),
        }
    }

    /// How many records one key may protect.
    fn confidentiality_limit(&self) -> u64 {
        let suite = match self {
            Self::Client(connection) => connection.negotiated_cipher_suite(),
            Self::Server(connection) => connection.negotiated_cipher_suite(),
        };
        suite.tls13().map_or(0, |suite| suite.common.confidentiality_limit)
    }
}

fn unexpected(kind: u8) -> Error {
    Error::InappropriateMessage {
        expect_types: vec![ContentType::ApplicationData],
        got_type: kind.into(),
    }
}

/// What no end of ours does, or only after a very long time.
#[cfg(any(test, fuzzing, debug_assertions))]
impl Records {
    pub fn seal_as(&mut self, kind: u8, plain: &[u8], sealed: &mut Window) -> Result<(), Error> {
        self.sealing.seal(kind, plain, sealed)
    }
}

#[cfg(test)]
impl Records {
    pub fn wears_out_after(&mut self, records: u64) -> u64 {
        std::mem::replace(&mut self.wears_out, records)
    }

    pub fn next_key(&mut self) {
        self.sealing = Keys::new(self.secrets.next_sealing().unwrap()).unwrap();
    }
}
