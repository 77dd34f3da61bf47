//! Who a box is.

use std::fmt;

use ashlar_targetd_protocol::NameError;
use serde::{Deserialize, Serialize};

/// The domain under which each box has a name by its serial number. No resolver knows it: it is
/// what certificates are checked against.
const DEVICE_DOMAIN: &str = "device.ashlar.internal";

/// A box's serial number: 1 to 32 letters, digits and hyphens, no hyphen at either end, so that
/// it is a label of a DNS name and a plain file name. Those that differ only in case are one box's
/// by their DNS names; whoever gives out serial numbers gives out one of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial(String);

impl Serial {
    /// The serial number as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The DNS name in the box's own certificate, lower case.
    pub fn device_name(&self) -> String {
        format!("{}.{DEVICE_DOMAIN}", self.0.to_ascii_lowercase())
    }
}

impl TryFrom<String> for Serial {
    type Error = NameError;

    fn try_from(value: String) -> Result<Self, NameError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        let rule = if value.is_empty() || value.len() > 32 {
            "1 to 32 characters"
        } else if !value.bytes().all(plain) {
            "A-Z, a-z, 0-9 and '-'"
        } else if value.starts_with('-') || value.ends_with('-') {
            "no '-' at either end"
        } else {
            return Ok(Serial(value));
        };
        Err(NameError {
            what: "serial number",
            value: value.chars().take(80).collect(),
            rule,
        })
    }
}

impl std::str::FromStr for Serial {
    type Err = NameError;

    fn from_str(value: &str) -> Result<Self, NameError> {
        Serial::try_from(value.to_owned())
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> String {
        serial.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_a_label_of_a_name() {
        let longest = "A".repeat(32);
        for good in ["AX-000123", "a", "7", "A--b", &longest] {
            let serial: Serial = good.parse().unwrap();
            assert_eq!(serial.to_string(), good);
            assert_eq!(serde_json::to_string(&serial).unwrap(), format!("{good:?}"));
        }
        let too_long = "A".repeat(33);
        for bad in [
            "", "-A", "A-", "-", "A B", "A.B", "A_B", "A/B", "Ä1", "A\n", &too_long,
        ] {
            assert!(bad.parse::<Serial>().is_err(), "{bad:?}");
            let quoted = serde_json::to_string(bad).unwrap();
            assert!(serde_json::from_str::<Serial>(&quoted).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_boxs_name_is_lower_case() {
        let serial: Serial = "AX-000123".parse().unwrap();
        assert_eq!(serial.device_name(), "ax-000123.device.ashlar.internal");
    }
}
