//! TLS 1.3 with raw public keys (RFC 8446, RFC 7250), pinned at both ends.
//!
//! There are no certificates and no names: each end shows an Ed25519 key and takes only those it
//! knows. No older version, no resumption, no tickets, no early data. Keys are agreed on by
//! X25519MLKEM768 where both ends have it, and updated by rustls long before they wear out.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption, UnbufferedClientConnection};
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::aws_lc_rs::{self, sign::any_eddsa_type};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage, UnbufferedServerConnection,
};
use rustls::sign::CertifiedKey;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError,
    PeerIncompatible, ServerConfig, SignatureScheme,
};

use super::keys::{PrivateKey, PublicKey};

/// What the application protocol is called (RFC 7301).
const ALPN: &[u8] = b"tunnel64/1";

/// Plaintext bytes in a full record (RFC 8446 section 5.1).
pub(super) const RECORD: usize = 16 * 1024;

/// What sealing adds to a record: its header, the inner content type and the AEAD's tag.
const OVERHEAD: usize = 5 + 1 + 16;

/// Why a connection is not, or no longer, protected.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The peer showed a key that is not pinned.
    #[error("its key {0} is not in security.peer_public_keys")]
    UnknownKey(PublicKey),
    /// The peer showed a key of another kind.
    #[error("its key is not an Ed25519 key")]
    KeyKind,
    /// The peer does not take our key.
    #[error("it refuses our key: put {0} into its security.peer_public_keys")]
    Refused(PublicKey),
    /// The peer does not speak our protocol over TLS.
    #[error("it speaks TLS, but not tunnel64d's protocol")]
    Protocol,
    /// The peer speaks plaintext, or something else.
    #[error("it does not speak TLS: set security.mode alike")]
    NotTls,
    /// Anything else.
    #[error("TLS: {0}")]
    Other(#[from] rustls::Error),
}

/// What this end needs for every connection.
#[derive(Debug, Clone)]
pub struct Endpoint {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    ours: PublicKey,
}

impl Endpoint {
    /// Shows `key` and takes peers that show one of `pinned`.
    ///
    /// # Errors
    /// The key can't be used.
    pub fn new(key: &PrivateKey, pinned: Vec<PublicKey>) -> Result<Self, Error> {
        let provider = Arc::new(provider());
        let ours = key.public();
        let pkcs8 = key.to_pkcs8();
        let signer = any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.as_slice()))?;
        let shown = CertifiedKey::new(vec![CertificateDer::from(ours.to_spki())], signer);
        let shown = Arc::new(shown);
        let algorithms = provider.signature_verification_algorithms;
        let pinned = Arc::new(Pinned { keys: pinned, algorithms });

        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(pinned.clone())
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(
                shown.clone(),
            )));
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        client.alpn_protocols = vec![ALPN.to_vec()];

        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(pinned)
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(shown)));
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { client: Arc::new(client), server: Arc::new(server), ours })
    }

    /// The key that this end shows.
    pub fn public_key(&self) -> PublicKey {
        self.ours
    }

    /// The end that dialled.
    pub(super) fn client(&self) -> Result<Session, Error> {
        // Required by the interface, sent nowhere: there is no SNI.
        let name = ServerName::try_from("tunnel64d").map_err(|_| Error::Protocol)?;
        let connection = UnbufferedClientConnection::new(self.client.clone(), name)?;
        Ok(Session { side: Side::Client(connection), ours: self.ours })
    }

    /// The end that was dialled.
    pub(super) fn server(&self) -> Result<Session, Error> {
        let connection = UnbufferedServerConnection::new(self.server.clone())?;
        Ok(Session { side: Side::Server(connection), ours: self.ours })
    }
}

/// AES-128 first: it is the fastest by far wherever the processor knows AES, and strong enough.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            TLS13_AES_128_GCM_SHA256,
            TLS13_AES_256_GCM_SHA384,
            TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..aws_lc_rs::default_provider()
    }
}

