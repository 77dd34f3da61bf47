//! The appliance's disk.

use std::path::{Path, PathBuf};

use crate::BuildError;
use crate::boot::{Boot, boot};
use crate::cache::{Cache, Key};
use crate::disk::{Disk, ROOT_NAME};
use crate::filesystem::Stage;
use crate::instance::write_state;
use crate::overlay;
use crate::recipe::Recipe;

const RECIPE: Recipe = Recipe {
    name: "appliance",
    variant: "essential",
    packages: &[
        "iproute2",
        "kmod",
        "systemd-sysv",
        "thin-provisioning-tools",
        "udev",
    ],
    finish: concat!(
        "cat >\"$1/usr/lib/sysusers.d/ashlar.conf\" <<'END'\n",
        include_str!("../appliance/usr/lib/sysusers.d/ashlar.conf"),
        "END\n",
        r#"chroot "$1" systemd-sysusers && grep -q ^ashlar:x:990:990: "$1/etc/passwd""#,
    ),
};

/// User and group id of the unprivileged agent, fixed because files on the state partition
/// outlive the firmware that made them.
pub const AGENT_UID: u32 = 990;

const MODULES: &str = include_str!("../appliance/modules.txt");

/// What an appliance is made of.
#[derive(Clone, Debug)]
pub struct ApplianceInputs {
    /// The management daemon, built for the image's machine.
    pub agent: PathBuf,
    /// The privileged daemon.
    pub targetd: PathBuf,
    /// What the agent starts to read a disk image of a stranger's.
    pub convert: PathBuf,
    /// Where builds are kept; made if missing.
    pub cache: PathBuf,
}

/// A bootable appliance whose state partition has no configuration yet.
#[derive(Clone, Debug)]
pub struct Appliance {
    /// Raw disk image: GPT with ESP, root and state. Boots by UEFI. Shared: boot an
    /// [`instance`](crate::instance()) of it, or a snapshot.
    pub disk: PathBuf,
    /// The kernel on the ESP, for `-kernel`.
    pub kernel: PathBuf,
    /// The initial file system on the ESP, for `-initrd`.
    pub initrd: PathBuf,
    /// The kernel command line, for `-append`.
    pub cmdline: String,
}

/// Builds the appliance, or finds it in the cache.
pub fn appliance(inputs: &ApplianceInputs) -> Result<Appliance, BuildError> {
    let cache = Cache::open(&inputs.cache)?;
    let boot = boot(&cache)?;
    let tree = RECIPE.tree(&cache)?;
    let key = overlay::parts()
        .fold(RECIPE.key(), Key::with)
        .with(MODULES)
        .with(esp_cmdline())
        .with_file(&boot.kernel)?
        .with_file(&boot.initrd)?
        .with_file(&inputs.agent)?
        .with_file(&inputs.targetd)?
        .with_file(&inputs.convert)?;
    let entry = cache.entry("appliance-disk", &key, |partial| {
        build(&tree, &boot, inputs, partial)
    })?;
    Ok(Appliance {
        disk: entry.join("disk.img"),
        kernel: boot.kernel,
        initrd: boot.initrd,
        cmdline: cmdline(),
    })
}

fn cmdline() -> String {
    format!(
        "root=PARTLABEL={ROOT_NAME} ro console=ttyS0 quiet systemd.show_status=no systemd.gpt_auto=no"
    )
}

/// Booted from its own disk, the appliance takes no units or passwords from the machine's
/// firmware tables; only a test, which gives the kernel its command line, can hand it some.
fn esp_cmdline() -> String {
    format!("{} systemd.import_credentials=no", cmdline())
}

fn build(
    tree: &Path,
    boot: &Boot,
    inputs: &ApplianceInputs,
    partial: &Path,
) -> Result<(), BuildError> {
    let stage = Stage::copy(tree, partial.join("stage"))?;
    overlay::apply(&stage)?;
    stage.add("usr/sbin/ashlar-agent", 0o755, &inputs.agent)?;
    stage.add("usr/sbin/ashlar-targetd", 0o755, &inputs.targetd)?;
    stage.add("usr/sbin/ashlar-convert", 0o755, &inputs.convert)?;
    let modules = boot.modules.closure(MODULES)?;
    boot.modules.install(&modules, stage.root())?;
    let path = partial.join("disk.img");
    let disk = Disk::create(&path)?;
    disk.write_esp(boot, &esp_cmdline())?;
    disk.write_root(stage.root())?;
    write_state(&disk, &[])?;
    stage.remove()
}
