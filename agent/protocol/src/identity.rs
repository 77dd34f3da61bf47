//! Who the box is, whose it is, and whom it lets in.

use std::fmt;

use ashlar_targetd_protocol::NameError;
use serde::{Deserialize, Serialize};
use sha2::Digest;
use zeroize::Zeroizing;

use crate::job::Sha256;

/// Longest text with certificates or lists, in bytes.
pub const MAX_PEM: usize = 48 * 1024;

/// Most keys that are denied at once.
pub const MAX_DENIED: usize = 1024;

/// What a URI in a self-signed certificate begins with, before the proof in hexadecimal that it is
/// of the box that was flashed.
pub const PROOF_URI: &str = "urn:ashlar:proof:";

/// The domain under which each box has a name by its serial number. No resolver knows it: it is
/// what certificates are checked against.
const DEVICE_DOMAIN: &str = "device.ashlar.internal";

/// A box's serial number: 1 to 32 letters, digits and hyphens, no hyphen at either end, so that
/// it is a label of a DNS name and a plain file name. Those that differ only in case are one box's
/// by their DNS names; whoever gives out serial numbers gives out one of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial(String);

impl Serial {
    /// The serial number as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The DNS name in the box's own certificate, lower case.
    pub fn device_name(&self) -> String {
        format!("{}.{DEVICE_DOMAIN}", self.0.to_ascii_lowercase())
    }
}

impl TryFrom<String> for Serial {
    type Error = NameError;

    fn try_from(value: String) -> Result<Self, NameError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        let rule = if value.is_empty() || value.len() > 32 {
            "1 to 32 characters"
        } else if !value.bytes().all(plain) {
            "A-Z, a-z, 0-9 and '-'"
        } else if value.starts_with('-') || value.ends_with('-') {
            "no '-' at either end"
        } else {
            return Ok(Serial(value));
        };
        Err(NameError {
            what: "serial number",
            value: value.chars().take(80).collect(),
            rule,
        })
    }
}

impl std::str::FromStr for Serial {
    type Err = NameError;

    fn from_str(value: &str) -> Result<Self, NameError> {
        Serial::try_from(value.to_owned())
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> String {
        serial.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is between lines such as `-----BEGIN CERTIFICATE-----`, these lines, and more of the kind
/// behind it: ASCII, at most [`MAX_PEM`] bytes, no private key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pem(String);

/// Text that is no PEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "PEM begins with -----BEGIN, has 48 KiB at most, nothing but ASCII in lines, and here no private key"
)]
pub struct NoPem;

impl Pem {
    /// All of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Pem {
    type Error = NoPem;

    fn try_from(text: String) -> Result<Pem, NoPem> {
        let plain = |b: u8| matches!(b, b' '..=b'~' | b'\n' | b'\r');
        let is_pem = text.starts_with("-----BEGIN ") && text.bytes().all(plain);
        let has_key = text.contains("PRIVATE KEY-----");
        match is_pem && text.len() <= MAX_PEM && !has_key {
            true => Ok(Pem(text)),
            false => Err(NoPem),
        }
    }
}

impl From<Pem> for String {
    fn from(pem: Pem) -> String {
        pem.0
    }
}

/// A DNS name, or an address, that a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerName(String);

/// Text that is no such name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a DNS name or address has 1 to 253 letters, digits, '.', ':' and '-'")]
pub struct NoServerName;

impl ServerName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ServerName {
    type Error = NoServerName;

    fn try_from(text: String) -> Result<ServerName, NoServerName> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".:-".contains(&b);
        match (1..=253).contains(&text.len()) && text.bytes().all(plain) {
            true => Ok(ServerName(text)),
            false => Err(NoServerName),
        }
    }
}

impl std::str::FromStr for ServerName {
    type Err = NoServerName;

    fn from_str(text: &str) -> Result<ServerName, NoServerName> {
        text.to_owned().try_into()
    }
}

impl From<ServerName> for String {
    fn from(name: ServerName) -> String {
        name.0
    }
}

/// How far a box is on its way from the factory to its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It is being made: it has a key, and no certificate for it.
    Factory,
    /// It has a device certificate and no owner. It shows this and takes a claim, nothing else.
    Unclaimed,
    /// It has an owner, whose clients are let in.
    Claimed,
    /// Its certificates are files that its configuration names.
    Configured,
}

/// Who the box is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// How far it is.
    pub phase: Phase,
    /// Its serial number, if it was given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<Serial>,
    /// What it shows to clients.
    pub certificate: Certificate,
    /// What it was given in the factory, which proves its serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Certificate>,
    /// While it is being made: that its key was made by the box with that seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Sha256>,
}

/// What there is to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Whose it is.
    pub subject: String,
    /// The fingerprint of all of it.
    pub sha256: Sha256,
    /// The SHA-256 of its key (DER SubjectPublicKeyInfo), by which it can be denied.
    pub key_sha256: Sha256,
    /// Its first second.
    pub not_before: i64,
    /// Its last second.
    pub not_after: i64,
}

/// The body of `POST /v1/identity/request`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestSpec {
    /// DNS names and addresses that the certificate should have. An authority may think otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<ServerName>,
}

/// A request for a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SigningRequest {
    /// PKCS #10.
    pub request: Pem,
}

/// The body of `PUT /v1/identity/certificate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstallSpec {
    /// The box's own certificate and those between it and the authority.
    pub certificates: Pem,
}

/// The body of `PUT /v1/identity/device`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealSpec {
    /// The device certificate and those between it and the authority.
    pub certificates: Pem,
    /// The digest of the claim secret; see [`ClaimSecret`].
    pub claim: Sha256,
}

