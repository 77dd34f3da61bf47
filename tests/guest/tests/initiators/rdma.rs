//! NVMe over RDMA, beside TCP. Both machines do RoCE in software.

use anyhow::{Context, ensure};
use ashlar_protocol::{HostSecrets, Transport};

use super::{Lab, done, initiator};

/// A volume is reached by RDMA, then by both, then by TCP alone, under I/O that never fails.
pub async fn rdma_and_tcp_are_two_ways_to_one_volume(lab: &mut Lab) -> anyhow::Result<()> {
    println!("RDMA and TCP are two ways to one volume");
    add_devices(lab)?;
    let volume = lab.volume(32).await?;
    let rdma = lab.connect(volume, Transport::NvmeRdma).await?;
    let access = rdma.nvme.clone().context("no NVMe access")?;
    let keyless = HostSecrets::default();
    ensure!(
        initiator(&mut lab.guest)
            .connect_rdma(&access, &keyless)
            .is_err(),
        "let in over RDMA without a key"
    );
    let device = lab.attach(&rdma)?;
    let written = initiator(&mut lab.guest).write_random(&device, 16)?;
    ensure!(controllers(lab)? == ["rdma"], "not over RDMA");

    let tcp = lab.connect(volume, Transport::NvmeTcp).await?;
    ensure!(lab.attach(&tcp)?.node() == device.node(), "another device");
    ensure!(controllers(lab)? == ["rdma", "tcp"], "not by both ways");
    let node = device.node();
    initiator(&mut lab.guest).check(&format!(
        "rm -f /run/rdma-*; (while [ ! -e /run/rdma-stop ]; do dd if={node} of=/dev/null bs=1M \
         count=4 iflag=direct 2>>/run/rdma-errors || echo failed >>/run/rdma-failed; done; \
         touch /run/rdma-done) </dev/null >/dev/null 2>&1 &"
    ))?;
    done(lab.client.connection_delete(rdma.id).await?)?;
    let ended = "for i in $(seq 300); do [ -e /run/rdma-done ] && break; sleep 0.1; done; \
                 [ -e /run/rdma-done ] && [ ! -e /run/rdma-failed ]";
    initiator(&mut lab.guest).check(&format!("sleep 2; touch /run/rdma-stop; {ended}"))?;
    let hash = initiator(&mut lab.guest).hash(&device, 16)?;
    ensure!(hash == written, "other data by TCP than by RDMA");
    lab.detach(&tcp)?;
    done(lab.client.connection_delete(tcp.id).await?)?;
    done(lab.client.volume_delete(volume).await?)
}

/// Gives each machine's card on the storage network an RDMA device.
fn add_devices(lab: &mut Lab) -> anyhow::Result<()> {
    let add =
        |card: &str| format!("modprobe rdma_rxe && rdma link add rxe0 type rxe netdev {card}");
    lab.guest.site.appliance.check(&add("storage"))?;
    let card = "$(ip -o link | sed -n 's/^[0-9]*: \\([^:]*\\):.*52:54:00:a5:00:12.*/\\1/p')";
    initiator(&mut lab.guest).check(&add(card)).map(drop)
}

/// What the host's NVMe controllers are connected by.
fn controllers(lab: &mut Lab) -> anyhow::Result<Vec<String>> {
    let read = "cat /sys/class/nvme/nvme*/transport | sort";
    let text = initiator(&mut lab.guest).check(read)?;
    Ok(text.lines().map(str::to_owned).collect())
}
