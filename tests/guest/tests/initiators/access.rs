//! One host writes, another one only reads, both at once; and snapshots, which are only read.

use anyhow::{Context, ensure};
use ashlar_protocol::{Access, Connected, ConnectionSpec, SnapshotSpec, Transport};
use ashlar_site::Device;
use uuid::Uuid;

use super::cutting::{check, login_second, logout_second, second_host};
use super::{Lab, done, initiator};

/// Sends a command to a disk, whatever the kernel thinks of it: one that says of itself that it
/// reads a block (-3) or that it writes one (-2). Prints the status and the sense data.
const SEND: &str = r#"
use strict;
my ($node, $direction, $cdb) = @ARGV;
$cdb = pack 'H*', $cdb;
my ($data, $sense) = ("\0" x 512, "\0" x 64);
open my $disk, '<', $node or die "$node: $!\n";
my $header = pack 'iiCCSIPPPIIix4QC4SSiIIx4', ord 'S', $direction, length $cdb, length $sense, 0,
    length $data, $data, $cdb, $sense, 60000, 0, 0, 0, (0) x 9;
ioctl $disk, 0x2285, $header or die "SG_IO: $!\n";
my ($status, undef, undef, $length, $host) = unpack 'x64C4SSiII', $header;
print "host $host status $status sense ", unpack('H*', substr $sense, 0, $length), "\n";
"#;

/// WRITE of the first block.
const WRITE: &str = "2a000000000000000100";

/// WRITE SAME of the first eight blocks, with 10, 16 and 32 bytes.
const WRITE_SAME: [&str; 3] = [
    "41000000000000000800",
    "93000000000000000000000000080000",
    "7f00000000000018000d00000000000000000000000000000000000000000008",
];

/// A host that only reads is refused to write, whether it looks if it may or not.
pub async fn one_host_only_reads_what_another_writes(lab: &mut Lab) -> anyhow::Result<()> {
    println!("one host only reads what another writes");
    let second = second_host(lab).await?;
    let volume = lab.volume(32).await?;
    let writing = lab.connect(volume, Transport::Iscsi).await?;
    let spec = ConnectionSpec {
        of: Connected::Volume(volume),
        host: second,
        transport: Transport::Iscsi,
        access: Access::ReadOnly,
    };
    let reading = done(lab.client.connection_create(Uuid::new_v4(), &spec).await?)?;
    let device = lab.attach(&writing)?;
    let disk = check(lab, &format!("readlink -f {}", device.node()))?;
    // Both sessions have the same path by name.
    let device = Device::at(&disk);
    let access = reading.iscsi.as_ref().context("no iSCSI access")?;
    login_second(lab, &access.target)?;
    let twin = twin(lab, &disk)?;

    ensure!(
        check(lab, &format!("blockdev --getro {disk}"))? == "0",
        "the writer's"
    );
    let read_only = check(lab, &format!("blockdev --getro {twin}"))?;
    ensure!(read_only == "1", "the reader's: {read_only}");
    let hash = initiator(&mut lab.guest).write_random(&device, 4)?;
    let read = format!(
        "dd if={twin} of=/run/twin bs=1M count=4 iflag=direct status=none && \
         sha256sum < /run/twin | cut -d' ' -f1"
    );
    ensure!(check(lab, &read)? == hash, "what the other one wrote");
    for refused in [
        format!("dd if=/dev/zero of={twin} bs=4k count=1 oflag=direct"),
        format!("blkdiscard --offset 0 --length 1M {twin}"),
    ] {
        initiator(&mut lab.guest).fails(&refused)?;
    }
    is_refused_to_write(lab, &twin)?;
    ensure!(
        initiator(&mut lab.guest).hash(&device, 4)? == hash,
        "a host that only reads has written"
    );
    logout_second(lab, &access.target)?;
    lab.detach(&writing)?;
    check(lab, "iscsiadm -m iface -I second -o delete")?;
    done(lab.client.volume_detach_all(volume).await?)?;
    done(lab.client.volume_delete(volume).await?)?;
    done(lab.client.host_delete(second).await?)
}

