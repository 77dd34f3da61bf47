//! Whom a bundle is for: a certificate, and how a key is wrapped so that only its bearer unwraps it.
//!
//! RSA keys take it by OAEP with SHA-256 (RFC 8017). Keys on P-256 and P-384 do by a key agreement with
//! one that is made for this bundle alone (RFC 5753): X9.63's derivation with SHA-256, then AES key wrap.

use aes_kw::KekAes256;
use ashlar_protocol::{Problem, ProblemCode};
use ring::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::rand::SystemRandom;
use rsa::pkcs8::DecodePublicKey;
use rsa::rand_core::OsRng;
use rsa::traits::PublicKeyParts;
use rsa::{Oaep, RsaPublicKey};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::KeyUsage;
use x509_parser::parse_x509_certificate;
use zeroize::Zeroizing;

use super::der::{octets, sequence, tagged, value};
use crate::tls::pem;

/// Bits of RSA keys that are taken.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

// Object identifiers, as DER.
const SHA_256: &[u8] = b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01";
const MGF1: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08";
const RSAES_OAEP: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x07";
const EC_PUBLIC_KEY: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01";
const P_256: &[u8] = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
const P_384: &[u8] = b"\x06\x05\x2b\x81\x04\x00\x22";
/// dhSinglePass-stdDH-sha256kdf-scheme
const ECDH_SHA_256: &[u8] = b"\x06\x06\x2b\x81\x04\x01\x0b\x01";
const AES_256_WRAP: &[u8] = b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x01\x2d";

const NULL: &[u8] = b"\x05\x00";

/// The key that all of a bundle is encrypted with.
pub(super) type ContentKey = Zeroizing<[u8; 32]>;

/// Who can open a bundle.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// Issuer and serial number of the certificate, by which its bearer finds the key to use.
    name: Vec<u8>,
    key: Key,
}

#[derive(Clone, Debug)]
enum Key {
    Rsa(Box<RsaPublicKey>),
    Curve(&'static Curve, Vec<u8>),
}

#[derive(Debug)]
struct Curve {
    oid: &'static [u8],
    point: usize,
    algorithm: &'static agreement::Algorithm,
}

static CURVES: [Curve; 2] = [
    Curve {
        oid: P_256,
        point: 65,
        algorithm: &agreement::ECDH_P256,
    },
    Curve {
        oid: P_384,
        point: 97,
        algorithm: &agreement::ECDH_P384,
    },
];

impl Recipient {
    /// Of one certificate, PEM. Who signed it and until when it is good is its caller's to know.
    ///
    /// # Errors
    /// When it is none, or nothing can be encrypted to its key.
    pub fn parse(text: &str) -> Result<Recipient, Problem> {
        let certificates = pem::certificates("certificate", text);
        let certificates = certificates.map_err(|error| refused(&error.to_string()))?;
        let [der] = &certificates[..] else {
            let count = certificates.len();
            return Err(refused(&format!("there are {count}, and it is for one")));
        };
        let (rest, certificate) =
            parse_x509_certificate(der).map_err(|error| refused(&format!("no X.509: {error}")))?;
        if !rest.is_empty() {
            return Err(refused("there is more behind it"));
        }
        let serial = value(0x02, &[certificate.raw_serial()]);
        let recipient = Recipient {
            name: sequence(&[certificate.tbs_certificate.issuer.as_raw(), &serial]),
            key: Key::of(&certificate)?,
        };
        if let Key::Curve(..) = recipient.key {
            // A point that is not on its curve shows only then, and who asks is to be told before
            // anything is made.
            let tried = recipient.wrap(&ContentKey::default());
            tried.map_err(|error| refused(&error.to_string()))?;
        }
        Ok(recipient)
    }

    /// The content key as only this recipient can have it: a `RecipientInfo` (RFC 5652).
    pub(super) fn wrap(&self, content: &ContentKey) -> Result<Vec<u8>, Unwrappable> {
        match &self.key {
            Key::Rsa(key) => self.transported(key, content),
            Key::Curve(curve, point) => self.agreed(curve, point, content),
        }
    }

    /// `KeyTransRecipientInfo`
    fn transported(
        &self,
        key: &RsaPublicKey,
        content: &ContentKey,
    ) -> Result<Vec<u8>, Unwrappable> {
        let wrapped = key.encrypt(&mut OsRng, Oaep::new::<Sha256>(), content.as_slice());
        let wrapped = wrapped.map_err(|error| Unwrappable(error.to_string()))?;
        let hash = sequence(&[SHA_256, NULL]);
        let mask = sequence(&[MGF1, &hash]);
        let parameters = sequence(&[&tagged(0, &[&hash]), &tagged(1, &[&mask])]);
        Ok(sequence(&[
            &version(0),
            &self.name,
            &sequence(&[RSAES_OAEP, &parameters]),
            &octets(&wrapped),
        ]))
    }

