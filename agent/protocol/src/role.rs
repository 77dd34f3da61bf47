//! Roles, and how a certificate carries one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A client certificate carries its role as a URI subject alternative name: this and the
/// role's name, such as `urn:ashlar:role:operator`.
pub const ROLE_URI_PREFIX: &str = "urn:ashlar:role:";

/// What a certificate's bearer may do. Each role may do all that the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Look.
    Reader,
    /// Create, attach, extend, detach and delete volumes; keep hosts.
    Operator,
    /// Everything.
    Admin,
}

/// A name that is no role's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("role {0:?} is unknown: it is reader, operator or admin")]
pub struct UnknownRole(pub String);

impl Role {
    /// All roles, the least first.
    pub const ALL: [Role; 3] = [Role::Reader, Role::Operator, Role::Admin];

    /// The role's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }

    /// The role as a certificate carries it.
    pub fn uri(self) -> String {
        format!("{ROLE_URI_PREFIX}{self}")
    }

    /// The role in a URI, or `None` when the URI is about something else.
    pub fn from_uri(uri: &str) -> Option<Result<Role, UnknownRole>> {
        uri.strip_prefix(ROLE_URI_PREFIX).map(str::parse)
    }
}

impl std::str::FromStr for Role {
    type Err = UnknownRole;

    fn from_str(name: &str) -> Result<Role, UnknownRole> {
        Role::ALL
            .into_iter()
            .find(|role| role.as_str() == name)
            .ok_or_else(|| UnknownRole(name.chars().take(80).collect()))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_reads_back_from_its_uri_and_from_the_wire() {
        for role in Role::ALL {
            assert_eq!(Role::from_uri(&role.uri()), Some(Ok(role)));
            assert_eq!(serde_json::to_string(&role).unwrap(), format!("\"{role}\""));
        }
        assert_eq!(Role::from_uri("https://example.org"), None);
        assert!(Role::from_uri("urn:ashlar:role:root").unwrap().is_err());
        assert!(Role::from_uri("urn:ashlar:role:Admin").unwrap().is_err());
    }
}
