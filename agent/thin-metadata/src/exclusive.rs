//! What a thin device has for itself alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::cursor::{Subtree, Tree};
use crate::error::MetadataError;
use crate::extents::Mapping;
use crate::metadata::Metadata;
use crate::node::Node;
use crate::source::BlockSource;

/// Nodes of others held side by side at most, each some 50 bytes.
const MOST_RIVALS: usize = 1 << 17;

/// Nodes of other devices by their blocks: however many devices have one, it is read once. What
/// two parents say of its keys may differ, and holds both ways.
type Rivals = BTreeMap<u64, Subtree>;

/// A walk over one device beside all that may share with it.
struct Walk<'m, S> {
    metadata: &'m Metadata<S>,
    device: u32,
    tree: Tree,
    /// Nodes of others that are held on all levels.
    held: usize,
}

impl<S: BlockSource> Metadata<S> {
    /// How many data blocks a device maps that none of `others` does: those that its deletion
    /// would free, if `others` names all that have a common origin with it. Those that do not
    /// exist are passed over, and so are nodes that it shares.
    ///
    /// # Errors
    /// When there is no such device, or it cannot be read.
    pub fn exclusive_blocks(
        &self,
        device: u32,
        others: impl IntoIterator<Item = u32>,
    ) -> Result<u64, MetadataError> {
        let tree = self.mappings(device)?;
        let mut walk = Walk {
            metadata: self,
            device,
            tree,
            held: 0,
        };
        let mut rivals = Rivals::new();
        for other in others.into_iter().filter(|other| *other != device) {
            let top = match self.mappings(other) {
                Ok(tree) => tree.top,
                Err(MetadataError::NoDevice(_)) => continue,
                Err(error) => return Err(error),
            };
            rivals.insert(top.block, top);
            walk.hold(1)?;
        }
        walk.count(tree.top, rivals)
    }
}

impl<S: BlockSource> Walk<'_, S> {
    /// Blocks below `subject` that no rival maps.
    fn count(&mut self, subject: Subtree, mut rivals: Rivals) -> Result<u64, MetadataError> {
        loop {
            if rivals.contains_key(&subject.block) {
                return Ok(0);
            }
            let level = rivals.values().map(|rival| rival.height).max();
            match level {
                Some(level) if level > subject.height => self.open(&mut rivals, level, subject)?,
                _ => break,
            }
        }
        let node = self.tree.node(self.metadata, subject)?;
        if node.leaf {
            return self.alone(&node, &rivals);
        }
        // All at once, or each child would read them again.
        self.open(&mut rivals, subject.height, subject)?;
        let held = self.held;
        let beside = self.deal(&node, rivals)?;
        let mut count = 0;
        for (index, rivals) in beside.into_iter().enumerate() {
            count += self.count(subject.child(&node, index), rivals)?;
        }
        self.held = held;
        Ok(count)
    }

    /// Puts the children of rivals of one level in their place, as far as they meet `subject`.
    fn open(&self, rivals: &mut Rivals, level: u32, subject: Subtree) -> Result<(), MetadataError> {
        let high: Vec<Subtree> = rivals
            .extract_if(.., |_, rival| rival.height == level)
            .map(|(_, rival)| rival)
            .collect();
        for rival in high {
            let node = self.tree.node(self.metadata, rival)?;
            let children = (0..node.entries).map(|index| rival.child(&node, index));
            let meeting = children.filter(|child| child.meets(&subject));
            rivals.extend(meeting.map(|child| (child.block, child)));
            if self.held + rivals.len() > MOST_RIVALS {
                return Err(MetadataError::TooManyRelatives(self.device));
            }
        }
        Ok(())
    }

    /// Gives each child of `node` the rivals whose keys meet its.
    fn deal(&mut self, node: &Node, rivals: Rivals) -> Result<Vec<Rivals>, MetadataError> {
        let mut beside = vec![Rivals::new(); node.entries];
        for (block, rival) in rivals {
            let meeting = node.reaching(rival.low)..=node.reaching(rival.high);
            self.hold(meeting.clone().count())?;
            for index in meeting {
                beside[index].insert(block, rival);
            }
        }
        Ok(beside)
    }

    fn hold(&mut self, more: usize) -> Result<(), MetadataError> {
        self.held += more;
        match self.held > MOST_RIVALS {
            true => Err(MetadataError::TooManyRelatives(self.device)),
            false => Ok(()),
        }
    }

    /// Entries of a leaf that no rival, all leaves, has likewise.
    fn alone(&self, leaf: &Node, rivals: &Rivals) -> Result<u64, MetadataError> {
        let entry = |node: &Node, index| (node.key(index), Mapping::parse(node.value(index)).data);
        let mut alone: BTreeSet<(u64, u64)> = (0..leaf.entries).map(|i| entry(leaf, i)).collect();
        for rival in rivals.values() {
            if alone.is_empty() {
                break;
            }
            let node = self.tree.node(self.metadata, *rival)?;
            for index in 0..node.entries {
                alone.remove(&entry(&node, index));
            }
        }
        Ok(alone.len() as u64)
    }
}

impl Subtree {
    fn meets(&self, other: &Subtree) -> bool {
        self.low <= other.high && other.low <= self.high
    }
}
