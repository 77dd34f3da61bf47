//! The configuration file. `agent/agent.toml` explains each key and shows its default.

use std::fs;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ashlar_protocol::{FcPort, Name, PortalAddr, Wwn};
use serde::{Deserialize, Serialize, Serializer};

use crate::domain;
use crate::domain::portals::{MAX_PORTALS, overlap};
use crate::firmware::FirmwareOptions;
use crate::support::SupportOptions;

/// Where the file is unless the command line says otherwise.
pub const DEFAULT_PATH: &str = "/etc/ashlar/agent.toml";

const ISCSI_PORT: u16 = 3260;
const NVME_PORT: u16 = 4420;

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A label for the box; absent: the host name.
    pub name: Option<Name>,
    /// The agent's own state.
    pub state_dir: PathBuf,
    /// Where targetd listens.
    pub targetd_socket: PathBuf,
    /// The program that reads images of disks.
    pub convert: PathBuf,
    /// The program that reads the system's journal, for support bundles.
    pub journalctl: PathBuf,
    /// What the firmware is updated with.
    pub firmware: FirmwareOptions,
    /// The management port.
    pub listen: Listen,
    /// Certificates of the management port, of a box that is no appliance from a factory.
    pub tls: Option<Tls>,
    /// Where they are of one that is.
    pub identity: IdentityFolders,
    /// Portals of iSCSI targets.
    pub iscsi: Portals,
    /// Portals of iSCSI targets over RDMA. Absent: none, as most boxes have no RDMA.
    pub iser: Portals,
    /// Ports that are targets on Fibre Channel. Absent: none.
    pub fc: Ports<Wwn>,
    /// Portals of NVMe/TCP subsystems.
    pub nvme: Portals,
    /// Portals of NVMe/RDMA subsystems. Absent: none.
    #[serde(rename = "nvme-rdma")]
    pub nvme_rdma: Portals,
    /// Ports of NVMe/FC subsystems. Absent: none.
    #[serde(rename = "nvme-fc")]
    pub nvme_fc: Ports<FcPort>,
}

/// The management port and what it bears.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Address and port.
    pub address: SocketAddr,
    /// Connections at once.
    pub max_connections: usize,
    /// Handshakes at once from one IPv4 address or IPv6 /64.
    pub max_handshakes_per_address: usize,
    /// For a whole TLS handshake.
    #[serde(deserialize_with = "seconds", serialize_with = "in_seconds")]
    pub handshake_timeout: Duration,
    /// For a request's headers, and again for its body.
    #[serde(deserialize_with = "seconds", serialize_with = "in_seconds")]
    pub request_timeout: Duration,
    /// Without a request, until a connection is closed.
    #[serde(deserialize_with = "seconds", serialize_with = "in_seconds")]
    pub idle_timeout: Duration,
}

/// Files of the management port, all PEM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// The box's certificate chain, its own first.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities whose clients are let in.
    pub client_ca: PathBuf,
}

/// Where a box keeps who it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityFolders {
    /// What it was given in the factory, for life.
    pub factory: PathBuf,
    /// What its owner has given it.
    pub folder: PathBuf,
}

/// Where the targets of one transport are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Portals {
    /// Where they listen; none turn the transport off. Absent: everywhere, at its usual port, but
    /// for iSER and NVMe/RDMA.
    pub portals: Option<Vec<PortalAddr>>,
    /// What hosts are told; empty: the portals.
    pub advertise: Vec<PortalAddr>,
    /// Whether the portals are the usual ones.
    #[serde(skip)]
    pub usual: bool,
}

/// Where the targets of one transport are on Fibre Channel.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ports<P> {
    /// The box's own ports; none turn the transport off.
    #[serde(default = "Vec::new")]
    pub ports: Vec<P>,
}

