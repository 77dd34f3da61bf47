//! The one trait through which files of configfs are touched.
//!
//! configfs is an interface made of directories: `mkdir` makes a kernel object, its files are
//! the object's attributes, a symbolic link is a relation between two objects. [`Tree`] is
//! these few operations below one root. [`RealTree`] performs them on the kernel;
//! the model of the kernel implements the same trait, so everything above runs on either.
//!
//! - A path is a [`TreePath`] below the root; its components are plain names, never `.`, `..`
//!   or a name with a slash, and that is checked again where the system call is made.
//! - An attribute is written with exactly one `write(2)` on a file opened without creating or
//!   truncating it, because the kernel parses each write on its own.
//! - A secret is written with [`Tree::write_secret`], and appears in no error and no log.

mod error;
mod path;
mod real;

use zeroize::Zeroizing;

pub use error::{Operation, TreeError};
pub use nix::errno::Errno;
pub use path::{Name, NotPlain, TreePath};
pub use real::RealTree;

/// Whether an operation found something to do. "Already so" is success, and visible.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The kernel was changed.
    Changed,
    /// It was already so.
    Unchanged,
}

impl Change {
    /// `Changed` if either was.
    pub fn or(self, other: Change) -> Change {
        match (self, other) {
            (Change::Unchanged, Change::Unchanged) => Change::Unchanged,
            _ => Change::Changed,
        }
    }
}

/// What an entry of a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A kernel object or a group of them.
    Directory,
    /// A relation to another object.
    Link,
    /// A file with a value.
    Attribute,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name.
    pub name: Name,
    /// What it is.
    pub kind: EntryKind,
}

/// Files below one root, as an interface to the kernel.
///
/// Every operation is one system call (or open, call, close) and fails with the kernel's errno;
/// the two that set an attribute read it first.
pub trait Tree: Send + Sync {
    /// The value of an attribute, without the white space at its end.
    fn read(&self, path: &TreePath) -> Result<String, TreeError>;

    /// Like [`read`](Tree::read), into memory that is wiped when dropped.
    fn read_secret(&self, path: &TreePath) -> Result<Zeroizing<String>, TreeError>;

    /// Writes an attribute, with one `write(2)` of exactly these bytes.
    fn write(&self, path: &TreePath, value: &str) -> Result<(), TreeError>;

    /// Writes an attribute whose value must appear in no error and no log.
    fn write_secret(&self, path: &TreePath, value: &str) -> Result<(), TreeError>;

    /// Writes an attribute unless it reads back as `value`.
    fn set(&self, path: &TreePath, value: &str) -> Result<Change, TreeError> {
        if self.read(path)? == value {
            return Ok(Change::Unchanged);
        }
        self.write(path, value).map(|()| Change::Changed)
    }

    /// Writes a secret attribute unless it reads back as `value`.
    fn set_secret(&self, path: &TreePath, value: &str) -> Result<Change, TreeError> {
        if self.read_secret(path)?.as_str() == value {
            return Ok(Change::Unchanged);
        }
        self.write_secret(path, value).map(|()| Change::Changed)
    }

    /// Makes a directory.
    fn make_dir(&self, path: &TreePath) -> Result<(), TreeError>;

    /// Removes a directory; the kernel takes its attributes and default groups with it.
    fn remove_dir(&self, path: &TreePath) -> Result<(), TreeError>;

    /// Makes `path` a symbolic link to the directory `target` of the same tree.
    fn link(&self, path: &TreePath, target: &TreePath) -> Result<(), TreeError>;

    /// Removes a symbolic link.
    fn unlink(&self, path: &TreePath) -> Result<(), TreeError>;

    /// Where a symbolic link points, as a path of this tree.
    fn read_link(&self, path: &TreePath) -> Result<TreePath, TreeError>;

    /// The entries of a directory, sorted by name.
    fn list(&self, path: &TreePath) -> Result<Vec<Entry>, TreeError>;

    /// Whether something has this path.
    fn exists(&self, path: &TreePath) -> Result<bool, TreeError>;
}

/// Idempotent forms of the operations, told apart from "already so" by the kernel's own answer.
impl dyn Tree + '_ {
    /// Makes a directory unless it exists.
    pub fn ensure_dir(&self, path: &TreePath) -> Result<Change, TreeError> {
        unless(Errno::EEXIST, self.make_dir(path))
    }

    /// Removes a directory unless it is gone.
    pub fn ensure_no_dir(&self, path: &TreePath) -> Result<Change, TreeError> {
        unless(Errno::ENOENT, self.remove_dir(path))
    }

    /// Makes a link unless it is there and points at `target`.
    pub fn ensure_link(&self, path: &TreePath, target: &TreePath) -> Result<Change, TreeError> {
        match self.link(path, target) {
            Err(error) if error.errno() == Some(Errno::EEXIST) => match self.read_link(path) {
                Ok(found) if found == *target => Ok(Change::Unchanged),
                _ => Err(error),
            },
            outcome => outcome.map(|()| Change::Changed),
        }
    }

    /// Removes a link unless it is gone.
    pub fn ensure_no_link(&self, path: &TreePath) -> Result<Change, TreeError> {
        unless(Errno::ENOENT, self.unlink(path))
    }

    /// An attribute that reads as a number, decimal or `0x` hexadecimal.
    pub fn read_number(&self, path: &TreePath) -> Result<i64, TreeError> {
        let text = self.read(path)?;
        let number = match text.strip_prefix("0x") {
            Some(digits) => i64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        };
        number.ok_or_else(|| TreeError::unexpected(path, &text, "a number"))
    }

    /// An attribute that reads as `0` or `1`.
    pub fn read_flag(&self, path: &TreePath) -> Result<bool, TreeError> {
        let text = self.read(path)?;
        match text.as_str() {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err(TreeError::unexpected(path, &text, "0 or 1")),
        }
    }

    /// The names of the directories below `path`, or none if `path` does not exist.
    pub fn directories(&self, path: &TreePath) -> Result<Vec<Name>, TreeError> {
        let entries = match self.list(path) {
            Err(error) if error.is_absent() => Vec::new(),
            listed => listed?,
        };
        let directory = |entry: Entry| (entry.kind == EntryKind::Directory).then_some(entry.name);
        Ok(entries.into_iter().filter_map(directory).collect())
    }

    /// The links directly below `path` and where they point.
    pub fn links(&self, path: &TreePath) -> Result<Vec<(Name, TreePath)>, TreeError> {
        let entries = self.list(path)?;
        let links = entries.into_iter().filter(|e| e.kind == EntryKind::Link);
        links
            .map(|entry| {
                let target = self.read_link(&path.join(&entry.name))?;
                Ok((entry.name, target))
            })
            .collect()
    }
}

fn unless(already: Errno, outcome: Result<(), TreeError>) -> Result<Change, TreeError> {
    match outcome {
        Err(error) if error.errno() == Some(already) => Ok(Change::Unchanged),
        outcome => outcome.map(|()| Change::Changed),
    }
}
