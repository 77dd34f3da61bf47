//! A disk in memory that keeps only what was synced, and of the rest what chance keeps.
//!
//! Content and names are separate: a synced file whose name was not synced is gone after a
//! cut. Unsynced writes survive by sectors, in any combination; unsynced name changes survive
//! one by one.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::store::disk::{Disk, DiskFile, FileError};

const SECTOR: usize = 512;

/// SplitMix64: the same seed, the same accident.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// What a power cut leaves of unsynced changes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cut {
    Nothing,
    All,
    /// File lengths but no data, as a journalling file system may.
    Lengths,
    /// Any sectors and any name changes.
    Some(u64),
}

/// A sync that this disk only pretends to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deaf {
    Nothing,
    /// Content of files whose name begins so.
    Files(&'static str),
    Names,
}

#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Clone)]
enum NameChange {
    Link(String, usize),
    Unlink(String),
    Rename(String, String, usize),
}

#[derive(Clone, Default)]
struct Inode {
    durable: Vec<u8>,
    current: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Default)]
struct State {
    inodes: Vec<Inode>,
    durable_names: BTreeMap<String, usize>,
    names: BTreeMap<String, usize>,
    pending_names: Vec<NameChange>,
    operations: u64,
    cut_at: Option<u64>,
    fail_sync: bool,
    fail_write: Option<usize>,
    room: Option<usize>,
}

/// The disk; clones share it.
#[derive(Clone)]
pub(super) struct FaultyDisk {
    state: Arc<Mutex<State>>,
    deaf: Deaf,
}

impl FaultyDisk {
    pub(super) fn new(deaf: Deaf) -> Self {
        Self {
            state: Arc::default(),
            deaf,
        }
    }

    /// Cuts the power in the middle of the operation that many operations from now.
    pub(super) fn cut_after(&self, operations: u64) {
        let mut state = self.lock();
        state.cut_at = Some(state.operations + operations);
    }

    /// Operations so far that changed or synced something.
    pub(super) fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// The next content sync fails, and as in Linux its pages count as clean afterwards.
    pub(super) fn fail_next_sync(&self) {
        self.lock().fail_sync = true;
    }

    /// The next write fails with so many of its bytes written.
    pub(super) fn fail_next_write(&self, after: usize) {
        self.lock().fail_write = Some(after);
    }

    /// Bytes that can still be appended; `None` for any number.
    pub(super) fn set_room(&self, room: Option<usize>) {
        self.lock().room = room;
    }

    /// The disk as the next boot finds it.
    pub(super) fn after(&self, cut: Cut) -> Self {
        let before = self.lock();
        let mut random = Random(match cut {
            Cut::Some(seed) => seed,
            _ => 0,
        });
        let mut keeps = |lengths_only: bool| match cut {
            Cut::Nothing => false,
            Cut::All => true,
            Cut::Lengths => lengths_only,
            Cut::Some(_) => random.below(2) == 0,
        };
        let mut names = before.durable_names.clone();
        for change in &before.pending_names {
            if keeps(true) {
                apply_name(&mut names, change);
            }
        }
        let inodes = before.inodes.iter();
        let inodes = inodes.map(|inode| survivor(inode, &mut keeps)).collect();
        let state = State {
            inodes,
            durable_names: names.clone(),
            names,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            deaf: self.deaf,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no test panics while it holds the disk")
    }

    /// Counts an operation; true when the power goes in the middle of it.
    fn step(&self) -> Result<bool, FileError> {
        let mut state = self.lock();
        state.operations += 1;
        match state.cut_at {
            Some(cut) if state.operations > cut => Err(failed("power", io::ErrorKind::Other)),
            Some(cut) => Ok(state.operations == cut),
            None => Ok(false),
        }
    }

    fn change_names(&self, change: NameChange) -> Result<(), FileError> {
        let cut = self.step()?;
        let mut state = self.lock();
        apply_name(&mut state.names, &change);
        state.pending_names.push(change);
        survived(cut)
    }

    fn inode(&self, name: &str) -> Result<usize, FileError> {
        let state = self.lock();
        let inode = state.names.get(name).copied();
        inode.ok_or_else(|| failed(name, io::ErrorKind::NotFound))
    }
}

fn survived(cut: bool) -> Result<(), FileError> {
    match cut {
        true => Err(failed("power", io::ErrorKind::Other)),
        false => Ok(()),
    }
}

fn survivor(inode: &Inode, keeps: &mut impl FnMut(bool) -> bool) -> Inode {
    let mut content = inode.durable.clone();
    for change in &inode.pending {
        match change {
            Change::Truncate(len) if keeps(true) => content.truncate(*len),
            Change::Truncate(_) => {}
            Change::Write { at, bytes } => {
                if keeps(true) && content.len() < at + bytes.len() {
                    content.resize(at + bytes.len(), 0);
                }
                keep_sectors(&mut content, *at, bytes, keeps);
            }
        }
    }
    Inode {
        durable: content.clone(),
        current: content,
        pending: Vec::new(),
    }
}

fn keep_sectors(
    content: &mut Vec<u8>,
    mut at: usize,
    mut bytes: &[u8],
    keeps: &mut impl FnMut(bool) -> bool,
) {
    while !bytes.is_empty() {
        let (sector, rest) = bytes.split_at(bytes.len().min(SECTOR - at % SECTOR));
        if keeps(false) {
            let end = content.len().max(at + sector.len());
            content.resize(end, 0);
            content[at..at + sector.len()].copy_from_slice(sector);
        }
        at += sector.len();
        bytes = rest;
    }
}

fn apply_name(names: &mut BTreeMap<String, usize>, change: &NameChange) {
    match change {
        NameChange::Link(name, inode) => drop(names.insert(name.clone(), *inode)),
        NameChange::Unlink(name) => drop(names.remove(name)),
        NameChange::Rename(from, to, inode) => {
            names.remove(from);
            names.insert(to.clone(), *inode);
        }
    }
}

fn failed(path: &str, kind: io::ErrorKind) -> FileError {
    FileError {
        operation: "use",
        path: path.into(),
        source: kind.into(),
    }
}

impl Disk for FaultyDisk {
    fn list(&self) -> Result<Vec<String>, FileError> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> Result<Box<dyn DiskFile>, FileError> {
        let inode = match self.inode(name) {
            Ok(inode) => inode,
            Err(_) => {
                let inode = self.lock().inodes.len();
                self.lock().inodes.push(Inode::default());
                self.change_names(NameChange::Link(name.to_owned(), inode))?;
                inode
            }
        };
        let mut file = FaultyFile {
            disk: self.clone(),
            name: name.to_owned(),
            inode,
            end: 0,
        };
        file.truncate(0)?;
        Ok(Box::new(file))
    }

