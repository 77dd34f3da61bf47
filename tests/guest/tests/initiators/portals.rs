//! Two portals are two paths: an address that comes late, goes and comes again beneath hosts that
//! write, over iSCSI with dm-multipath and over NVMe with the kernel's own.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ashlar_protocol::{
    Connection, ConnectionState, PortalSpec, PortalState, ProblemCode, Transport,
};
use uuid::Uuid;

use super::cutting::check;
use super::{Lab, done, initiator};

const SECOND: &str = "10.77.0.9";
/// For what the kernel tells of, and for hosts that notice by themselves.
const SOON: Duration = Duration::from_secs(30);
const MULTIPATH: &str = "/dev/mapper/mpatha";

/// A path that is told apart by its transport and its portal.
const PATHS: [(Transport, u16); 2] = [(Transport::Iscsi, 3260), (Transport::NvmeTcp, 4420)];

pub async fn a_portal_comes_and_goes_beneath_hosts_that_write(lab: &mut Lab) -> anyhow::Result<()> {
    println!("a portal comes and goes beneath hosts that write");
    for (transport, port) in PATHS {
        portal(lab, transport, &format!("10.77.0.1:{port}")).await?;
    }
    let mut second = Vec::new();
    for (transport, port) in PATHS {
        second.push(portal(lab, transport, &format!("{SECOND}:{port}")).await?);
    }
    for id in &second {
        let shown = lab.client.portal_show(*id).await?;
        ensure!(shown.state == PortalState::Waiting, "{shown:?}");
    }
    let (scsi, nvme) = (lab.volume(32).await?, lab.volume(32).await?);
    let iscsi = lab.connect(scsi, Transport::Iscsi).await?;
    let tcp = lab.connect(nvme, Transport::NvmeTcp).await?;
    both_are_told(&iscsi)?;
    both_are_told(&tcp)?;

    // The network is late; nobody has to ask for it.
    address(lab, "add")?;
    all(lab, &second, PortalState::Ready).await?;
    let node = attach(lab, &iscsi, &tcp)?;
    paths(lab, 2, "at first")?;
    for (name, device) in [("scsi", MULTIPATH), ("nvme", &*node)] {
        write_on(lab, name, device)?;
    }

    for id in second {
        done(lab.client.portal_delete(id).await?)?;
    }
    // NVMe ends at once; an iSCSI session lasts until it breaks.
    live_controllers(lab, 1)?;
    address(lab, "del")?;
    paths(lab, 1, "without the second portal")?;
    rounds(lab)?;
    let last = lab.client.portal_list().await?;
    let last = last
        .iter()
        .find(|portal| portal.transport == Transport::Iscsi);
    let last = last.context("no portal of iSCSI is left")?.id;
    let refused = lab.client.portal_delete(last).await;
    let problem = refused.err().context("the last portal is gone")?;
    let code = problem.problem().map(|problem| problem.code);
    ensure!(code == Some(ProblemCode::InUse), "{problem}");

    let mut again = Vec::new();
    for (transport, port) in PATHS {
        again.push(portal(lab, transport, &format!("{SECOND}:{port}")).await?);
    }
    address(lab, "add")?;
    all(lab, &again, PortalState::Ready).await?;
    paths(lab, 2, "with it again")?;
    rounds(lab)?;
    for name in ["scsi", "nvme"] {
        check(
            lab,
            &format!(
                "touch /run/{name}-stop; for i in $(seq 300); do [ -e /run/{name}-done ] && break; \
                 sleep 0.1; done; [ -e /run/{name}-done ] && [ ! -e /run/{name}-failed ]"
            ),
        )
        .with_context(|| format!("writing failed over {name}"))?;
    }
    check(
        lab,
        "multipathd shutdown; cp /run/iscsid.conf /etc/iscsi; iscsiadm -m node --logout; iscsiadm -m node -o delete; \
         nvme disconnect-all",
    )?;
    for connection in [iscsi, tcp] {
        let now = lab.client.connection_show(connection.id).await?;
        ensure!(now.state == ConnectionState::Ready, "{now:?}");
        done(lab.client.connection_delete(connection.id).await?)?;
    }
    for volume in [scsi, nvme] {
        done(lab.client.volume_delete(volume).await?)?;
    }
    Ok(())
}

