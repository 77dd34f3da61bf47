//! iSCSI over RDMA, beside TCP. Both machines do RoCE in software.

use anyhow::{Context, ensure};
use ashlar_protocol::{HealthStatus, HostSecrets, Iqn, ProblemCode, Transport};
use ashlar_site::Device;

use super::cutting::{
    check, connect, had_no_failure, login_second, logout_second, read_on, second_host,
};
use super::rdma::add_devices;
use super::{Lab, done, initiator};

/// Two hosts share a volume, one by RDMA. When nobody is to come by RDMA any more, that one keeps its
/// session for as long as it may come by TCP; when it is cut off, the other one goes on by TCP.
pub async fn iser_and_iscsi_are_two_ways_to_one_volume(lab: &mut Lab) -> anyhow::Result<()> {
    println!("iSER and iSCSI are two ways to one volume");
    add_devices(lab)?;
    is_served(lab).await?;
    let second = second_host(lab).await?;
    let volume = lab.volume(32).await?;
    let rdma = lab.connect(volume, Transport::Iser).await?;
    let access = rdma.iscsi.clone().context("no iSCSI access")?;
    ensure!(
        initiator(&mut lab.guest)
            .login_iser(&access, &HostSecrets::default())
            .is_err(),
        "let in over RDMA without a secret"
    );
    check(lab, "iscsiadm -m node -o delete")?;
    let device = lab.attach(&rdma)?;
    ensure!(sessions(lab)? == ["iser"], "not over RDMA");
    let written = initiator(&mut lab.guest).write_random(&device, 4)?;
    ensure!(
        initiator(&mut lab.guest).hash(&device, 4)? == written,
        "other data read over RDMA than written"
    );

    let tcp = connect(lab, volume, second, Transport::Iscsi).await?;
    login_second(lab, &access.target)?;
    ensure!(sessions(lab)? == ["iser", "tcp"], "not by both ways");
    let disk = format!(
        "/dev/disk/by-path/ip-10.77.0.1:3260-iscsi-{}-lun-0",
        access.target
    );
    check(lab, &format!("udevadm wait --settle --timeout=60 {disk}"))?;
    let disk = Device::at(&disk);
    let hash = initiator(&mut lab.guest).hash(&disk, 4)?;
    ensure!(hash == written, "other data by TCP than by RDMA");

    read_on(lab, disk.node())?;
    // The first host may come by TCP now, and keeps what it has.
    let own = lab.connect(volume, Transport::Iscsi).await?;
    done(lab.client.connection_delete(rdma.id).await?)?;
    let portals = portals(lab, &access.target)?;
    ensure!(
        portals == ["[::]:3260"],
        "RDMA is served to nobody, at {portals:?}"
    );
    let hash = initiator(&mut lab.guest).hash(&device, 4)?;
    ensure!(hash == written, "other data by RDMA than by TCP");
    let refused = lab.client.connection_delete(own.id).await;
    let problem = refused.err().context("a host that is logged in let go")?;
    let code = problem.problem().map(|problem| problem.code);
    ensure!(code == Some(ProblemCode::InUse), "{problem}");
    done(lab.client.connection_cut(own.id).await?)?;
    check(
        lab,
        "for i in $(seq 300); do grep -qv LOGGED_IN /sys/class/iscsi_session/session*/state && \
         exit 0; sleep 0.1; done; exit 1",
    )
    .context("the session that was cut is still logged in")?;
    let over_rdma = format!("iscsiadm -m node -T {} -I iser", access.target);
    check(lab, &format!("{over_rdma} --logout; {over_rdma} -o delete"))?;
    had_no_failure(lab)?;
    ensure!(sessions(lab)? == ["tcp"], "not by TCP alone");

    logout_second(lab, &access.target)?;
    check(
        lab,
        "iscsiadm -m node -o delete; iscsiadm -m iface -I second -o delete",
    )?;
    done(lab.client.connection_delete(tcp.id).await?)?;
    done(lab.client.volume_delete(volume).await?)?;
    done(lab.client.host_delete(second).await?)
}

/// The box says that it serves iSER, and that its kernel can.
async fn is_served(lab: &Lab) -> anyhow::Result<()> {
    let served = lab.client.system_show().await?.capabilities.transports;
    ensure!(served.contains(&Transport::Iser), "{served:?}");
    let health = lab.client.health_show().await?;
    let able = health
        .checks
        .iter()
        .find(|check| check.name == "kernel/iser");
    let able = able.context("nothing said of iSER")?;
    ensure!(able.status == HealthStatus::Ok, "{able:?}");
    Ok(())
}

/// What the host's sessions are carried by.
fn sessions(lab: &mut Lab) -> anyhow::Result<Vec<String>> {
    let text = check(lab, "iscsiadm -m session | cut -d : -f 1 | sort")?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Where the box listens for a target.
fn portals(lab: &mut Lab, target: &Iqn) -> anyhow::Result<Vec<String>> {
    let list = format!("ls /sys/kernel/config/target/iscsi/{target}/tpgt_1/np");
    let text = lab.guest.site.appliance.check(&list)?;
    Ok(text.lines().map(str::to_owned).collect())
}
