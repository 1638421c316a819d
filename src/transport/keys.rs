//! Keys: Ed25519, written as base64, one in a file.
//!
//! A private key is the 32-byte seed (RFC 8032 section 5.1.5), a public key the 32-byte point; in
//! base64 with padding each is 44 characters.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a private and of a public key.
pub const LEN: usize = 32;

/// A key file is longer than this only by mistake.
const LONGEST_FILE: u64 = 4096;

/// What only this end knows. Wiped from memory when it is dropped; never printed by `Debug`.
pub struct PrivateKey([u8; LEN]);

/// What the other end knows of this one. Prints as base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; LEN]);

/// Why bytes are no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Nothing there.
    #[error("is empty: make a key with `tunnel64d genkey`")]
    Empty,
    /// Something other than base64.
    #[error("is not base64: a key is the one line that `tunnel64d genkey` or `pubkey` prints")]
    Base64,
    /// Another number of bytes.
    #[error("has {0} bytes, a key has 32: was it cut short?")]
    Length(usize),
    /// The form of a Curve25519 scalar (RFC 7748 section 5), which our keys never have.
    #[error("is a WireGuard private key: make one of our own with `tunnel64d genkey`")]
    WireGuard,
}

/// Why there is no private key.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file can't be read.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Somebody else may have read it.
    #[error(
        "{}: other users can read this private key (mode {mode:04o}): `chmod 640` it, and make a \
         new one if that may have happened",
        .path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds no key.
    #[error("{}: {problem}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: Malformed,
    },
}

impl PrivateKey {
    /// A new key.
    ///
    /// # Errors
    /// The kernel gives no random bytes.
    pub fn generate() -> io::Result<Self> {
        loop {
            let mut key = Self([0; LEN]);
            getrandom::fill(&mut key.0).map_err(io::Error::other)?;
            if !looks_like_wireguard(&key.0) {
                return Ok(key);
            }
        }
    }

    /// Reads the key in a file that nobody but its owner and group may read.
    ///
    /// # Errors
    /// [`FileError`]
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let failed = |source| FileError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o007 != 0 {
            return Err(FileError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = Zeroizing::new(String::with_capacity(256));
        file.take(LONGEST_FILE).read_to_string(&mut text).map_err(failed)?;
        text.parse().map_err(|problem| FileError::Malformed { path: path.to_owned(), problem })
    }

    /// The public key that belongs to it.
    pub fn public(&self) -> PublicKey {
        let pair = Ed25519KeyPair::from_seed_unchecked(&self.0);
        // Every 32 bytes are a seed.
        let pair = pair.expect("a seed makes a key pair");
        let mut key = [0; LEN];
        key.copy_from_slice(pair.public_key().as_ref());
        PublicKey(key)
    }

    /// As base64, for the file.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0))
    }

    /// PKCS#8 (RFC 8410 section 7): a fixed prefix and the seed.
    pub(super) fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        const PREFIX: [u8; 16] = [
            0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22,
            0x04, 0x20,
        ];
        Zeroizing::new([PREFIX.as_slice(), &self.0].concat())
    }
}

impl FromStr for PrivateKey {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut bytes = decode(text)?;
        let key = Self(bytes);
        bytes.zeroize();
        if looks_like_wireguard(&key.0) {
            return Err(Malformed::WireGuard);
        }
        Ok(key)
    }
}

impl FromStr for PublicKey {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        decode(text).map(Self)
    }
}

impl PublicKey {
    /// The DER prefix of an Ed25519 SubjectPublicKeyInfo (RFC 8410 section 4).
    const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

    /// As a SubjectPublicKeyInfo, which is what RFC 7250 puts in place of a certificate.
    pub(super) fn to_spki(self) -> Vec<u8> {
        [Self::SPKI.as_slice(), &self.0].concat()
    }

