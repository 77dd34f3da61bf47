//! A walk over one tree from left to right, which can step over whole subtrees.

use crate::error::{Damage, MetadataError};
use crate::metadata::Metadata;
use crate::node::Node;
use crate::source::BlockSource;

/// More levels than any tree of 64-bit keys has.
const MOST_LEVELS: u32 = 16;

/// A tree: its root, how high it is, and what its leaves hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree {
    pub top: Subtree,
    /// Bytes of a leaf's value.
    pub value: u32,
}

/// A node not yet read, and the keys that it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subtree {
    pub block: u64,
    /// A leaf has 1.
    pub height: u32,
    pub low: u64,
    /// The last one.
    pub high: u64,
}

impl Tree {
    /// Finds the height of the tree at `root` by its leftmost path: every leaf is as deep.
    pub fn open<S: BlockSource>(
        metadata: &Metadata<S>,
        root: u64,
        value: u32,
    ) -> Result<Self, MetadataError> {
        let (mut height, mut block) = (1, root);
        loop {
            let node = metadata.node(block, value)?;
            if node.leaf {
                break;
            }
            if node.entries == 0 || height == MOST_LEVELS {
                return Err(MetadataError::damaged(block, Damage::Depth));
            }
            block = node.number(0);
            height += 1;
        }
        let top = Subtree {
            block: root,
            height,
            low: 0,
            high: u64::MAX,
        };
        Ok(Tree { top, value })
    }

    /// The highest key. Reads one node of each level.
    pub fn last_key<S: BlockSource>(
        &self,
        metadata: &Metadata<S>,
    ) -> Result<Option<u64>, MetadataError> {
        let mut subtree = self.top;
        loop {
            let node = self.node(metadata, subtree)?;
            let Some(last) = node.entries.checked_sub(1) else {
                return Ok(None);
            };
            if node.leaf {
                return Ok(Some(node.key(last)));
            }
            subtree = subtree.child(&node, last);
        }
    }

    /// Reads a node of the tree and holds it to what the node above says of it.
    pub fn node<S: BlockSource>(
        &self,
        metadata: &Metadata<S>,
        subtree: Subtree,
    ) -> Result<Node, MetadataError> {
        let node = metadata.node(subtree.block, self.value)?;
        let damaged = |damage| Err(MetadataError::damaged(subtree.block, damage));
        if node.leaf != (subtree.height == 1) {
            return damaged(Damage::Depth);
        }
        match node.entries {
            // Only a tree with nothing in it has an empty node.
            0 if node.leaf && subtree.is_top() => Ok(node),
            0 => damaged(Damage::Depth),
            _ if node.key(0) < subtree.low => damaged(Damage::Key(node.key(0))),
            entries if node.key(entries - 1) > subtree.high => {
                damaged(Damage::Key(node.key(entries - 1)))
            }
            _ => Ok(node),
        }
    }
}

impl Subtree {
    /// Whether nothing is above it.
    fn is_top(&self) -> bool {
        (self.low, self.high) == (0, u64::MAX)
    }

    /// A child of this node.
    pub fn child(&self, node: &Node, index: usize) -> Subtree {
        Subtree {
            block: node.number(index),
            height: self.height - 1,
            low: node.key(index),
            high: match index + 1 {
                next if next < node.entries => node.key(next) - 1,
                _ => self.high,
            },
        }
    }
}

/// What a cursor is before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// A node, not read.
    Subtree(Subtree),
    /// An entry of a leaf; its value is at hand.
    Entry(u64),
}

impl Head {
    /// No key that is still to come is lower.
    pub fn low(&self) -> u64 {
        match self {
            Head::Subtree(subtree) => subtree.low,
            Head::Entry(key) => *key,
        }
    }

    pub fn height(&self) -> u32 {
        match self {
            Head::Subtree(subtree) => subtree.height,
            Head::Entry(_) => 0,
        }
    }
}

/// A place in a tree. Holds the nodes above it, one for each level.
#[derive(Debug)]
pub(crate) struct Cursor<'m, S> {
    metadata: &'m Metadata<S>,
    tree: Tree,
    from: u64,
    /// Whether the top is still before us.
    fresh: bool,
    /// Nodes that were read, with the entry that is next in each.
    path: Vec<(Subtree, Node, usize)>,
}

impl<'m, S: BlockSource> Cursor<'m, S> {
    /// Before the first key that is not below `from`.
    pub fn new(metadata: &'m Metadata<S>, tree: Tree, from: u64) -> Self {
        Cursor {
            metadata,
            tree,
            from,
            fresh: true,
            path: Vec::new(),
        }
    }

    /// What is next; nothing at the end.
    pub fn head(&self) -> Option<Head> {
        if self.fresh {
            return Some(Head::Subtree(self.tree.top));
        }
        let (subtree, node, index) = self.path.last()?;
        Some(match node.leaf {
            true => Head::Entry(node.key(*index)),
            false => Head::Subtree(subtree.child(node, *index)),
        })
    }

    /// The value of the entry that is next.
    pub fn value(&self) -> Option<&[u8]> {
        let (_, node, index) = self.path.last()?;
        (!self.fresh && node.leaf).then(|| node.value(*index))
    }

    /// Steps over what is next.
    pub fn skip(&mut self) {
        self.fresh = false;
        while let Some((_, node, index)) = self.path.last_mut() {
            *index += 1;
            if *index < node.entries {
                break;
            }
            self.path.pop();
        }
    }

    /// Reads the node that is next, so that its first entry or child is.
    pub fn open(&mut self) -> Result<(), MetadataError> {
        let Some(Head::Subtree(subtree)) = self.head() else {
            return Ok(());
        };
        let node = self.tree.node(self.metadata, subtree)?;
        self.fresh = false;
        let index = match node.leaf {
            true => node.below(self.from),
            false => node.reaching(self.from),
        };
        if index < node.entries {
            self.path.push((subtree, node, index));
        } else {
            // Stands for all of the node, so it is over with it.
            self.skip();
        }
        Ok(())
    }

    /// The next entry's key and value; moves past it.
    pub fn next<T>(
        &mut self,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<(u64, T)>, MetadataError> {
        loop {
            match self.head() {
                None => return Ok(None),
                Some(Head::Subtree(_)) => self.open()?,
                Some(Head::Entry(key)) => {
                    let value = self.value().map(read);
                    self.skip();
                    return Ok(value.map(|value| (key, value)));
                }
            }
        }
    }
}
