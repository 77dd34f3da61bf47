//! The appliance's disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::boot::{Boot, boot};
use crate::cache::{Cache, Key};
use crate::command::run;
use crate::disk::{self, Disk};
use crate::esp::{Esp, LOADER_CONF};
use crate::filesystem::Stage;
use crate::recipe::Recipe;
use crate::sbom::{self, Bill};
use crate::slot::{Root, Slot};
use crate::tools::Tools;
use crate::uki::SigningKey;
use crate::update::{self, UpdateSigner};
use crate::{BuildError, overlay, sizes};

const RECIPE: Recipe = Recipe {
    name: "appliance",
    variant: "essential",
    packages: &[
        "dbus",
        "dosfstools",
        "iproute2",
        "kmod",
        "rauc",
        "rauc-service",
        "systemd-sysv",
        "thin-provisioning-tools",
        "udev",
    ],
    listed: false,
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

/// The version of the firmware, where nobody says another.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What an appliance is made of.
#[derive(Clone, Debug)]
pub struct ApplianceInputs {
    /// The management daemon, built for the image's machine.
    pub agent: PathBuf,
    /// The privileged daemon.
    pub targetd: PathBuf,
    /// What the agent starts to read a disk image of a stranger's.
    pub convert: PathBuf,
    /// What the firmware says that it is: three numbers, as in [`VERSION`].
    pub version: String,
    /// What signs all that the machine's firmware starts, or nothing does.
    pub signing: Option<SigningKey>,
    /// The authority, in PEM, of those who sign updates. Without one there are none. A list of
    /// revoked certificates in the same file is heeded.
    pub update_certificate: Option<PathBuf>,
    /// The lowest version that the firmware accepts as an update.
    pub security_floor: Option<String>,
    /// Where builds are kept; made if missing.
    pub cache: PathBuf,
}

/// A bootable appliance whose state partition has no configuration yet.
#[derive(Clone, Debug)]
pub struct Appliance {
    /// Raw disk image: GPT with ESP, two slots, state. Boots by UEFI. Shared: boot an
    /// [`instance`](crate::instance()) of it, or a snapshot.
    pub disk: PathBuf,
    /// The kernel of both slots, unpacked, for `-kernel`.
    pub kernel: PathBuf,
    /// The initial file system of both slots, for `-initrd`.
    pub initrd: PathBuf,
    /// The kernel command line of slot a, for `-append`.
    pub cmdline: String,
    /// What is in a slot and how much room it takes, as text.
    pub sizes: PathBuf,
    /// What the firmware is made of: a bill of materials, CycloneDX as JSON.
    pub bill: PathBuf,
}

/// Builds the appliance, or finds it in the cache.
pub fn appliance(inputs: &ApplianceInputs) -> Result<Appliance, BuildError> {
    with_parts(inputs, |cache, parts| {
        let key = parts.root_key()?;
        let built = cache.entry(ROOT, &key, |partial| parts.build_root(partial))?;
        let root = Root::read(&built)?;
        let bill = parts.bill();
        let listed = cache.entry("appliance-bill", &bill.key(&key)?, |partial| {
            bill.write(&partial.join(sbom::FILE))
        })?;
        let key = parts.disk_key(&key)?;
        let entry = cache.entry("appliance-disk", &key, |partial| {
            parts.build_disk(&root, partial)
        })?;
        Ok(Appliance {
            disk: entry.join("disk.img"),
            cmdline: cmdline(&root.cmdline(Slot::A)),
            sizes: built.join(SIZES),
            bill: listed.join(sbom::FILE),
            kernel: parts.boot.vmlinux.clone(),
            initrd: parts.boot.initrd.clone(),
        })
    })
}

/// Builds a bundle that updates boxes to the same firmware, or finds it in the cache.
pub fn bundle(inputs: &ApplianceInputs, signer: &UpdateSigner) -> Result<PathBuf, BuildError> {
    let signer = signer.found()?;
    with_parts(inputs, |cache, parts| {
        let root_key = parts.root_key()?;
        let authorities = inputs.update_certificate.as_deref();
        let authorities = authorities.ok_or(BuildError::LastUpdate)?;
        let authorities =
            fs::canonicalize(authorities).map_err(BuildError::io("find", authorities))?;
        let compatible = &parts.compatible;
        let mut key = parts
            .kernel_key(&root_key)?
            .with(update::parts(compatible, &inputs.version));
        for file in signer.files() {
            key = key.with_file(file)?;
        }
        let entry = cache.entry("bundle", &key, |partial| {
            // A disk's root may be another: it is not to be built again each time.
            let built = match cache.find(ROOT, &root_key) {
                Some(built) => built,
                None => cache.entry("bundle-root", &root_key, |partial| {
                    parts.build_root(partial)
                })?,
            };
            let root = Root::read(&built)?;
            update::pack(
                parts.tools,
                &update::manifest(compatible, &inputs.version),
                &root.image,
                (&signer, &authorities),
                partial,
                |slot, out| {
                    let cmdline = esp_cmdline(&root.cmdline(slot));
                    parts.esp().kernel(slot, &cmdline, out)
                },
            )
        })?;
        Ok(entry.join(update::BUNDLE))
    })
}

/// Writes a bundle to another file, which must not be there, signed by somebody else.
pub fn resign(
    bundle: &Path,
    signer: &UpdateSigner,
    out: &Path,
    cache: &Path,
) -> Result<(), BuildError> {
    let signer = signer.found()?;
    let bundle = fs::canonicalize(bundle).map_err(BuildError::io("find", bundle))?;
    let out = std::path::absolute(out).map_err(BuildError::io("find", out))?;
    let tools = Tools::unpack(&Cache::open(cache)?)?;
    update::resign(&tools, &bundle, &signer, &out)
}

/// Has what everything is made of at hand.
fn with_parts<T>(
    inputs: &ApplianceInputs,
    build: impl FnOnce(&Cache, &Parts<'_>) -> Result<T, BuildError>,
) -> Result<T, BuildError> {
    for version in [&inputs.version].into_iter().chain(&inputs.security_floor) {
        update::checked(version)?;
    }
    let signing = inputs.signing.as_ref().map(SigningKey::found).transpose()?;
    let trusted = inputs.update_certificate.as_deref();
    let trusted = trusted.map(update::authorities).transpose()?;
    let certificate = signing.as_ref().map(|signing| &signing.certificate);
    let certificate = certificate
        .map(|path| fs::read_to_string(path).map_err(BuildError::io("read", path)))
        .transpose()?;
    let cache = Cache::open(&inputs.cache)?;
    let boot = boot(&cache)?;
    let tools = Tools::unpack(&cache)?;
    let tree = RECIPE.tree(&cache)?;
    let parts = Parts {
        tree: &tree,
        boot: &boot,
        tools: &tools,
        inputs,
        signing: signing.as_ref(),
        trusted: trusted.as_deref(),
        compatible: update::compatible(certificate.as_deref()),
    };
    build(&cache, &parts)
}

/// The kind of what [`Parts::build_root`] makes, in the cache.
const ROOT: &str = "appliance-root";
const SIZES: &str = "sizes";

/// A kernel that panics starts the machine again, which takes a try off the slot.
fn cmdline(root: &str) -> String {
    format!("{root} panic=5 console=ttyS0 quiet systemd.show_status=no systemd.gpt_auto=no")
}

/// Booted from its own disk, the appliance takes no units or passwords from the machine's
/// firmware tables; only a test, which gives the kernel its command line, can hand it some. The
/// first process is named because of each word the first counts, and those tables may add more.
fn esp_cmdline(root: &str) -> String {
    format!(
        "{} init=/sbin/init systemd.import_credentials=no",
        cmdline(root)
    )
}

/// What the disk is made of.
struct Parts<'a> {
    tree: &'a Path,
    boot: &'a Boot,
    tools: &'a Tools,
    inputs: &'a ApplianceInputs,
    signing: Option<&'a SigningKey>,
    /// The content of what updates are verified with.
    trusted: Option<&'a str>,
    /// What updates of it must be for.
    compatible: String,
}

impl Parts<'_> {
    fn root_key(&self) -> Result<Key, BuildError> {
        overlay::parts()
            .fold(RECIPE.key().with(Tools::key().digest()), Key::with)
            .with(MODULES)
            .with(self.boot.modules.version())
            .with(update::os_release(&self.inputs.version))
            .with(self.system_conf())
            .with(self.trusted.unwrap_or_default())
            .with_file(&self.boot.initrd)?
            .with_file(&self.inputs.agent)?
            .with_file(&self.inputs.targetd)?
            .with_file(&self.inputs.convert)
    }

    fn build_root(&self, partial: &Path) -> Result<(), BuildError> {
        let stage = self.stage(partial.join("stage"))?;
        let root = Root::build(self.tools, stage.root(), partial)?;
        let report = sizes::report(&stage, &root, self.boot)?;
        let path = partial.join(SIZES);
        fs::write(&path, report).map_err(BuildError::io("write", &path))?;
        stage.remove()
    }

    fn disk_key(&self, root: &Key) -> Result<Key, BuildError> {
        let kernel = self.kernel_key(root)?;
        Ok(kernel.with(LOADER_CONF).with(disk::layout()))
    }

    /// Identifies a root with its kernel images.
    fn kernel_key(&self, root: &Key) -> Result<Key, BuildError> {
        let key = Key::default()
            .with(root.digest())
            .with(esp_cmdline(""))
            .with_file(&self.boot.kernel)?;
        match self.signing {
            Some(signing) => key.with_file(&signing.key)?.with_file(&signing.certificate),
            None => Ok(key),
        }
    }

    fn build_disk(&self, root: &Root, partial: &Path) -> Result<(), BuildError> {
        let content = partial.join("esp");
        self.esp()
            .fill(&content, |slot| esp_cmdline(&root.cmdline(slot)))?;
        let path = partial.join("disk.img");
        let disk = Disk::create(&path)?;
        disk.write_esp(&content)?;
        disk.write_factory()?;
        for slot in Slot::ALL {
            disk.write_root(slot, root)?;
        }
        disk.write_state(None)?;
        fs::remove_dir_all(&content).map_err(BuildError::io("remove", &content))
    }

    fn esp(&self) -> Esp<'_> {
        Esp {
            tools: self.tools,
            boot: self.boot,
            version: &self.inputs.version,
            signing: self.signing,
        }
    }

    fn bill(&self) -> Bill<'_> {
        Bill {
            version: &self.inputs.version,
            root: self.tree,
            boot: &self.boot.packages,
        }
    }

    fn system_conf(&self) -> String {
        let floor = self.inputs.security_floor.as_deref();
        update::system_conf(&self.compatible, floor, self.trusted)
    }

    fn stage(&self, place: PathBuf) -> Result<Stage, BuildError> {
        let stage = Stage::copy(self.tree, place)?;
        overlay::apply(&stage)?;
        // What is in /var of a box is gone at each start, so it is linked to from there.
        run(Command::new("chroot")
            .arg(stage.root())
            .args(["journalctl", "--update-catalog"]))?;
        let catalog = stage.root().join("var/lib/systemd/catalog/database");
        stage.add(overlay::CATALOG, 0o644, &catalog)?;
        stage.add("usr/sbin/ashlar-agent", 0o755, &self.inputs.agent)?;
        stage.add("usr/sbin/ashlar-targetd", 0o755, &self.inputs.targetd)?;
        stage.add("usr/sbin/ashlar-convert", 0o755, &self.inputs.convert)?;
        stage.write(
            "usr/lib/os-release",
            0o644,
            update::os_release(&self.inputs.version),
        )?;
        stage.write("etc/rauc/system.conf", 0o644, self.system_conf())?;
        if let Some(trusted) = self.trusted {
            stage.write(update::KEYRING, 0o644, trusted)?;
        }
        let modules = self.boot.modules.closure(MODULES)?;
        self.boot.modules.install(&modules, stage.root())?;
        Ok(stage)
    }
}
