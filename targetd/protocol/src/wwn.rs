//! Names of Fibre Channel ports, checked once when they are made.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::NameError;

const RULE: &str = "16 hexadecimal digits, of which not all are 0";

/// The world-wide name of a Fibre Channel node or port. It reads with or without `0x` and with or
/// without colons, and is written as 16 lower-case digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Wwn(u64);

impl Wwn {
    /// Its eight bytes as pairs of digits with colons between them, as LIO has it.
    pub fn colons(self) -> String {
        let pairs = self.0.to_be_bytes().map(|byte| format!("{byte:02x}"));
        pairs.join(":")
    }
}

impl fmt::Display for Wwn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for Wwn {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Wwn, NameError> {
        let refused = || NameError::new("world-wide name", text, RULE);
        let digits = plain_digits(text).ok_or_else(refused)?;
        match u64::from_str_radix(&digits, 16) {
            Ok(0) | Err(_) => Err(refused()),
            Ok(number) => Ok(Wwn(number)),
        }
    }
}

/// The 16 digits of any way to write them.
fn plain_digits(text: &str) -> Option<String> {
    let digits = match text.contains(':') {
        true => {
            let pairs: Vec<&str> = text.split(':').collect();
            let even = pairs.len() == 8 && pairs.iter().all(|pair| pair.len() == 2);
            even.then(|| pairs.concat())?
        }
        false => text.strip_prefix("0x").unwrap_or(text).to_owned(),
    };
    let sound = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    sound.then_some(digits)
}

impl TryFrom<String> for Wwn {
    type Error = NameError;

    fn try_from(text: String) -> Result<Wwn, NameError> {
        text.parse()
    }
}

impl From<Wwn> for String {
    fn from(name: Wwn) -> String {
        name.to_string()
    }
}

/// A port of the box for NVMe over Fibre Channel: `nn-0xNODE:pn-0xPORT`, as the kernel and hosts
/// write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FcPort {
    /// The name of its node.
    pub node: Wwn,
    /// Its own.
    pub port: Wwn,
}

impl fmt::Display for FcPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nn-0x{}:pn-0x{}", self.node, self.port)
    }
}

impl std::str::FromStr for FcPort {
    type Err = NameError;

    fn from_str(text: &str) -> Result<FcPort, NameError> {
        let rule = "'nn-0xNODE:pn-0xPORT', with 16 hexadecimal digits each";
        let names = || {
            let (node, port) = text.strip_prefix("nn-0x")?.split_once(":pn-0x")?;
            let name = |digits: &str| plain_digits(digits)?.parse().ok();
            let plain = node.len() == 16 && port.len() == 16;
            plain.then_some(())?;
            Some(FcPort {
                node: name(node)?,
                port: name(port)?,
            })
        };
        names().ok_or_else(|| NameError::new("Fibre Channel port", text, rule))
    }
}

impl TryFrom<String> for FcPort {
    type Error = NameError;

    fn try_from(text: String) -> Result<FcPort, NameError> {
        text.parse()
    }
}

impl From<FcPort> for String {
    fn from(port: FcPort) -> String {
        port.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_wide_name_is_one_however_it_is_written() {
        for text in [
            "20000025b5aa0c1f",
            "20000025B5AA0C1F",
            "0x20000025b5aa0c1f",
            "20:00:00:25:b5:aa:0c:1f",
        ] {
            let name: Wwn = text.parse().unwrap();
            assert_eq!(name.to_string(), "20000025b5aa0c1f", "{text}");
            assert_eq!(name.colons(), "20:00:00:25:b5:aa:0c:1f", "{text}");
        }
        for bad in [
            "",
            "0x",
            "20000025b5aa0c1",
            "20000025b5aa0c1f0",
            "0000000000000000",
            "20:00:00:25:b5:aa:0c1f",
            "2:000:00:25:b5:aa:0c:1f",
            "2000:0025b5aa0c1f",
            "+0000025b5aa0c1ff",
            "0x0x00025b5aa0c1ff",
            "20000025b5aa0c1\u{ff11}",
        ] {
            assert!(bad.parse::<Wwn>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_port_is_written_as_the_kernel_does() {
        let text = "nn-0x10000025b5aa0c1f:pn-0x20000025b5aa0c1f";
        assert_eq!(text.parse::<FcPort>().unwrap().to_string(), text);
        let upper = "nn-0x10000025B5AA0C1F:pn-0x20000025B5AA0C1F";
        assert_eq!(upper.parse::<FcPort>().unwrap().to_string(), text);
        for bad in [
            "",
            "nn-0x10000025b5aa0c1f",
            "nn-10000025b5aa0c1f:pn-20000025b5aa0c1f",
            "pn-0x20000025b5aa0c1f:nn-0x10000025b5aa0c1f",
            "nn-0x10000025b5aa0c1f:pn-0x20000025b5aa0c1f:",
            "nn-0x10000025b5aa0c1f:pn-0x0x000025b5aa0c1f",
            "nn-0x0000000000000000:pn-0x20000025b5aa0c1f",
        ] {
            assert!(bad.parse::<FcPort>().is_err(), "{bad:?}");
        }
    }
}
