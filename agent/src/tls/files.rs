//! Certificates and keys from files that the configuration names.

use std::fs;
use std::path::Path;

use zeroize::Zeroizing;

use super::pem::{self, certificates};
use super::{Clock, Entry, Pair, TlsError};
use crate::config::Tls;

/// Where an entry comes from.
#[derive(Clone, Debug)]
pub struct Files(Tls);

impl Files {
    /// These.
    pub fn new(files: Tls) -> Files {
        Files(files)
    }

    /// What they say now.
    ///
    /// # Errors
    /// When one is missing or they do not go together.
    pub fn entry(&self, clock: &Clock) -> Result<Entry, TlsError> {
        let Files(files) = self;
        let authorities = read(&files.client_ca, "client authority", certificates)?;
        let pair = Pair {
            chain: read(&files.certificate, "certificate", certificates)?,
            key: read(&files.key, "key", |_, text| pem::key(text))?,
        };
        Entry::for_clients(pair.into(), authorities.into(), clock).map_err(|error| match error {
            TlsError::Pair(source) => TlsError::Files {
                certificate: files.certificate.clone(),
                key: files.key.clone(),
                source,
            },
            error => within(&files.client_ca, error),
        })
    }
}

fn read<T>(
    path: &Path,
    what: &'static str,
    parse: impl FnOnce(&'static str, &str) -> Result<T, TlsError>,
) -> Result<T, TlsError> {
    let text = fs::read_to_string(path).map_err(|source| TlsError::Read {
        what,
        path: path.to_owned(),
        source,
    })?;
    let text = Zeroizing::new(text);
    parse(what, &text).map_err(|source| within(path, source))
}

fn within(path: &Path, source: TlsError) -> TlsError {
    TlsError::Within {
        path: path.to_owned(),
        source: Box::new(source),
    }
}
