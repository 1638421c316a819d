//! TLS 1.3 with raw public keys (RFC 8446, RFC 7250), pinned at both ends.
//!
//! There are no certificates and no names: each end shows an Ed25519 key and takes only those it
//! knows. No older version, no resumption, no tickets, no early data. Keys are agreed on by
//! X25519MLKEM768 where both ends have it, and updated long before they wear out.
//!
//! rustls shakes hands, in [`session`], and keeps the secrets; the records that follow are our own,
//! in [`records`].

mod pinned;
mod records;
mod session;

use std::sync::Arc;

use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption, UnbufferedClientConnection};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::aws_lc_rs::{self, sign::any_eddsa_type};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{
    AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage, UnbufferedServerConnection,
};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

use super::keys::{PrivateKey, PublicKey};

use pinned::Pinned;
use session::Side;

pub(super) use records::{Progress, RECORD};
pub(super) use session::Session;

/// What the application protocol is called (RFC 7301).
const ALPN: &[u8] = b"tunnel64/1";

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
        Self::with_provider(key, pinned, provider())
    }

    fn with_provider(
        key: &PrivateKey,
        pinned: Vec<PublicKey>,
        provider: CryptoProvider,
    ) -> Result<Self, Error> {
        let provider = Arc::new(provider);
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
        client.enable_secret_extraction = true;
        client.alpn_protocols = vec![ALPN.to_vec()];

        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(pinned)
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(shown)));
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.enable_secret_extraction = true;
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
        Ok(Session::new(Side::Client(connection.into()), self.ours))
    }

    /// The end that was dialled.
    pub(super) fn server(&self) -> Result<Session, Error> {
        let connection = UnbufferedServerConnection::new(self.server.clone())?;
        Ok(Session::new(Side::Server(connection.into()), self.ours))
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

#[cfg(test)]
mod tests;
