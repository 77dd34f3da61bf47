//! The metadata device of a thin pool, which the kernel wrote, or whoever wrote to its disks.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use ashlar_kernel_iface::model::{ThinImage, ThinMappings, ThinMetadata};
use ashlar_targetd_protocol::{Sectors, ThinId};
use ashlar_thin_metadata::{BLOCK, Block, BlockSource, Metadata, MetadataError};

const SUPERBLOCK_SALT: u32 = 160_774;
const NODE_SALT: u32 = 121_107;
/// Reads of one walk over one tree for each block there is: the walk, and finding the root.
const MOST_READS: u64 = 3;

/// Takes the bytes for changes to a whole pool's metadata, with right checksums or without, and
/// asks everything of every device.
///
/// # Panics
/// When a walk reads blocks again and again, extents or differences are not in order, a device
/// differs from itself, or has more alone than it maps.
pub fn run(data: &[u8]) {
    let base = base();
    let mut device = Device {
        bytes: base.bytes.clone(),
        reads: Cell::new(0),
    };
    let mut input = Unstructured::new(data);
    while !input.is_empty() {
        if change(&mut device.bytes, &mut input).is_err() {
            break;
        }
    }
    let root = base.held_root;
    if let Ok(metadata) = Metadata::open(&device, root) {
        look(&device, &metadata);
    }
}

fn look(device: &Device, metadata: &Metadata<&Device>) {
    let Ok(devices) = metadata.devices(0) else {
        return;
    };
    let told: std::result::Result<Vec<_>, _> = devices.collect();
    if let (Ok(told), Ok(highest)) = (&told, metadata.highest_device()) {
        assert_eq!(told.last().map(|last| last.id), highest);
    }
    let Ok(devices) = metadata.devices(0) else {
        return;
    };
    let ids: Vec<u32> = devices
        .map_while(|device| device.ok())
        .map(|d| d.id)
        .collect();
    assert!(ids.is_sorted_by(|a, b| a < b));
    for id in ids.iter().copied().take(4) {
        let mapped = extents(device, metadata, id);
        let alone = bounded(device, ids.len() as u64, || {
            metadata.exclusive_blocks(id, ids.iter().copied())
        });
        if let (Ok(mapped), Ok(alone)) = (mapped, alone) {
            assert!(alone <= mapped, "{alone} of {mapped}");
        }
        for other in ids.iter().copied().take(4) {
            drop(differences(device, metadata, id, other));
        }
    }
}

fn extents(
    device: &Device,
    metadata: &Metadata<&Device>,
    id: u32,
) -> std::result::Result<u64, MetadataError> {
    bounded(device, 1, || {
        let (mut next, mut blocks) = (Some(0), 0);
        for extent in metadata.extents(id, 0)? {
            let extent = extent?;
            assert!(extent.length > 0);
            assert!(next.is_some_and(|next| next <= extent.begin));
            next = extent.begin.checked_add(extent.length);
            blocks += extent.length;
        }
        Ok(blocks)
    })
}

fn differences(
    device: &Device,
    metadata: &Metadata<&Device>,
    id: u32,
    other: u32,
) -> std::result::Result<(), MetadataError> {
    bounded(device, 2, || {
        let mut next = Some(0);
        for run in metadata.differences(id, other, 0)? {
            let run = run?;
            assert_ne!(id, other, "it differs from itself");
            assert!(run.length > 0);
            assert!(next.is_some_and(|next| next <= run.begin));
            next = run.begin.checked_add(run.length);
        }
        Ok(())
    })
}

/// A walk over `trees` trees.
fn bounded<T>(device: &Device, trees: u64, walk: impl FnOnce() -> T) -> T {
    let before = device.reads.get();
    let done = walk();
    let reads = device.reads.get() - before;
    assert!(
        reads <= MOST_READS * trees * device.blocks(),
        "{reads} reads"
    );
    done
}

/// Puts some bytes into a block, and mends its checksum or not.
fn change(bytes: &mut [u8], input: &mut Unstructured<'_>) -> Result<()> {
    let blocks = bytes.len() / BLOCK;
    let number = usize::from(input.arbitrary::<u8>()?) % blocks;
    let block = &mut bytes[number * BLOCK..][..BLOCK];
    let at = match input.arbitrary::<u8>()? {
        // Header, keys and values of a node; what a superblock has is among them.
        near @ 0..128 => usize::from(near) * 4,
        far => 32 + 252 * 8 + usize::from(far - 128) * 8,
    };
    let piece: &[u8] = match input.arbitrary::<u8>()? % 4 {
        0 => &(u64::from(input.arbitrary::<u8>()?)).to_le_bytes(),
        1 => &(u32::from(input.arbitrary::<u16>()?)).to_le_bytes(),
        2 => &[0xff; 8],
        _ => &input.arbitrary::<[u8; 8]>()?,
    };
    block[at..at + piece.len()].copy_from_slice(piece);
    let salt = match input.arbitrary::<u8>()? {
        0 => return Ok(()),
        _ if number < 2 => SUPERBLOCK_SALT,
        _ => NODE_SALT,
    };
    let checksum = !crc32c::crc32c(&block[4..]) ^ salt;
    block[..4].copy_from_slice(&checksum.to_le_bytes());
    Ok(())
}

/// Three devices of two and three levels, two of which share most.
fn base() -> &'static ThinImage {
    static BASE: OnceLock<ThinImage> = OnceLock::new();
    BASE.get_or_init(|| {
        let id = |id: u64| ThinId::try_from(id).expect("it is small");
        let origin: BTreeMap<_, _> = (0..200).map(|block| (block, (block, 0))).collect();
        let mut changed = origin.clone();
        changed.extend([(70, (300, 1)), (5000, (301, 1))]);
        let other = (0..5)
            .map(|block| (1 << (block * 3), (400 + block, 1)))
            .collect();
        let thin = |mappings| ThinMappings {
            mappings,
            ..ThinMappings::default()
        };
        let thins = [(1, thin(origin)), (2, thin(changed)), (90, thin(other))];
        let pool = ThinMetadata {
            block: Sectors(128),
            transaction_id: 1,
            time: 1,
            thins: thins.map(|(number, thin)| (id(number), thin)).into(),
        };
        pool.image()
    })
}

/// Counts reads.
#[derive(Debug)]
struct Device {
    bytes: Vec<u8>,
    reads: Cell<u64>,
}

impl BlockSource for Device {
    fn blocks(&self) -> u64 {
        (self.bytes.len() / BLOCK) as u64
    }

    fn read(&self, block: u64, buffer: &mut Block) -> io::Result<()> {
        self.reads.set(self.reads.get() + 1);
        let at = block as usize * BLOCK;
        buffer.copy_from_slice(&self.bytes[at..at + BLOCK]);
        Ok(())
    }
}

/// Each block changed at each kind of place: what it is, how many entries, keys, children.
pub fn seeds() -> Vec<Vec<u8>> {
    let blocks = (base().bytes.len() / BLOCK) as u8;
    let mut seeds = vec![Vec::new()];
    for block in 0..blocks {
        for place in [1, 2, 4, 5, 6, 8, 9, 10, 80, 82, 128, 129, 130] {
            for number in [0, 1, block, block.wrapping_add(1)] {
                seeds.push(vec![block, place, 0, number, 1]);
            }
            seeds.push(vec![block, place, 2, 1]);
        }
        seeds.push(vec![block, 20, 2, 0]);
    }
    seeds
}
