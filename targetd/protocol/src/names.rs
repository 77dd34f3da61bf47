//! Names with a grammar, checked once when they are made.
//!
//! A name that exists has passed its grammar, so it holds no slash, no NUL and no
//! control character and can be a directory name below configfs.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::desired::NvmeFabric;

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} is not valid: {rule}")]
pub struct NameError {
    /// The kind of name, in words.
    pub what: &'static str,
    /// The refused text, cut to 80 characters.
    pub value: String,
    /// The rule it broke.
    pub rule: &'static str,
}

impl NameError {
    pub(crate) fn new(what: &'static str, value: &str, rule: &'static str) -> Self {
        NameError {
            what,
            value: value.chars().take(80).collect(),
            rule,
        }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(value: String) -> Result<Self, NameError> {
                match $check(&value) {
                    Ok(()) => Ok($name(value)),
                    Err(rule) => Err(NameError::new($what, &value, rule)),
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(value: &str) -> Result<Self, NameError> {
                $name::try_from(value.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// An iSCSI name of an initiator or a target: `iqn.`, `eui.` or `naa.` (RFC 3720, 3722, 3980),
    /// lower case, at most 223 bytes.
    Iqn, "iSCSI name", check_iqn
);
name!(
    /// An NVMe qualified name: `nqn.yyyy-mm.reverse.domain…`, at most 223 bytes.
    Nqn, "NVMe qualified name", check_nqn
);
name!(
    /// What identifies a disk for life: `wwn-…` or `serial-…`, never a kernel name such as `sda`.
    DiskId, "disk id", check_disk_id
);

fn check_iqn(name: &str) -> Result<(), &'static str> {
    if name.len() > 223 {
        return Err("at most 223 bytes");
    }
    if !name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:".contains(&b))
    {
        return Err("lower-case letters, digits, '-', '.' and ':' only");
    }
    if let Some(rest) = name.strip_prefix("iqn.") {
        return check_dated(rest);
    }
    let (digits, lengths): (&str, &[usize]) = match name.split_once('.') {
        Some(("eui", digits)) => (digits, &[16]),
        Some(("naa", digits)) => (digits, &[16, 32]),
        _ => return Err("begins with 'iqn.', 'eui.' or 'naa.'"),
    };
    if lengths.contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(())
    } else {
        Err("'eui.' takes 16 hexadecimal digits, 'naa.' 16 or 32")
    }
}

fn check_nqn(name: &str) -> Result<(), &'static str> {
    if name.len() > 223 {
        return Err("at most 223 bytes");
    }
    if !name
        .bytes()
        .all(|b| b.is_ascii_graphic() && !b"/\\\"'%*?".contains(&b))
    {
        return Err("printable ASCII without '/', '\\', quotes, '%', '*' and '?'");
    }
    let Some(rest) = name.strip_prefix("nqn.") else {
        return Err("begins with 'nqn.'");
    };
    check_dated(rest)
}

/// `yyyy-mm.authority[:rest]`, shared by IQN and NQN.
fn check_dated(rest: &str) -> Result<(), &'static str> {
    const RULE: &str = "'yyyy-mm.' and a reversed domain name follow the prefix";
    let date = rest.get(..8).ok_or(RULE)?.as_bytes();
    let digits = |range: std::ops::Range<usize>| date[range].iter().all(u8::is_ascii_digit);
    let month_valid = matches!(&date[5..7], [b'0', b'1'..=b'9'] | [b'1', b'0'..=b'2']);
    if !(digits(0..4) && date[4] == b'-' && month_valid && date[7] == b'.') {
        return Err(RULE);
    }
    let authority = rest[8..].split(':').next().unwrap_or_default();
    if authority.is_empty() || authority.split('.').any(str::is_empty) {
        return Err(RULE);
    }
    Ok(())
}

fn check_disk_id(id: &str) -> Result<(), &'static str> {
    let Some(("wwn" | "serial", rest)) = id.split_once('-') else {
        return Err("begins with 'wwn-' or 'serial-'");
    };
    if rest.is_empty() || id.len() > 160 {
        return Err("1 to 160 bytes");
    }
    if rest
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_.:+".contains(&b))
    {
        Ok(())
    } else {
        Err("letters, digits, '-', '_', '.', ':' and '+' only")
    }
}

/// How a host reaches a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// iSCSI over TCP, LIO's `iscsi` fabric.
    Iscsi,
    /// iSCSI over RDMA (iSER), the same targets of LIO's.
    Iser,
    /// SCSI over Fibre Channel, LIO's fabrics for it.
    Fc,
    /// NVMe over TCP, nvmet's `tcp` transport.
    NvmeTcp,
    /// NVMe over RDMA (RoCE, iWARP, InfiniBand), nvmet's `rdma` transport.
    NvmeRdma,
    /// NVMe over Fibre Channel, nvmet's `fc` transport.
    NvmeFc,
}

impl Transport {
    /// All of them.
    pub const ALL: [Transport; 6] = [
        Transport::Iscsi,
        Transport::Iser,
        Transport::Fc,
        Transport::NvmeTcp,
        Transport::NvmeRdma,
        Transport::NvmeFc,
    ];

    /// Whether it carries NVMe: hosts are known by their NQN, and all that reach a volume by it
    /// share one subsystem. Otherwise it carries SCSI: they are known by their IQN, and share one
    /// target; but for Fibre Channel, where they are known by the names of their ports.
    pub fn is_nvme(self) -> bool {
        self.nvme().is_some()
    }

