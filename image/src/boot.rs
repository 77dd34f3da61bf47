//! Kernel, initial file system and boot loader, which every image shares.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::BuildError;
use crate::cache::Cache;
use crate::command::run;
use crate::modules::Modules;
use crate::recipe::Recipe;

const RECIPE: Recipe = Recipe {
    name: "boot",
    variant: "extract",
    packages: &["linux-image-amd64", "busybox-static", "systemd-boot-efi"],
    finish: r#"for version in "$1"/usr/lib/modules/*; do depmod -b "$1/usr" "${version##*/}"; done"#,
};

const INIT: &str = include_str!("../boot/init");
const MODULES: &str = include_str!("../boot/modules.txt");

/// What boots a root file system.
pub(crate) struct Boot {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initial file system, good for any `root=` that [`INIT`] knows.
    pub initrd: PathBuf,
    /// The boot loader for UEFI machines.
    pub loader: PathBuf,
    /// The kernel's modules.
    pub modules: Modules,
}

/// Builds what boots, or finds it in the cache.
pub(crate) fn boot(cache: &Cache) -> Result<Boot, BuildError> {
    let tree = RECIPE.tree(cache)?;
    let modules = Modules::read(&tree)?;
    let key = RECIPE
        .key()
        .with(modules.version())
        .with(INIT)
        .with(MODULES);
    let entry = cache.entry("initrd", &key, |partial| initrd(&tree, &modules, partial))?;
    Ok(Boot {
        kernel: tree
            .join("boot")
            .join(format!("vmlinuz-{}", modules.version())),
        initrd: entry.join("initrd"),
        loader: tree.join("usr/lib/systemd/boot/efi/systemd-bootx64.efi"),
        modules,
    })
}

fn initrd(tree: &Path, modules: &Modules, partial: &Path) -> Result<(), BuildError> {
    let stage = partial.join("stage");
    let bin = stage.join("bin");
    fs::create_dir_all(&bin).map_err(BuildError::io("create", &bin))?;
    let busybox = tree.join("usr/bin/busybox");
    fs::copy(&busybox, bin.join("busybox")).map_err(BuildError::io("copy", &busybox))?;
    for (index, module) in modules.closure(MODULES)?.iter().enumerate() {
        let name = format!("modules/{index:02}-{module}.ko");
        modules.unpack(module, &stage.join(name))?;
    }
    let init = stage.join("init");
    fs::write(&init, INIT).map_err(BuildError::io("write", &init))?;
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&init, executable).map_err(BuildError::io("restrict", &init))?;
    pack(&stage, &partial.join("initrd"))?;
    fs::remove_dir_all(&stage).map_err(BuildError::io("remove", &stage))
}

fn pack(stage: &Path, initrd: &Path) -> Result<(), BuildError> {
    let script = r#"cd "$1" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 >"$2""#;
    run(Command::new("sh")
        .args(["-c", script, "pack"])
        .arg(stage)
        .arg(initrd))
    .map(drop)
}