async fn portal(lab: &Lab, transport: Transport, address: &str) -> anyhow::Result<Uuid> {
    let id = Uuid::new_v4();
    let address = address.parse()?;
    let spec = PortalSpec { address, transport };
    done(lab.client.portal_create(id, &spec).await?)?;
    Ok(id)
}

/// A connection is ready by one portal, and its host is told of both.
fn both_are_told(connection: &Connection) -> anyhow::Result<()> {
    ensure!(connection.state == ConnectionState::Ready, "{connection:?}");
    let iscsi = connection.iscsi.iter().flat_map(|access| &access.portals);
    let nvme = connection.nvme.iter().flat_map(|access| &access.portals);
    let told = iscsi.chain(nvme).count();
    ensure!(told == 2, "{connection:?}");
    Ok(())
}

/// Gives the box the second address, or takes it.
fn address(lab: &mut Lab, verb: &str) -> anyhow::Result<()> {
    let command = format!("ip address {verb} {SECOND}/24 dev storage");
    lab.guest.site.appliance.check(&command).map(drop)
}

async fn all(lab: &Lab, portals: &[Uuid], state: PortalState) -> anyhow::Result<()> {
    let begun = Instant::now();
    for id in portals {
        loop {
            let shown = lab.client.portal_show(*id).await?;
            if shown.state == state {
                break;
            }
            ensure!(begun.elapsed() < SOON, "not {state:?}: {shown:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

/// Logs in and connects by both portals; the node of the NVMe disk, which is one.
fn attach(lab: &mut Lab, iscsi: &Connection, tcp: &Connection) -> anyhow::Result<String> {
    // Paths that are gone are noticed soon.
    check(
        lab,
        "cp /etc/iscsi/iscsid.conf /run; sed -i 's/^\\(node.conn\\[0\\].timeo.noop_out_interval\\) = .*/\\1 = 1/; \
         s/^\\(node.conn\\[0\\].timeo.noop_out_timeout\\) = .*/\\1 = 2/; \
         s/^\\(node.session.timeo.replacement_timeout\\) = .*/\\1 = 2/' /etc/iscsi/iscsid.conf; \
         printf '%s\\n' 'defaults {' 'find_multipaths no' 'user_friendly_names yes' \
         'polling_interval 1' 'max_polling_interval 2' 'no_path_retry queue' '}' \
         'blacklist {' 'devnode \"^(vd|nvme|loop)\"' '}' \
         >/etc/multipath.conf; modprobe dm_service_time; multipathd",
    )?;
    lab.attach(iscsi)?;
    let target = &iscsi.iscsi.as_ref().context("no iSCSI access")?.target;
    let chap = lab.secrets.chap.clone().context("no CHAP secret")?;
    let node = format!("iscsiadm -m node -T {target} -p {SECOND}:3260");
    let set = |field: &str, value: &str| {
        format!("{node} -o update -n node.session.auth.{field} -v '{value}' && ")
    };
    let login = [
        format!("{node} -o new && "),
        // Both are offered by the box; here the host asks for them.
        format!("{node} -o update -n 'node.conn[0].iscsi.HeaderDigest' -v CRC32C && "),
        format!("{node} -o update -n 'node.conn[0].iscsi.DataDigest' -v CRC32C && "),
        set("authmethod", "CHAP"),
        set("username", chap.name.as_str()),
        set("password", chap.secret.expose()),
        format!("{node} --login && udevadm wait --settle --timeout=60 {MULTIPATH}"),
    ];
    check(lab, &login.concat())?;
    let digests = "iscsiadm -m session -P 2 | grep -cE '(Header|Data)Digest: CRC32C'";
    let digests = check(lab, digests)?;
    ensure!(digests.trim() == "2", "{digests} digests");
    only_its_own_is_found(lab, target.as_str())?;
    let device = lab.attach(tcp)?;
    let subsystem = &tcp.nvme.as_ref().context("no NVMe access")?.subsystem;
    let key = lab.secrets.dhchap.clone().context("no DH-HMAC-CHAP key")?;
    check(
        lab,
        &format!(
            "nvme connect -t tcp -a {SECOND} -s 4420 -n {subsystem} --reconnect-delay=1 \
             --dhchap-secret='{}'",
            key.expose()
        ),
    )?;
    Ok(device.node().to_owned())
}

/// A host that asks what there is finds what it is attached to, and a stranger nothing.
fn only_its_own_is_found(lab: &mut Lab, target: &str) -> anyhow::Result<()> {
    let found = "for i in $(seq 50); do iscsiadm -m discovery -t st -p 10.77.0.1:3260 -o nonpersistent \
                 && exit 0; sleep 0.1; done; exit 1";
    let found = check(lab, found)?;
    let others = found.lines().find(|line| !line.ends_with(target));
    ensure!(others.is_none() && !found.is_empty(), "{found}");
    for at in ["10.77.0.1:3260", &format!("{SECOND}:3260")] {
        ensure!(found.contains(at), "not found at {at}: {found}");
    }
    let stranger = "nvme discover -t tcp -a 10.77.0.1 -s 4420 \
                    --hostnqn nqn.2026-11.org.example:stranger";
    let found = check(lab, stranger)?;
    ensure!(!found.contains("io.ashlar"), "a stranger found {found}");
    Ok(())
}

/// Waits until both disks have so many paths that work.
fn paths(lab: &mut Lab, count: u32, when: &str) -> anyhow::Result<()> {
    check(
        lab,
        &format!(
            "for i in $(seq 300); do [ $(multipathd show paths format '%t' | grep -c active) = \
             {count} ] && exit 0; sleep 0.1; done; multipathd show paths >&2; iscsiadm -m session \
             >&2; exit 1"
        ),
    )
    .with_context(|| format!("not {count} iSCSI paths {when}"))?;
    live_controllers(lab, count).with_context(|| when.to_owned())
}

fn live_controllers(lab: &mut Lab, count: u32) -> anyhow::Result<()> {
    check(
        lab,
        &format!(
            "for i in $(seq 300); do [ $(grep -l live /sys/class/nvme/nvme*/state | wc -l) = \
             {count} ] && exit 0; sleep 0.1; done; grep . /sys/class/nvme/nvme*/state >&2; exit 1"
        ),
    )
    .with_context(|| format!("not {count} NVMe controllers"))
    .map(drop)
}

/// Writes until told to stop.
fn write_on(lab: &mut Lab, name: &str, device: &str) -> anyhow::Result<()> {
    initiator(&mut lab.guest)
        .check(&format!(
            "rm -f /run/{name}-*; head -c 1M /dev/urandom >/run/{name}.data; \
             (while [ ! -e /run/{name}-stop ]; do dd if=/run/{name}.data of={device} bs=1M \
             oflag=direct conv=notrunc 2>/dev/null && \
             dd if={device} bs=1M count=1 iflag=direct 2>/dev/null | cmp -s - /run/{name}.data || \
             touch /run/{name}-failed; echo >>/run/{name}-rounds; done; touch /run/{name}-done) \
             </dev/null >/dev/null 2>&1 &"
        ))
        .map(drop)
}

/// Both writers go on, and none has failed.
fn rounds(lab: &mut Lab) -> anyhow::Result<()> {
    for name in ["scsi", "nvme"] {
        check(
            lab,
            &format!(
                "n=$(($(wc -l </run/{name}-rounds) + 2)); for i in $(seq 300); do \
                 [ $(wc -l </run/{name}-rounds) -ge $n ] && [ ! -e /run/{name}-failed ] && exit 0; \
                 sleep 0.1; done; exit 1"
            ),
        )
        .with_context(|| format!("the writer over {name} does not go on"))?;
    }
    Ok(())
}
