use std::fmt;
use std::str::FromStr;

/// A text that cannot name a device-mapper device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("device-mapper {what} {value:?} is not valid: {rule}")]
pub struct DmNameError {
    what: &'static str,
    value: String,
    rule: &'static str,
}

macro_rules! dm_text {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = DmNameError;

            fn try_from(value: String) -> Result<Self, DmNameError> {
                if (1..=$max).contains(&value.len()) && value.bytes().all(is_plain) {
                    Ok($name(value))
                } else {
                    Err(DmNameError {
                        what: $what,
                        value: value.chars().take(80).collect(),
                        rule: $rule,
                    })
                }
            }
        }

        impl FromStr for $name {
            type Err = DmNameError;

            fn from_str(value: &str) -> Result<Self, DmNameError> {
                $name::try_from(value.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

dm_text!(
    /// The name of a device-mapper device: 1 to 127 plain characters.
    DmName, "name", 127, "1 to 127 letters, digits and any of '#+-.:=@_'"
);
dm_text!(
    /// The lasting identity of a device-mapper device: 1 to 128 plain characters.
    DmUuid, "uuid", 128, "1 to 128 letters, digits and any of '#+-.:=@_'"
);

/// The characters udev leaves as they are; a slash would reach below another directory.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_the_kernels_field_with_its_nul() {
        assert!("a".repeat(127).parse::<DmName>().is_ok());
        assert!("a".repeat(128).parse::<DmName>().is_err());
        assert!("a".repeat(128).parse::<DmUuid>().is_ok());
        assert!("a".repeat(129).parse::<DmUuid>().is_err());
    }

    #[test]
    fn a_name_holds_nothing_that_means_something_elsewhere() {
        for bad in ["", "a/b", "a b", "a\0", "a\n", "é", "a\\b", "a*"] {
            assert!(bad.parse::<DmName>().is_err(), "{bad:?}");
            assert!(bad.parse::<DmUuid>().is_err(), "{bad:?}");
        }
    }
}
