//! NVMe over RDMA, beside TCP. Both machines do RoCE in software.

use anyhow::{Context, ensure};
use ashlar_protocol::{HostSecrets, Transport};

use super::{Lab, done, initiator};

/// A volume is reached by RDMA, then by both, then by TCP alone, under I/O that never fails.
pub async fn rdma_and_tcp_are_two_ways_to_one_volume(lab: &mut Lab) -> anyhow::Result<()> {
    println!("RDMA and TCP are two ways to one volume");
    add_devices(lab)?;
    let served = lab.client.system_show().await?.capabilities.transports;
    ensure!(served.contains(&Transport::NvmeRdma), "{served:?}");
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
    initiator(&mut lab.guest).check("head -c 4M /dev/urandom >/run/rdma")?;
    let device = lab.attach(&rdma)?;
    let written = initiator(&mut lab.guest).write_random(&device, 16)?;
    ensure!(live(lab)? == ["rdma"], "not over RDMA");

    let tcp = lab.connect(volume, Transport::NvmeTcp).await?;
    ensure!(lab.attach(&tcp)?.node() == device.node(), "another device");
    ensure!(live(lab)? == ["rdma", "tcp"], "not by both ways");
    let node = device.node();
    initiator(&mut lab.guest).check(&format!(
        "rm -f /run/rdma-*; (while [ ! -e /run/rdma-stop ]; do dd if=/run/rdma of={node} bs=1M \
         seek=16 oflag=direct conv=notrunc 2>/dev/null || touch /run/rdma-failed; \
         echo >>/run/rdma-rounds; done; touch /run/rdma-done) </dev/null >/dev/null 2>&1 & \
         {}",
        more_rounds(1)
    ))?;
    done(lab.client.connection_delete(rdma.id).await?)?;
    // A round that began by the way that is gone has ended, and one by the other has followed.
    initiator(&mut lab.guest).check(&format!(
        "{}; touch /run/rdma-stop; while [ ! -e /run/rdma-done ]; do sleep 0.1; done; \
         [ ! -e /run/rdma-failed ]",
        more_rounds(2)
    ))?;
    ensure!(live(lab)? == ["tcp"], "not by TCP alone");
    let hash = initiator(&mut lab.guest).hash(&device, 16)?;
    ensure!(hash == written, "other data by TCP than by RDMA");
    lab.detach(&tcp)?;
    done(lab.client.connection_delete(tcp.id).await?)?;
    done(lab.client.volume_delete(volume).await?)
}

/// Gives each machine's card on the storage network an RDMA device, if it has none.
pub fn add_devices(lab: &mut Lab) -> anyhow::Result<()> {
    let add = |card: &str| {
        format!(
            "modprobe rdma_rxe && {{ [ -e /sys/class/infiniband/rxe0 ] || \
             rdma link add rxe0 type rxe netdev {card}; }}"
        )
    };
    lab.guest.site.appliance.check(&add("storage"))?;
    let card = "$(ip -o link | sed -n 's/^[0-9]*: \\([^:]*\\):.*52:54:00:a5:00:12.*/\\1/p')";
    initiator(&mut lab.guest).check(&add(card)).map(drop)
}

/// Waits for more rounds of the writer.
fn more_rounds(rounds: u32) -> String {
    format!(
        "n=$(($(wc -l </run/rdma-rounds 2>/dev/null || echo 0) + {rounds})); \
         while [ $(wc -l </run/rdma-rounds 2>/dev/null || echo 0) -lt $n ]; do sleep 0.1; done"
    )
}

/// What the host's NVMe controllers that work are connected by.
fn live(lab: &mut Lab) -> anyhow::Result<Vec<String>> {
    let read = "for c in /sys/class/nvme/nvme*; do \
                [ $(cat $c/state) = live ] && cat $c/transport; done | sort";
    let text = initiator(&mut lab.guest).check(read)?;
    Ok(text.lines().map(str::to_owned).collect())
}
