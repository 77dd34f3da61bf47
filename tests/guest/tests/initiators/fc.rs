//! NVMe over Fibre Channel, beside TCP.
//!
//! The kernel has Fibre Channel in memory, of which both ends are on one machine: the box is its own
//! host here, with the name and the key of the other one, and with that one's nvme-cli.

use anyhow::{Context, ensure};
use ashlar_protocol::{NvmeAccess, Transport};

use super::{Lab, done, initiator};

const HOST_PORT: &str = "nn-0x10000025b5aa0c2f:pn-0x20000025b5aa0c2f";

/// What a host writes over TCP it reads over Fibre Channel, and the other way round.
pub async fn fibre_channel_and_tcp_are_two_ways_to_one_volume(lab: &mut Lab) -> anyhow::Result<()> {
    println!("NVMe over Fibre Channel and TCP are two ways to one volume");
    let served = lab.client.system_show().await?.capabilities.transports;
    ensure!(served.contains(&Transport::NvmeFc), "{served:?}");
    add_ports(lab)?;
    bring_nvme_cli(lab).await?;
    let volume = lab.volume(32).await?;
    let tcp = lab.connect(volume, Transport::NvmeTcp).await?;
    let device = lab.attach(&tcp)?;
    let written = initiator(&mut lab.guest).write_random(&device, 4)?;
    let fc = lab.connect(volume, Transport::NvmeFc).await?;
    let access = fc.nvme.clone().context("no NVMe access")?;
    ensure!(access.portals.is_empty(), "{access:?}");

    let key = lab.secrets.dhchap.clone().context("no key")?;
    ensure!(
        connect(lab, &access, "").is_err(),
        "let in over Fibre Channel without a key"
    );
    connect(lab, &access, &format!("-S '{}'", key.expose()))?;
    let node = format!("/dev/disk/by-id/nvme-uuid.{}", access.uuid);
    let read = format!(
        "udevadm wait --settle --timeout=60 {node} && \
         dd if={node} bs=1M count=4 iflag=direct status=none | sha256sum | cut -d ' ' -f 1"
    );
    let seen = lab.guest.site.appliance.check(&read)?;
    ensure!(seen.trim() == written, "other data than over TCP: {seen}");
    let write = format!(
        "head -c 4M /dev/urandom >/run/fc && \
         dd if=/run/fc of={node} bs=1M oflag=direct conv=fsync status=none && \
         sha256sum </run/fc | cut -d ' ' -f 1; rm /run/fc"
    );
    let written = lab.guest.site.appliance.check(&write)?;
    let seen = initiator(&mut lab.guest).hash(&device, 4)?;
    ensure!(seen == written.trim(), "other data than over Fibre Channel");

    done(lab.client.connection_delete(fc.id).await?)?;
    ensure!(connect(lab, &access, "").is_err(), "let in when detached");
    nvme(lab, &format!("disconnect -n {}", access.subsystem))?;
    let seen = initiator(&mut lab.guest).hash(&device, 4)?;
    ensure!(seen == written.trim(), "other data by TCP alone");
    lab.detach(&tcp)?;
    done(lab.client.connection_delete(tcp.id).await?)?;
    done(lab.client.volume_delete(volume).await?)
}

/// Both ends, and what joins them.
fn add_ports(lab: &mut Lab) -> anyhow::Result<()> {
    let add = "modprobe -a nvme_fc nvme_fcloop && cd /sys/class/fcloop/ctl && \
               echo wwnn=0x10000025b5aa0c1f,wwpn=0x20000025b5aa0c1f >add_target_port && \
               echo wwnn=0x10000025b5aa0c2f,wwpn=0x20000025b5aa0c2f,roles=0x60 >add_local_port && \
               echo wwnn=0x10000025b5aa0c1f,wwpn=0x20000025b5aa0c1f,\
               lpwwnn=0x10000025b5aa0c2f,lpwwpn=0x20000025b5aa0c2f,roles=0x60 >add_remote_port";
    lab.guest.site.appliance.check(add).map(drop)
}

/// The box has no nvme-cli. It comes over as a volume, packed by the one machine and unpacked by the
/// other.
async fn bring_nvme_cli(lab: &mut Lab) -> anyhow::Result<()> {
    let volume = lab.volume(32).await?;
    let connection = lab.connect(volume, Transport::Iscsi).await?;
    let device = lab.attach(&connection)?;
    initiator(&mut lab.guest).check(&format!(
        "tar -chf {} $(which nvme) $(ldd $(which nvme) | grep -o '/[^ ]*') /etc/nvme/hostnqn && sync",
        device.node()
    ))?;
    lab.guest.site.appliance.check(&format!(
        "mkdir -p /run/cli && tar -C /run/cli -xf /dev/$(grep -l {volume} /sys/block/dm-*/dm/name | \
         cut -d / -f 4)"
    ))?;
    lab.detach(&connection)?;
    done(lab.client.connection_delete(connection.id).await?)?;
    done(lab.client.volume_delete(volume).await?)
}

fn connect(lab: &mut Lab, access: &NvmeAccess, key: &str) -> anyhow::Result<()> {
    let port = access.fc_ports.first().context("no port")?;
    let connect = format!(
        "connect -t fc -a {port} -w {HOST_PORT} -n {} -q $(cat /run/cli/etc/nvme/hostnqn) {key}",
        access.subsystem
    );
    nvme(lab, &connect)
}

fn nvme(lab: &mut Lab, command: &str) -> anyhow::Result<()> {
    let libraries = "/run/cli/lib/x86_64-linux-gnu:/run/cli/usr/lib/x86_64-linux-gnu";
    let run = format!("LD_LIBRARY_PATH={libraries} $(find /run/cli -name nvme -type f) {command}");
    lab.guest.site.appliance.check(&run).map(drop)
}
