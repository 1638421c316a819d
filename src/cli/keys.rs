//! `tunnel64d genkey` and `tunnel64d pubkey`: keys as base64, one a line.

use std::io::{self, Read};

use zeroize::Zeroizing;

use super::{Exit, complain, print};
use crate::transport::keys::PrivateKey;

/// More than any key is long.
const LONGEST: u64 = 4096;

/// Prints a new private key.
pub fn genkey() -> Exit {
    match PrivateKey::generate() {
        Ok(key) => print(&Zeroizing::new(format!("{}\n", *key.to_base64()))),
        Err(error) => {
            complain(&format!("no random bytes: {error}"));
            Exit::Failed
        }
    }
}

/// Reads a private key on stdin and prints the public key that belongs to it.
pub fn pubkey() -> Exit {
    let mut text = Zeroizing::new(String::new());
    if let Err(error) = io::stdin().lock().take(LONGEST).read_to_string(&mut text) {
        complain(&format!("stdin: {error}"));
        return Exit::Failed;
    }
    match text.parse::<PrivateKey>() {
        Ok(key) => print(&format!("{}\n", key.public())),
        Err(problem) => {
            complain(&format!("stdin: the private key {problem}"));
            Exit::Failed
        }
    }
}
