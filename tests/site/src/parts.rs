//! What sites are made of.

use std::path::{Path, PathBuf};

use anyhow::Context;
use ashlar_image::ApplianceInputs;
use serde::{Deserialize, Serialize};

use crate::Updates;
use crate::site::end_machines;

/// Files built once for all sites.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Parts {
    /// The appliance's disk, which sites copy.
    pub appliance: Bootable,
    /// What the appliance's firmware is made of: a bill of materials.
    pub bill: PathBuf,
    /// The initiator's root file system, which sites share.
    pub initiator: Bootable,
    /// Static programs for use in guests, by folder.
    pub programs: PathBuf,
    /// Where images were built.
    pub cache: PathBuf,
    /// Who signs updates.
    pub updates: Updates,
    /// Where sites and answers to probes are kept.
    pub work: PathBuf,
}

/// An image, and what it takes to start it without firmware.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bootable {
    /// The raw image.
    pub image: PathBuf,
    /// The kernel.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    pub initrd: PathBuf,
    /// The kernel's command line.
    pub cmdline: String,
}

impl From<ashlar_image::Appliance> for Bootable {
    fn from(built: ashlar_image::Appliance) -> Self {
        Bootable {
            image: built.disk,
            kernel: built.kernel,
            initrd: built.initrd,
            cmdline: built.cmdline,
        }
    }
}

impl From<ashlar_image::Initiator> for Bootable {
    fn from(built: ashlar_image::Initiator) -> Self {
        Bootable {
            image: built.root,
            kernel: built.kernel,
            initrd: built.initrd,
            cmdline: built.cmdline,
        }
    }
}

const VARIABLE: &str = "ASHLAR_PARTS";

impl Parts {
    /// The parts that the environment names. There is no doing without them.
    pub fn from_env() -> anyhow::Result<Parts> {
        let path = std::env::var_os(VARIABLE).with_context(|| {
            format!("{VARIABLE} is not set: run this through `cargo xtask test`")
        })?;
        let text = std::fs::read(&path).with_context(|| Path::new(&path).display().to_string())?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Writes them for [`Parts::from_env`]; answers the variable to set. What was booted from
    /// others goes.
    pub fn save(&self) -> anyhow::Result<(&'static str, PathBuf)> {
        let path = self.work.join("parts.json");
        if self.booted().exists() {
            for site in std::fs::read_dir(self.booted())? {
                end_machines(&site?.path())?;
            }
            std::fs::remove_dir_all(self.booted())?;
        }
        std::fs::create_dir_all(&self.work)?;
        std::fs::write(&path, serde_json::to_vec_pretty(self)?)?;
        Ok((VARIABLE, path))
    }

    /// What appliances are made of: programs by folder, and updates by these.
    pub fn inputs(programs: &Path, cache: &Path, updates: Option<&Updates>) -> ApplianceInputs {
        ApplianceInputs {
            agent: programs.join("ashlar-agent"),
            targetd: programs.join("ashlar-targetd"),
            convert: programs.join("ashlar-convert"),
            version: ashlar_image::VERSION.to_owned(),
            signing: None,
            update_certificate: updates.map(Updates::authority),
            security_floor: None,
            cache: cache.to_owned(),
        }
    }

    /// Builds a bundle that updates a site's appliance to the same firmware under another version.
    /// It is there until another one is built.
    pub fn bundle(&self, version: &str) -> anyhow::Result<PathBuf> {
        let inputs = ApplianceInputs {
            version: version.to_owned(),
            ..Parts::inputs(&self.programs, &self.cache, Some(&self.updates))
        };
        let built = ashlar_image::bundle(&inputs, &self.updates.signer("signer"));
        built.context("building a bundle")
    }

    /// Where machines are kept that have booted once for all.
    pub(crate) fn booted(&self) -> PathBuf {
        self.work.join("booted")
    }
}