    /// The key in a SubjectPublicKeyInfo; `None` when it is of another kind.
    pub(super) fn from_spki(spki: &[u8]) -> Option<Self> {
        let key = spki.strip_prefix(&Self::SPKI)?;
        key.try_into().ok().map(Self)
    }
}

fn decode(text: &str) -> Result<[u8; LEN], Malformed> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Malformed::Empty);
    }
    let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| Malformed::Base64)?);
    bytes.as_slice().try_into().map_err(|_| Malformed::Length(bytes.len()))
}

/// Curve25519 clamping: one random seed in 32 has this form too, and [`PrivateKey::generate`]
/// passes those over, so that a key of the wrong program is told apart for certain.
fn looks_like_wireguard(key: &[u8; LEN]) -> bool {
    key[0] & 0b0000_0111 == 0 && key[31] & 0b1100_0000 == 0b0100_0000
}

/// Where the private key is: the configured file, or the service manager's credential
/// `tunnel64d.key` (systemd.exec(5), `LoadCredential=`).
pub fn locate(configured: Option<&Path>, credentials: Option<&Path>) -> Option<PathBuf> {
    let credential = || Some(credentials?.join("tunnel64d.key"));
    configured
        .map(Path::to_owned)
        .or_else(|| credential().filter(|path| fs::exists(path).is_ok_and(|yes| yes)))
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    fn file(content: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
        file
    }

    fn refusal(content: &str) -> Malformed {
        match PrivateKey::read(file(content, 0o600).path()) {
            Err(FileError::Malformed { problem, .. }) => problem,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_public_key_is_that_of_rfc_8032() {
        // RFC 8032 section 7.1, test 1.
        let seed = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec,
            0x2c, 0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03,
            0x1c, 0xae, 0x7f, 0x60,
        ];
        let public = PrivateKey(seed).public().0;
        assert_eq!(public[..4], [0xd7, 0x5a, 0x98, 0x01]);
        assert_eq!(public[28..], [0xf7, 0x07, 0x51, 0x1a]);
    }

    #[test]
    fn a_key_survives_its_file() {
        let key = PrivateKey::generate().unwrap();
        for mode in [0o600, 0o640, 0o400] {
            let file = file(&format!("{}\n", *key.to_base64()), mode);
            assert_eq!(PrivateKey::read(file.path()).unwrap().public(), key.public());
        }
        let text = key.public().to_string();
        assert_eq!(text.parse(), Ok(key.public()));
        assert_eq!(text.len(), 44);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let key = PrivateKey::generate().unwrap();
        let file = file(&key.to_base64(), 0o644);
        let error = PrivateKey::read(file.path()).unwrap_err();
        assert!(matches!(error, FileError::Exposed { mode: 0o644, .. }));
        assert!(error.to_string().contains("chmod 640"));
    }

    #[test]
    fn what_is_no_key_is_told_apart() {
        let key = PrivateKey::generate().unwrap().to_base64();
        assert_eq!(refusal(" \n"), Malformed::Empty);
        assert_eq!(refusal("not base64!"), Malformed::Base64);
        assert_eq!(refusal(&key[..40]), Malformed::Length(30));
        assert_eq!(refusal(&format!("{}{}", *key, *key)), Malformed::Base64);
    }

    #[test]
    fn a_wireguard_key_is_named_and_ours_never_look_like_one() {
        let mut scalar = [0x55; LEN];
        scalar[0] &= 248;
        scalar[31] = (scalar[31] & 127) | 64;
        assert_eq!(refusal(&STANDARD.encode(scalar)), Malformed::WireGuard);
        for _ in 0..500 {
            assert!(!looks_like_wireguard(&PrivateKey::generate().unwrap().0));
        }
    }

    #[test]
    fn nothing_prints_a_private_key() {
        let key = PrivateKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), "PrivateKey(…)");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = PrivateKey::read(Path::new("/nonexistent/tun0.key")).unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/tun0.key: "));
    }
}
