//! Root file systems in the making, and ext4 images of them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use uuid::Uuid;

use crate::BuildError;
use crate::command::run;
use crate::recipe::EPOCH;

/// A copy of a package tree that may be added to. Its files are links to the tree's, so every
/// change replaces a file and none writes into one.
pub(crate) struct Stage {
    root: PathBuf,
}

impl Stage {
    /// Copies a tree.
    pub(crate) fn copy(tree: &Path, root: PathBuf) -> Result<Self, BuildError> {
        run(Command::new("cp").arg("-al").arg(tree).arg(&root))?;
        Ok(Self { root })
    }

    /// The root directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Writes a file, with the directories on the way to it.
    pub(crate) fn write(
        &self,
        path: &str,
        mode: u32,
        text: impl AsRef<[u8]>,
    ) -> Result<(), BuildError> {
        let path = self.make_way(path)?;
        fs::write(&path, text).map_err(BuildError::io("write", &path))?;
        restrict(&path, mode)
    }

    /// Copies a file from outside the tree.
    pub(crate) fn add(&self, path: &str, mode: u32, from: &Path) -> Result<(), BuildError> {
        let path = self.make_way(path)?;
        fs::copy(from, &path).map_err(BuildError::io("copy", from))?;
        restrict(&path, mode)
    }

    /// Makes a symbolic link.
    pub(crate) fn link(&self, path: &str, target: &str) -> Result<(), BuildError> {
        let path = self.make_way(path)?;
        symlink(target, &path).map_err(BuildError::io("link", &path))
    }

    /// Removes the stage, once an image is made of it.
    pub(crate) fn remove(self) -> Result<(), BuildError> {
        fs::remove_dir_all(&self.root).map_err(BuildError::io("remove", &self.root))
    }

    fn make_way(&self, path: &str) -> Result<PathBuf, BuildError> {
        let path = self.root.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(BuildError::io("create", parent))?;
        }
        if path.symlink_metadata().is_ok() {
            fs::remove_file(&path).map_err(BuildError::io("replace", &path))?;
        }
        Ok(path)
    }
}

/// Sets a file's permissions.
pub(crate) fn restrict(path: &Path, mode: u32) -> Result<(), BuildError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(BuildError::io("restrict", path))
}

/// Where in an image a file system goes, and what it is.
pub(crate) struct Ext4<'a> {
    /// The file system's label.
    pub label: &'a str,
    /// Its name, and what the places of files in directories are made of.
    pub uuid: Uuid,
    /// Bytes from the image's start.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// MiB of a journal. Without one it must not be written to in use.
    pub journal: Option<u32>,
}

impl Ext4<'_> {
    /// Makes the file system in an existing image, with a directory's content or empty.
    pub(crate) fn write(&self, image: &Path, content: Option<&Path>) -> Result<(), BuildError> {
        let mut command = Command::new("mke2fs");
        command
            .env("E2FSPROGS_FAKE_TIME", EPOCH)
            .args(["-U", &self.uuid.to_string()])
            .args([
                "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-L", self.label,
            ])
            .arg("-E")
            .arg(format!(
                "offset={},lazy_itable_init=0,lazy_journal_init=0,hash_seed={}",
                self.offset, self.uuid
            ))
            .args(match self.journal {
                Some(size) => ["-J".to_owned(), format!("size={size}")],
                None => ["-O".to_owned(), "^has_journal".to_owned()],
            });
        if let Some(content) = content {
            command.arg("-d").arg(content);
        }
        command.arg(image).arg(format!("{}k", self.size / 1024));
        run(&mut command).map(drop)
    }
}