/// The body of `POST /v1/identity/claim`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimSpec {
    /// As it is on the label.
    pub secret: ClaimSecret,
    /// The authorities whose clients are let in.
    pub authorities: Pem,
    /// The certificate of a client that may do everything, then those between it and one of these:
    /// a box that let in nobody would be lost.
    pub client: Pem,
}

/// The body of `POST /v1/identity/reset`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetSpec {
    /// As it is on the label: without it nobody could claim the box again.
    pub secret: ClaimSecret,
    /// Whether pools may be there. They and what they hold stay on their disks, and the box forgets them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub abandon_pools: bool,
}

/// What a box takes as proof that somebody owns it: 25 letters and digits, from its label. Its
/// digest is the SHA-256 of the serial number, a line feed, and these 25 in upper case.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClaimSecret(Zeroizing<String>);

/// Characters of a claim secret: Crockford's base 32.
pub const CLAIM_ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// How many of them one has: 125 bits.
pub const CLAIM_LENGTH: usize = 25;

/// Text that is no claim secret. It is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a claim secret has 25 letters and digits, in groups or not, and none of I, L, O and U")]
pub struct NoClaimSecret;

impl ClaimSecret {
    /// The secret itself, for its owner.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the box of this serial number knows of it.
    pub fn digest(&self, serial: &Serial) -> Sha256 {
        let mut hash = sha2::Sha256::new();
        for part in [serial.as_str(), "\n", &self.0] {
            hash.update(part);
        }
        <[u8; 32]>::from(hash.finalize()).into()
    }
}

impl TryFrom<String> for ClaimSecret {
    type Error = NoClaimSecret;

    fn try_from(text: String) -> Result<ClaimSecret, NoClaimSecret> {
        let text = Zeroizing::new(text);
        let characters = text.chars().filter(|c| !matches!(c, '-' | ' '));
        let mut secret = Zeroizing::new(String::with_capacity(text.len()));
        secret.extend(characters.map(|c| c.to_ascii_uppercase()));
        let known = |b: u8| CLAIM_ALPHABET.contains(&b);
        match secret.len() == CLAIM_LENGTH && secret.bytes().all(known) {
            true => Ok(ClaimSecret(secret)),
            false => Err(NoClaimSecret),
        }
    }
}

impl From<ClaimSecret> for String {
    fn from(secret: ClaimSecret) -> String {
        secret.0.as_str().to_owned()
    }
}

impl fmt::Debug for ClaimSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// Whom the box lets in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// The authorities whose clients are let in.
    pub authorities: Vec<Certificate>,
    /// Their lists of revoked certificates.
    pub lists: Vec<RevocationList>,
    /// SHA-256 of keys whose certificates are not let in, whatever their authority says.
    pub denied: Vec<Sha256>,
}

/// What there is to know of a list of revoked certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationList {
    /// Which authority's.
    pub issuer: String,
    /// Its number, which only grows.
    pub number: String,
    /// How many certificates it revokes.
    pub revoked: u64,
    /// When it was made.
    pub this_update: i64,
    /// When the next one is due. It counts all the same until that comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_update: Option<i64>,
}

/// The body of `PUT /v1/trust`. What is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustUpdate {
    /// All authorities from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<Pem>,
    /// Lists of revoked certificates, each in place of its authority's former one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lists: Option<Pem>,
    /// Keys to deny.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<Sha256>,
    /// Keys to deny no longer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Sha256>,
    /// Only say what it would come to.
    #[serde(default)]
    pub dry_run: bool,
}

/// What an update of the trust comes to, or would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustUpdated {
    /// Whom the box lets in then.
    pub trust: Trust,
    /// Clients that are connected now and are cut off, by the subjects of their certificates.
    pub cut: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_a_label_of_a_name() {
        let longest = "A".repeat(32);
        for good in ["AX-000123", "a", "7", "A--b", &longest] {
            let serial: Serial = good.parse().unwrap();
            assert_eq!(serial.to_string(), good);
            assert_eq!(serde_json::to_string(&serial).unwrap(), format!("{good:?}"));
        }
        let too_long = "A".repeat(33);
        for bad in [
            "", "-A", "A-", "-", "A B", "A.B", "A_B", "A/B", "Ä1", "A\n", &too_long,
        ] {
            assert!(bad.parse::<Serial>().is_err(), "{bad:?}");
            let quoted = serde_json::to_string(bad).unwrap();
            assert!(serde_json::from_str::<Serial>(&quoted).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_boxs_name_is_lower_case() {
        let serial: Serial = "AX-000123".parse().unwrap();
        assert_eq!(serial.device_name(), "ax-000123.device.ashlar.internal");
    }

    #[test]
    fn no_private_key_is_sent_with_a_certificate() {
        let pem = |label: &str| Pem::try_from(format!("-----BEGIN {label}-----\n"));
        assert!(pem("CERTIFICATE").is_ok());
        for label in ["PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
            assert_eq!(pem(label), Err(NoPem), "{label}");
        }
    }

    #[test]
    fn a_claim_secret_may_be_typed_in_groups_and_is_not_shown() {
        let typed = "abcde-fghjk 01234-56789-vwxyz".to_owned();
        let secret = ClaimSecret::try_from(typed).unwrap();
        assert_eq!(secret.expose(), "ABCDEFGHJK0123456789VWXYZ");
        assert_eq!(format!("{secret:?}"), "<secret>");
        for bad in ["", "ABCDE", "ABCDE-FGHIJ-01234-56789-VWXYZ"] {
            let bad = ClaimSecret::try_from(bad.to_owned());
            assert_eq!(bad, Err(NoClaimSecret));
        }
    }
}
