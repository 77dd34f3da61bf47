//! SCSI over Fibre Channel, which the machines do in software, over their storage network.
//!
//! That network loses frames when there are many, as Fibre Channel does not: there is one request at a
//! time here, of 64 KiB.

use anyhow::{Context, ensure};
use ashlar_protocol::{
    Connected, Connection, ConnectionSpec, FcAccess, HostSecrets, HostSpec, Transport, Wwn,
};
use uuid::Uuid;

use super::{Lab, done, initiator};

const BOX_PORT: &str = "2000525400a50002";
const HOST_PORT: &str = "2000525400a50012";
const OTHER_PORT: &str = "2000525400a50099";

/// A host finds what it is connected to, and only that; a volume goes, and the others stay.
pub async fn a_host_sees_its_own_disks_over_fibre_channel(lab: &mut Lab) -> anyhow::Result<()> {
    println!("a host sees its own disks over Fibre Channel");
    let served = lab.client.system_show().await?.capabilities.transports;
    ensure!(served.contains(&Transport::Fc), "{served:?}");
    add_port(lab)?;
    let host = add_host(lab, "fc", HOST_PORT).await?;
    let stranger = add_host(lab, "fc-stranger", OTHER_PORT).await?;
    let (first, second, theirs) = (
        lab.volume(16).await?,
        lab.volume(16).await?,
        lab.volume(16).await?,
    );
    // A host must be let in before it logs in: see docs/decisions/fc.md.
    let one = attach(lab, first, host).await?;
    let other = attach(lab, second, host).await?;
    let foreign = attach(lab, theirs, stranger).await?;
    ensure!(access(&one)?.ports == [BOX_PORT.parse::<Wwn>()?], "{one:?}");
    let luns = [access(&one)?.lun, access(&other)?.lun];
    ensure!(luns.map(u64::from) == [0, 1], "{luns:?}");
    ensure!(u64::from(access(&foreign)?.lun) == 0, "{foreign:?}");

    log_in(lab)?;
    ensure!(
        found(lab)? == serials(&[&one, &other])?,
        "{:?}",
        found(lab)?
    );
    let first_data = write(lab, &one)?;
    let second_data = write(lab, &other)?;
    ensure!(first_data != second_data, "both were given the same data");
    ensure!(read(lab, &one)? == first_data, "other data than written");
    ensure!(read(lab, &other)? == second_data, "other data than written");

    done(lab.client.connection_delete(one.id).await?)?;
    ensure!(read(lab, &one).is_err(), "read what is detached");
    ensure!(
        read(lab, &other)? == second_data,
        "the other one was touched"
    );

    log_out(lab)?;
    for connection in [&other, &foreign] {
        done(lab.client.connection_delete(connection.id).await?)?;
    }
    for volume in [first, second, theirs] {
        done(lab.client.volume_delete(volume).await?)?;
    }
    for host in [host, stranger] {
        done(lab.client.host_delete(host).await?)?;
    }
    Ok(())
}

/// Makes the box's card a port, and waits until it has an address.
fn add_port(lab: &mut Lab) -> anyhow::Result<()> {
    let add = add_port_of("storage", BOX_PORT);
    lab.guest.site.appliance.check(&add).map(drop)
}

/// The same for the host, which logs in by that. Its disks follow.
fn log_in(lab: &mut Lab) -> anyhow::Result<()> {
    let card = "$(ip -o link | sed -n 's/^[0-9]*: \\([^:]*\\):.*52:54:00:a5:00:12.*/\\1/p')";
    initiator(&mut lab.guest).check(&add_port_of(card, HOST_PORT))?;
    initiator(&mut lab.guest)
        .check("for i in $(seq 600); do [ $(ls -d /sys/block/sd* | wc -l) -ge 2 ] && exit 0; sleep 0.1; done; dmesg | tail -40 >&2; exit 1")
        .context("no disks")?;
    // Whatever else it may find, it has by then.
    initiator(&mut lab.guest).check(
        "for host in /sys/class/fc_host/*; do echo '- - -' >/sys/class/scsi_host/${host##*/}/scan; done; udevadm settle",
    ).map(drop)
}

