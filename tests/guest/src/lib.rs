//! The appliance in a virtual machine, as scenarios and tests see it.

pub mod lab;
pub mod used;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context;
use ashlar_site::{Options, Parts, Site};
use ashlar_tests::runner::{Answer, Appliance};
use ashlar_tests::scenario::{Accident, Request};
use ashlar_tests::wire::Wire;

/// An appliance with a real kernel.
pub struct Guest {
    /// The lab it is in.
    pub site: Site,
    wires: BTreeMap<String, Wire>,
}

/// Where the guest finds what tests bring along.
const PAYLOAD: &str = "/run/payload";

impl Guest {
    /// A new appliance for the test called `name`, with an initiator if asked for.
    pub fn boot(name: &str, initiator: bool) -> anyhow::Result<Guest> {
        Guest::boot_on(name, initiator, Options::default().disk_size)
    }

    /// The same on data disks of that size in bytes.
    pub fn boot_on(name: &str, initiator: bool, disk_size: u64) -> anyhow::Result<Guest> {
        Guest::boot_with(
            name,
            Options {
                initiator,
                disk_size,
                ..Options::default()
            },
        )
    }

    /// The same with several processors, so that what is done at once is.
    pub fn boot_parallel(name: &str, initiator: bool) -> anyhow::Result<Guest> {
        Guest::boot_with(
            name,
            Options {
                initiator,
                processors: 2,
                ..Options::default()
            },
        )
    }

    /// The same as these options say, but for what it brings along.
    pub fn boot_with(name: &str, options: Options) -> anyhow::Result<Guest> {
        let parts = Parts::from_env()?;
        let options = Options {
            payload: Some(payload(&parts)?),
            ..options
        };
        let site = Site::booted(&parts, &parts.work.join(name), &options)?;
        let address = format!("127.0.0.1:{}", site.ports.management);
        let wires = ["admin", "operator", "reader", "roleless"]
            .into_iter()
            .map(|who| Ok((who.to_owned(), Wire::new(&address, site.pki.folder(), who)?)))
            .collect::<anyhow::Result<_>>()?;
        Ok(Guest { site, wires })
    }

    /// What the kernel holds of ours.
    pub fn view(&mut self) -> anyhow::Result<Vec<String>> {
        let text = self
            .site
            .appliance
            .check(&format!("{PAYLOAD}/ashlar-kernel-view"))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Kills a daemon, and waits until the next one is ready. systemd has to know of the death
    /// first: a unit that it takes for active is not started.
    pub fn kill(&mut self, unit: &str) -> anyhow::Result<()> {
        let main = format!("$(systemctl show --property=MainPID --value {unit})");
        let script = format!(
            "pid={main}; kill -KILL $pid; \
             while [ {main} = $pid ]; do sleep 0.05; done; systemctl start {unit}"
        );
        self.site.appliance.check(&script).map(drop)
    }

    /// Cuts the power and waits until the box serves again: it answers before what is connected is
    /// there, and has started only then.
    pub fn power_cycle(&mut self) -> anyhow::Result<()> {
        self.site.appliance.cut_power()?;
        self.site.appliance.power_on()?;
        self.site.unpack()?;
        self.site.await_management()?;
        let started = self.site.appliance.check("systemctl start ashlar-agent");
        started.map(drop)
    }
}

impl Appliance for Guest {
    async fn exchange(&mut self, identity: &str, request: &Request) -> anyhow::Result<Answer> {
        let wire = self
            .wires
            .get(identity)
            .with_context(|| format!("no identity {identity}"))?;
        wire.exchange(request).await
    }

    async fn kernel(&mut self) -> anyhow::Result<Vec<String>> {
        self.view()
    }

    async fn accident(&mut self, accident: Accident) -> anyhow::Result<()> {
        match accident {
            Accident::KillAgent => {
                self.kill("ashlar-agent.service")?;
                self.site.await_management()
            }
            Accident::KillTargetd => self.kill("ashlar-targetd.service"),
            Accident::PowerCut => self.power_cycle(),
            Accident::LoseStore => {
                // By then the catalogs of pools have what was asked for before.
                tokio::time::sleep(std::time::Duration::from_secs(5)).await;
                let appliance = &mut self.site.appliance;
                appliance.check("systemctl stop ashlar-agent")?;
                appliance.check("rm -rf /var/lib/ashlar/store && sync")?;
                self.power_cycle()
            }
        }
    }
}

/// A folder with the programs that tests run in the guest. Another test may be making it, and must
/// not make it anew while it is read.
fn payload(parts: &Parts) -> anyhow::Result<PathBuf> {
    let folder = parts.work.join("payload");
    fs::create_dir_all(&folder)?;
    let lock = File::create(folder.with_extension("lock"))?;
    lock.lock()?;
    let program = "ashlar-kernel-view";
    let (from, to) = (parts.programs.join(program), folder.join(program));
    let changed = |path: &Path| path.metadata().and_then(|file| file.modified());
    if changed(&to).ok() < Some(changed(&from).context(program)?) {
        fs::copy(from, to).context(program)?;
    }
    Ok(folder)
}
