//! What hosts see, with the kernel's own initiators.

#[path = "initiators/access.rs"]
mod access;
#[path = "initiators/compliance.rs"]
mod compliance;
#[path = "initiators/cutting.rs"]
mod cutting;
#[path = "initiators/fc.rs"]
mod fc;
#[path = "initiators/fc_disks.rs"]
mod fc_disks;
#[path = "initiators/iser.rs"]
mod iser;
#[path = "initiators/limits.rs"]
mod limits;
#[path = "initiators/portals.rs"]
mod portals;
#[path = "initiators/rdma.rs"]
mod rdma;
#[path = "initiators/secrets.rs"]
mod secrets;

use anyhow::{Context, ensure};
use ashlar_guest_tests::lab::{Lab, MIB, done, initiator};
use ashlar_protocol::{ExtendSpec, HostSecrets, Transport};

const TRANSPORTS: [Transport; 2] = [Transport::Iscsi, Transport::NvmeTcp];

/// One lab for all: a boot costs more than any of these.
#[tokio::test]
async fn hosts_see_what_was_promised() -> anyhow::Result<()> {
    let mut lab = Lab::parallel("initiators").await?;
    wrong_secrets_are_refused(&mut lab).await?;
    secrets::the_box_proves_itself_to_hosts_that_ask(&mut lab).await?;
    secrets::new_secrets_disturb_no_io_and_are_the_only_ones(&mut lab).await?;
    extending_is_seen_online(&mut lab).await?;
    discard_frees_pool_space(&mut lab).await?;
    limits::bytes_are_counted(&mut lab).await?;
    access::a_snapshot_is_only_read(&mut lab).await?;
    access::one_host_only_reads_what_another_writes(&mut lab).await?;
    cutting::force_cuts_off_one_host_only(&mut lab).await?;
    cutting::what_was_transferred_is_out_of_reach(&mut lab).await?;
    restarted_daemons_disturb_no_io(&mut lab).await?;
    compliance::a_volume_is_the_disk_that_libiscsi_expects(&mut lab).await?;
    rdma::rdma_and_tcp_are_two_ways_to_one_volume(&mut lab).await?;
    iser::iser_and_iscsi_are_two_ways_to_one_volume(&mut lab).await?;
    fc::fibre_channel_and_tcp_are_two_ways_to_one_volume(&mut lab).await?;
    fc_disks::a_host_sees_its_own_disks_over_fibre_channel(&mut lab).await?;
    portals::a_portal_comes_and_goes_beneath_hosts_that_write(&mut lab).await?;
    names_and_data_survive_a_power_cut(&mut lab).await
}

/// Not among the rest: in an emulated machine the host's own share of the time has been more
/// than the tolerance.
#[tokio::test]
#[ignore = "takes minutes and a quiet machine"]
async fn limits_hold_as_hosts_measure_them() -> anyhow::Result<()> {
    let mut lab = Lab::parallel("limits").await?;
    limits::limits_hold_and_change_live(&mut lab).await
}

async fn wrong_secrets_are_refused(lab: &mut Lab) -> anyhow::Result<()> {
    println!("wrong secrets are refused");
    let volume = lab.volume(16).await?;
    let iscsi = lab.connect(volume, Transport::Iscsi).await?;
    let access = iscsi.iscsi.clone().context("no iSCSI access")?;
    let mut wrong = lab.secrets.clone();
    let chap = wrong.chap.as_mut().context("no CHAP secret")?;
    chap.secret = String::from("wrong-wrong-1").try_into()?;
    let none = HostSecrets::default();
    let mut initiator = initiator(&mut lab.guest);
    ensure!(
        initiator.login(&access, &wrong).is_err(),
        "a wrong CHAP secret logged in"
    );
    ensure!(
        initiator.login(&access, &none).is_err(),
        "no CHAP secret logged in"
    );
    initiator.check(&format!("iscsiadm -m node -T {} -o delete", access.target))?;
    let nvme = lab.connect(volume, Transport::NvmeTcp).await?;
    let access = nvme.nvme.clone().context("no NVMe access")?;
    let mut initiator = crate::initiator(&mut lab.guest);
    ensure!(
        initiator.connect(&access, &none).is_err(),
        "no DH-HMAC-CHAP key connected"
    );
    ensure!(
        initiator
            .check(&format!(
                "nvme connect -t tcp -a 10.77.0.1 -s 4420 -n {} \
                 --hostnqn nqn.2026-11.org.example:stranger",
                access.subsystem
            ))
            .is_err(),
        "a stranger connected"
    );
    // The right ones work on the same connections.
    for connection in [&iscsi, &nvme] {
        lab.attach(connection)?;
        lab.detach(connection)?;
    }
    done(lab.client.volume_detach_all(volume).await?)?;
    done(lab.client.volume_delete(volume).await?)
}

