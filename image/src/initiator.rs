//! The initiator: a machine that uses what the appliance serves. For tests.

use std::fs::File;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::BuildError;
use crate::boot::{Boot, boot};
use crate::cache::Cache;
use crate::filesystem::{Ext4, Stage};
use crate::recipe::Recipe;
use crate::test_shell::SHELL;

const RECIPE: Recipe = Recipe {
    name: "initiator",
    variant: "essential",
    packages: &[
        "e2fsprogs",
        "fio",
        "iproute2",
        "iputils-ping",
        "kmod",
        "multipath-tools",
        "nvme-cli",
        "open-iscsi",
        "procps",
        "sg3-utils",
        "udev",
        "util-linux",
    ],
    listed: false,
    finish: "",
};

const INIT: &str = include_str!("../initiator/init");
const MODULES: &str = include_str!("../initiator/modules.txt");
const LABEL: &str = "initiator-root";
const UUID: Uuid = Uuid::from_u128(0xa5a1_a400_0000_4000_8000_0000_0000_0021);
const SIZE: u64 = 640 << 20;

/// A bootable initiator.
///
/// Its network interfaces are told apart by address: `52:54:00:a5:00:11` is 10.0.2.15/24 and
/// `52:54:00:a5:00:12`, on the storage network, 10.77.0.2/24.
#[derive(Clone, Debug)]
pub struct Initiator {
    /// Raw image of the root file system, the whole of a virtio disk. Shared: run it with
    /// `snapshot=on`.
    pub root: PathBuf,
    /// For `-kernel`.
    pub kernel: PathBuf,
    /// For `-initrd`.
    pub initrd: PathBuf,
    /// For `-append`.
    pub cmdline: String,
}

/// Builds the initiator, or finds it in the cache.
pub fn initiator(cache: &Path) -> Result<Initiator, BuildError> {
    let cache = Cache::open(cache)?;
    let boot = boot(&cache)?;
    let tree = RECIPE.tree(&cache)?;
    let key = [INIT, SHELL, MODULES, boot.modules.version()]
        .iter()
        .fold(RECIPE.key(), |key, part| key.with(part));
    let entry = cache.entry("initiator-root", &key, |partial| {
        build(&tree, &boot, partial)
    })?;
    Ok(Initiator {
        root: entry.join("root.img"),
        kernel: boot.vmlinux,
        initrd: boot.initrd,
        cmdline: format!("root=LABEL={LABEL} rw init=/usr/lib/ashlar/init console=ttyS0 quiet"),
    })
}

fn build(tree: &Path, boot: &Boot, partial: &Path) -> Result<(), BuildError> {
    let stage = Stage::copy(tree, partial.join("stage"))?;
    stage.write("usr/lib/ashlar/init", 0o755, INIT)?;
    stage.write("usr/lib/ashlar/shell", 0o755, SHELL)?;
    let modules = boot.modules.closure(MODULES)?;
    boot.modules.install(&modules, stage.root())?;
    let path = partial.join("root.img");
    let image = File::create(&path).map_err(BuildError::io("create", &path))?;
    image.set_len(SIZE).map_err(BuildError::io("size", &path))?;
    let root = Ext4 {
        label: LABEL,
        uuid: UUID,
        offset: 0,
        size: SIZE,
        journal: Some(8),
    };
    root.write(&path, Some(stage.root()))?;
    stage.remove()
}