/// One connection's TLS state. It does no I/O: bytes in, bytes out.
pub(super) struct Session {
    side: Side,
    ours: PublicKey,
}

enum Side {
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
pub(super) struct Opened {
    /// Bytes of the input that are done with.
    pub(super) consumed: usize,
    /// Whether the handshake is complete and data may be sealed.
    pub(super) ready: bool,
    /// Whether the peer has closed its direction.
    pub(super) closed: bool,
}

impl Session {
    /// Takes what came from the peer, decrypting in place: data goes to `plain`, what TLS itself
    /// has to say is added to `answer`. Whole records only are consumed.
    pub(super) fn open(
        &mut self,
        input: &mut [u8],
        mut plain: impl FnMut(&[u8]),
        answer: &mut Vec<u8>,
    ) -> Result<Opened, Error> {
        let mut opened = Opened::default();
        loop {
            let rest = &mut input[opened.consumed..];
            let step = match &mut self.side {
                Side::Client(connection) => {
                    step(connection.process_tls_records(rest), &mut plain, answer)
                }
                Side::Server(connection) => {
                    step(connection.process_tls_records(rest), &mut plain, answer)
                }
            };
            match step {
                Ok(Step { discard, next }) => {
                    opened.consumed += discard;
                    match next {
                        Next::Again => {}
                        Next::Blocked => return Ok(opened),
                        Next::Ready => return Ok(Opened { ready: true, ..opened }),
                        Next::Closed => return Ok(Opened { closed: true, ..opened }),
                    }
                }
                Err(error) => {
                    self.alert(answer);
                    return Err(self.explain(error));
                }
            }
        }
    }

    /// Seals `plain` into records at the front of `room` and gives their length. `room` must be
    /// [`sealed_len`] long. Before the handshake is complete nothing can be sealed.
    pub(super) fn seal(
        &mut self,
        plain: &[u8],
        room: &mut [u8],
        answer: &mut Vec<u8>,
    ) -> Result<usize, Error> {
        loop {
            let sealed = match &mut self.side {
                Side::Client(connection) => {
                    seal(connection.process_tls_records(&mut []), plain, room, answer)
                }
                Side::Server(connection) => {
                    seal(connection.process_tls_records(&mut []), plain, room, answer)
                }
            };
            if let Some(length) = sealed.map_err(|error| self.explain(error))? {
                return Ok(length);
            }
        }
    }

    /// The key that the peer has proved to hold, once the handshake is complete.
    pub(super) fn peer(&self) -> Result<PublicKey, Error> {
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

    /// The alert that tells the peer of an error, if there is one to be told.
    fn alert(&mut self, answer: &mut Vec<u8>) {
        let nothing = &mut |_: &[u8]| {};
        loop {
            let step = match &mut self.side {
                Side::Client(connection) => {
                    step(connection.process_tls_records(&mut []), nothing, answer)
                }
                Side::Server(connection) => {
                    step(connection.process_tls_records(&mut []), nothing, answer)
                }
            };
            if !matches!(step, Ok(Step { next: Next::Again, .. })) {
                return;
            }
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
            rustls::Error::InvalidMessage(_) => Error::NotTls,
            rustls::Error::PeerIncompatible(
                PeerIncompatible::IncorrectCertificateTypeExtension,
            ) => Error::KeyKind,
            _ => Error::Other(error),
        }
    }
}

/// Bytes of the records that `plain` bytes are sealed into.
pub(super) const fn sealed_len(plain: usize) -> usize {
    plain + plain.div_ceil(RECORD) * OVERHEAD
}

struct Step {
    discard: usize,
    next: Next,
}

enum Next {
    Again,
    Blocked,
    Ready,
    Closed,
}

fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &mut impl FnMut(&[u8]),
    answer: &mut Vec<u8>,
) -> Result<Step, rustls::Error> {
    let UnbufferedStatus { mut discard, state } = status;
    let next = match state? {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let record = record?;
                discard += record.discard;
                plain(record.payload);
            }
            Next::Again
        }
        ConnectionState::EncodeTlsData(mut data) => {
            encode(|room| data.encode(room), answer)?;
            Next::Again
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Next::Again
        }
        ConnectionState::WriteTraffic(_) => Next::Ready,
        ConnectionState::BlockedHandshake => Next::Blocked,
        ConnectionState::PeerClosed | ConnectionState::Closed => Next::Closed,
        // Early data, which is not offered, and what a later rustls may add.
        _ => return Err(rustls::Error::General("unexpected TLS state".into())),
    };
    Ok(Step { discard, next })
}

