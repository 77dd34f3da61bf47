//! What can go wrong when a file of a tree is touched.

use std::fmt;

use nix::errno::Errno;

use super::TreePath;

/// What was being done to a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reading an attribute.
    Read,
    /// Writing this value to an attribute.
    Write(String),
    /// Writing a secret to an attribute.
    WriteSecret,
    /// Making a directory.
    MakeDir,
    /// Removing a directory.
    RemoveDir,
    /// Linking to this other path.
    Link(TreePath),
    /// Removing a link.
    Unlink,
    /// Reading where a link points.
    ReadLink,
    /// Listing a directory.
    List,
    /// Asking whether something is there.
    Exists,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::Read => write!(f, "read"),
            Operation::Write(value) => write!(f, "write {value:?} to"),
            Operation::WriteSecret => write!(f, "write a secret to"),
            Operation::MakeDir => write!(f, "create"),
            Operation::RemoveDir => write!(f, "remove"),
            Operation::Link(target) => write!(f, "link {target} from"),
            Operation::Unlink => write!(f, "unlink"),
            Operation::ReadLink => write!(f, "follow"),
            Operation::List => write!(f, "list"),
            Operation::Exists => write!(f, "look for"),
        }
    }
}

/// An operation on a tree that did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The kernel refused.
    #[error("failed to {operation} {path}: {errno}")]
    Refused {
        /// What was tried.
        operation: Operation,
        /// On what.
        path: TreePath,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The kernel took only a part of a value, which it does not do for values it understands.
    #[error("{path} took {taken} of {length} bytes")]
    Short {
        /// The attribute.
        path: TreePath,
        /// Bytes the kernel took.
        taken: usize,
        /// Bytes it was given.
        length: usize,
    },
    /// An attribute or link was read and is not what this kernel interface defines.
    #[error("{path} holds {found:?}, expected {expected}")]
    Unexpected {
        /// The attribute or link.
        path: TreePath,
        /// What it holds.
        found: String,
        /// What was expected, in words.
        expected: &'static str,
    },
}

impl TreeError {
    pub(crate) fn refused(operation: Operation, path: &TreePath, errno: Errno) -> Self {
        TreeError::Refused {
            operation,
            path: path.clone(),
            errno,
        }
    }

    pub(crate) fn unexpected(path: &TreePath, found: &str, expected: &'static str) -> Self {
        TreeError::Unexpected {
            path: path.clone(),
            found: found.to_owned(),
            expected,
        }
    }

    /// The kernel's answer, if it refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            TreeError::Refused { errno, .. } => Some(*errno),
            TreeError::Short { .. } | TreeError::Unexpected { .. } => None,
        }
    }

    /// The object is not there.
    pub fn is_absent(&self) -> bool {
        self.errno() == Some(Errno::ENOENT)
    }

    /// Something else uses the object, so it cannot be removed or changed now.
    pub fn is_in_use(&self) -> bool {
        matches!(self.errno(), Some(Errno::EBUSY | Errno::ENOTEMPTY))
    }

    /// The same call can succeed later with nothing else changed.
    pub fn retryable(&self) -> bool {
        matches!(
            self.errno(),
            Some(Errno::EINTR | Errno::EAGAIN | Errno::ENOMEM | Errno::EBUSY)
        )
    }
}
