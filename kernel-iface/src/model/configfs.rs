//! configfs itself: what holds for every directory, link and attribute, whatever it means.

use std::collections::BTreeMap;

use super::attribute::{Access, Attribute, Store};
use super::kind::Kind;
use super::{ModelState, lio, nvmet};
use crate::device::DeviceNumber;
use crate::tree::{Entry, EntryKind, Errno, Name, TreePath};

/// Longest value an attribute takes or gives.
const PAGE: usize = 4096;
/// Longest name of a directory.
const NAME_MAX: usize = 255;

pub(super) type NodeId = u64;

/// The directory everything is mounted below.
const ROOT: NodeId = 0;

/// One directory.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) parent: NodeId,
    /// The kernel made it along with its parent.
    default: bool,
    pub(super) children: BTreeMap<String, NodeId>,
    /// The links in this directory and the directories they point at.
    pub(super) links: BTreeMap<String, NodeId>,
    /// How many links point at this directory.
    pub(super) linked: u32,
    values: BTreeMap<&'static str, String>,
    /// What the object remembers without showing it.
    pub(super) notes: BTreeMap<&'static str, String>,
    /// The block device the object holds open.
    pub(super) device: Option<DeviceNumber>,
}

/// Every directory.
#[derive(Debug)]
pub(super) struct Nodes {
    nodes: BTreeMap<NodeId, Node>,
    next: NodeId,
}

impl Default for Nodes {
    fn default() -> Self {
        let mut nodes = Nodes {
            nodes: BTreeMap::new(),
            next: ROOT,
        };
        nodes.insert(ROOT, "", Kind::Inert, true);
        nodes
    }
}

impl Nodes {
    /// Adds what a module registers: a directory below the root.
    pub(super) fn mount(&mut self, name: &'static str, kind: Kind) {
        self.attach(ROOT, name, kind, true);
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[&id]
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes
            .get_mut(&id)
            .expect("an id is used only while its node exists")
    }

    /// The default group of a name.
    pub(super) fn group(&self, id: NodeId, name: &str) -> NodeId {
        self.node(id).children[name]
    }

    /// The directory `levels` above.
    pub(super) fn ancestor(&self, id: NodeId, levels: usize) -> NodeId {
        (0..levels).fold(id, |id, _| self.node(id).parent)
    }

    /// What an attribute reads as, for the rules.
    pub(super) fn value(&self, id: NodeId, file: &str) -> &str {
        self.node(id).values.get(file).map_or("", String::as_str)
    }

    pub(super) fn set_value(&mut self, id: NodeId, file: &'static str, value: impl Into<String>) {
        self.node_mut(id).values.insert(file, value.into());
    }

    /// Every directory of a kind.
    pub(super) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (NodeId, &Node)> {
        let nodes = self.nodes.iter().map(|(id, node)| (*id, node));
        nodes.filter(move |(_, node)| node.kind == kind)
    }

    pub(super) fn path(&self, id: NodeId) -> String {
        let node = self.node(id);
        match node.parent {
            ROOT => node.name.clone(),
            parent => format!("{}/{}", self.path(parent), node.name),
        }
    }

    /// A directory by its path, links followed. ENOENT if there is none, ENOTDIR if an attribute
    /// stands in the way.
    pub(super) fn directory(&self, path: &TreePath) -> Result<NodeId, Errno> {
        path.components().try_fold(ROOT, |id, name| {
            let node = self.node(id);
            match node.children.get(name).or_else(|| node.links.get(name)) {
                Some(id) => Ok(*id),
                None if node.kind.attribute(name).is_some() => Err(Errno::ENOTDIR),
                None => Err(Errno::ENOENT),
            }
        })
    }

    /// The directory that holds the last component.
    fn parent(&self, path: &TreePath) -> Result<NodeId, Errno> {
        match path.parent() {
            Some(parent) => self.directory(&parent),
            None => Ok(ROOT),
        }
    }

