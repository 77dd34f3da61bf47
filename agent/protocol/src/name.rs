//! Names given by people.

use std::fmt;

use ashlar_targetd_protocol::NameError;
use serde::{Deserialize, Serialize};

/// A label for people: 1 to 255 bytes of UTF-8 without control characters, without white space
/// at either end. Not unique; ids are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(value: String) -> Result<Self, NameError> {
        let rule = if value.is_empty() || value.len() > 255 {
            "1 to 255 bytes"
        } else if value.chars().any(char::is_control) {
            "no control characters"
        } else if value.trim() != value {
            "no white space at either end"
        } else {
            return Ok(Name(value));
        };
        Err(NameError {
            what: "name",
            value: value.chars().take(80).collect(),
            rule,
        })
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;

    fn from_str(value: &str) -> Result<Self, NameError> {
        Name::try_from(value.to_owned())
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_printable_and_short() {
        assert!("Größe 1".parse::<Name>().is_ok());
        for bad in ["", " a", "a\n", "a\u{0}b", &"a".repeat(256)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }
}
