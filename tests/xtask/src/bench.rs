//! The benchmark, in a guest of its own.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use ashlar_ctl::Client;
use ashlar_protocol::PoolSpec;
use ashlar_site::{Options, Site};
use uuid::Uuid;

use crate::build;

/// 2,000 volumes on an emulated machine take their time.
const LIMIT: Duration = Duration::from_secs(3600);

/// Boots an appliance, measures on it, writes the figures.
pub fn run(json: &Path, many: u32) -> anyhow::Result<()> {
    let parts = build::parts()?;
    let folder = parts.work.join("bench");
    let payload = parts.work.join("bench-payload");
    fs::create_dir_all(&payload)?;
    fs::copy(
        parts.programs.join("ashlar-bench"),
        payload.join("ashlar-bench"),
    )?;
    let options = Options {
        payload: Some(payload),
        disk_size: 64 << 30,
        // The image that is imported lies in memory.
        memory: 3072,
        processors: 2,
        ..Options::default()
    };
    let mut site = Site::create(&parts, &folder, &options)?;
    site.unpack()?;
    site.await_management()?;
    let pool = Uuid::new_v4();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(make_pool(&site.client("admin")?, pool))?;
    for name in ["admin.pem", "admin.key", "ca.pem"] {
        let text = fs::read_to_string(site.pki.file(name))?;
        site.appliance
            .check(&format!("umask 077; cat > /run/{name} <<'EOF'\n{text}EOF"))?;
    }
    site.appliance
        .check("mkdir /run/image && mount -t tmpfs -o size=1100M tmpfs /run/image")?;
    eprintln!("measuring");
    let figures = site.appliance.check_within(
        &format!(
            "/run/payload/ashlar-bench --endpoint 127.0.0.1:8443 --certificate /run/admin.pem \
             --key /run/admin.key --authority /run/ca.pem --pool {pool} --many {many} \
             --folder /run/image"
        ),
        LIMIT,
    )?;
    fs::write(json, &figures).with_context(|| json.display().to_string())?;
    print!("{figures}");
    Ok(())
}

async fn make_pool(client: &Client, id: Uuid) -> anyhow::Result<()> {
    let spec = PoolSpec::on("bench".parse()?, vec!["serial-DISK0".parse()?]);
    client
        .pool_create(id, &spec)
        .await?
        .done()
        .context("the pool was only accepted")?;
    Ok(())
}