    /// `KeyAgreeRecipientInfo`
    fn agreed(
        &self,
        curve: &Curve,
        point: &[u8],
        content: &ContentKey,
    ) -> Result<Vec<u8>, Unwrappable> {
        let failed = |what: &str| Unwrappable(what.to_owned());
        let own = EphemeralPrivateKey::generate(curve.algorithm, &SystemRandom::new());
        let own = own.map_err(|_| failed("no key could be made"))?;
        let public = own.compute_public_key();
        let public = public.map_err(|_| failed("no key could be made"))?;
        let theirs = UnparsedPublicKey::new(curve.algorithm, point);
        let wrapping = agree_ephemeral(own, &theirs, wrapping_key);
        let wrapping =
            wrapping.map_err(|_| failed("the certificate's key is no point of its curve"))?;
        // Longer than what is wrapped by a block of eight bytes.
        let mut wrapped = [0; 40];
        let wrap = KekAes256::from(*wrapping).wrap(content.as_slice(), &mut wrapped);
        wrap.map_err(|error| failed(&error.to_string()))?;
        let key = sequence(&[
            &sequence(&[EC_PUBLIC_KEY, curve.oid]),
            // A string of bits, none of which is left over.
            &value(0x03, &[&[0], public.as_ref()]),
        ]);
        // Implicitly tagged: the sequence's own tag goes.
        let originator = tagged(0, &[&[&[0xa1], &key[1..]].concat()]);
        let recipient = sequence(&[&self.name, &octets(&wrapped)]);
        let info = sequence(&[
            &version(3),
            &originator,
            &sequence(&[ECDH_SHA_256, &sequence(&[AES_256_WRAP])]),
            &sequence(&[&recipient]),
        ]);
        Ok([&[0xa1], &info[1..]].concat())
    }
}

impl Key {
    fn of(certificate: &X509Certificate<'_>) -> Result<Key, Problem> {
        let usage = certificate.key_usage();
        let usage = usage.map_err(|error| refused(&format!("its key usage: {error}")))?;
        // Without the extension a key is for anything.
        let allows =
            |bit: fn(&KeyUsage) -> bool| usage.as_ref().is_none_or(|usage| bit(usage.value));
        let public = certificate.public_key();
        let raw = public.algorithm.parameters.as_ref();
        let parameters = raw.map(|parameters| (parameters.tag().0, parameters.as_bytes()));
        let oid = public.algorithm.algorithm.to_id_string();
        match oid.as_str() {
            "1.2.840.113549.1.1.1" => {
                if !allows(KeyUsage::key_encipherment) {
                    return Err(refused("its key usage is without keyEncipherment"));
                }
                let key = RsaPublicKey::from_public_key_der(public.raw);
                let key = key.map_err(|error| refused(&format!("its RSA key: {error}")))?;
                let bits = key.n().bits();
                match RSA_BITS.contains(&bits) {
                    true => Ok(Key::Rsa(Box::new(key))),
                    false => Err(refused(&format!(
                        "its RSA key has {bits} bits, not 2048 to 4096"
                    ))),
                }
            }
            "1.2.840.10045.2.1" => {
                if !allows(KeyUsage::key_agreement) {
                    return Err(refused("its key usage is without keyAgreement"));
                }
                let point = public.subject_public_key.data.as_ref();
                let named = |curve: &&Curve| parameters == Some((6, &curve.oid[2..]));
                let fits = |curve: &&Curve| point.len() == curve.point && point[0] == 4;
                match CURVES.iter().find(named).filter(fits) {
                    Some(curve) => Ok(Key::Curve(curve, point.to_vec())),
                    None => Err(refused(
                        "its key is on neither P-256 nor P-384, uncompressed",
                    )),
                }
            }
            other => {
                let detail = format!(
                    "nothing can be encrypted to a key of the kind {other}; RSA and keys on P-256 and \
                     P-384 are taken"
                );
                Err(refused(&detail))
            }
        }
    }
}

fn version(number: u8) -> Vec<u8> {
    value(0x02, &[&[number]])
}

/// X9.63's derivation of one block, which is as long as the key.
fn wrapping_key(shared: &[u8]) -> Zeroizing<[u8; 32]> {
    let bits = tagged(2, &[&octets(&256_u32.to_be_bytes())]);
    let info = sequence(&[&sequence(&[AES_256_WRAP]), &bits]);
    let mut hash = Sha256::new();
    for part in [shared, &1_u32.to_be_bytes(), &info] {
        hash.update(part);
    }
    Zeroizing::new(hash.finalize().into())
}

/// A certificate whose key turned out to be of no use.
#[derive(Debug, thiserror::Error)]
#[error("failed to wrap the bundle's key: {0}")]
pub(super) struct Unwrappable(String);

fn refused(why: &str) -> Problem {
    Problem::new(ProblemCode::InvalidField, format!("certificate: {why}"))
}
