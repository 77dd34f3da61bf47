//! A key of the box's and the certificate that an owner's authority made for it.

use std::sync::Arc;

use ashlar_protocol::{Pem, Problem};
use x509_parser::parse_x509_certificate;
use zeroize::Zeroizing;

use super::{chain, invalid};
use crate::tls::{Clock, Pair, TlsError, pem};

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// Both in one text, PEM, the key first: one file.
#[derive(Clone)]
pub(super) struct Own(Arc<Zeroizing<String>>);

impl Own {
    pub(super) fn new(key: &str, certificates: &Pem) -> Own {
        let certificates = certificates.as_str();
        Own(Arc::new(Zeroizing::new(format!("{key}{certificates}"))))
    }

    /// As it was kept.
    pub(super) fn kept(text: Zeroizing<String>) -> Own {
        Own(Arc::new(text))
    }

    /// Whether this is its key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.starts_with(key)
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// Whether these are its certificates.
    pub(super) fn is_of(&self, certificates: &Pem) -> bool {
        let begin = self.0.find(CERTIFICATE).unwrap_or(self.0.len());
        self.0[begin..] == *certificates.as_str()
    }

    pub(super) fn pair(&self) -> Result<Pair, TlsError> {
        Ok(Pair {
            chain: pem::certificates("certificate", &self.0)?,
            key: pem::key(&self.0)?,
        })
    }

    /// That it could be shown now, in order.
    pub(super) fn check(&self, clock: &Clock) -> Result<(), Problem> {
        let refused = |why: String| invalid("certificates", why);
        let unsound = |error: TlsError| refused(chain(&error));
        let pair = self.pair().map_err(unsound)?;
        let now = clock.seconds();
        let own = pem::about("certificate", &pair.chain[0]).map_err(unsound)?;
        if own.not_after < now {
            return Err(refused(format!("{} has expired", own.subject)));
        }
        if own.not_before > now {
            return Err(refused(format!("{} is not valid yet", own.subject)));
        }
        for (at, two) in pair.chain.windows(2).enumerate() {
            let below = parse_x509_certificate(&two[0]).map_err(|e| refused(e.to_string()))?;
            let above = parse_x509_certificate(&two[1]).map_err(|e| refused(e.to_string()))?;
            let signed = below.1.verify_signature(Some(above.1.public_key()));
            let number = at + 1;
            signed.map_err(|_| {
                refused(format!(
                    "certificate {number} is not signed by the next one"
                ))
            })?;
        }
        Ok(())
    }
}
