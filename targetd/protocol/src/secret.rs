//! Secrets. They are wiped when dropped and print as `<secret>`.
//!
//! They serialize, because they must reach targetd and the store; neither of those
//! writes a message to a log.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Why a secret was refused. Never holds the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is not valid: {rule}")]
pub struct SecretError {
    /// The kind of secret, in words.
    pub what: &'static str,
    /// The rule it broke.
    pub rule: &'static str,
}

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Zeroizing<String>);

        impl $name {
            /// The secret itself. Hand it to the kernel or to its owner, to nobody else.
            pub fn expose(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = SecretError;

            fn try_from(value: String) -> Result<Self, SecretError> {
                let value = Zeroizing::new(value);
                match $check(&value) {
                    Ok(()) => Ok($name(value)),
                    Err(rule) => Err(SecretError { what: $what, rule }),
                }
            }
        }

        impl From<$name> for String {
            fn from(secret: $name) -> String {
                secret.0.as_str().to_owned()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("<secret>")
            }
        }
    };
}

secret!(
    /// A CHAP secret: 12 to 16 printable ASCII characters without spaces, the range every
    /// initiator accepts.
    ChapSecret, "CHAP secret", check_chap
);
secret!(
    /// An NVMe DH-HMAC-CHAP key in its interchange form, `DHHC-1:hh:base64:`.
    DhchapKey, "DH-HMAC-CHAP key", check_dhchap
);

fn check_chap(secret: &str) -> Result<(), &'static str> {
    if !(12..=16).contains(&secret.len()) {
        return Err("12 to 16 characters");
    }
    if !secret.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("printable ASCII without spaces");
    }
    if secret.starts_with("NULL") {
        return Err("does not begin with 'NULL', which the kernel reads as no secret");
    }
    Ok(())
}

fn check_dhchap(key: &str) -> Result<(), &'static str> {
    const RULE: &str = "'DHHC-1:hh:base64:' with hh 00 to 03 and a key of 32, 48 or 64 bytes";
    let rest = key
        .strip_prefix("DHHC-1:")
        .and_then(|rest| rest.strip_suffix(':'))
        .ok_or(RULE)?;
    let (hash, base64) = rest.split_once(':').ok_or(RULE)?;
    // A key and its 4-byte CRC in padded base64.
    let lengths: &[usize] = match hash {
        "00" => &[48, 72, 92],
        "01" => &[48],
        "02" => &[72],
        "03" => &[92],
        _ => return Err(RULE),
    };
    let body = base64.trim_end_matches('=');
    let padding = base64.len() - body.len();
    let alphabet = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    if lengths.contains(&base64.len()) && padding <= 2 && body.bytes().all(alphabet) {
        Ok(())
    } else {
        Err(RULE)
    }
}

/// A CHAP user name: 1 to 223 characters of an iSCSI name's alphabet plus upper case, '_' and '@'.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChapName(String);

impl ChapName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ChapName {
    /// Without the text: who mixes up name and secret must not find the secret in a log.
    type Error = SecretError;

    fn try_from(value: String) -> Result<Self, SecretError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.:_@".contains(&b);
        let rule = if value.is_empty() || value.len() > 223 {
            "1 to 223 bytes"
        } else if !value.bytes().all(plain) {
            "letters, digits, '-', '.', ':', '_' and '@' only"
        } else if value.starts_with("NULL") {
            "does not begin with 'NULL', which the kernel reads as no name"
        } else {
            return Ok(ChapName(value));
        };
        let what = "CHAP name";
        Err(SecretError { what, rule })
    }
}

impl From<ChapName> for String {
    fn from(name: ChapName) -> String {
        name.0
    }
}

/// A CHAP name and its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChapCredentials {
    /// Who.
    pub name: ChapName,
    /// The shared secret.
    pub secret: ChapSecret,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints() {
        let credentials = ChapCredentials {
            name: ChapName::try_from("user".to_owned()).unwrap(),
            secret: ChapSecret::try_from("hunter2hunter2".to_owned()).unwrap(),
        };
        assert!(!format!("{credentials:?} {credentials:#?}").contains("hunter2"));
        let refused = ChapSecret::try_from("short".to_owned()).unwrap_err();
        assert!(!refused.to_string().contains("short"));
        let mixed_up = ChapName::try_from("hunter2!hunter2".to_owned()).unwrap_err();
        assert!(!mixed_up.to_string().contains("hunter2"));
    }

    #[test]
    fn chap_secrets_have_12_to_16_printable_characters() {
        for (secret, good) in [
            ("a".repeat(11), false),
            ("a".repeat(12), true),
            ("a".repeat(16), true),
            ("a".repeat(17), false),
            ("with spaces here".to_owned(), false),
            ("NULLaaaaaaaaa".to_owned(), false),
        ] {
            assert_eq!(
                ChapSecret::try_from(secret.clone()).is_ok(),
                good,
                "{secret}"
            );
        }
    }

    #[test]
    fn dhchap_keys_have_the_interchange_form() {
        let good = format!("DHHC-1:00:{}:", "A".repeat(48));
        assert!(DhchapKey::try_from(good).is_ok());
        let bad: [String; 6] = [
            "DHHC-1:00::".into(),
            "DHHC-1:09:AAAA:".into(),
            format!("DHHC-1:01:{}:", "A".repeat(72)),
            format!("DHHC-1:00:{}", "A".repeat(48)),
            format!("DHHC-1:00:{}\n:", "A".repeat(47)),
            "secret".into(),
        ];
        for key in bad {
            assert!(DhchapKey::try_from(key.clone()).is_err(), "{key}");
        }
    }
}
