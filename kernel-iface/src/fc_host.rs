//! The machine's own ports of Fibre Channel.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use ashlar_targetd_protocol::Wwn;

use crate::lio::FcFabric;

/// Where the ports are told.
pub trait FcHosts: Send + Sync {
    /// Those that can be targets, by name, each with what makes it one.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    fn ports(&self) -> io::Result<BTreeMap<Wwn, FcFabric>>;
}

/// The running kernel's, as sysfs has them.
pub struct RealFcHosts {
    classes: PathBuf,
}

impl RealFcHosts {
    /// Below `/sys/class`.
    pub fn new() -> Self {
        RealFcHosts::at("/sys/class".into())
    }

    fn at(classes: PathBuf) -> Self {
        RealFcHosts { classes }
    }

    fn port(&self, host: &str) -> Option<(Wwn, FcFabric)> {
        let read = |class: &str, file: &str| {
            let path = self.classes.join(class).join(host).join(file);
            fs::read_to_string(path).ok()
        };
        // A host that goes meanwhile has none.
        let name = read("fc_host", "port_name")?.trim().parse().ok()?;
        let driver = read("scsi_host", "proc_name")?;
        Some((name, FcFabric::of_driver(driver.trim())?))
    }
}

impl Default for RealFcHosts {
    fn default() -> Self {
        RealFcHosts::new()
    }
}

impl FcHosts for RealFcHosts {
    fn ports(&self) -> io::Result<BTreeMap<Wwn, FcFabric>> {
        let hosts = match fs::read_dir(self.classes.join("fc_host")) {
            // No driver of any was ever loaded.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            hosts => hosts?,
        };
        let mut ports = BTreeMap::new();
        for host in hosts {
            let host = host?.file_name();
            ports.extend(host.to_str().and_then(|host| self.port(host)));
        }
        Ok(ports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_a_target_by_its_driver() {
        let classes = tempfile::tempdir().unwrap();
        let hosts = RealFcHosts::at(classes.path().to_owned());
        assert_eq!(hosts.ports().unwrap(), BTreeMap::new());
        for (host, name, driver) in [
            ("host2", "0x20000025b5aa0c1f\n", "fcoe\n"),
            ("host3", "0x2100001b32a1b2c3\n", "qla2xxx\n"),
            ("host4", "0x10000090fa123456\n", "lpfc\n"),
            ("host5", "0x0\n", "fcoe\n"),
        ] {
            for (class, file, value) in [
                ("fc_host", "port_name", name),
                ("scsi_host", "proc_name", driver),
            ] {
                let folder = classes.path().join(class).join(host);
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join(file), value).unwrap();
            }
        }
        let expected = [
            ("20000025b5aa0c1f".parse().unwrap(), FcFabric::LibFc),
            ("2100001b32a1b2c3".parse().unwrap(), FcFabric::Qla2xxx),
        ];
        assert_eq!(hosts.ports().unwrap(), expected.into());
    }
}
