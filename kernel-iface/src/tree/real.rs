//! The tree of the running kernel.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc::O_NOFOLLOW;
use zeroize::Zeroizing;

use super::{Change, Entry, EntryKind, Name, Operation, Tree, TreeError, TreePath};

/// Longest value configfs returns for an attribute (one page), and so the first read's size.
const PAGE: usize = 4096;

/// Files below a directory of the running kernel, such as `/sys/kernel/config`.
#[derive(Clone, Debug)]
pub struct RealTree {
    root: PathBuf,
}

impl RealTree {
    /// The tree below `root`, an absolute path: the kernel resolves the target of a link by
    /// path, and a relative one would depend on the working directory.
    pub fn new(root: impl Into<PathBuf>) -> RealTree {
        let root = root.into();
        debug_assert!(root.is_absolute(), "{root:?}");
        RealTree { root }
    }

    /// The tree of configfs where every distribution mounts it.
    pub fn configfs() -> RealTree {
        RealTree::new("/sys/kernel/config")
    }

    /// The directory this tree begins at.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The only way from a path of the tree to a path of the system.
    fn resolve(&self, operation: &Operation, path: &TreePath) -> Result<PathBuf, TreeError> {
        if path.is_plain() {
            Ok(self.root.join(path.as_str()))
        } else {
            Err(TreeError::refused(operation.clone(), path, Errno::EINVAL))
        }
    }

    fn run<T>(
        &self,
        operation: Operation,
        path: &TreePath,
        call: impl FnOnce(&Path) -> io::Result<T>,
    ) -> Result<T, TreeError> {
        let resolved = self.resolve(&operation, path)?;
        call(&resolved).map_err(|error| TreeError::refused(operation, path, errno(&error)))
    }

    fn write_once(
        &self,
        operation: Operation,
        path: &TreePath,
        value: &str,
    ) -> Result<(), TreeError> {
        let taken = self.run(operation, path, |file| {
            open_to_write(file, false)?.write(value.as_bytes())
        })?;
        whole(path, taken, value)
    }

    /// Reads and, if needed, writes through one open file.
    fn set_once(
        &self,
        operation: Operation,
        path: &TreePath,
        value: &str,
    ) -> Result<Change, TreeError> {
        let taken = self.run(operation, path, |file| {
            let mut file = open_to_write(file, true)?;
            let mut bytes = Zeroizing::new(Vec::with_capacity(PAGE + 1));
            file.read_to_end(&mut bytes)?;
            if bytes.trim_ascii_end() == value.as_bytes() {
                return Ok(None);
            }
            file.write(value.as_bytes()).map(Some)
        })?;
        match taken {
            None => Ok(Change::Unchanged),
            Some(taken) => whole(path, taken, value).map(|()| Change::Changed),
        }
    }
}

/// Opens an attribute that exists, as it is.
fn open_to_write(file: &Path, read: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(read)
        .write(true)
        .custom_flags(O_NOFOLLOW)
        .open(file)
}

fn whole(path: &TreePath, taken: usize, value: &str) -> Result<(), TreeError> {
    if taken == value.len() {
        Ok(())
    } else {
        Err(TreeError::Short {
            path: path.clone(),
            taken,
            length: value.len(),
        })
    }
}

impl Tree for RealTree {
    fn read(&self, path: &TreePath) -> Result<String, TreeError> {
        self.read_secret(path).map(|text| text.as_str().to_owned())
    }

