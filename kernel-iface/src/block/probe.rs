use ashlar_targetd_protocol::Bytes;

use super::layout::{EDGE, GPT_BLOCKS, LABEL_START, read_label};
use super::partition::{self, PartitionTable};
use super::{BlockDevice, BlockError, PoolLabel, PoolPartition, signature};

/// What a disk holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskContent {
    /// Nothing known, and its first and last MiB are zero.
    Blank,
    /// A part of a pool.
    Pool {
        /// Which.
        label: PoolLabel,
        /// Where.
        partition: PoolPartition,
    },
    /// A label, and nothing else but perhaps parts of the partition table that goes with it:
    /// power was lost while the disk was formatted. Formatting for the same pool may go on.
    Unfinished(PoolLabel),
    /// Something else, in words that follow "holds".
    Foreign(String),
}

/// Looks at the edges of a disk. Fails only if they cannot be read; what they hold cannot make
/// it fail.
pub fn probe(device: &dyn BlockDevice) -> Result<DiskContent, BlockError> {
    let (head, tail) = edges(device)?;
    let label = read_label(device)?;
    let table = partition::read(device);
    // The copy of our table may have outlived what was written over its front.
    let overwritten = signature::recognise(&head, &tail).is_some();
    match (table, label) {
        (PartitionTable::Ours(partition), Some(label))
            if partition.start == LABEL_START && !overwritten =>
        {
            return Ok(DiskContent::Pool { label, partition });
        }
        (PartitionTable::Foreign(_), _) => {}
        (_, Some(label)) if !overwritten && only_gpt(device, &head, &tail) => {
            return Ok(DiskContent::Unfinished(label));
        }
        _ => {}
    }
    Ok(match describe(table, &head, &tail, label.is_some()) {
        Some(what) => DiskContent::Foreign(what),
        None => DiskContent::Blank,
    })
}

fn describe(table: PartitionTable, head: &[u8], tail: &[u8], labelled: bool) -> Option<String> {
    let known = signature::recognise(head, tail);
    let text = match table {
        PartitionTable::Foreign(1) => "a GPT with 1 partition",
        PartitionTable::Foreign(count) => return Some(format!("a GPT with {count} partitions")),
        PartitionTable::Ours(_) if !labelled => "an Ashlar partition without a readable label",
        PartitionTable::Ours(_) | PartitionTable::Damaged => {
            known.unwrap_or("a damaged or unusual GPT")
        }
        PartitionTable::None if known.is_some() => known?,
        PartitionTable::None if signature::has_boot_signature(head) => {
            "a boot sector or an MBR partition table"
        }
        PartitionTable::None if is_zero(head) && is_zero(tail) => return None,
        PartitionTable::None => "unknown data",
    };
    Some(text.to_owned())
}

/// The first and the last MiB, or all of a smaller device twice.
fn edges(device: &dyn BlockDevice) -> Result<(Vec<u8>, Vec<u8>), BlockError> {
    let length = EDGE.0.min(device.size().0);
    let mut head = vec![0; length as usize];
    let mut tail = head.clone();
    device.read_at(Bytes(0), &mut head)?;
    device.read_at(Bytes(device.size().0 - length), &mut tail)?;
    Ok((head, tail))
}

/// Whether nothing but a GPT can have been written to the edges.
fn only_gpt(device: &dyn BlockDevice, head: &[u8], tail: &[u8]) -> bool {
    let block = device.logical_block().0;
    let gpt = (GPT_BLOCKS * block) as usize;
    let boot_code = head.get(..440).is_some_and(is_zero);
    let after = head.get(gpt..).is_some_and(is_zero);
    let before = tail
        .len()
        .checked_sub(gpt)
        .and_then(|end| tail.get(..end))
        .is_some_and(is_zero);
    let protective = head.get(440..512).is_some_and(|mbr| {
        // Zero, or one partition of type 0xee and three empty ones.
        is_zero(mbr) || (mbr[10] == 0xee && is_zero(&mbr[22..70]))
    });
    boot_code && after && before && protective
}

/// By pieces: it is asked of megabytes, and comparing slices is quick in every build.
fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut pieces = bytes.chunks(ZEROS.len());
    pieces.all(|piece| piece == &ZEROS[..piece.len()])
}
