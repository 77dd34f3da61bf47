//! Paths below the root of a tree, made of plain names.

use std::fmt;

use ashlar_targetd_protocol::{Iqn, Nqn};

/// One component of a path: not empty, not `.` or `..`, without slash and NUL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// The text cannot be one component of a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a plain name")]
pub struct NotPlain(pub String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name that this crate formats itself from numbers and fixed text.
    pub(crate) fn formatted(text: String) -> Name {
        debug_assert!(is_plain(&text), "{text:?}");
        Name(text)
    }
}

impl TryFrom<&str> for Name {
    type Error = NotPlain;

    fn try_from(text: &str) -> Result<Self, NotPlain> {
        if is_plain(text) {
            Ok(Name(text.to_owned()))
        } else {
            Err(NotPlain(text.to_owned()))
        }
    }
}

/// The grammar of iSCSI names has no slash and requires a letter.
impl From<&Iqn> for Name {
    fn from(iqn: &Iqn) -> Name {
        Name::formatted(iqn.as_str().to_owned())
    }
}

/// The grammar of NVMe names as accepted here has no slash and requires a letter.
impl From<&Nqn> for Name {
    fn from(nqn: &Nqn) -> Name {
        Name::formatted(nqn.as_str().to_owned())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path below the root of a tree, such as `target/core/iblock_7`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath(String);

impl TreePath {
    /// A path known when the program is written.
    pub fn fixed(path: &'static str) -> TreePath {
        debug_assert!(path.split('/').all(is_plain), "{path:?}");
        TreePath(path.to_owned())
    }

    /// The path one name deeper.
    pub fn join(&self, name: &Name) -> TreePath {
        TreePath(format!("{}/{}", self.0, name.0))
    }

    /// The path deeper by names known when the program is written.
    pub fn at(&self, path: &'static str) -> TreePath {
        debug_assert!(path.split('/').all(is_plain), "{path:?}");
        TreePath(format!("{}/{path}", self.0))
    }

    /// The path as text, relative to the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components from the root on.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The last component.
    pub fn name(&self) -> &str {
        self.components().next_back().unwrap_or_default()
    }

    /// The path without its last component, if something is left.
    pub fn parent(&self) -> Option<TreePath> {
        self.0
            .rsplit_once('/')
            .map(|(parent, _)| TreePath(parent.to_owned()))
    }

    /// Whether every component is plain, checked where a system call is made although the
    /// constructors promise it.
    pub(crate) fn is_plain(&self) -> bool {
        self.components().all(is_plain)
    }

    /// Where a relative link found at `self` leads: configfs writes them as `../../../a/b`,
    /// seen from the directory that holds the link. `None` when it leaves the tree.
    pub(crate) fn follow(&self, target: &str) -> Option<TreePath> {
        let mut components: Vec<&str> = self.components().collect();
        components.pop();
        for component in target.split('/') {
            if component == ".." {
                components.pop()?;
            } else if is_plain(component) {
                components.push(component);
            } else {
                return None;
            }
        }
        (!components.is_empty()).then(|| TreePath(components.join("/")))
    }
}

/// A path that was written as text, for tests and recorded operations.
impl TryFrom<&str> for TreePath {
    type Error = NotPlain;

    fn try_from(text: &str) -> Result<Self, NotPlain> {
        if text.split('/').all(is_plain) {
            Ok(TreePath(text.to_owned()))
        } else {
            Err(NotPlain(text.to_owned()))
        }
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

fn is_plain(component: &str) -> bool {
    !matches!(component, "" | "." | "..") && !component.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_climb_or_descend() {
        for bad in ["", ".", "..", "a/b", "/", "a\0b"] {
            assert!(Name::try_from(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "...", "10.0.0.1:3260", "[::1]:3260", "iqn.x:y"] {
            assert!(Name::try_from(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_path_written_as_text_is_relative_and_plain() {
        for bad in ["", "/etc", "a//b", "a/../b", "a/", "./a"] {
            assert!(TreePath::try_from(bad).is_err(), "{bad:?}");
        }
        assert!(TreePath::try_from("target/core/iblock_0").is_ok());
    }

    #[test]
    fn a_link_is_followed_inside_the_tree_only() {
        let link = TreePath::fixed("target/iscsi/x/lun_0/disk");
        assert_eq!(
            link.follow("../../../../target/core/iblock_0/a"),
            Some(TreePath::fixed("target/core/iblock_0/a"))
        );
        assert_eq!(link.follow("../../../../../etc"), None);
        assert_eq!(link.follow("/etc/passwd"), None);
        assert_eq!(link.follow("../../../.."), None);
    }
}