/// Frames come for addresses that a card does not let through by itself.
fn add_port_of(card: &str, port: &str) -> String {
    format!(
        "modprobe fcoe && card={card} && ip link set $card promisc on && \
         echo $card >/sys/module/libfcoe/parameters/create_vn2vn && \
         for i in $(seq 300); do grep -q Online $(grep -l 0x{port} /sys/class/fc_host/*/port_name | \
         sed s/port_name/port_state/) /dev/null && exit 0; sleep 0.1; done; \
         grep . /sys/class/fc_host/*/port_* >&2; exit 1"
    )
}

fn log_out(lab: &mut Lab) -> anyhow::Result<()> {
    let card = "$(ip -o link | sed -n 's/^[0-9]*: \\([^:]*\\):.*52:54:00:a5:00:12.*/\\1/p')";
    let leave = format!("echo {card} >/sys/module/libfcoe/parameters/destroy");
    initiator(&mut lab.guest).check(&leave).map(drop)
}

async fn add_host(lab: &Lab, name: &str, port: &str) -> anyhow::Result<Uuid> {
    let id = Uuid::new_v4();
    let spec = HostSpec {
        name: name.parse()?,
        iqn: None,
        nqn: None,
        wwpns: [port.parse()?].into(),
        authentication: Default::default(),
        dhchap: Default::default(),
        secrets: HostSecrets::default(),
    };
    done(lab.client.host_create(id, &spec).await?)?;
    Ok(id)
}

async fn attach(lab: &Lab, volume: Uuid, host: Uuid) -> anyhow::Result<Connection> {
    let spec = ConnectionSpec {
        of: Connected::Volume(volume),
        host,
        transport: Transport::Fc,
        access: Default::default(),
    };
    done(lab.client.connection_create(Uuid::new_v4(), &spec).await?)
}

fn access(connection: &Connection) -> anyhow::Result<&FcAccess> {
    connection
        .fc
        .as_ref()
        .context("no access over Fibre Channel")
}

fn serials(connections: &[&Connection]) -> anyhow::Result<Vec<String>> {
    let mut serials = Vec::new();
    for connection in connections {
        serials.push(access(connection)?.serial.clone());
    }
    serials.sort();
    Ok(serials)
}

/// The serial numbers of all disks that the host has.
fn found(lab: &mut Lab) -> anyhow::Result<Vec<String>> {
    let ask = "for disk in /sys/block/sd*; do tail -c +5 $disk/device/vpd_pg80 | tr -d '\\0'; echo; done | sort";
    let said = initiator(&mut lab.guest).check(ask)?;
    Ok(said.lines().map(|line| line.trim().to_owned()).collect())
}

/// The host's node of what is connected.
fn node(connection: &Connection) -> anyhow::Result<String> {
    let serial = &access(connection)?.serial;
    Ok(format!(
        "/dev/$(grep -l {serial} /sys/block/sd*/device/vpd_pg80 | cut -d / -f 4)"
    ))
}

fn write(lab: &mut Lab, connection: &Connection) -> anyhow::Result<String> {
    let write = format!(
        "head -c 2M /dev/urandom >/run/fc && \
         dd if=/run/fc of={} bs=64k oflag=direct status=none && sha256sum </run/fc",
        node(connection)?
    );
    initiator(&mut lab.guest).check(&write)
}

fn read(lab: &mut Lab, connection: &Connection) -> anyhow::Result<String> {
    let read = format!(
        "dd if={} of=/run/fc bs=64k count=32 iflag=direct status=none && sha256sum </run/fc",
        node(connection)?
    );
    initiator(&mut lab.guest).check(&read)
}