    fn attribute(&self, path: &TreePath) -> Result<(NodeId, &'static Attribute), Errno> {
        let parent = self.parent(path)?;
        let node = self.node(parent);
        match node.kind.attribute(path.name()) {
            Some(attribute) => Ok((parent, attribute)),
            None if self.entry(parent, path.name()).is_some() => Err(Errno::EISDIR),
            None => Err(Errno::ENOENT),
        }
    }

    fn entry(&self, parent: NodeId, name: &str) -> Option<EntryKind> {
        let node = self.node(parent);
        if node.children.contains_key(name) {
            Some(EntryKind::Directory)
        } else if node.links.contains_key(name) {
            Some(EntryKind::Link)
        } else {
            node.kind.attribute(name).map(|_| EntryKind::Attribute)
        }
    }

    fn insert(&mut self, parent: NodeId, name: &str, kind: Kind, default: bool) -> NodeId {
        let id = self.next;
        self.next += 1;
        let initial = |attribute: &Attribute| (attribute.file, attribute.initial.to_owned());
        self.nodes.insert(
            id,
            Node {
                kind,
                name: name.to_owned(),
                parent,
                default,
                children: BTreeMap::new(),
                links: BTreeMap::new(),
                linked: 0,
                values: kind.attributes().iter().map(initial).collect(),
                notes: BTreeMap::new(),
                device: None,
            },
        );
        id
    }

    fn attach(&mut self, parent: NodeId, name: &str, kind: Kind, default: bool) -> NodeId {
        let id = self.insert(parent, name, kind, default);
        self.node_mut(parent).children.insert(name.to_owned(), id);
        for (group, kind) in kind.groups() {
            self.attach(id, group, *kind, true);
        }
        id
    }

    /// Whether a directory can go: EBUSY if a link points at it or at a group that came with it,
    /// ENOTEMPTY if something was put in one of them.
    fn removable(&self, id: NodeId) -> Result<(), Errno> {
        let node = self.node(id);
        if node.linked > 0 {
            return Err(Errno::EBUSY);
        }
        if !node.links.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        node.children.values().try_for_each(|child| {
            if self.node(*child).default {
                self.removable(*child)
            } else {
                Err(Errno::ENOTEMPTY)
            }
        })
    }

    fn detach(&mut self, id: NodeId) {
        let children: Vec<NodeId> = self.node(id).children.values().copied().collect();
        children.into_iter().for_each(|child| self.detach(child));
        let (parent, name) = (self.node(id).parent, self.node(id).name.clone());
        self.node_mut(parent).children.remove(&name);
        self.nodes.remove(&id);
    }
}

/// What the system calls do. The rules of LIO and nvmet say what a directory, a value or a link
/// means; they are asked before anything is changed here.
impl ModelState {
    pub(super) fn make_dir(&mut self, path: &TreePath) -> Result<(), Errno> {
        let parent = self.nodes.parent(path)?;
        let name = path.name();
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if self.nodes.entry(parent, name).is_some() {
            return Err(Errno::EEXIST);
        }
        let kind = if self.nodes.node(parent).kind.is_nvmet() {
            nvmet::make(self, parent, name)?
        } else {
            lio::make(self, parent, name)?
        };
        let id = self.nodes.attach(parent, name, kind, false);
        if kind.is_nvmet() {
            nvmet::made(self, id);
        } else {
            lio::made(self, id);
        }
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, path: &TreePath) -> Result<(), Errno> {
        let parent = self.nodes.parent(path)?;
        match self.nodes.entry(parent, path.name()) {
            None => return Err(Errno::ENOENT),
            Some(EntryKind::Attribute | EntryKind::Link) => return Err(Errno::ENOTDIR),
            Some(EntryKind::Directory) => {}
        }
        let id = self.nodes.group(parent, path.name());
        if self.nodes.node(id).default {
            return Err(Errno::EPERM);
        }
        self.nodes.removable(id)?;
        if self.nodes.node(id).kind.is_nvmet() {
            nvmet::released(self, id);
        } else {
            lio::released(self, id);
        }
        self.nodes.detach(id);
        Ok(())
    }