fn seal<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &[u8],
    room: &mut [u8],
    answer: &mut Vec<u8>,
) -> Result<Option<usize>, rustls::Error> {
    match status.state? {
        ConnectionState::WriteTraffic(mut traffic) => match traffic.encrypt(plain, room) {
            Ok(length) => Ok(Some(length)),
            Err(EncryptError::EncryptExhausted) => Err(rustls::Error::EncryptError),
            Err(error) => Err(rustls::Error::General(error.to_string())),
        },
        ConnectionState::EncodeTlsData(mut data) => {
            encode(|room| data.encode(room), answer)?;
            Ok(None)
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(None)
        }
        _ => Err(rustls::Error::HandshakeNotComplete),
    }
}

fn encode(
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
    answer: &mut Vec<u8>,
) -> Result<(), rustls::Error> {
    let start = answer.len();
    let mut room = RECORD;
    loop {
        answer.resize(start + room, 0);
        match encode(&mut answer[start..]) {
            Ok(length) => {
                answer.truncate(start + length);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(needed)) => room = needed.required_size,
            Err(error) => return Err(rustls::Error::General(error.to_string())),
        }
    }
}

/// Takes peers by their keys.
#[derive(Debug)]
struct Pinned {
    keys: Vec<PublicKey>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn check(&self, shown: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let refuse = |why: Error| {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
        };
        let key = PublicKey::from_spki(shown).ok_or_else(|| refuse(Error::KeyKind))?;
        // Public keys: there is nothing to learn from how long the comparison takes.
        if self.keys.contains(&key) { Ok(()) } else { Err(refuse(Error::UnknownKey(key))) }
    }

    fn verify(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let spki = SubjectPublicKeyInfoDer::from(shown.as_ref());
        verify_tls13_signature_with_raw_key(message, &spki, signature, &self.algorithms)
    }