async fn extending_is_seen_online(lab: &mut Lab) -> anyhow::Result<()> {
    println!("extending is seen online");
    for transport in TRANSPORTS {
        let volume = lab.volume(64).await?;
        let connection = lab.connect(volume, transport).await?;
        let device = lab.attach(&connection)?;
        let hash = initiator(&mut lab.guest).write_random(&device, 8)?;
        ensure!(
            initiator(&mut lab.guest).size(&device)? == 64 * MIB,
            "size before"
        );
        let spec = ExtendSpec { size: 96 * MIB };
        done(lab.client.volume_extend(volume, &spec).await?)?;
        let mut initiator = initiator(&mut lab.guest);
        if transport == Transport::Iscsi {
            initiator.rescan()?;
        }
        initiator.await_size(&device, 96 * MIB)?;
        ensure!(
            initiator.hash(&device, 8)? == hash,
            "data after extending by {transport}"
        );
        lab.detach(&connection)?;
        done(lab.client.volume_detach_all(volume).await?)?;
        done(lab.client.volume_delete(volume).await?)?;
    }
    Ok(())
}

async fn discard_frees_pool_space(lab: &mut Lab) -> anyhow::Result<()> {
    println!("discard frees pool space");
    for transport in TRANSPORTS {
        let before = lab.used().await?;
        let volume = lab.volume(64).await?;
        let connection = lab.connect(volume, transport).await?;
        let device = lab.attach(&connection)?;
        initiator(&mut lab.guest).write_random(&device, 16)?;
        let written = lab.used().await?;
        ensure!(
            written >= before + 16 * MIB,
            "{before} used before, {written} after writing"
        );
        initiator(&mut lab.guest).discard(&device)?;
        let after = lab.used().await?;
        ensure!(
            after <= before + MIB,
            "{transport}: {before} used before, {after} after discard"
        );
        lab.detach(&connection)?;
        done(lab.client.volume_detach_all(volume).await?)?;
        done(lab.client.volume_delete(volume).await?)?;
    }
    Ok(())
}

async fn restarted_daemons_disturb_no_io(lab: &mut Lab) -> anyhow::Result<()> {
    println!("restarted daemons disturb no I/O");
    let volume = lab.volume(64).await?;
    let mut connections = Vec::new();
    for transport in TRANSPORTS {
        let connection = lab.connect(volume, transport).await?;
        let device = lab.attach(&connection)?;
        connections.push((connection, device));
    }
    let before = lab.guest.view()?;
    initiator(&mut lab.guest).check("dmesg --clear")?;
    for (number, (_, device)) in connections.iter().enumerate() {
        initiator(&mut lab.guest).check(&format!(
            "(n=0; while [ ! -e /run/io-end ]; do dd if={node} of=/dev/null bs=64k count=8 \
             iflag=direct status=none || echo not read; dd if=/dev/zero of={node} bs=64k count=8 \
             oflag=direct conv=notrunc status=none || echo not written; n=$((n + 1)); \
             echo $n > /run/rounds-{number}; done > /run/io-{number} 2>&1; \
             echo done >> /run/io-{number}) &",
            node = device.node()
        ))?;
    }
    let sessions = "cat /sys/class/iscsi_session/session*/recovery_tmo /sys/class/nvme/nvme*/state; \
                    ls /sys/class/iscsi_session /sys/class/nvme";
    let sessions_before = initiator(&mut lab.guest).check(sessions)?;
    another_round(lab)?;
    for unit in ["ashlar-targetd.service", "ashlar-agent.service"] {
        lab.guest
            .site
            .appliance
            .check(&format!("systemctl restart {unit}"))?;
        lab.guest.kill(unit)?;
    }
    lab.guest.site.await_management()?;
    for unit in ["ashlar-targetd.service", "ashlar-agent.service"] {
        let log =
            format!("journalctl --boot --quiet --lines=1 _TRANSPORT=journal _SYSTEMD_UNIT={unit}");
        let log = lab.guest.site.appliance.check(&log)?;
        ensure!(
            !log.trim().is_empty(),
            "{unit} writes nothing to the journal"
        );
    }
    another_round(lab)?;
    for number in 0..connections.len() {
        let log = initiator(&mut lab.guest).check(&format!(
            "touch /run/io-end; for i in $(seq 600); do grep -q done /run/io-{number} && break; \
             sleep 0.1; done; cat /run/io-{number}"
        ))?;
        ensure!(log == "done\n", "I/O while daemons restarted: {log}");
    }
    ensure!(
        initiator(&mut lab.guest).check(sessions)? == sessions_before,
        "a session changed"
    );
    // A connection that breaks and is made again fails no I/O.
    let said = initiator(&mut lab.guest).check("dmesg --notime")?;
    let broken = |line: &&str| {
        let line = line.to_lowercase();
        ["error", "reconnect", "timeout", "timed out", "reset"]
            .iter()
            .any(|word| line.contains(word))
    };
    let broken: Vec<_> = said.lines().filter(broken).collect();
    ensure!(broken.is_empty(), "interruptions: {broken:?}");
    ensure!(lab.guest.view()? == before, "the kernel changed");
    for (connection, _) in &connections {
        lab.detach(connection)?;
    }
    done(lab.client.volume_detach_all(volume).await?)?;
    done(lab.client.volume_delete(volume).await?)
}