    pub(super) fn make_link(&mut self, path: &TreePath, target: &TreePath) -> Result<(), Errno> {
        let parent = self.nodes.parent(path)?;
        if self.nodes.entry(parent, path.name()).is_some() {
            return Err(Errno::EEXIST);
        }
        let kind = self.nodes.node(parent).kind;
        if !lio::links(kind) && !nvmet::links(kind) {
            return Err(Errno::EPERM);
        }
        let target = self.nodes.directory(target)?;
        if kind.is_nvmet() {
            nvmet::allow_link(self, parent, target)?;
        } else {
            lio::allow_link(self, parent, target)?;
        }
        let links = &mut self.nodes.node_mut(parent).links;
        links.insert(path.name().to_owned(), target);
        self.nodes.node_mut(target).linked += 1;
        Ok(())
    }

    pub(super) fn remove_link(&mut self, path: &TreePath) -> Result<(), Errno> {
        let parent = self.nodes.parent(path)?;
        match self.nodes.entry(parent, path.name()) {
            None => return Err(Errno::ENOENT),
            Some(EntryKind::Attribute) => return Err(Errno::EPERM),
            Some(EntryKind::Directory) => return Err(Errno::EISDIR),
            Some(EntryKind::Link) => {}
        }
        let node = self.nodes.node_mut(parent);
        let kind = node.kind;
        let Some(target) = node.links.remove(path.name()) else {
            return Err(Errno::ENOENT);
        };
        self.nodes.node_mut(target).linked -= 1;
        if kind.is_nvmet() {
            nvmet::drop_link(self, parent, target);
        } else {
            lio::drop_link(self, parent, target);
        }
        Ok(())
    }

    pub(super) fn read_attribute(&self, path: &TreePath) -> Result<String, Errno> {
        let (id, attribute) = self.nodes.attribute(path)?;
        if attribute.access == Access::WriteOnly {
            return Err(Errno::EACCES);
        }
        if self.nodes.node(id).kind.is_nvmet() {
            Ok(self.nodes.value(id, attribute.file).to_owned())
        } else {
            lio::show(self, id, attribute.file)
        }
    }

    pub(super) fn write_attribute(&mut self, path: &TreePath, text: &str) -> Result<(), Errno> {
        let (id, attribute) = self.nodes.attribute(path)?;
        if attribute.access == Access::ReadOnly {
            return Err(Errno::EACCES);
        }
        if text.is_empty() {
            return Err(Errno::EFAULT);
        }
        let text = &text[..text.len().min(PAGE - 1)];
        if self.nodes.node(id).kind.is_nvmet() {
            return nvmet::store(self, id, attribute, text);
        }
        match attribute.store {
            Store::Rule => lio::store(self, id, attribute.file, text),
            plain => {
                let value = plain.plain(text)?;
                self.nodes.set_value(id, attribute.file, value);
                Ok(())
            }
        }
    }

    pub(super) fn follow_link(&self, path: &TreePath) -> Result<String, Errno> {
        let parent = self.nodes.parent(path)?;
        match self.nodes.node(parent).links.get(path.name()) {
            Some(target) => Ok(self.nodes.path(*target)),
            None if self.nodes.entry(parent, path.name()).is_some() => Err(Errno::EINVAL),
            None => Err(Errno::ENOENT),
        }
    }

    pub(super) fn list_directory(&self, path: &TreePath) -> Result<Vec<Entry>, Errno> {
        let node = self.nodes.node(self.nodes.directory(path)?);
        let directories = node
            .children
            .keys()
            .map(|name| (name, EntryKind::Directory));
        let links = node.links.keys().map(|name| (name, EntryKind::Link));
        let attributes = node.values.keys();
        let mut entries: Vec<Entry> = directories
            .chain(links)
            .map(|(name, kind)| entry(name, kind))
            .chain(attributes.map(|file| entry(file, EntryKind::Attribute)))
            .collect();
        entries.sort();
        Ok(entries)
    }

    pub(super) fn is_there(&self, path: &TreePath) -> bool {
        let parent = self.nodes.parent(path);
        parent.is_ok_and(|parent| self.nodes.entry(parent, path.name()).is_some())
    }
}

fn entry(name: &str, kind: EntryKind) -> Entry {
    Entry {
        name: Name::formatted(name.to_owned()),
        kind,
    }
}
