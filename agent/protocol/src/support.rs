//! What somebody needs who is to help with a box.

use serde::{Deserialize, Serialize};

use crate::identity::Pem;

/// What a support bundle is: CMS (RFC 5652), as BER.
pub const MEDIA_TYPE: &str = "application/cms";

/// For whom a support bundle is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SupportSpec {
    /// One certificate with an RSA key, or one on P-256 or P-384: only its bearer can open the bundle.
    pub certificate: Pem,
}
