//! Who signs a lab's updates.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use ashlar_image::UpdateSigner;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};

/// A folder with an authority that boxes trust, and those who sign by it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Updates {
    folder: PathBuf,
}

/// The authorities: the one that boxes trust, and one that they know nothing of.
const AUTHORITIES: [&str; 2] = ["ca", "stranger-ca"];

/// Who signs, by which authority, for what.
const SIGNERS: [(&str, &str, ExtendedKeyUsagePurpose); 3] = [
    ("signer", "ca", ExtendedKeyUsagePurpose::CodeSigning),
    ("server", "ca", ExtendedKeyUsagePurpose::ServerAuth),
    (
        "stranger",
        "stranger-ca",
        ExtendedKeyUsagePurpose::CodeSigning,
    ),
];

impl Updates {
    /// Those in a folder, made if they are not there: images are built with the authority, and
    /// another one would be another image.
    pub fn at(folder: &Path) -> anyhow::Result<Updates> {
        let updates = Updates {
            folder: folder.to_owned(),
        };
        if !folder.join("complete").exists() {
            updates.make().context("the updates' certificates")?;
        }
        Ok(updates)
    }

    fn make(&self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.folder)?;
        for name in AUTHORITIES {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
            fs::write(self.file(name, "pem"), issuer.pem())?;
            for (signer, authority, purpose) in &SIGNERS {
                if *authority == name {
                    self.sign(signer, purpose, &issuer)?;
                }
            }
        }
        Ok(fs::write(self.folder.join("complete"), "")?)
    }

    fn sign(
        &self,
        name: &str,
        purpose: &ExtendedKeyUsagePurpose,
        issuer: &CertifiedIssuer<'_, KeyPair>,
    ) -> anyhow::Result<()> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose.clone()];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, issuer)?;
        fs::write(self.file(name, "pem"), certificate.pem())?;
        Ok(fs::write(self.file(name, "key"), key.serialize_pem())?)
    }

    fn file(&self, name: &str, end: &str) -> PathBuf {
        self.folder.join(name).with_extension(end)
    }

    /// The authority that boxes trust.
    pub fn authority(&self) -> PathBuf {
        self.file("ca", "pem")
    }

    /// One who signs: `signer` for what boxes take, `server` whose certificate is for another
    /// purpose, `stranger` by an authority of its own.
    pub fn signer(&self, name: &str) -> UpdateSigner {
        UpdateSigner {
            key: self.file(name, "key"),
            certificate: self.file(name, "pem"),
            intermediates: Vec::new(),
        }
    }
}