    fn open(&self, name: &str) -> Result<Box<dyn Read + Send>, FileError> {
        let inode = self.inode(name)?;
        let content = self.lock().inodes[inode].current.clone();
        Ok(Box::new(Cursor::new(content)))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), FileError> {
        let inode = self.inode(from)?;
        self.change_names(NameChange::Rename(from.to_owned(), to.to_owned(), inode))
    }

    fn remove(&self, name: &str) -> Result<(), FileError> {
        self.inode(name)?;
        self.change_names(NameChange::Unlink(name.to_owned()))
    }

    fn sync_names(&self) -> Result<(), FileError> {
        survived(self.step()?)?;
        let mut state = self.lock();
        if self.deaf != Deaf::Names {
            state.durable_names = state.names.clone();
            state.pending_names.clear();
        }
        Ok(())
    }

    fn free_bytes(&self) -> Result<u64, FileError> {
        Ok(u64::MAX)
    }
}

struct FaultyFile {
    disk: FaultyDisk,
    name: String,
    inode: usize,
    end: usize,
}

impl FaultyFile {
    fn is_deaf(&self) -> bool {
        matches!(self.disk.deaf, Deaf::Files(prefix) if self.name.starts_with(prefix))
    }

    /// At the end; only what makes the file longer takes room.
    fn write(&self, bytes: &[u8]) -> Result<(), FileError> {
        let cut = self.disk.step()?;
        let mut state = self.disk.lock();
        let there = state.inodes[self.inode].current.len() - self.end;
        let there = there.min(bytes.len());
        let more = bytes.len() - there;
        let fits = state.room.map_or(more, |room| room.min(more));
        state.room = state.room.map(|room| room - fits);
        let broken = state.fail_write.take();
        let written = broken.unwrap_or(usize::MAX).min(there + fits);
        let inode = &mut state.inodes[self.inode];
        inode.pending.push(Change::Write {
            at: self.end,
            bytes: bytes[..written].to_vec(),
        });
        let over = there.min(written);
        inode.current[self.end..self.end + over].copy_from_slice(&bytes[..over]);
        inode.current.extend(&bytes[over..written]);
        if broken.is_some() {
            return Err(failed(&self.name, io::ErrorKind::Other));
        }
        if fits < more {
            return Err(failed(&self.name, io::ErrorKind::StorageFull));
        }
        survived(cut)
    }
}

impl DiskFile for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.write(bytes)?;
        self.end += bytes.len();
        Ok(())
    }

    fn reserve(&mut self, len: u64) -> Result<(), FileError> {
        self.write(&vec![0; len as usize])
    }

    fn truncate(&mut self, len: u64) -> Result<(), FileError> {
        let cut = self.disk.step()?;
        let inode = &mut self.disk.lock().inodes[self.inode];
        inode.current.truncate(len as usize);
        inode.pending.push(Change::Truncate(len as usize));
        self.end = len as usize;
        survived(cut)
    }

    fn sync(&mut self) -> Result<(), FileError> {
        survived(self.disk.step()?)?;
        let mut state = self.disk.lock();
        if std::mem::take(&mut state.fail_sync) {
            state.inodes[self.inode].pending.clear();
            return Err(failed(&self.name, io::ErrorKind::Other));
        }
        let inode = &mut state.inodes[self.inode];
        if !self.is_deaf() {
            inode.durable = inode.current.clone();
            inode.pending.clear();
        }
        Ok(())
    }
}
