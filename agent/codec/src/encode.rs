//! Encoding, the same bytes for the same value.

use serde::Serialize;
use serde_cbor::value;

use crate::EncodeError;

/// Encodes `value` deterministically: definite lengths, shortest heads, sorted keys.
///
/// The detour over [`crate::Value`] is what sorts the keys and gives a length to maps
/// which serde announces without one (`#[serde(flatten)]`); [`crate::check`] refuses
/// those otherwise.
///
/// # Errors
/// When the type's `Serialize` refuses, or holds a number beyond 64 bits.
pub fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, EncodeError> {
    value::to_value(value)
        .and_then(|sorted| serde_cbor::to_vec(&sorted))
        .map_err(|source| EncodeError {
            what: std::any::type_name::<T>(),
            reason: source.to_string(),
        })
}
