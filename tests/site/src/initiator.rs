//! The initiator's side: the kernel's own iSCSI and NVMe initiators in the second guest.

use std::time::Duration;

use anyhow::{Context, ensure};
use ashlar_protocol::{HostSecrets, HostSpec, IscsiAccess, NvmeAccess};
use ashlar_vm::Machine;

use crate::{APPLIANCE_ADDRESS, ISCSI_PORT, ISER_PORT, NVME_PORT};

/// How long a login, a rescan or a device's appearance may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// An initiator guest, spoken to over its shell.
pub struct Initiator<'m> {
    machine: &'m mut Machine,
}

/// What an initiator sees of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device(String);

impl Device {
    /// The one at a node.
    pub fn at(node: &str) -> Device {
        Device(node.to_owned())
    }

    /// Its node in the initiator guest, stable over reconnects and reboots.
    pub fn node(&self) -> &str {
        &self.0
    }
}

impl<'m> Initiator<'m> {
    /// The initiator on a machine.
    pub fn on(machine: &'m mut Machine) -> Self {
        Initiator { machine }
    }

    /// How it presents itself: with both names, secrets left to the appliance.
    pub fn host_spec(&mut self, name: &str) -> anyhow::Result<HostSpec> {
        let iqn = self.check("sed -n 's/^InitiatorName=//p' /etc/iscsi/initiatorname.iscsi")?;
        let nqn = self.check("cat /etc/nvme/hostnqn")?;
        Ok(HostSpec {
            name: name.parse()?,
            iqn: Some(iqn.trim().parse()?),
            nqn: Some(nqn.trim().parse()?),
            wwpns: Default::default(),
            authentication: Default::default(),
            dhchap: Default::default(),
            secrets: HostSecrets::default(),
        })
    }

    /// Logs in to a target and waits for its disk. The target has to prove itself, too, if there
    /// is a secret for that.
    pub fn login(&mut self, access: &IscsiAccess, secrets: &HostSecrets) -> anyhow::Result<Device> {
        self.login_by("", ISCSI_PORT, access, secrets)
    }

    /// The same over RDMA, for which both ends need a device.
    pub fn login_iser(
        &mut self,
        access: &IscsiAccess,
        secrets: &HostSecrets,
    ) -> anyhow::Result<Device> {
        self.login_by(" -I iser", ISER_PORT, access, secrets)
    }

    fn login_by(
        &mut self,
        interface: &str,
        port: u16,
        access: &IscsiAccess,
        secrets: &HostSecrets,
    ) -> anyhow::Result<Device> {
        let node = format!(
            "iscsiadm -m node -T {} -p {APPLIANCE_ADDRESS}:{port}{interface}",
            access.target
        );
        // A target that is not there is asked for again, otherwise for two minutes.
        let retries = "-o update -n node.session.initial_login_retry_max -v 2";
        self.check(&format!("{node} -o new && {node} {retries}"))?;
        for (suffix, chap) in [("", &secrets.chap), ("_in", &secrets.chap_mutual)] {
            let Some(chap) = chap else { continue };
            for (field, value) in [
                ("authmethod".to_owned(), "CHAP"),
                (format!("username{suffix}"), chap.name.as_str()),
                (format!("password{suffix}"), chap.secret.expose()),
            ] {
                let update = format!("{node} -o update -n node.session.auth.{field} -v '{value}'");
                self.check(&update)?;
            }
        }
        self.check(&format!("{node} --login"))?;
        self.appears(format!(
            "/dev/disk/by-path/ip-{APPLIANCE_ADDRESS}:{port}-iscsi-{}-lun-{}",
            access.target, access.lun
        ))
    }

    /// Logs out of a target and forgets it.
    pub fn logout(&mut self, access: &IscsiAccess) -> anyhow::Result<()> {
        let node = format!("iscsiadm -m node -T {}", access.target);
        self.check(&format!("{node} --logout && {node} -o delete"))?;
        Ok(())
    }

    /// Asks all targets for new sizes.
    pub fn rescan(&mut self) -> anyhow::Result<()> {
        self.check("iscsiadm -m session --rescan").map(drop)
    }

    /// Connects to a subsystem and waits for its namespace. The controller has to prove itself,
    /// too, if there is a key for that.
    pub fn connect(
        &mut self,
        access: &NvmeAccess,
        secrets: &HostSecrets,
    ) -> anyhow::Result<Device> {
        self.connect_over("tcp", access, secrets)
    }

