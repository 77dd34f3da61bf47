//! Host and box prove themselves to each other, and a host gets new secrets while it is connected.

use anyhow::{Context, ensure};
use ashlar_protocol::{
    Authentication, Connection, DhGroup, DhHash, DhchapExchange, DhchapKey, HostRotation,
    HostSecrets,
};

use super::cutting::{check, had_no_failure, read_on};
use super::{Lab, TRANSPORTS, done, initiator};

/// A key that is nobody's.
const STRANGE: &str = "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:";

/// Gives the lab's host new secrets, and the lab, too.
async fn rotate(lab: &mut Lab, spec: &HostRotation) -> anyhow::Result<HostSecrets> {
    let rotated = done(lab.client.host_rotate(lab.host, spec).await?)?;
    Ok(std::mem::replace(&mut lab.secrets, rotated.secrets))
}

/// Leaves the lab's host with secrets for one way only, as it was.
pub async fn the_box_proves_itself_to_hosts_that_ask(lab: &mut Lab) -> anyhow::Result<()> {
    println!("the box proves itself to hosts that ask");
    let mutual = HostRotation {
        authentication: Some(Authentication::Mutual),
        dhchap: Some(DhchapExchange {
            hash: DhHash::Sha512,
            group: DhGroup::Ffdhe2048,
        }),
        ..HostRotation::default()
    };
    rotate(lab, &mutual).await?;
    let right = lab.secrets.clone();
    let volume = lab.volume(32).await?;
    for transport in TRANSPORTS {
        let connection = lab.connect(volume, transport).await?;
        // A box that does not know the secret is not the one.
        lab.secrets = with_other_target_secrets(&right)?;
        ensure!(
            lab.attach(&connection).is_err(),
            "{transport}: a box was trusted that has another secret"
        );
        forget(lab, &connection)?;
        // It is the host that insists on it.
        lab.secrets = HostSecrets {
            chap_mutual: None,
            dhchap_controller: None,
            ..right.clone()
        };
        lab.attach(&connection)?;
        lab.detach(&connection)?;
        lab.secrets = right.clone();
        let device = lab.attach(&connection)?;
        let hash = initiator(&mut lab.guest).write_random(&device, 4)?;
        ensure!(
            initiator(&mut lab.guest).hash(&device, 4)? == hash,
            "{transport}: data"
        );
        lab.detach(&connection)?;
    }
    let log = check(lab, "dmesg | grep 'authenticated with hash' | tail -n 1")?;
    ensure!(
        log.contains("hmac(sha512)") && log.contains("ffdhe2048"),
        "authenticated in another way: {log}"
    );
    done(lab.client.volume_detach_all(volume).await?)?;
    done(lab.client.volume_delete(volume).await?)?;
    let one_way = HostRotation {
        authentication: Some(Authentication::Required),
        dhchap: Some(DhchapExchange::default()),
        ..HostRotation::default()
    };
    rotate(lab, &one_way).await?;
    Ok(())
}

fn with_other_target_secrets(right: &HostSecrets) -> anyhow::Result<HostSecrets> {
    let mut wrong = right.clone();
    let chap = wrong.chap_mutual.as_mut().context("no mutual secret")?;
    chap.secret = String::from("wrong-wrong-1").try_into()?;
    wrong.dhchap_controller = Some(DhchapKey::try_from(STRANGE.to_owned())?);
    Ok(wrong)
}

/// Takes away what a login that failed has left with the initiator.
fn forget(lab: &mut Lab, connection: &Connection) -> anyhow::Result<()> {
    if let Some(access) = &connection.iscsi {
        let forget = format!("iscsiadm -m node -T {} -o delete", access.target);
        check(lab, &forget)?;
    }
    Ok(())
}

pub async fn new_secrets_disturb_no_io_and_are_the_only_ones(lab: &mut Lab) -> anyhow::Result<()> {
    println!("new secrets disturb no I/O and are the only ones");
    let volume = lab.volume(32).await?;
    for transport in TRANSPORTS {
        let connection = lab.connect(volume, transport).await?;
        let device = lab.attach(&connection)?;
        let disk = check(lab, &format!("readlink -f {}", device.node()))?;
        read_on(lab, &disk)?;
        let old = rotate(lab, &HostRotation::default()).await?;
        if let Some(access) = &connection.nvme {
            // The host takes the new key while connected, and comes back with it.
            let key = lab.secrets.dhchap.clone().context("no key")?;
            let reset = format!(
                "for c in /sys/class/nvme/nvme*; do grep -qx '{}' $c/subsysnqn || continue; \
                 echo '{}' > $c/dhchap_secret && sleep 2 && echo 1 > $c/reset_controller && \
                 for i in $(seq 300); do grep -qx live $c/state && exit 0; sleep 0.1; done; \
                 cat $c/state >&2; exit 1; done",
                access.subsystem,
                key.expose()
            );
            check(lab, &reset).context("coming back with the new key")?;
        }
        had_no_failure(lab).with_context(|| format!("{transport}, rotated"))?;
        lab.detach(&connection)?;
        let new = std::mem::replace(&mut lab.secrets, old);
        ensure!(
            lab.attach(&connection).is_err(),
            "{transport}: the old secret is taken"
        );
        forget(lab, &connection)?;
        lab.secrets = new;
        lab.attach(&connection)?;
        lab.detach(&connection)?;
    }
    done(lab.client.volume_detach_all(volume).await?)?;
    done(lab.client.volume_delete(volume).await?)
}