/// A host reads a snapshot of a volume that it goes on writing, and cannot write the snapshot,
/// whether it looks if it may or not.
pub async fn a_snapshot_is_only_read(lab: &mut Lab) -> anyhow::Result<()> {
    println!("a snapshot is only read");
    let volume = lab.volume(32).await?;
    let writing = lab.connect(volume, Transport::Iscsi).await?;
    let disk = lab.attach(&writing)?;
    let old = initiator(&mut lab.guest).write_random(&disk, 4)?;
    let snapshot = Uuid::new_v4();
    let spec = SnapshotSpec {
        name: "read".parse()?,
        volume,
        labels: Default::default(),
    };
    done(lab.client.snapshot_create(snapshot, &spec).await?)?;
    let new = initiator(&mut lab.guest).write_random(&disk, 4)?;
    let spec = ConnectionSpec {
        of: Connected::Snapshot(snapshot),
        host: lab.host,
        transport: Transport::Iscsi,
        access: Access::ReadOnly,
    };
    let reading = done(lab.client.connection_create(Uuid::new_v4(), &spec).await?)?;
    let copy = lab.attach(&reading)?;
    let node = copy.node().to_owned();
    ensure!(
        initiator(&mut lab.guest).hash(&copy, 4)? == old,
        "what the volume held"
    );
    let read_only = check(lab, &format!("blockdev --getro {node}"))?;
    ensure!(read_only == "1", "{read_only}");
    for refused in [
        format!("dd if=/dev/zero of={node} bs=4k count=1 oflag=direct"),
        format!("blkdiscard --offset 0 --length 1M {node}"),
    ] {
        initiator(&mut lab.guest).fails(&refused)?;
    }
    is_refused_to_write(lab, &node)?;
    lab.detach(&reading)?;
    let copy = lab.attach(&reading)?;
    let hashes = [&copy, &disk].map(|device| initiator(&mut lab.guest).hash(device, 4));
    let [of_snapshot, of_volume] = hashes;
    ensure!(of_snapshot? == old, "a snapshot has been written");
    ensure!(of_volume? == new, "a volume has been written");
    lab.detach(&reading)?;
    lab.detach(&writing)?;
    done(lab.client.connection_delete(reading.id).await?)?;
    done(lab.client.snapshot_delete(snapshot).await?)?;
    done(lab.client.volume_detach_all(volume).await?)?;
    done(lab.client.volume_delete(volume).await?)
}

/// The kernel looks at what a command says of itself: one that writes and says that it reads must
/// be refused, too.
fn is_refused_to_write(lab: &mut Lab, node: &str) -> anyhow::Result<()> {
    check(lab, &format!("cat > /run/send <<'END'{SEND}END"))?;
    // A check condition: illegal request.
    for command in WRITE_SAME {
        refuses(lab, node, -3, command, "5", None)?;
    }
    // Another: data protect, write protected.
    refuses(lab, node, -2, WRITE, "7", Some("27"))
}

fn refuses(
    lab: &mut Lab,
    node: &str,
    direction: i8,
    command: &str,
    key: &str,
    code: Option<&str>,
) -> anyhow::Result<()> {
    let answer = check(lab, &format!("perl /run/send {node} {direction} {command}"))?;
    println!("{command}: {answer}");
    let sense = answer.strip_prefix("host 0 status 2 sense ");
    let refused = sense.is_some_and(|sense| {
        sense.get(..2) == Some("70")
            && sense.get(5..6) == Some(key)
            && code.is_none_or(|code| sense.get(24..26) == Some(code))
    });
    ensure!(refused, "{command} to {node}: {answer}");
    Ok(())
}

/// The other disk of the same identity: both sessions have the same path by name.
fn twin(lab: &mut Lab, disk: &str) -> anyhow::Result<String> {
    let name = disk.trim_start_matches("/dev/");
    check(
        lab,
        &format!(
            "udevadm settle; for d in /sys/block/sd*; do [ ${{d##*/}} = {name} ] || \
             ! cmp -s $d/device/wwid /sys/block/{name}/device/wwid || \
             {{ echo /dev/${{d##*/}}; exit 0; }}; done; exit 1"
        ),
    )
}
