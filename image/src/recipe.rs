//! A tree of Debian packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::BuildError;
use crate::archive::{KEYRING, SUITE, mirror};
use crate::cache::{Cache, Key};
use crate::command::run;

/// The time of everything in an image, in seconds since 1970, so that two builds of the same are
/// the same: when 2026 began.
pub(crate) const EPOCH: &str = "1767225600";

/// What no image has a reader for.
const LEFT_OUT: &[&str] = &["doc", "info", "locale", "man"];

/// What a tree is made of.
pub(crate) struct Recipe {
    /// Names the tree in the cache.
    pub name: &'static str,
    /// mmdebstrap's variant: `essential` installs, `extract` only unpacks.
    pub variant: &'static str,
    /// The packages, besides those of the variant.
    pub packages: &'static [&'static str],
    /// Run in a shell once the packages are there, with the tree as `$1`.
    pub finish: &'static str,
}

impl Recipe {
    /// Identifies the tree: the same key gives an equivalent one.
    pub(crate) fn key(&self) -> Key {
        self.packages
            .iter()
            .fold(Key::default().with(SUITE), Key::with)
            .with(self.variant)
            .with(self.finish)
            .with(EPOCH)
            .with(LEFT_OUT.join(" "))
    }

    /// The tree's directory in the cache. Nobody may write to it, or to files linked to its own.
    pub(crate) fn tree(&self, cache: &Cache) -> Result<PathBuf, BuildError> {
        let kind = format!("{}-tree", self.name);
        let entry = cache.entry(&kind, &self.key(), |partial| self.bootstrap(partial))?;
        Ok(entry.join("tree"))
    }

    fn bootstrap(&self, partial: &Path) -> Result<(), BuildError> {
        let mirror = mirror()?;
        let mut command = Command::new("mmdebstrap");
        command
            .env("SOURCE_DATE_EPOCH", EPOCH)
            .args(["--mode=root", "--format=directory"])
            .arg(format!("--variant={}", self.variant))
            .arg(format!("--include={}", self.packages.join(",")));
        for path in LEFT_OUT {
            command.arg(format!("--dpkgopt=path-exclude=/usr/share/{path}/*"));
        }
        let tree = partial.join("tree");
        command
            .arg(SUITE)
            .arg(&tree)
            .arg(format!("deb [signed-by={KEYRING}] {mirror} {SUITE} main"));
        run(&mut command).map_err(explain)?;
        run(Command::new("sh")
            .env("SOURCE_DATE_EPOCH", EPOCH)
            .args(["-ec", self.finish, "finish"])
            .arg(&tree))
        .map(drop)
    }
}

/// A keyring that is too old is the one failure with a known remedy.
fn explain(error: BuildError) -> BuildError {
    match error {
        BuildError::Tool { complaint, .. } if complaint.contains("NO_PUBKEY") => {
            BuildError::Keyring {
                keyring: KEYRING.into(),
                suite: SUITE,
            }
        }
        other => other,
    }
}
