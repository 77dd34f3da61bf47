//! Devices where they are made: what shows that a key is a box's own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ashlar_protocol::Serial;
use ashlar_protocol::identity::CLAIM_ALPHABET;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::Request;

/// How many groups a claim secret has, and how many characters each of them.
const GROUPS: usize = 5;

/// What a box was flashed with, and nobody else knows. It has no `Debug`.
pub struct Token(Zeroizing<[u8; 32]>);

/// A box that has shown that a request's key is its own.
#[derive(Clone, Debug)]
pub struct Device {
    pub(super) serial: Serial,
    pub(super) request: Request,
}

/// Why a box gets no identity.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The token's file could not be read.
    #[error("failed to read the token in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The token's file holds something else.
    #[error("{} holds no token: 64 hex digits", path.display())]
    Token {
        /// The file.
        path: PathBuf,
    },
    /// The request is another box's.
    #[error("the certificate request is not of {serial}: its subject has {}",
        found.as_ref().map_or("no serialNumber".to_owned(), |found| format!("{found:?}")))]
    Serial {
        /// The box that gets an identity.
        serial: Serial,
        /// What the request has, cut to 80 characters.
        found: Option<String>,
    },
    /// The key was made by somebody who does not know the token.
    #[error(
        "the proof does not fit: the key of the certificate request is not by the box that was flashed as {serial}"
    )]
    Proof {
        /// The box that gets an identity.
        serial: Serial,
    },
}

impl Token {
    /// Whether a proof (64 hex digits) is one for this key (DER SubjectPublicKeyInfo): its
    /// HMAC-SHA256 under the token.
    pub fn proves(&self, key: &[u8], proof: &str) -> bool {
        let token = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_slice());
        // Compares in a time that does not depend on what differs.
        bytes(proof).is_some_and(|proof| hmac::verify(&token, key, proof.as_slice()).is_ok())
    }

    /// Reads a token from a file with nothing else in it.
    ///
    /// # Errors
    /// When it cannot be read, or is not 64 hex digits.
    pub fn read(path: &Path) -> Result<Token, DeviceError> {
        let text = fs::read_to_string(path).map_err(|source| DeviceError::Read {
            path: path.to_owned(),
            source,
        })?;
        let text = Zeroizing::new(text);
        bytes(text.trim_end())
            .map(Token)
            .ok_or_else(|| DeviceError::Token {
                path: path.to_owned(),
            })
    }
}

impl Device {
    /// Checks that `request` is of `serial` and its key by the box that has the token: `proof` is
    /// HMAC-SHA256 over the key's SubjectPublicKeyInfo (DER) under the token, as 64 hex digits.
    ///
    /// # Errors
    /// [`DeviceError::Serial`] or [`DeviceError::Proof`] when it is not.
    pub fn proven(
        serial: Serial,
        request: Request,
        token: &Token,
        proof: &str,
    ) -> Result<Device, DeviceError> {
        let found = request.serial();
        if found != Some(serial.as_str()) {
            let found = found.map(|found| found.chars().take(80).collect());
            return Err(DeviceError::Serial { serial, found });
        }
        match token.proves(&request.public_key_info(), proof) {
            true => Ok(Device { serial, request }),
            false => Err(DeviceError::Proof { serial }),
        }
    }
}

/// A new claim secret: 125 random bits as five groups of five characters.
///
/// # Errors
/// When the machine gives no randomness.
pub fn claim_secret() -> io::Result<Zeroizing<String>> {
    let mut random = Zeroizing::new([0; GROUPS * GROUPS]);
    SystemRandom::new()
        .fill(random.as_mut_slice())
        .map_err(|_| io::Error::other("the machine gives no randomness"))?;
    // Made as long as it gets, so that no shorter copy stays behind.
    let mut secret = Zeroizing::new(String::with_capacity(random.len() + GROUPS));
    for (at, byte) in random.iter().enumerate() {
        if at > 0 && at % GROUPS == 0 {
            secret.push('-');
        }
        // 32 divides 256, so all characters are equally likely.
        secret.push(CLAIM_ALPHABET[usize::from(byte % 32)].into());
    }
    Ok(secret)
}

/// What 64 hex digits stand for.
fn bytes(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16);
    let mut bytes = Zeroizing::new([0; 32]);
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::try_from(value(pair[0])? << 4 | value(pair[1])?).ok()?;
    }
    Some(bytes)
}
