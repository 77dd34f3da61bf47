//! What was built before, under a key of everything that went in.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use crate::BuildError;

/// A digest in the making of everything that goes into a build.
#[derive(Clone, Default)]
pub(crate) struct Key(Sha256);

impl Key {
    /// Adds one input. Its length goes in too, so that two inputs never read as one.
    pub(crate) fn with(mut self, input: impl AsRef<[u8]>) -> Self {
        let input = input.as_ref();
        self.0.update((input.len() as u64).to_be_bytes());
        self.0.update(input);
        self
    }

    /// Adds a file's content.
    pub(crate) fn with_file(self, path: &Path) -> Result<Self, BuildError> {
        Ok(self.with(fs::read(path).map_err(BuildError::io("read", path))?))
    }

    /// The digest of all of them.
    pub(crate) fn digest(&self) -> [u8; 32] {
        self.0.clone().finalize().into()
    }

    fn name(&self, kind: &str) -> String {
        let digest = self.digest();
        let hex: String = digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{kind}-{hex}")
    }
}

/// A directory of finished builds. Held, it keeps other builders out.
pub(crate) struct Cache {
    directory: PathBuf,
    _lock: Flock<File>,
}

impl Cache {
    /// Opens the directory, made if missing, and waits for whoever builds in it.
    pub(crate) fn open(directory: &Path) -> Result<Self, BuildError> {
        fs::create_dir_all(directory).map_err(BuildError::io("create", directory))?;
        let directory = fs::canonicalize(directory).map_err(BuildError::io("find", directory))?;
        let path = directory.join("lock");
        let file = File::create(&path).map_err(BuildError::io("create", &path))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| BuildError::io("lock", &path)(io::Error::from(errno)))?;
        Ok(Self {
            directory,
            _lock: lock,
        })
    }

    /// The directory built under this key, by `build` if it is not there yet. It appears under
    /// its name only when it is complete. Older builds of the same kind are removed.
    pub(crate) fn entry(
        &self,
        kind: &str,
        key: &Key,
        build: impl FnOnce(&Path) -> Result<(), BuildError>,
    ) -> Result<PathBuf, BuildError> {
        if let Some(path) = self.find(kind, key) {
            return Ok(path);
        }
        let path = self.directory.join(key.name(kind));
        self.remove_kind(kind)?;
        let partial = self.directory.join(format!("{kind}-partial"));
        fs::create_dir(&partial).map_err(BuildError::io("create", &partial))?;
        build(&partial)?;
        fs::rename(&partial, &path).map_err(BuildError::io("rename", &partial))?;
        Ok(path)
    }

    /// The directory built under this key, if it is there.
    pub(crate) fn find(&self, kind: &str, key: &Key) -> Option<PathBuf> {
        let path = self.directory.join(key.name(kind));
        path.is_dir().then_some(path)
    }

    fn remove_kind(&self, kind: &str) -> Result<(), BuildError> {
        let listed =
            fs::read_dir(&self.directory).map_err(BuildError::io("list", &self.directory))?;
        for entry in listed {
            let entry = entry.map_err(BuildError::io("list", &self.directory))?;
            let name = entry.file_name();
            let of_kind = name
                .to_str()
                .and_then(|name| name.rsplit_once('-'))
                .is_some_and(|(before, _)| before == kind);
            if of_kind {
                let path = entry.path();
                fs::remove_dir_all(&path).map_err(BuildError::io("remove", &path))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_built_once_and_replaced_when_an_input_changes() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        let write = |text: &'static str| {
            move |path: &Path| {
                fs::write(path.join("file"), text).map_err(BuildError::io("write", path))
            }
        };
        let (one, two) = (Key::default().with("one"), Key::default().with("two"));
        let first = cache.entry("kind", &one, write("first")).unwrap();
        let again = cache.entry("kind", &one, write("again")).unwrap();
        assert_eq!(first, again);
        assert_eq!(fs::read_to_string(first.join("file")).unwrap(), "first");
        cache.entry("kind-other", &one, write("other")).unwrap();
        let second = cache.entry("kind", &two, write("second")).unwrap();
        assert!(second.is_dir() && !first.exists());
        cache
            .entry("kind-other", &one, |_| unreachable!("it is there"))
            .unwrap();
    }

    #[test]
    fn a_failed_build_leaves_no_entry() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        let key = Key::default().with("one");
        let failed = |path: &Path| {
            Err(BuildError::Missing {
                what: "file".into(),
                tree: path.to_owned(),
            })
        };
        cache.entry("kind", &key, failed).unwrap_err();
        let built = cache.entry("kind", &key, |_| Ok(())).unwrap();
        assert!(built.is_dir());
    }

    #[test]
    fn two_inputs_never_read_as_one() {
        let apart = Key::default().with("a").with("b").name("k");
        assert_ne!(apart, Key::default().with("ab").name("k"));
    }
}
