//! Programs of the release that images are made of.
//!
//! The machine's own may be older, or not there: what an image is made with is part of what it
//! is. They run in a tree of packages of their own, in which the machine's files are below
//! [`HOST`].

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::BuildError;
use crate::cache::{Cache, Key};
use crate::recipe::{EPOCH, Recipe};

const RECIPE: Recipe = Recipe {
    name: "tools",
    variant: "extract",
    packages: &[
        "base-files",
        "coreutils",
        "cryptsetup-bin",
        "dash",
        "erofs-utils",
        "python3-minimal",
        "rauc",
        "sbsigntool",
        "squashfs-tools",
        "systemd-ukify",
    ],
    listed: false,
    finish: r#"mkdir -p "$1/dev" "$1/mnt" "$1/proc""#,
};

/// Where the tree's programs see the machine's root directory.
const HOST: &str = "/mnt";

/// Gives the tree the machine's files, in a mount namespace that ends with the program.
const ENTER: &str = r#"for place in dev proc; do mount --rbind "/$place" "$1/$place"; done
mount --rbind / "$1/mnt"
exec chroot "$@""#;

/// The tree of programs.
pub(crate) struct Tools {
    tree: PathBuf,
}

impl Tools {
    /// Unpacks the programs, or finds them in the cache.
    pub(crate) fn unpack(cache: &Cache) -> Result<Self, BuildError> {
        let tree = RECIPE.tree(cache)?;
        Ok(Self { tree })
    }

    /// Identifies them.
    pub(crate) fn key() -> Key {
        RECIPE.key()
    }

    /// A program, whose arguments are still to come. Files among them go through [`Tools::file`].
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-ec", ENTER, "tools"])
            .arg(&self.tree)
            .arg(program)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .env("SOURCE_DATE_EPOCH", EPOCH);
        command
    }

    /// A file's path as the programs see it. The path is absolute.
    pub(crate) fn file(path: &Path) -> PathBuf {
        let below = path.strip_prefix("/").unwrap_or(path);
        Path::new(HOST).join(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_files_are_below_one_directory() {
        assert_eq!(
            Tools::file(Path::new("/srv/disk.img")),
            Path::new("/mnt/srv/disk.img")
        );
    }
}
