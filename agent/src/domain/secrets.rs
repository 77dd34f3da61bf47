//! Secrets made for hosts that did not bring their own.

use ashlar_targetd_protocol::{ChapCredentials, ChapName, ChapSecret, DhchapKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

/// Where randomness comes from.
pub trait Random {
    /// Fills the whole buffer.
    fn fill(&mut self, buffer: &mut [u8]);
}

/// The operating system's.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn fill(&mut self, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("getrandom(2) does not fail once the kernel has booted");
    }
}

/// 64 characters, so that six random bits choose one without bias.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Credentials for CHAP: the host's id as the name, and 16 random characters, the most that
/// every initiator takes.
pub fn chap(host: Uuid, random: &mut dyn Random) -> ChapCredentials {
    let name = host.simple().to_string();
    let name = ChapName::try_from(name).expect("32 hexadecimal digits are a CHAP name");
    loop {
        let mut bytes = [0; 16];
        random.fill(&mut bytes);
        let secret: String = bytes
            .iter()
            .map(|byte| char::from(ALPHABET[usize::from(byte & 63)]))
            .collect();
        // One in 16 million begins with NULL, which the type refuses.
        if let Ok(secret) = ChapSecret::try_from(secret) {
            return ChapCredentials { name, secret };
        }
    }
}

/// A DH-HMAC-CHAP key of 32 random bytes, not transformed by a hash.
pub fn dhchap(random: &mut dyn Random) -> DhchapKey {
    let mut bytes = [0; 36];
    random.fill(&mut bytes[..32]);
    let check = crc32fast::hash(&bytes[..32]);
    bytes[32..].copy_from_slice(&check.to_le_bytes());
    let key = format!("DHHC-1:00:{}:", STANDARD.encode(bytes));
    DhchapKey::try_from(key).expect("36 bytes are 48 characters of base64")
}

/// Whether a key ends in the CRC-32 of the rest, without which the kernel refuses it when a
/// host connects.
pub fn dhchap_checks(key: &DhchapKey) -> bool {
    let encoded = key.expose().split(':').nth(2).unwrap_or_default();
    let Ok(bytes) = STANDARD.decode(encoded) else {
        return false;
    };
    match bytes.split_last_chunk::<4>() {
        Some((key, check)) => {
            [32, 48, 64].contains(&key.len()) && crc32fast::hash(key).to_le_bytes() == *check
        }
        None => false,
    }
}

/// Whether two keys are the same but for how they are transformed, perhaps.
pub fn same_bytes(one: &DhchapKey, other: &DhchapKey) -> bool {
    fn bytes(key: &DhchapKey) -> Option<&str> {
        key.expose().split(':').nth(2)
    }
    bytes(one) == bytes(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting(u8);

    impl Random for Counting {
        fn fill(&mut self, buffer: &mut [u8]) {
            for byte in buffer {
                *byte = self.0;
                self.0 = self.0.wrapping_add(1);
            }
        }
    }

    #[test]
    fn a_generated_key_carries_its_crc() {
        let key = dhchap(&mut Counting(0));
        assert!(dhchap_checks(&key));
        // CRC-32 of the bytes 0 to 31 is 0x91267e8a, little-endian in the key.
        assert_eq!(
            key.expose(),
            "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:"
        );
    }

    #[test]
    fn a_key_with_another_crc_is_found_out() {
        let spoilt = "DHHC-1:00:AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:";
        assert!(!dhchap_checks(
            &DhchapKey::try_from(spoilt.to_owned()).unwrap()
        ));
    }

    #[test]
    fn a_generated_chap_secret_has_16_characters_and_never_begins_with_null() {
        /// First the indexes of N, U, L, L, then others.
        struct Null(bool);
        impl Random for Null {
            fn fill(&mut self, buffer: &mut [u8]) {
                if !std::mem::replace(&mut self.0, true) {
                    buffer[..4].copy_from_slice(&[13, 20, 11, 11]);
                } else {
                    buffer.fill(1);
                }
            }
        }
        let credentials = chap(Uuid::nil(), &mut Null(false));
        assert_eq!(credentials.secret.expose(), "BBBBBBBBBBBBBBBB");
        assert_eq!(
            credentials.name.as_str(),
            "00000000000000000000000000000000"
        );
    }

    #[test]
    fn the_system_gives_different_secrets_each_time() {
        assert_ne!(dhchap(&mut OsRandom), dhchap(&mut OsRandom));
    }
}
