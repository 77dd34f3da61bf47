//! Cutting one of two hosts off, while both use the volume.

use anyhow::{Context, ensure};
use ashlar_protocol::{
    Authentication, Connected, Connection, ConnectionSpec, HostSecrets, HostSpec, Iqn, ProblemCode,
    TransferSpec, Transport,
};
use uuid::Uuid;

use super::{Lab, done, initiator};

const SECOND_IQN: &str = "iqn.2026-11.org.example:second";
const SECOND_NQN: &str = "nqn.2026-11.org.example:second";
const PORTAL: &str = "10.77.0.1";

/// What one host loses by force, the other one keeps.
pub async fn force_cuts_off_one_host_only(lab: &mut Lab) -> anyhow::Result<()> {
    println!("force cuts off one host only");
    let second = second_host(lab).await?;
    over_iscsi(lab, second).await?;
    over_nvme(lab, second).await?;
    done(lab.client.host_delete(second).await?)
}

/// Whoever had a volume before it was given to another owner neither keeps it nor gets it back,
/// secrets or not; the new owner's host has it, with all that was in it.
pub async fn what_was_transferred_is_out_of_reach(lab: &mut Lab) -> anyhow::Result<()> {
    println!("what was transferred is out of reach");
    let second = second_host(lab).await?;
    // Keeps the address listened on, so that whoever comes is refused and does not try again.
    let other = lab.volume(16).await?;
    let beside = lab.connect(other, Transport::Iscsi).await?;
    lab.attach(&beside)?;
    let volume = lab.volume(16).await?;
    let iscsi = lab.connect(volume, Transport::Iscsi).await?;
    let nvme = lab.connect(volume, Transport::NvmeTcp).await?;
    let device = lab.attach(&iscsi)?;
    let hash = initiator(&mut lab.guest).write_random(&device, 8)?;
    let spec = TransferSpec {
        owner: "other".parse()?,
        interrupt: true,
    };
    done(lab.client.volume_transfer(volume, &spec).await?)?;
    // The session it had is over, if it has not noticed itself, and there is no other. One that is
    // just being made anew is not ended when that is asked for.
    let gone = iscsi.iscsi.as_ref().context("no iSCSI access")?;
    let forget = format!(
        "for i in $(seq 120); do iscsiadm -m node -T {target} --logout; \
         iscsiadm -m session | grep -q {target} || break; sleep 0.5; done; \
         iscsiadm -m node -T {target} -o delete",
        target = gone.target
    );
    check(lab, &forget)?;
    for before in [&iscsi, &nvme] {
        refused(lab, before)?;
    }
    // Nor does the one that is there for somebody else let it in.
    let connection = connect(lab, volume, second, Transport::Iscsi).await?;
    refused(lab, &iscsi)?;
    let target = connection.iscsi.context("no iSCSI access")?.target;
    check(
        lab,
        &format!("iscsiadm -m node -T {target} -o delete || true"),
    )?;
    login_second(lab, &target)?;
    let disk = format!("/dev/disk/by-path/ip-{PORTAL}:3260-iscsi-{target}-lun-0");
    let seen = check(
        lab,
        &format!(
            "udevadm wait --settle --timeout=60 {disk}; \
             dd if={disk} bs=1M count=8 iflag=direct status=none | sha256sum | cut -d ' ' -f 1"
        ),
    )?;
    ensure!(seen == hash, "the new host reads {seen}, not {hash}");
    logout_second(lab, &target)?;
    check(
        lab,
        &format!("iscsiadm -m node -T {target} -o delete || true"),
    )?;
    check(lab, "iscsiadm -m iface -I second -o delete")?;
    done(lab.client.volume_detach_all(volume).await?)?;
    done(lab.client.host_delete(second).await?)?;
    done(lab.client.volume_delete(volume).await?)?;
    lab.detach(&beside)?;
    done(lab.client.volume_detach_all(other).await?)?;
    done(lab.client.volume_delete(other).await?)
}

/// The box does not let the host in; that it says nothing would not do.
fn refused(lab: &mut Lab, connection: &Connection) -> anyhow::Result<()> {
    lab.guest.site.appliance.check("dmesg --clear")?;
    let Err(error) = lab.attach(connection) else {
        anyhow::bail!("the old host came back by {}", connection.transport)
    };
    let said = format!("{error:#}");
    ensure!(!said.contains("no answer"), "{said}");
    if connection.transport == Transport::Iscsi {
        let kernel = lab.guest.site.appliance.check("dmesg")?;
        ensure!(
            ["Unable to locate Target IQN", "not authorized to access"]
                .iter()
                .any(|reason| kernel.contains(reason)),
            "{said}; its kernel refused nobody: {kernel}"
        );
    }
    Ok(())
}

/// Another host on the same machine; it proves nothing.
pub async fn second_host(lab: &Lab) -> anyhow::Result<Uuid> {
    let id = Uuid::new_v4();
    let spec = HostSpec {
        name: "second".parse()?,
        iqn: Some(SECOND_IQN.parse()?),
        nqn: Some(SECOND_NQN.parse()?),
        wwpns: Default::default(),
        authentication: Authentication::None,
        dhchap: Default::default(),
        secrets: HostSecrets::default(),
    };
    done(lab.client.host_create(id, &spec).await?)?;
    Ok(id)
}

/// Attaches a volume to a host.
pub async fn connect(
    lab: &Lab,
    volume: Uuid,
    host: Uuid,
    transport: Transport,
) -> anyhow::Result<Connection> {
    let spec = ConnectionSpec {
        of: Connected::Volume(volume),
        host,
        transport,
        access: Default::default(),
    };
    done(lab.client.connection_create(Uuid::new_v4(), &spec).await?)
}