    fn no_tls12() -> rustls::Error {
        rustls::Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic)
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(shown).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(Self::no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, shown, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(shown).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(Self::no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, shown, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ends {
        dialler: Session,
        listener: Session,
    }

    fn ends(
        dialler_pins: impl Fn(PublicKey) -> PublicKey,
        listener_pins: impl Fn(PublicKey) -> PublicKey,
    ) -> Ends {
        let (a, b) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let dialler = Endpoint::new(&a, vec![dialler_pins(b.public())]).unwrap();
        let listener = Endpoint::new(&b, vec![listener_pins(a.public())]).unwrap();
        Ends { dialler: dialler.client().unwrap(), listener: listener.server().unwrap() }
    }

    fn other(_: PublicKey) -> PublicKey {
        PrivateKey::generate().unwrap().public()
    }

    /// Carries bytes between the ends until both are ready, or one refuses.
    fn handshake(ends: &mut Ends) -> (Result<(), Error>, Result<(), Error>) {
        let (mut to_listener, mut to_dialler) = (Vec::new(), Vec::new());
        let mut results = [Ok(false), Ok(false)];
        for _ in 0..6 {
            let pairs = [
                (&mut ends.dialler, &mut to_dialler, &mut to_listener, 0),
                (&mut ends.listener, &mut to_listener, &mut to_dialler, 1),
            ];
            for (session, input, output, index) in pairs {
                if results[index].is_ok() {
                    let opened = session.open(input, |_| {}, output);
                    if let Ok(opened) = &opened {
                        input.drain(..opened.consumed);
                    }
                    results[index] = opened.map(|opened| opened.ready);
                }
            }
        }
        let [dialler, listener] = results;
        (dialler.map(|ready| assert!(ready)), listener.map(|ready| assert!(ready)))
    }

    #[test]
    fn two_ends_that_know_each_other_agree_and_prove_their_keys() {
        let mut ends = ends(|key| key, |key| key);
        assert_eq!(handshake(&mut ends), (Ok(()), Ok(())));
        assert_eq!(ends.dialler.peer(), Ok(ends.listener.ours));
        assert_eq!(ends.listener.peer(), Ok(ends.dialler.ours));
        let Side::Client(client) = &ends.dialler.side else { panic!() };
        let group = client.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
        assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    }

    #[test]
    fn a_listener_with_another_key_is_refused_and_learns_it() {
        let mut ends = ends(other, |key| key);
        let (dialler, listener) = handshake(&mut ends);
        assert_eq!(dialler, Err(Error::UnknownKey(ends.listener.ours)));
        assert!(
            matches!(listener, Err(Error::Refused(key)) if key == ends.listener.ours),
            "{listener:?}"
        );
    }

    #[test]
    fn a_dialler_with_another_key_is_refused_and_learns_it() {
        let mut ends = ends(|key| key, other);
        let (dialler, listener) = handshake(&mut ends);
        assert_eq!(listener, Err(Error::UnknownKey(ends.dialler.ours)));
        assert!(
            matches!(dialler, Err(Error::Refused(key)) if key == ends.dialler.ours),
            "{dialler:?}"
        );
    }

    #[test]
    fn plaintext_is_told_apart_from_tls() {
        let mut ends = ends(|key| key, |key| key);
        let mut hello = *b"\x01\0\0\0\0\0\0\x3ctunnel64";
        let error = ends.listener.open(&mut hello, |_| {}, &mut Vec::new()).unwrap_err();
        assert_eq!(error, Error::NotTls);
    }

    #[test]
    fn what_is_sealed_comes_out_as_it_was_and_a_changed_byte_is_noticed() {
        let mut ends = ends(|key| key, |key| key);
        assert_eq!(handshake(&mut ends), (Ok(()), Ok(())));
        for length in [1, 100, RECORD - 1, RECORD, RECORD + 1, 65_583] {
            let plain: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0]).collect();
            let mut sealed = vec![0; sealed_len(length)];
            let count = ends.dialler.seal(&plain, &mut sealed, &mut Vec::new()).unwrap();
            assert_eq!(count, sealed.len());
            let mut seen = Vec::new();
            let take = |part: &[u8]| seen.extend_from_slice(part);
            let opened = ends.listener.open(&mut sealed, take, &mut Vec::new()).unwrap();
            assert_eq!((opened.consumed, seen), (count, plain));
        }
        let mut sealed = vec![0; sealed_len(40)];
        ends.dialler.seal(&[7; 40], &mut sealed, &mut Vec::new()).unwrap();
        sealed[20] ^= 1;
        assert!(ends.listener.open(&mut sealed, |_| {}, &mut Vec::new()).is_err());
    }

    #[test]
    fn keys_are_updated_without_anybody_noticing() {
        let mut ends = ends(|key| key, |key| key);
        assert_eq!(handshake(&mut ends), (Ok(()), Ok(())));
        let Side::Client(client) = &mut ends.dialler.side else { panic!() };
        let UnbufferedStatus { state, .. } = client.process_tls_records(&mut []);
        let Ok(ConnectionState::WriteTraffic(traffic)) = state else { panic!() };
        traffic.refresh_traffic_keys().unwrap();
        let (mut sealed, mut wire) = (vec![0; sealed_len(9)], Vec::new());
        let count = ends.dialler.seal(b"new keys!", &mut sealed, &mut wire).unwrap();
        assert!(!wire.is_empty(), "a key update goes out first");
        wire.extend_from_slice(&sealed[..count]);
        let mut seen = Vec::new();
        ends.listener
            .open(&mut wire, |part| seen.extend_from_slice(part), &mut Vec::new())
            .unwrap();
        assert_eq!(seen, b"new keys!");
    }
}
