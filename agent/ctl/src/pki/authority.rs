//! Making and signing certificates.

use std::net::IpAddr;

use ashlar_protocol::Role;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::request::serial_number;
use super::{Device, Request, Validity};

/// A certificate authority with its key.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, both PEM. The key is wiped when dropped and has no `Debug`.
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its private key, PKCS #8.
    pub key: Zeroizing<String>,
}

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Profile {
    /// A client. Without a role the appliance lets it do nothing.
    Client {
        /// What it may do.
        role: Option<Role>,
    },
    /// An appliance, under these names.
    Server {
        /// DNS names and IP addresses, at least one: clients check the name they dialled.
        names: Vec<String>,
    },
}

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A server that no client could verify.
    #[error("failed to issue {subject}: a server certificate needs at least one name")]
    NoName {
        /// Whose certificate.
        subject: String,
    },
    /// A name that certificates cannot carry.
    #[error("failed to issue {subject}: {name:?} is neither an IP address nor a DNS name")]
    Name {
        /// Whose certificate.
        subject: String,
        /// The name.
        name: String,
    },
    /// What was read is no authority, or its key does not belong to it.
    #[error("failed to use the authority's certificate and key")]
    Authority(#[source] rcgen::Error),
    /// Making a key or a signature failed.
    #[error("failed to sign the certificate of {subject}")]
    Sign {
        /// Whose certificate.
        subject: String,
        /// What went wrong.
        #[source]
        source: rcgen::Error,
    },
}

impl Authority {
    /// Makes an authority that signs itself.
    ///
    /// # Errors
    /// [`IssueError::Sign`] when the machine gives no randomness.
    pub fn create(name: &str, validity: Validity) -> Result<(Authority, Pair), IssueError> {
        let sign = |source| sign_error(name, source);
        let mut params = params(name, validity);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(sign)?;
        let certificate = params.self_signed(&key).map_err(sign)?.pem();
        let pair = Pair {
            certificate: certificate.clone(),
            key: Zeroizing::new(key.serialize_pem()),
        };
        let issuer = Issuer::new(params, key);
        let authority = Authority {
            certificate,
            issuer,
        };
        Ok((authority, pair))
    }

    /// An authority from its stored form.
    ///
    /// # Errors
    /// [`IssueError::Authority`] when either part is not what it should be.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Authority, IssueError> {
        let key = KeyPair::from_pem(key).map_err(IssueError::Authority)?;
        let issuer = Issuer::from_ca_cert_pem(certificate, key).map_err(IssueError::Authority)?;
        Ok(Authority {
            certificate: certificate.to_owned(),
            issuer,
        })
    }

    /// The authority's certificate, PEM: what the others trust.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Makes a key and signs a certificate for it.
    ///
    /// # Errors
    /// When the profile's names are not usable, or signing fails.
    pub fn issue(
        &self,
        subject: &str,
        profile: &Profile,
        validity: Validity,
    ) -> Result<Pair, IssueError> {
        let params = leaf(subject, profile, validity)?;
        let sign = |source| sign_error(subject, source);
        let key = KeyPair::generate().map_err(sign)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(sign)?;
        Ok(Pair {
            certificate: certificate.pem(),
            key: Zeroizing::new(key.serialize_pem()),
        })
    }

    /// Signs a certificate (PEM) for a request's key. What else the request asks for counts for
    /// nothing: subject, names and use are the caller's decision.
    ///
    /// # Errors
    /// When the profile's names are not usable, or signing fails.
    pub fn sign(
        &self,
        subject: &str,
        request: &Request,
        profile: &Profile,
        validity: Validity,
    ) -> Result<String, IssueError> {
        let params = leaf(subject, profile, validity)?;
        self.certify(subject, params, request)
    }

    /// Signs the identity that a box keeps for life (IEEE 802.1AR's IDevID), as PEM.
    ///
    /// # Errors
    /// [`IssueError::Sign`] when signing fails.
    pub fn sign_device(&self, device: &Device) -> Result<String, IssueError> {
        let serial = device.serial.as_str();
        let profile = Profile::Server {
            names: vec![device.serial.device_name()],
        };
        let mut params = leaf(serial, &profile, Validity::forever())?;
        let printable = serial
            .try_into()
            .map_err(|source| sign_error(serial, source))?;
        params
            .distinguished_name
            .push(serial_number(), DnValue::PrintableString(printable));
        self.certify(serial, params, &device.request)
    }

    /// Signs what was decided on, for a request's key.
    fn certify(
        &self,
        subject: &str,
        mut params: CertificateParams,
        request: &Request,
    ) -> Result<String, IssueError> {
        let sign = |source| sign_error(subject, source);
        // Without a number, all certificates of a key would have the same one.
        params.serial_number = Some(random_number().map_err(sign)?);
        let certificate = params
            .signed_by(request.key(), &self.issuer)
            .map_err(sign)?;
        Ok(certificate.pem())
    }
}

/// A certificate's number: positive, and nobody else's.
fn random_number() -> Result<SerialNumber, rcgen::Error> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| rcgen::Error::RingUnspecified)?;
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// What is in a certificate that signs no others.
fn leaf(
    subject: &str,
    profile: &Profile,
    validity: Validity,
) -> Result<CertificateParams, IssueError> {
    let mut params = params(subject, validity);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage(profile)];
    params.subject_alt_names = alternative_names(subject, profile)?;
    Ok(params)
}

fn sign_error(subject: &str, source: rcgen::Error) -> IssueError {
    IssueError::Sign {
        subject: subject.to_owned(),
        source,
    }
}

fn params(subject: &str, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.not_before = validity.not_before;
    params.not_after = validity.not_after;
    params
}

fn usage(profile: &Profile) -> ExtendedKeyUsagePurpose {
    match profile {
        Profile::Client { .. } => ExtendedKeyUsagePurpose::ClientAuth,
        Profile::Server { .. } => ExtendedKeyUsagePurpose::ServerAuth,
    }
}

fn alternative_names(subject: &str, profile: &Profile) -> Result<Vec<SanType>, IssueError> {
    match profile {
        Profile::Client { role } => role
            .iter()
            .map(|role| ia5(subject, &role.uri()).map(SanType::URI))
            .collect(),
        Profile::Server { names } if names.is_empty() => Err(IssueError::NoName {
            subject: subject.to_owned(),
        }),
        Profile::Server { names } => names
            .iter()
            .map(|name| server_name(subject, name))
            .collect(),
    }
}

fn server_name(subject: &str, name: &str) -> Result<SanType, IssueError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.*".contains(&b);
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(name_error(subject, name));
    }
    ia5(subject, name).map(SanType::DnsName)
}

fn ia5(subject: &str, text: &str) -> Result<Ia5String, IssueError> {
    Ia5String::try_from(text).map_err(|_| name_error(subject, text))
}

fn name_error(subject: &str, name: &str) -> IssueError {
    IssueError::Name {
        subject: subject.to_owned(),
        name: name.to_owned(),
    }
}