/// Waits until everybody who reads and writes has done so once more.
fn another_round(lab: &mut Lab) -> anyhow::Result<()> {
    initiator(&mut lab.guest)
        .check(
            "for n in 0 1; do file=/run/rounds-$n; before=$(cat $file 2>/dev/null || echo 0); \
             while [ \"$(cat $file 2>/dev/null || echo 0)\" = \"$before\" ]; do sleep 0.2; done; done",
        )
        .map(drop)
}

async fn names_and_data_survive_a_power_cut(lab: &mut Lab) -> anyhow::Result<()> {
    println!("names and data survive a power cut");
    // The devices are asked each time: what the kernel knows of them is of when they came.
    let identity = "set -e; for d in /sys/block/sd*; do for page in 0x80 0x83; do \
                    /usr/lib/udev/scsi_id --whitelisted --page=$page --export /dev/${d##*/}; \
                    done; done; \
                    for d in /dev/nvme*n*; do nvme ns-descs $d | tail -n +2; done; \
                    ls /dev/disk/by-id";
    let mut attached = Vec::new();
    for transport in TRANSPORTS {
        let volume = lab.volume(32).await?;
        let connection = lab.connect(volume, transport).await?;
        let device = lab.attach(&connection)?;
        let hash = initiator(&mut lab.guest).write_random(&device, 16)?;
        attached.push((connection, device, hash));
    }
    let before = initiator(&mut lab.guest).check(identity)?;
    for (connection, _, _) in &attached {
        let promised = match (&connection.iscsi, &connection.nvme) {
            (Some(iscsi), _) => iscsi.serial.clone(),
            (_, Some(nvme)) => nvme.uuid.to_string(),
            (None, None) => anyhow::bail!("no access"),
        };
        ensure!(before.contains(&promised), "no {promised} in {before}");
    }
    let disk = attached[0].1.node().to_owned();
    initiator(&mut lab.guest).check(&format!(
        "sg_persist --out --register --param-sark=abc --param-aptpl {disk} && \
         sg_persist --out --reserve --param-rk=abc --prout-type=5 {disk}"
    ))?;
    lab.guest.power_cycle()?;
    for (connection, device, hash) in &attached {
        let now = initiator(&mut lab.guest).hash(device, 16)?;
        ensure!(now == *hash, "{} lost data", connection.transport);
    }
    ensure!(
        initiator(&mut lab.guest).check(identity)? == before,
        "a device changed its name"
    );
    let reserved = format!("sg_persist --in --read-reservation {disk}");
    let reserved = initiator(&mut lab.guest).check(&reserved)?;
    ensure!(reserved.contains("Key=0xabc"), "{reserved}");
    let release = format!("sg_persist --out --clear --param-rk=abc {disk}");
    initiator(&mut lab.guest).check(&release)?;
    for (connection, _, _) in &attached {
        lab.detach(connection)?;
        let volume = connection.volume.context("of no volume")?;
        done(lab.client.volume_detach_all(volume).await?)?;
        done(lab.client.volume_delete(volume).await?)?;
    }
    Ok(())
}
