//! Kernel, initial file system and boot loader, which every image shares.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::BuildError;
use crate::cache::Cache;
use crate::command::run;
use crate::modules::Modules;
use crate::recipe::{EPOCH, Recipe};
use crate::vmlinux;

const RECIPE: Recipe = Recipe {
    name: "boot",
    variant: "extract",
    packages: &[
        "busybox-static",
        "dmsetup",
        "linux-image-amd64",
        "systemd-boot-efi",
    ],
    listed: true,
    finish: r#"for version in "$1"/usr/lib/modules/*; do depmod -b "$1/usr" "${version##*/}"; done"#,
};

const INIT: &str = include_str!("../boot/init");
const MODULES: &str = include_str!("../boot/modules.txt");

/// What sets the verified root up: the one program besides busybox.
const DMSETUP: &str = "usr/sbin/dmsetup";
const LINKER: &str = "usr/lib64/ld-linux-x86-64.so.2";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// What boots a root file system.
pub(crate) struct Boot {
    /// The kernel.
    pub kernel: PathBuf,
    /// The same unpacked, for machines that are handed it.
    pub vmlinux: PathBuf,
    /// The initial file system, good for any `root=` that [`INIT`] knows.
    pub initrd: PathBuf,
    /// The boot loader for UEFI machines.
    pub loader: PathBuf,
    /// What unpacks and starts a unified kernel image.
    pub stub: PathBuf,
    /// The kernel's modules.
    pub modules: Modules,
    /// The list of packages that all of it is from.
    pub packages: PathBuf,
}

/// Builds what boots, or finds it in the cache.
pub(crate) fn boot(cache: &Cache) -> Result<Boot, BuildError> {
    let tree = RECIPE.tree(cache)?;
    let modules = Modules::read(&tree)?;
    let key = RECIPE
        .key()
        .with(modules.version())
        .with(INIT)
        .with(MODULES)
        .with(PACK);
    let entry = cache.entry("initrd", &key, |partial| initrd(&tree, &modules, partial))?;
    let kernel = tree
        .join("boot")
        .join(format!("vmlinuz-{}", modules.version()));
    let key = RECIPE.key().with(modules.version()).with(vmlinux::VERSION);
    let unpacked = cache.entry("vmlinux", &key, |partial| {
        vmlinux::unpack(&kernel, &partial.join("vmlinux"))
    })?;
    Ok(Boot {
        kernel,
        vmlinux: unpacked.join("vmlinux"),
        initrd: entry.join("initrd"),
        loader: tree.join("usr/lib/systemd/boot/efi/systemd-bootx64.efi"),
        stub: tree.join("usr/lib/systemd/boot/efi/linuxx64.efi.stub"),
        modules,
        packages: Recipe::list(&tree),
    })
}

fn initrd(tree: &Path, modules: &Modules, partial: &Path) -> Result<(), BuildError> {
    let stage = partial.join("stage");
    let bin = stage.join("bin");
    fs::create_dir_all(&bin).map_err(BuildError::io("create", &bin))?;
    let busybox = tree.join("usr/bin/busybox");
    fs::copy(&busybox, bin.join("busybox")).map_err(BuildError::io("copy", &busybox))?;
    add_dmsetup(tree, &stage)?;
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

/// With the libraries that it is linked to, as the tree's own linker finds them.
fn add_dmsetup(tree: &Path, stage: &Path) -> Result<(), BuildError> {
    let (program, linker) = (tree.join(DMSETUP), tree.join(LINKER));
    let mut list = Command::new(&linker);
    list.arg("--library-path").arg(tree.join(LIBRARIES));
    let listed = run(list.arg("--list").arg(&program))?;
    for library in libraries(&String::from_utf8_lossy(&listed), tree) {
        let place = Path::new(LIBRARIES).join(library.file_name().unwrap_or_default());
        add(&library, stage, &place)?;
    }
    add(&linker, stage, Path::new("lib64/ld-linux-x86-64.so.2"))?;
    add(&program, stage, Path::new(DMSETUP))
}

/// The files in the tree among `name => file (address)` lines.
fn libraries(listed: &str, tree: &Path) -> Vec<PathBuf> {
    let file = |line: &str| Some(PathBuf::from(line.split_once("=> ")?.1.split_once(" (")?.0));
    let files = listed.lines().filter_map(file);
    files.filter(|file| file.starts_with(tree)).collect()
}

fn add(from: &Path, stage: &Path, place: &Path) -> Result<(), BuildError> {
    let to = stage.join(place);
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(BuildError::io("create", parent))?;
    }
    fs::copy(from, &to).map_err(BuildError::io("copy", from))?;
    Ok(())
}

/// The same archive for the same content: no times, no numbers of the files that it is made of.
const PACK: &str = r#"cd "$1" && find . -exec touch -h -d "@$3" {} + &&
find . | LC_ALL=C sort | cpio --quiet --reproducible -o -H newc -R 0:0 >"$2""#;

fn pack(stage: &Path, initrd: &Path) -> Result<(), BuildError> {
    run(Command::new("sh")
        .args(["-ec", PACK, "pack"])
        .arg(stage)
        .arg(initrd)
        .arg(EPOCH))
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_the_files_that_the_linker_found_in_the_tree() {
        let listed = "\tlinux-vdso.so.1 (0x00007f00)\n\
                      \tlibc.so.6 => /tree/usr/lib/libc.so.6 (0x00007f01)\n\
                      \t/lib64/ld-linux-x86-64.so.2 => /host/ld.so (0x00007f02)\n";
        assert_eq!(
            libraries(listed, Path::new("/tree")),
            [PathBuf::from("/tree/usr/lib/libc.so.6")]
        );
    }
}
