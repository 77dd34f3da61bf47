//! The two slots, each of which holds a whole firmware: a root file system and what boots it.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::BuildError;
use crate::command::run;
use crate::recipe::EPOCH;
use crate::tools::Tools;

/// Bytes of a block, of the file system as of the tree of hashes.
const BLOCK: u64 = 4096;

/// The same in every image, so that two builds of the same are the same.
const FILESYSTEM_UUID: &str = "a5a1a400-0001-4000-8000-000000000001";

/// The file with the file system and its hashes, and the one with what verifies them.
const IMAGE: &str = "root.img";
const VERITY: &str = "verity";

/// How often the loader tries a slot before it takes the other.
const TRIES: u32 = 3;

/// One of the two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Booted first on a new box.
    A,
    /// Booted when the other cannot be.
    B,
}

impl Slot {
    /// Both, in the order in which a new box tries them.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The partition of the slot's root file system.
    pub fn partition(self) -> &'static str {
        match self {
            Self::A => "ashlar-root-a",
            Self::B => "ashlar-root-b",
        }
    }

    /// Where on the disk the slot's root file system begins, in bytes.
    pub fn offset(self) -> u64 {
        crate::disk::offset(self)
    }

    /// The slot's kernel image on the ESP of a new box. The loader takes the highest name first,
    /// and those that have no tries left after plus are last. `slot` in the firmware renames it.
    pub fn entry(self) -> String {
        let order = match self {
            Self::A => 2,
            Self::B => 1,
        };
        format!("ashlar-{order}-{self}+{TRIES}.efi")
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "a",
            Self::B => "b",
        })
    }
}

/// A root file system with the hashes of its blocks behind it, as it lies in a slot.
pub(crate) struct Root {
    /// The file system, then its hashes.
    pub image: PathBuf,
    /// Blocks of the file system, which is where its hashes begin.
    pub blocks: u64,
    /// Bytes of both.
    pub size: u64,
    /// The hash over all hashes, in hexadecimal.
    pub hash: String,
}

impl Root {
    /// Makes the file system of a directory's content in another, and hashes it.
    pub(crate) fn build(tools: &Tools, content: &Path, out: &Path) -> Result<Self, BuildError> {
        let image = out.join(IMAGE);
        let mut make = tools.command("mkfs.erofs");
        make.args(["--quiet", "-zlz4hc,9", "-C65536", "-Eztailpacking"])
            .args(["-L", "ashlar-root", "-U", FILESYSTEM_UUID])
            .arg(format!("-T{EPOCH}"))
            // In use there is an empty file system over it.
            .arg("--exclude-regex=^var/.+")
            .arg(Tools::file(&image))
            .arg(Tools::file(content));
        run(&mut make)?;
        let blocks = length(&image)?.div_ceil(BLOCK);
        let file = File::options().write(true).open(&image);
        file.and_then(|file| file.set_len(blocks * BLOCK))
            .map_err(BuildError::io("size", &image))?;
        let verity = format!("{blocks}:{}", hash(tools, &image, blocks)?);
        let path = out.join(VERITY);
        fs::write(&path, verity).map_err(BuildError::io("write", &path))?;
        Self::read(out)
    }

    /// What was built in a directory.
    pub(crate) fn read(built: &Path) -> Result<Self, BuildError> {
        let (image, path) = (built.join(IMAGE), built.join(VERITY));
        let verity = fs::read_to_string(&path).map_err(BuildError::io("read", &path))?;
        let parsed = verity
            .split_once(':')
            .and_then(|(blocks, hash)| Some((blocks.parse().ok()?, hash.to_owned())));
        let (blocks, hash) = parsed.ok_or_else(|| BuildError::Missing {
            what: "the root hash".into(),
            tree: path,
        })?;
        Ok(Self {
            size: length(&image)?,
            image,
            blocks,
            hash,
        })
    }

    /// The words of the kernel's command line by which a slot's initial file system finds,
    /// verifies and mounts this.
    pub(crate) fn cmdline(&self, slot: Slot) -> String {
        format!(
            "ashlar.slot={slot} rauc.slot={slot} root=PARTLABEL={} rootfstype=erofs ashlar.verity={}:{} ro",
            slot.partition(),
            self.blocks,
            self.hash
        )
    }
}

fn length(path: &Path) -> Result<u64, BuildError> {
    let meta = fs::metadata(path).map_err(BuildError::io("measure", path))?;
    Ok(meta.len())
}

/// Appends the hashes of an image's blocks, and answers the hash over all of them. It says the
/// whole: there is no superblock, and no salt, which only serves to hide what is public here.
fn hash(tools: &Tools, image: &Path, blocks: u64) -> Result<String, BuildError> {
    let image = Tools::file(image);
    let mut format = tools.command("veritysetup");
    format
        .args(["format", "--no-superblock", "--hash=sha256", "--salt=-"])
        .arg(format!("--data-block-size={BLOCK}"))
        .arg(format!("--hash-block-size={BLOCK}"))
        .arg(format!("--data-blocks={blocks}"))
        .arg(format!("--hash-offset={}", blocks * BLOCK))
        .args([&image, &image]);
    let told = String::from_utf8_lossy(&run(&mut format)?).into_owned();
    root_hash(&told).ok_or_else(|| BuildError::Missing {
        what: "the root hash".into(),
        tree: image,
    })
}

fn root_hash(told: &str) -> Option<String> {
    let line = told
        .lines()
        .find_map(|line| line.strip_prefix("Root hash:"))?;
    let hash = line.trim();
    let whole = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    whole.then(|| hash.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_hash_is_taken_whole_or_not_at_all() {
        let hash = "0123456789abcdef".repeat(4);
        let told = format!("Salt:            \t-\nRoot hash:      \t{hash}\n");
        assert_eq!(root_hash(&told), Some(hash.clone()));
        assert_eq!(root_hash(&format!("Root hash: {}", &hash[1..])), None);
        assert_eq!(root_hash("Salt: -\n"), None);
    }

    #[test]
    fn a_new_box_tries_slot_a_first() {
        let [first, second] = Slot::ALL.map(Slot::entry);
        assert!(first.contains("-a+") && first > second);
    }
}
