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

/// How a package is shown in lists: name, version, architecture; name and version of its source.
pub(crate) const SHOWN: &str =
    r"${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\n";

/// The list of what was unpacked, beside a tree whose packages are not installed: no package manager
/// knows of them.
const LIST: &str = "packages";

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
    /// Whether the packages are listed beside the tree, being only unpacked.
    pub listed: bool,
    /// Run in a shell once the packages are there, with the tree as `$1`.
    pub finish: &'static str,
}

impl Recipe {
    /// Identifies the tree: the same key gives an equivalent one.
    pub(crate) fn key(&self) -> Key {
        let key = self
            .packages
            .iter()
            .fold(Key::default().with(SUITE), Key::with)
            .with(self.variant)
            .with(self.finish)
            .with(EPOCH)
            .with(LEFT_OUT.join(" "));
        match self.list_hook() {
            Some(hook) => key.with(hook),
            None => key,
        }
    }

    /// What lists the packages of a tree that are only unpacked.
    fn list_hook(&self) -> Option<String> {
        let show = format!("dpkg-deb --show --showformat='{SHOWN}' \"$deb\"");
        let each = format!("for deb in \"$1\"/var/cache/apt/archives/*.deb; do {show}; done");
        self.listed
            .then(|| format!("{each} | LC_ALL=C sort >\"${{1%/*}}/{LIST}\""))
    }

    /// The list of packages beside a tree that they were only unpacked to.
    pub(crate) fn list(tree: &Path) -> PathBuf {
        tree.with_file_name(LIST)
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
        if let Some(hook) = self.list_hook() {
            command.arg(format!("--extract-hook={hook}"));
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