    /// Whether it carries iSCSI.
    pub fn is_iscsi(self) -> bool {
        matches!(self, Transport::Iscsi | Transport::Iser)
    }

    /// What carries NVMe, if it is that.
    pub fn nvme(self) -> Option<NvmeFabric> {
        match self {
            Transport::Iscsi | Transport::Iser | Transport::Fc => None,
            Transport::NvmeTcp => Some(NvmeFabric::Tcp),
            Transport::NvmeRdma => Some(NvmeFabric::Rdma),
            Transport::NvmeFc => Some(NvmeFabric::Fc),
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Iscsi => "iscsi",
            Transport::Iser => "iser",
            Transport::Fc => "fc",
            Transport::NvmeTcp => "nvme-tcp",
            Transport::NvmeRdma => "nvme-rdma",
            Transport::NvmeFc => "nvme-fc",
        })
    }
}

impl std::str::FromStr for Transport {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "iscsi" => Ok(Transport::Iscsi),
            "iser" => Ok(Transport::Iser),
            "fc" => Ok(Transport::Fc),
            "nvme-tcp" => Ok(Transport::NvmeTcp),
            "nvme-rdma" => Ok(Transport::NvmeRdma),
            "nvme-fc" => Ok(Transport::NvmeFc),
            _ => {
                let rule = "iscsi, iser, fc, nvme-tcp, nvme-rdma or nvme-fc";
                Err(NameError::new("transport", text, rule))
            }
        }
    }
}

/// The address and port a target listens on. The unspecified address listens on every interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortalAddr(SocketAddr);

impl PortalAddr {
    /// The socket address.
    pub fn socket(self) -> SocketAddr {
        self.0
    }
}

impl TryFrom<SocketAddr> for PortalAddr {
    type Error = NameError;

    fn try_from(addr: SocketAddr) -> Result<Self, NameError> {
        let refused = |rule| Err(NameError::new("portal address", &addr.to_string(), rule));
        if addr.port() == 0 {
            return refused("the port is 1 to 65535");
        }
        if matches!(addr, SocketAddr::V6(v6) if v6.scope_id() != 0) {
            return refused("no scope id");
        }
        Ok(PortalAddr(addr))
    }
}

impl TryFrom<String> for PortalAddr {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        let addr: SocketAddr = text.parse().map_err(|_| {
            NameError::new("portal address", &text, "'ADDRESS:PORT', IPv6 in brackets")
        })?;
        PortalAddr::try_from(addr)
    }
}

impl std::str::FromStr for PortalAddr {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        PortalAddr::try_from(text.to_owned())
    }
}

impl From<PortalAddr> for String {
    fn from(addr: PortalAddr) -> String {
        addr.to_string()
    }
}

impl fmt::Display for PortalAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iscsi_names_follow_the_grammar() {
        for good in [
            "iqn.2026-11.io.ashlar:box:vol-1",
            "iqn.1993-08.org.debian:01:abcdef",
            "eui.02004567a425678d",
            "naa.52004567ba64678d",
        ] {
            assert!(good.parse::<Iqn>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "iqn",
            "iqn.",
            "iqn.2026-13.io.x",
            "iqn.2026-11.",
            "iqn.2026-11..x:y",
            "iqn.2026-11.io/x",
            "iqn.2026-11.io.x:A",
            "eui.123",
            "iqn.2026-11.io.x:\n",
            "../../etc",
        ] {
            assert!(bad.parse::<Iqn>().is_err(), "{bad}");
        }
        assert!(
            format!("iqn.2026-11.io.x:{}", "a".repeat(206))
                .parse::<Iqn>()
                .is_ok()
        );
        assert!(
            format!("iqn.2026-11.io.x:{}", "a".repeat(207))
                .parse::<Iqn>()
                .is_err()
        );
    }

    #[test]
    fn nvme_names_follow_the_grammar() {
        for good in [
            "nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "nqn.2026-11.io.ashlar:box:Vol_1",
        ] {
            assert!(good.parse::<Nqn>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "nqn.",
            "iqn.2026-11.io.x",
            "nqn.2026-11.io/x",
            "nqn.2026-00.io",
            "nqn.2026-11.io x",
            "nqn.2026-1é.x.y",
        ] {
            assert!(bad.parse::<Nqn>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_disk_id_is_never_a_path_or_a_kernel_name() {
        assert!("serial-DISK0".parse::<DiskId>().is_ok());
        for bad in ["sda", "/dev/sda", "serial-", "serial-a/b", "wwn-..\u{0}"] {
            assert!(bad.parse::<DiskId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_transport_reads_back() {
        for transport in Transport::ALL {
            assert_eq!(transport.to_string().parse(), Ok(transport));
        }
        assert!("fibre".parse::<Transport>().is_err());
    }

    #[test]
    fn portals_take_both_families_and_a_port() {
        assert_eq!(
            "[::]:3260".parse::<PortalAddr>().unwrap().to_string(),
            "[::]:3260"
        );
        assert!("0.0.0.0:3260".parse::<PortalAddr>().is_ok());
        for bad in ["0.0.0.0", "0.0.0.0:0", "host:3260", "[fe80::1%2]:3260"] {
            assert!(bad.parse::<PortalAddr>().is_err(), "{bad}");
        }
    }
}
