//! The reader of disk images shuts itself in on the appliance's kernel, too, from inside the
//! agent's own sandbox, and reads there what it reads here. What clients import and export there
//! is what QEMU takes it for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use ashlar_ctl::Client;
use ashlar_guest_tests::Guest;
use ashlar_guest_tests::lab::{MIB, done};
use ashlar_protocol::{Job, JobState, PoolSpec, VolumeSpec};
use ashlar_site::{Options, Parts, Site};
use ashlar_tests::scenario::Request;
use ashlar_tests::wire::Wire;
use uuid::Uuid;

const PROGRAM: &str = "ashlar-convert";

/// Prints what the program says of an image, and the digest of the extents it gives. Every end
/// is a pipe, as the agent's are.
const READ: &str = r#"image=$2
{ "$1" --length="$(stat -c %s "$image")" --limit=1073741824 <"$image" 2>&3 | sha256sum; } 3>&1 | cat
"#;

/// The agent's unit with another program in it. What is left out would only make it wait for
/// something or come back.
const UNIT: &str = r#"
sed -e 's|^Type=.*|Type=oneshot|' \
    -e 's|^ExecStart=.*|ExecStart=/bin/sh /run/payload/read /usr/sbin/ashlar-convert /run/payload/image|' \
    -e 's|^\[Service\]|[Service]\nStandardOutput=file:/run/read.out|' \
    -e '/^Restart/d' -e '/^WatchdogSec/d' -e '/^Condition/d' -e '/^After/d' -e '/^Wants/d' \
    /etc/systemd/system/ashlar-agent.service >/run/systemd/system/read.service
systemctl daemon-reload
systemctl start read.service || journalctl --no-pager --unit=read.service >&2
cat /run/read.out
"#;

#[test]
fn an_image_is_read_in_full_confinement() -> anyhow::Result<()> {
    let parts = Parts::from_env()?;
    let payload = parts.work.join("images-payload");
    make(&payload)?;
    let here = Command::new("sh")
        .arg(payload.join("read"))
        .arg(parts.programs.join(PROGRAM))
        .arg(payload.join("image"))
        .output()
        .context("failed to start sh")?;
    let here = String::from_utf8(here.stdout)?;
    let options = Options {
        payload: Some(payload),
        ..Options::default()
    };
    let mut site = Site::create(&parts, &parts.work.join("images"), &options)?;
    site.unpack()?;
    let there = site.appliance.check(UNIT)?;
    print!("{there}");
    let mut lines: Vec<&str> = there.lines().collect();
    lines.sort_unstable();
    ensure!(lines.len() == 2, "it printed {there:?}");
    ensure!(
        lines[1] == "open qcow2 67108864 full",
        "it is not shut in by all means: {there:?}"
    );
    ensure!(
        here.lines().any(|line| line == lines[0]),
        "here it gives {here:?}, there {there:?}"
    );
    Ok(())
}

/// A folder with the script and a compressed image.
fn make(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    fs::write(folder.join("read"), READ)?;
    let (raw, image) = (folder.join("raw"), folder.join("image"));
    fs::write(&raw, disk(64))?;
    qemu_img(
        &["convert", "-f", "raw", "-O", "qcow2", "-c"],
        &[&raw, &image],
    )?;
    fs::remove_file(raw).context("the raw disk")
}

/// A disk of so many MiB with 8 MiB of data.
fn disk(mib: usize) -> Vec<u8> {
    let mut disk = vec![0; mib << 20];
    for (at, byte) in disk[1 << 20..9 << 20].iter_mut().enumerate() {
        *byte = (at / 3 % 253) as u8;
    }
    disk
}

fn qemu_img(arguments: &[&str], files: &[&Path]) -> anyhow::Result<()> {
    let output = Command::new("qemu-img")
        .args(arguments)
        .args(files)
        .output();
    let output = output.context("failed to start qemu-img")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "qemu-img {arguments:?}: {said}");
    Ok(())
}

/// Formats, each with what QEMU calls it and how it is to write it.
const FORMATS: [(&str, &str, &[&str]); 5] = [
    ("qcow2", "qcow2", &["-c"]),
    ("qcow2", "qcow2", &["-c", "-o", "compression_type=zstd"]),
    ("vmdk", "vmdk", &["-o", "subformat=streamOptimized"]),
    ("vhd", "vpc", &["-o", "force_size=on"]),
    ("vhdx", "vhdx", &[]),
];

const IMAGE: &str = "application/vnd.ashlar.image";
const SIZE: usize = 32;

/// An appliance with a pool and a volume.
struct Store {
    guest: Guest,
    client: Client,
    wire: Wire,
    pool: Uuid,
    volume: Uuid,
    folder: PathBuf,
}