    /// The same over RDMA, for which both ends need a device.
    pub fn connect_rdma(
        &mut self,
        access: &NvmeAccess,
        secrets: &HostSecrets,
    ) -> anyhow::Result<Device> {
        self.connect_over("rdma", access, secrets)
    }

    fn connect_over(
        &mut self,
        fabric: &str,
        access: &NvmeAccess,
        secrets: &HostSecrets,
    ) -> anyhow::Result<Device> {
        let mut keys = String::new();
        for (option, key) in [
            ("dhchap-secret", &secrets.dhchap),
            ("dhchap-ctrl-secret", &secrets.dhchap_controller),
        ] {
            if let Some(key) = key {
                keys += &format!(" --{option}='{}'", key.expose());
            }
        }
        self.check(&format!(
            "nvme connect -t {fabric} -a {APPLIANCE_ADDRESS} -s {NVME_PORT} -n {}{keys}",
            access.subsystem
        ))?;
        self.appears(format!("/dev/disk/by-id/nvme-uuid.{}", access.uuid))
    }

    /// Disconnects from a subsystem.
    pub fn disconnect(&mut self, access: &NvmeAccess) -> anyhow::Result<()> {
        self.check(&format!("nvme disconnect -n {}", access.subsystem))
            .map(drop)
    }

    /// Writes so many MiB of random data to the device's beginning; answers their SHA-256.
    pub fn write_random(&mut self, device: &Device, mib: u32) -> anyhow::Result<String> {
        let node = device.node();
        self.check(&format!(
            "head -c {mib}M /dev/urandom > /run/random && \
             dd if=/run/random of={node} bs=1M oflag=direct conv=fsync status=none && \
             sha256sum < /run/random && rm /run/random"
        ))
        .map(|line| first_word(&line))
    }

    /// Reads so many MiB from the device itself; answers their SHA-256.
    pub fn hash(&mut self, device: &Device, mib: u32) -> anyhow::Result<String> {
        let node = device.node();
        self.check(&format!(
            "dd if={node} of=/run/read bs=1M count={mib} iflag=direct status=none && \
             sha256sum < /run/read && rm /run/read"
        ))
        .map(|line| first_word(&line))
    }

    /// The device's size in bytes.
    pub fn size(&mut self, device: &Device) -> anyhow::Result<u64> {
        let text = self.check(&format!("blockdev --getsize64 {}", device.node()))?;
        text.trim()
            .parse()
            .with_context(|| format!("size {text:?}"))
    }

    /// Waits until the device has a size; an initiator learns of it by notification or rescan.
    pub fn await_size(&mut self, device: &Device, bytes: u64) -> anyhow::Result<()> {
        let node = device.node();
        self.check(&format!(
            "for i in $(seq 300); do [ $(blockdev --getsize64 {node}) = {bytes} ] && exit 0; \
             sleep 0.1; done; echo still $(blockdev --getsize64 {node}) >&2; exit 1"
        ))
        .map(drop)
    }

    /// Gives all blocks of the device back.
    pub fn discard(&mut self, device: &Device) -> anyhow::Result<()> {
        self.check(&format!("blkdiscard {}", device.node()))
            .map(drop)
    }

    /// Runs a command whose failure is the point.
    pub fn fails(&mut self, command: &str) -> anyhow::Result<String> {
        let output = self.machine.run(command)?;
        ensure!(
            output.status != 0,
            "{command:?} should have failed: {}",
            output.stdout
        );
        Ok(output.stderr)
    }

    /// Runs a command that must succeed.
    pub fn check(&mut self, command: &str) -> anyhow::Result<String> {
        self.check_within(command, PATIENCE)
    }

    /// The same, for as long as that.
    pub fn check_within(&mut self, command: &str, limit: Duration) -> anyhow::Result<String> {
        self.machine.check_within(command, limit)
    }

    fn appears(&mut self, node: String) -> anyhow::Result<Device> {
        self.check(&format!("udevadm wait --settle --timeout=60 '{node}'"))
            .with_context(|| format!("{node} did not appear"))?;
        Ok(Device(node))
    }
}

fn first_word(line: &str) -> String {
    line.split_ascii_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}