    fn read_secret(&self, path: &TreePath) -> Result<Zeroizing<String>, TreeError> {
        let bytes = self.run(Operation::Read, path, |file| {
            // Room for the whole value from the start: growing would leave copies behind.
            let mut bytes = Zeroizing::new(Vec::with_capacity(PAGE + 1));
            File::open(file)?.read_to_end(&mut bytes)?;
            Ok(bytes)
        })?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Zeroizing::new(text.trim_end().to_owned())),
            Err(_) => Err(TreeError::unexpected(path, "", "text in UTF-8")),
        }
    }

    fn write(&self, path: &TreePath, value: &str) -> Result<(), TreeError> {
        self.write_once(Operation::Write(value.to_owned()), path, value)
    }

    fn write_secret(&self, path: &TreePath, value: &str) -> Result<(), TreeError> {
        self.write_once(Operation::WriteSecret, path, value)
    }

    fn set(&self, path: &TreePath, value: &str) -> Result<Change, TreeError> {
        self.set_once(Operation::Write(value.to_owned()), path, value)
    }

    fn set_secret(&self, path: &TreePath, value: &str) -> Result<Change, TreeError> {
        self.set_once(Operation::WriteSecret, path, value)
    }

    fn make_dir(&self, path: &TreePath) -> Result<(), TreeError> {
        self.run(Operation::MakeDir, path, |dir| fs::create_dir(dir))
    }

    fn remove_dir(&self, path: &TreePath) -> Result<(), TreeError> {
        self.run(Operation::RemoveDir, path, |dir| fs::remove_dir(dir))
    }

    fn link(&self, path: &TreePath, target: &TreePath) -> Result<(), TreeError> {
        let operation = Operation::Link(target.clone());
        let target = self.resolve(&operation, target)?;
        self.run(operation, path, |link| symlink(target, link))
    }

    fn unlink(&self, path: &TreePath) -> Result<(), TreeError> {
        self.run(Operation::Unlink, path, |link| fs::remove_file(link))
    }

    fn read_link(&self, path: &TreePath) -> Result<TreePath, TreeError> {
        let target = self.run(Operation::ReadLink, path, |link| fs::read_link(link))?;
        let below_root = match target.strip_prefix(&self.root) {
            Ok(rest) => rest.to_str().and_then(|rest| TreePath::try_from(rest).ok()),
            Err(_) => target.to_str().and_then(|target| path.follow(target)),
        };
        below_root.ok_or_else(|| {
            TreeError::unexpected(path, &target.to_string_lossy(), "a path of this tree")
        })
    }

    fn list(&self, path: &TreePath) -> Result<Vec<Entry>, TreeError> {
        let mut entries = self.run(Operation::List, path, |dir| {
            let mut entries = Vec::new();
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                let kind = match entry.file_type()? {
                    kind if kind.is_dir() => EntryKind::Directory,
                    kind if kind.is_symlink() => EntryKind::Link,
                    _ => EntryKind::Attribute,
                };
                entries.push((entry.file_name(), kind));
            }
            Ok(entries)
        })?;
        entries.sort();
        let named = entries.into_iter().map(|(name, kind)| {
            let name = name.to_str().and_then(|name| Name::try_from(name).ok());
            let name = name.ok_or_else(|| TreeError::unexpected(path, "", "names in UTF-8"))?;
            Ok(Entry { name, kind })
        });
        named.collect()
    }

    fn exists(&self, path: &TreePath) -> Result<bool, TreeError> {
        self.run(Operation::Exists, path, |path| {
            match fs::symlink_metadata(path) {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
            }
        })
    }
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::try_from(text).unwrap()
    }

    fn tree() -> (tempfile::TempDir, RealTree) {
        let root = tempfile::tempdir().unwrap();
        let tree = RealTree::new(root.path());
        (root, tree)
    }

    #[test]
    fn writing_neither_creates_nor_truncates() {
        let (root, tree) = tree();
        let error = tree.write(&path("absent"), "1").unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENOENT));
        fs::write(root.path().join("present"), "longer").unwrap();
        tree.write(&path("present"), "1").unwrap();
        assert_eq!(
            fs::read_to_string(root.path().join("present")).unwrap(),
            "1onger"
        );
    }

    #[test]
    fn a_value_is_read_without_the_newline_the_kernel_adds() {
        let (root, tree) = tree();
        fs::write(root.path().join("value"), " a b \n").unwrap();
        assert_eq!(tree.read(&path("value")).unwrap(), " a b");
    }

    #[test]
    fn a_value_that_is_there_already_is_not_written() {
        let (root, tree) = tree();
        let file = root.path().join("value");
        fs::write(&file, "1\n").unwrap();
        assert_eq!(tree.set(&path("value"), "1"), Ok(Change::Unchanged));
        assert_eq!(fs::read_to_string(&file).unwrap(), "1\n");
        assert_eq!(tree.set(&path("value"), "0"), Ok(Change::Changed));
        let error = tree.set_secret(&path("absent"), "hunter2").unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    #[test]
    fn an_error_names_the_operation_the_path_and_the_value_but_no_secret() {
        let (_root, tree) = tree();
        let error = tree.write(&path("a/enable"), "1").unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to write \"1\" to a/enable: ENOENT: No such file or directory"
        );
        let error = tree.write_secret(&path("a/password"), "hunter2");
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    #[test]
    fn links_lead_back_to_paths_of_the_tree() {
        let (root, tree) = tree();
        tree.make_dir(&path("a")).unwrap();
        tree.make_dir(&path("b")).unwrap();
        tree.link(&path("a/absolute"), &path("b")).unwrap();
        symlink("../b", root.path().join("a/relative")).unwrap();
        symlink("/etc", root.path().join("a/outside")).unwrap();
        assert_eq!(tree.read_link(&path("a/absolute")), Ok(path("b")));
        assert_eq!(tree.read_link(&path("a/relative")), Ok(path("b")));
        assert!(matches!(
            tree.read_link(&path("a/outside")),
            Err(TreeError::Unexpected { .. })
        ));
        let tree: &dyn Tree = &tree;
        assert_eq!(
            tree.ensure_link(&path("a/absolute"), &path("b")),
            Ok(Change::Unchanged)
        );
        assert!(tree.ensure_link(&path("a/absolute"), &path("a")).is_err());
    }

    #[test]
    fn a_listing_tells_objects_links_and_attributes_apart() {
        let (root, tree) = tree();
        tree.make_dir(&path("dir")).unwrap();
        tree.link(&path("link"), &path("dir")).unwrap();
        fs::write(root.path().join("attribute"), "").unwrap();
        tree.make_dir(&path("dir/below")).unwrap();
        let below = tree.list(&path("dir")).unwrap();
        assert_eq!(below.len(), 1);
        assert_eq!(below[0].kind, EntryKind::Directory);
        assert_eq!(tree.exists(&path("link")), Ok(true));
        assert_eq!(tree.exists(&path("gone/below")), Ok(false));
    }
}
