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
use super::window::Window;

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

/// What a connection is protected with, by the names of the IANA registries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ciphers {
    /// The cipher suite.
    pub suite: String,
    /// The key exchange.
    pub key_exchange: String,
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
    pub(super) fn seal(
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

    /// What was agreed on; `None` before the handshake is complete.
    pub(super) fn ciphers(&self) -> Option<Ciphers> {
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
pub(super) const fn sealed_len(plain: usize) -> usize {
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
        fn turn(
            session: &mut Session,
            input: &mut Window,
            output: &mut Window,
        ) -> Result<bool, Error> {
            let opened = session.open(input.filled_mut(), |_| {}, output)?;
            input.take(opened.consumed);
            Ok(opened.ready)
        }
        let (mut to_listener, mut to_dialler) = (Window::default(), Window::default());
        let (mut dialler, mut listener) = (Ok(false), Ok(false));
        for _ in 0..6 {
            if dialler.is_ok() {
                dialler = turn(&mut ends.dialler, &mut to_dialler, &mut to_listener);
            }
            if listener.is_ok() {
                listener = turn(&mut ends.listener, &mut to_listener, &mut to_dialler);
            }
        }
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
        let error = ends.listener.open(&mut hello, |_| {}, &mut Window::default()).unwrap_err();
        assert_eq!(error, Error::NotTls);
    }

    #[test]
    fn what_is_sealed_comes_out_as_it_was_and_a_changed_byte_is_noticed() {
        let mut ends = ends(|key| key, |key| key);
        assert_eq!(handshake(&mut ends), (Ok(()), Ok(())));
        for length in [1, 100, RECORD - 1, RECORD, RECORD + 1, 65_583] {
            let plain: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0]).collect();
            let mut sealed = vec![0; sealed_len(length)];
            let count = ends.dialler.seal(&plain, &mut sealed, &mut []).unwrap();
            assert_eq!(count, sealed.len());
            let mut seen = Vec::new();
            let take = |part: &[u8]| seen.extend_from_slice(part);
            let opened = ends.listener.open(&mut sealed, take, &mut Window::default()).unwrap();
            assert_eq!((opened.consumed, seen), (count, plain));
        }
        let mut sealed = vec![0; sealed_len(40)];
        ends.dialler.seal(&[7; 40], &mut sealed, &mut []).unwrap();
        sealed[20] ^= 1;
        assert!(ends.listener.open(&mut sealed, |_| {}, &mut Window::default()).is_err());
    }

    #[test]
    fn keys_are_updated_without_anybody_noticing() {
        let mut ends = ends(|key| key, |key| key);
        assert_eq!(handshake(&mut ends), (Ok(()), Ok(())));
        let Side::Client(client) = &mut ends.dialler.side else { panic!() };
        let UnbufferedStatus { state, .. } = client.process_tls_records(&mut []);
        let Ok(ConnectionState::WriteTraffic(traffic)) = state else { panic!() };
        traffic.refresh_traffic_keys().unwrap();
        let (mut sealed, mut wire) = (vec![0; sealed_len(9)], Window::default());
        ends.dialler.open(&mut [], |_| {}, &mut wire).unwrap();
        assert!(wire.len() > 0, "a key update goes out first");
        let count = ends.dialler.seal(b"new keys!", &mut sealed, &mut []).unwrap();
        wire.extend(&sealed[..count]);
        let mut seen = Vec::new();
        let take = |part: &[u8]| seen.extend_from_slice(part);
        ends.listener.open(wire.filled_mut(), take, &mut Window::default()).unwrap();
        assert_eq!(seen, b"new keys!");
    }
}