impl<P> Default for Ports<P> {
    fn default() -> Self {
        Ports { ports: Vec::new() }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("failed to read the configuration {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// It is no TOML, or has an unknown key or a value of the wrong kind.
    #[error("the configuration {} is not valid", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where, and what was expected.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value that breaks a rule of its own.
    #[error("the configuration {} is not valid: {key} is {value}: {rule}", path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What it is.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// When it cannot be read, has keys we do not know, or values that cannot be.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Config::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
        let mut config: Config = toml::from_str(text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        config.settle();
        match config.broken_rule() {
            None => Ok(config),
            Some((key, value, rule)) => Err(ConfigError::Value {
                path: path.to_owned(),
                key,
                value,
                rule,
            }),
        }
    }

    fn broken_rule(&self) -> Option<(&'static str, String, &'static str)> {
        let positive = |key, value: usize| (value == 0).then(|| (key, value.to_string(), "not 0"));
        let absolute = |key, path: &Path| {
            let relative = !path.is_absolute();
            relative.then(|| (key, format!("{path:?}"), "an absolute path"))
        };
        let listen = &self.listen;
        positive("listen.max_connections", listen.max_connections)
            .or(positive(
                "listen.max_handshakes_per_address",
                listen.max_handshakes_per_address,
            ))
            .or(absolute("state_dir", &self.state_dir))
            .or(absolute("targetd_socket", &self.targetd_socket))
            .or(absolute("convert", &self.convert))
            .or(absolute("journalctl", &self.journalctl))
            .or(absolute("firmware.folder", &self.firmware.folder))
            .or(absolute("firmware.bus", &self.firmware.bus))
            .or(absolute("firmware.restart", &self.firmware.restart))
            .or(absolute("identity.factory", &self.identity.factory))
            .or(absolute("identity.folder", &self.identity.folder))
            .or(self.tls.iter().find_map(|tls| {
                absolute("tls.certificate", &tls.certificate)
                    .or(absolute("tls.key", &tls.key))
                    .or(absolute("tls.client_ca", &tls.client_ca))
            }))
            .or(self.iscsi.broken_rule("iscsi.portals", "iscsi.advertise"))
            .or(self.nvme.broken_rule("nvme.portals", "nvme.advertise"))
            .or(self
                .nvme_rdma
                .broken_rule("nvme-rdma.portals", "nvme-rdma.advertise"))
            .or(self.iser.broken_rule("iser.portals", "iser.advertise"))
            .or(self.iser.served_nowhere("iser.portals"))
            .or(self.covered_iser())
            .or(self.nvme_rdma.served_nowhere("nvme-rdma.portals"))
            .or(broken_list("fc.ports", &self.fc.ports))
            .or(broken_list("nvme-fc.ports", &self.nvme_fc.ports))
    }

    /// The kernel listens over TCP wherever it does over RDMA, and shares only what is the same.
    fn covered_iser(&self) -> Option<(&'static str, String, &'static str)> {
        let iser = || self.iser.portals.iter().flatten();
        let covered = |at: &&PortalAddr| {
            let mut others = self.iscsi.portals.iter().flatten().chain(iser());
            others.any(|other| other != *at && overlap(other.socket(), at.socket()))
        };
        let rule = "one of iscsi.portals, or apart from them and from each other, as TCP is served \
                    there, too";
        iser()
            .find(covered)
            .map(|at| ("iser.portals", at.to_string(), rule))
    }

    /// The usual portals, where none are given.
    fn settle(&mut self) {
        self.iscsi.settle(ISCSI_PORT);
        self.nvme.settle(NVME_PORT);
        self.iser.portals.get_or_insert_default();
        self.nvme_rdma.portals.get_or_insert_default();
    }

    /// Where each transport is served, for the engine.
    pub fn listens(&self) -> domain::Listens {
        domain::Listens {
            iscsi: self.iscsi.to_domain(),
            iser: self.iser.to_domain(),
            nvme: self.nvme.to_domain(),
            nvme_rdma: self.nvme_rdma.to_domain(),
            fc: self.fc.ports.iter().copied().collect(),
            nvme_fc: self.nvme_fc.ports.iter().copied().collect(),
        }
    }

    /// What a support bundle has of it. Keys are in files, which are named only.
    pub fn support(&self) -> SupportOptions {
        SupportOptions {
            journalctl: self.journalctl.clone(),
            configuration: serde_json::to_value(self).unwrap_or_default(),
        }
    }

    /// The box's label: the configured one, else the host name.
    pub fn box_name(&self) -> Name {
        let host = || nix::unistd::gethostname().ok()?.to_str()?.parse().ok();
        let fallback = || "ashlar".parse().expect("six letters are a name");
        self.name.clone().or_else(host).unwrap_or_else(fallback)
    }
}

impl Portals {
    /// The usual portals at `port`, unless others are given.
    fn settle(&mut self, port: u16) {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let usual = vec![PortalAddr::try_from(any).expect("the usual port is not 0")];
        let portals = self.portals.get_or_insert_with(|| usual.clone());
        // Whoever writes it down says nothing new.
        self.usual = *portals == usual;
    }

    fn to_domain(&self) -> domain::Listen {
        domain::Listen {
            portals: self.portals.iter().flatten().copied().collect(),
            advertised: self.advertise.clone(),
            usual: self.usual,
        }
    }

    /// Of a transport that has no usual portals.
    fn served_nowhere(
        &self,
        portals: &'static str,
    ) -> Option<(&'static str, String, &'static str)> {
        let nowhere = self.portals.as_ref().is_none_or(Vec::is_empty) && !self.advertise.is_empty();
        let rule = "at least one address, as there is one to advertise";
        nowhere.then(|| (portals, "empty".to_owned(), rule))
    }

    fn broken_rule(
        &self,
        portals: &'static str,
        advertise: &'static str,
    ) -> Option<(&'static str, String, &'static str)> {
        let listened: &[PortalAddr] = self.portals.as_deref().unwrap_or_default();
        broken_list(portals, listened).or(broken_list(advertise, &self.advertise))
    }
}

fn broken_list<A: PartialEq + ToString>(
    key: &'static str,
    list: &[A],
) -> Option<(&'static str, String, &'static str)> {
    let rule = if list.len() > MAX_PORTALS {
        "at most 16"
    } else if (1..list.len()).any(|i| list[..i].contains(&list[i])) {
        "each only once"
    } else {
        return None;
    };
    let list: Vec<_> = list.iter().map(ToString::to_string).collect();
    Some((key, list.join(", "), rule))
}

impl Default for Config {
    fn default() -> Self {
        let mut config = Config {
            name: None,
            state_dir: "/var/lib/ashlar/store".into(),
            targetd_socket: "/run/ashlar/targetd.sock".into(),
            convert: "/usr/sbin/ashlar-convert".into(),
            journalctl: "/usr/bin/journalctl".into(),
            firmware: FirmwareOptions::default(),
            listen: Listen::default(),
            tls: None,
            identity: IdentityFolders::default(),
            iscsi: Portals::default(),
            iser: Portals::default(),
            nvme: Portals::default(),
            nvme_rdma: Portals::default(),
            fc: Ports::default(),
            nvme_fc: Ports::default(),
        };
        config.settle();
        config
    }
}

impl Default for Listen {
    fn default() -> Self {
        Listen {
            address: (Ipv6Addr::UNSPECIFIED, 8443).into(),
            max_connections: 512,
            max_handshakes_per_address: 64,
            handshake_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
        }
    }
}

impl Default for Tls {
    fn default() -> Self {
        Tls {
            certificate: "/etc/ashlar/tls/server.pem".into(),
            key: "/etc/ashlar/tls/server.key".into(),
            client_ca: "/etc/ashlar/tls/client-ca.pem".into(),
        }
    }
}

impl Default for IdentityFolders {
    fn default() -> Self {
        IdentityFolders {
            factory: "/var/lib/ashlar-factory".into(),
            folder: "/var/lib/ashlar/identity".into(),
        }
    }
}

/// Whole seconds, not 0 and at most an hour: longer is a typing error.
fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    match u64::deserialize(deserializer)? {
        seconds @ 1..=3600 => Ok(Duration::from_secs(seconds)),
        _ => Err(serde::de::Error::custom("1 to 3600 seconds")),
    }
}

fn in_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_secs())
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("agent.toml"), text)
    }

    #[test]
    fn the_sample_shows_the_defaults() {
        assert_eq!(
            parse(include_str!("../agent.toml")).unwrap(),
            Config::default()
        );
        assert_eq!(parse("").unwrap(), Config::default());
    }

    #[test]
    fn every_key_of_the_sample_is_a_key() {
        let text = include_str!("../agent.toml");
        let all: Vec<_> = text
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest)
                    if rest.contains(" = ") || rest.starts_with('[') && rest.ends_with(']') =>
                {
                    rest
                }
                _ => line,
            })
            .collect();
        let config = parse(&all.join("\n")).unwrap();
        assert_eq!(config.name.unwrap().as_str(), "box1");
        assert_eq!(config.nvme.advertise.len(), 1);
        assert_eq!(config.tls, Some(Tls::default()));
    }

    #[test]
    fn iser_is_served_where_iscsi_leaves_room_for_it() {
        for (iscsi, iser) in [
            ("[::]:3260", "[::]:3260"),
            ("[::]:3260", "192.0.2.7:3261"),
            ("192.0.2.7:3260", "192.0.2.8:3260"),
        ] {
            let text = format!("[iscsi]\nportals = ['{iscsi}']\n[iser]\nportals = ['{iser}']");
            assert!(parse(&text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (text, told) in [
            ("nmae = \"x\"", "unknown field `nmae`"),
            ("[listen]\nport = 1", "unknown field `port`"),
            ("[listen]\nidle_timeout = 0", "1 to 3600 seconds"),
            ("[listen]\naddress = \"box1\"", "invalid socket address"),
            ("name = \"\"", "1 to 255 bytes"),
            ("[iscsi]\nportals = [\"[::]:0\"]", "1 to 65535"),
            ("name = 5", "invalid type"),
            ("state_dir = [", "expected"),
        ] {
            let error = parse(text).unwrap_err();
            let cause = error.source().unwrap().to_string();
            assert!(cause.contains(told), "{text}: {cause}");
        }
        for (text, told) in [
            (
                "[listen]\nmax_connections = 0",
                "listen.max_connections is 0",
            ),
            (
                "state_dir = \"lib\"",
                "state_dir is \"lib\": an absolute path",
            ),
            (
                "[nvme]\nportals = [\"0.0.0.0:4420\", \"0.0.0.0:4420\"]",
                "nvme.portals is 0.0.0.0:4420, 0.0.0.0:4420: each only once",
            ),
            (
                "[iser]\nadvertise = [\"192.0.2.7:3260\"]",
                "iser.portals is empty: at least one address",
            ),
            (
                "[iser]\nportals = [\"192.0.2.7:3261\", \"192.0.2.7:3260\"]",
                "iser.portals is 192.0.2.7:3260: one of iscsi.portals",
            ),
            (
                "[iser]\nportals = [\"0.0.0.0:3261\", \"[::]:3261\"]",
                "iser.portals is 0.0.0.0:3261: one of iscsi.portals",
            ),
            (
                "[nvme-rdma]\nadvertise = [\"192.0.2.7:4420\"]",
                "nvme-rdma.portals is empty: at least one address",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