async fn over_iscsi(lab: &mut Lab, second: Uuid) -> anyhow::Result<()> {
    let volume = lab.volume(32).await?;
    let first = lab.connect(volume, Transport::Iscsi).await?;
    let other = connect(lab, volume, second, Transport::Iscsi).await?;
    let device = lab.attach(&first)?;
    // Both sessions have the same path by name, so the disk itself is used.
    let disk = check(lab, &format!("readlink -f {}", device.node()))?;
    let target = &other.iscsi.as_ref().context("no iSCSI access")?.target;
    login_second(lab, target)?;
    read_on(lab, &disk)?;
    let sessions = "cat /sys/class/iscsi_session/session*/state";
    ensure!(check(lab, sessions)? == "LOGGED_IN\nLOGGED_IN", "before");
    let refused = lab.client.connection_delete(other.id).await;
    let problem = refused.err().context("a host that is logged in let go")?;
    let code = problem.problem().map(|problem| problem.code);
    ensure!(code == Some(ProblemCode::InUse), "{problem}");
    done(lab.client.connection_cut(other.id).await?)?;
    check(
        lab,
        &format!(
            "for i in $(seq 300); do {sessions} | grep -qv LOGGED_IN && exit 0; sleep 0.1; done; exit 1"
        ),
    )
    .context("the session that was cut is still logged in")?;
    let left = check(lab, &format!("{sessions} | grep -c LOGGED_IN"))?;
    ensure!(left == "1", "{left} sessions are left");
    had_no_failure(lab)?;
    logout_second(lab, target)?;
    // Takes the records of both away.
    lab.detach(&first)?;
    check(lab, "iscsiadm -m iface -I second -o delete")?;
    done(lab.client.volume_detach_all(volume).await?)?;
    done(lab.client.volume_delete(volume).await?)
}

/// Logs the second host in.
pub fn login_second(lab: &mut Lab, target: &Iqn) -> anyhow::Result<()> {
    let node = second_node(target);
    check(
        lab,
        &format!(
            "iscsiadm -m iface -I second -o new; iscsiadm -m iface -I second -o update \
             -n iface.initiatorname -v {SECOND_IQN} && {node} -o new && {node} --login"
        ),
    )
    .map(drop)
}

/// Logs it out, if it still is logged in.
pub fn logout_second(lab: &mut Lab, target: &Iqn) -> anyhow::Result<()> {
    let logout = format!("{} --logout; true", second_node(target));
    check(lab, &logout).map(drop)
}

fn second_node(target: &Iqn) -> String {
    format!("iscsiadm -m node -T {target} -p {PORTAL} -I second")
}

async fn over_nvme(lab: &mut Lab, second: Uuid) -> anyhow::Result<()> {
    let volume = lab.volume(32).await?;
    let first = lab.connect(volume, Transport::NvmeTcp).await?;
    let other = connect(lab, volume, second, Transport::NvmeTcp).await?;
    let device = lab.attach(&first)?;
    let disk = device.node().to_owned();
    let access = other.nvme.as_ref().context("no NVMe access")?;
    check(
        lab,
        &format!(
            "nvme connect -t tcp -a {PORTAL} -s 4420 -n {} --hostnqn {SECOND_NQN} --hostid {}",
            access.subsystem,
            Uuid::new_v4()
        ),
    )?;
    ensure!(states(lab, SECOND_NQN)? == ["live"], "before");
    read_on(lab, &disk)?;
    done(lab.client.connection_cut(other.id).await?)?;
    // The first host reconnects by itself and then goes on; the second one is refused.
    for _ in 0..600 {
        let (mine, others) = (states(lab, "uuid")?, states(lab, SECOND_NQN)?);
        if mine == ["live"] && others.iter().all(|state| state != "live") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    ensure!(states(lab, "uuid")? == ["live"], "the first host is away");
    let others = states(lab, SECOND_NQN)?;
    ensure!(
        others.iter().all(|state| state != "live"),
        "the second host is connected: {others:?}"
    );
    had_no_failure(lab)?;
    lab.detach(&first)?;
    done(lab.client.volume_detach_all(volume).await?)?;
    done(lab.client.volume_delete(volume).await?)
}

/// The states of the controllers of hosts whose name contains this.
fn states(lab: &mut Lab, host: &str) -> anyhow::Result<Vec<String>> {
    let text = check(
        lab,
        &format!(
            "for c in /sys/class/nvme/nvme*; do [ -e $c ] && grep -q '{host}' $c/hostnqn \
             && cat $c/state; done; true"
        ),
    )?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Reads the disk over and over, in the background.
pub fn read_on(lab: &mut Lab, disk: &str) -> anyhow::Result<()> {
    check(
        lab,
        &format!(
            "rm -f /run/stop; (until [ -e /run/stop ]; do dd if={disk} of=/dev/null bs=64k count=8 \
             iflag=direct status=none || echo failed; done > /run/reads 2>&1; \
             echo done >> /run/reads) &"
        ),
    )
    .map(drop)
}

/// Ends the reading; none of it failed.
pub fn had_no_failure(lab: &mut Lab) -> anyhow::Result<()> {
    let log = check(
        lab,
        "touch /run/stop; for i in $(seq 600); do grep -q done /run/reads && break; \
         sleep 0.1; done; cat /run/reads",
    )?;
    ensure!(log == "done", "reading meanwhile: {log}");
    Ok(())
}

pub fn check(lab: &mut Lab, command: &str) -> anyhow::Result<String> {
    let output = initiator(&mut lab.guest).check(command)?;
    Ok(output.trim_end().to_owned())
}