impl Store {
    async fn new() -> anyhow::Result<Store> {
        let guest = Guest::boot("images-managed", false)?;
        let client = guest.site.client("admin")?;
        let address = format!("127.0.0.1:{}", guest.site.ports.management);
        let wire = Wire::new(&address, guest.site.pki.folder(), "operator")?;
        let (pool, volume) = (Uuid::new_v4(), Uuid::new_v4());
        let spec = PoolSpec::on("tank".parse()?, vec!["serial-DISK0".parse()?]);
        done(client.pool_create(pool, &spec).await?)?;
        let spec = VolumeSpec::blank("volume".parse()?, pool, SIZE as u64 * MIB);
        done(client.volume_create(volume, &spec).await?)?;
        let folder = guest.site.folder().join("images");
        fs::create_dir_all(&folder)?;
        Ok(Store {
            guest,
            client,
            wire,
            pool,
            volume,
            folder,
        })
    }

    fn request(&self, method: &str, query: &str) -> Request {
        let path = format!("/v1/volumes/{}/data{query}", self.volume);
        Request::new(method, path, None)
    }

    /// The status, and what is said of a refusal.
    async fn import(&self, query: &str, body: Vec<u8>) -> anyhow::Result<(u16, String)> {
        let request = self.request("PUT", query);
        let reply = self.wire.send(&request, IMAGE, body.into()).await?;
        let said = String::from_utf8_lossy(&reply.body).into_owned();
        Ok((reply.status, said))
    }

    async fn export(&self, format: &str) -> anyhow::Result<Vec<u8>> {
        let request = self.request("GET", &format!("?format={format}"));
        let reply = self.wire.send(&request, "", Vec::new().into()).await?;
        ensure!(reply.status == 200, "{format}: {:?}", reply.body);
        Ok(reply.body.to_vec())
    }

    /// The volume's thin device is the only one, soon.
    async fn nothing_left(&self) -> anyhow::Result<()> {
        for _ in 0..100 {
            if self.client.pool_show(self.pool).await?.provisioned == SIZE as u64 * MIB {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        bail!("what the image was kept on is still there")
    }

    /// How many thin devices the pool has, whoever made them.
    async fn thin_devices(&self) -> anyhow::Result<usize> {
        Ok(self.client.thin_devices(self.pool).await?.len())
    }
}

#[tokio::test]
async fn images_of_every_format_are_what_qemu_takes_them_for() -> anyhow::Result<()> {
    let mut store = Store::new().await?;
    let folder = store.folder.clone();
    let (raw, image) = (folder.join("raw"), folder.join("image"));
    fs::write(&raw, disk(SIZE))?;
    for (name, theirs, options) in FORMATS {
        let mut convert = vec!["convert", "-f", "raw", "-O", theirs];
        convert.extend_from_slice(options);
        qemu_img(&convert, &[&raw, &image])?;
        let (status, said) = store.import("", fs::read(&image)?).await?;
        ensure!(status == 200, "{name} {options:?}: {said}");
        ensure!(
            store.export("raw").await? == fs::read(&raw)?,
            "{name} {options:?} holds something else"
        );
        println!("{name} {options:?} imported");
        fs::write(&image, store.export(name).await?)?;
        if name != "vhd" {
            qemu_img(&["check", "-f", theirs], &[&image])?;
        }
        qemu_img(&["compare", "-f", theirs, "-F", "raw"], &[&image, &raw])?;
        println!("{name} exported");
    }
    let backed = folder.join("backed");
    qemu_img(
        &["create", "-f", "qcow2", "-F", "raw", "-b", "raw"],
        &[&backed],
    )?;
    let (status, said) = store.import("", fs::read(&backed)?).await?;
    ensure!(
        status == 400 && said.contains("backing file"),
        "{status} {said}"
    );
    store.nothing_left().await?;

    killed_meanwhile(&mut store).await?;
    store.nothing_left().await?;
    ensure!(store.thin_devices().await? == 1, "a thin device is left");
    let (status, said) = store.import("", fs::read(&image)?).await?;
    ensure!(status == 200, "{said}");
    Ok(())
}

/// Kills the agent while a long image comes in.
async fn killed_meanwhile(store: &mut Store) -> anyhow::Result<()> {
    let request = store.request("PUT", "?format=qcow2");
    let body = vec![7; 256 << 20].into();
    let Store {
        guest,
        client,
        wire,
        ..
    } = store;
    let killed = async {
        let reached =
            |job: &Job| job.state == JobState::Running && job.progress.is_some_and(|p| p.done > 0);
        while !client.job_list().await?.iter().any(reached) {}
        guest.kill("ashlar-agent.service")?;
        guest.site.await_management()
    };
    let (answer, killed) = tokio::join!(wire.send(&request, IMAGE, body), killed);
    killed?;
    ensure!(answer.is_err(), "it came to its end");
    Ok(())
}
