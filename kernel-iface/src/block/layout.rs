use ashlar_targetd_protocol::Bytes;

use super::{BlockDevice, BlockError, PoolLabel, PoolPartition, partition};

/// Where the partition, and in it the label, begins on every disk.
pub const LABEL_START: Bytes = Bytes(1 << 20);
/// Where the pool's own content begins on every disk.
pub const PAYLOAD_START: Bytes = Bytes(2 << 20);

/// What the kernel writes on a disk of a set about all of them takes the payload's first MiB.
pub const ARRAY_ROOM: Bytes = Bytes(1 << 20);
/// How much of a stripe is on one disk.
pub const CHUNK: Bytes = Bytes(64 << 10);

/// How far from both ends of a disk others put their marks.
pub(super) const EDGE: Bytes = Bytes(1 << 20);
/// Blocks of a GPT with 128 entries and its MBR; a 4 KiB block needs fewer.
pub(super) const GPT_BLOCKS: u64 = 34;

/// The label and its copy, far enough apart that one bad spot spares one of them.
const LABELS: [Bytes; 2] = [LABEL_START, Bytes(LABEL_START.0 + (512 << 10))];
const MIB: u64 = 1 << 20;

impl PoolPartition {
    /// The stretch of the disk that holds the pool's own content.
    pub fn payload(&self) -> Option<(Bytes, Bytes)> {
        let end = self.start.0.checked_add(self.length.0)?;
        let length = end.checked_sub(PAYLOAD_START.0)?;
        (length > 0).then_some((PAYLOAD_START, Bytes(length)))
    }

    /// Where the kernel keeps what it writes about all disks of a set.
    pub fn superblock(&self) -> Option<(Bytes, Bytes)> {
        let (start, length) = self.payload()?;
        (length > ARRAY_ROOM).then_some((start, ARRAY_ROOM))
    }

    /// Where a set's content is on this disk of it, and how much there is room for.
    pub fn leg(&self) -> Option<(Bytes, Bytes)> {
        let (start, length) = self.payload()?;
        let room = Bytes(length.0.checked_sub(ARRAY_ROOM.0)?);
        (room.0 > 0).then_some((Bytes(start.0 + ARRAY_ROOM.0), room))
    }

    /// The partition of a disk: from the first MiB to the last whole one before the GPT's copy.
    pub fn of_disk(device: &dyn BlockDevice) -> Result<Self, BlockError> {
        let end = device.size().0.saturating_sub(EDGE.0) / MIB * MIB;
        if end <= PAYLOAD_START.0 {
            return Err(BlockError::TooSmall {
                device: device.number(),
                size: device.size(),
            });
        }
        Ok(PoolPartition {
            start: LABEL_START,
            length: Bytes(end - LABEL_START.0),
        })
    }
}

/// Makes a disk part of a pool. The caller has made sure that it is blank, wiped, or was left
/// unfinished for the same pool. When it answers, the disk says so after a power cut too; when
/// power is lost on the way, the disk is blank or unfinished, never something unknown.
pub fn format_disk(
    device: &dyn BlockDevice,
    label: &PoolLabel,
) -> Result<PoolPartition, BlockError> {
    let partition = PoolPartition::of_disk(device)?;
    for place in LABELS {
        device.write_at(place, &label.encode())?;
    }
    // The label says whose the half-written partition table is.
    device.flush()?;
    partition::write(device, partition)?;
    device.flush()?;
    Ok(partition)
}

/// Says anew which part of its pool a disk is, beside whoever uses it. At any moment, even if
/// power is lost, one of the two labels is whole: the old one or the new one.
pub fn relabel_disk(device: &dyn BlockDevice, label: &PoolLabel) -> Result<(), BlockError> {
    let mut first = vec![0; PoolLabel::SIZE];
    device.read_at(LABELS[0], &mut first)?;
    let places = match PoolLabel::decode(&first) {
        Some(_) => [LABELS[1], LABELS[0]],
        // The copy is all there is: it is written once there is another.
        None => LABELS,
    };
    for place in places {
        device.write_at(place, &label.encode())?;
        device.flush()?;
    }
    Ok(())
}

/// Makes a disk one that no array knows, and whose part of a new one begins with zeros: where all
/// parts do, so does the array, whatever its level. **What was there is gone**; never to be called
/// but for a disk that is to be formatted.
pub fn clear_leg(device: &dyn BlockDevice) -> Result<(), BlockError> {
    let zeros = vec![0; (ARRAY_ROOM.0 + CHUNK.0) as usize];
    device.write_at(PAYLOAD_START, &zeros)?;
    device.flush()
}

/// Makes a disk blank: whatever made it known to anyone is overwritten, its data is not. A disk of
/// a pool has its label until the last, so that a wipe that was interrupted can go on.
pub fn wipe_disk(device: &dyn BlockDevice) -> Result<(), BlockError> {
    let zeros = vec![0; EDGE.0 as usize];
    let size = device.size().0;
    let zero = |start: u64| {
        let length = EDGE.0.min(size.saturating_sub(start));
        device.write_at(Bytes(start), &zeros[..length as usize])
    };
    zero(size.saturating_sub(EDGE.0))?;
    zero(0)?;
    device.flush()?;
    zero(EDGE.0)?;
    device.flush()
}

/// The label of a disk, or its copy where the first cannot be used.
pub(super) fn read_label(device: &dyn BlockDevice) -> Result<Option<PoolLabel>, BlockError> {
    let mut bytes = vec![0; PoolLabel::SIZE];
    for place in LABELS {
        if place.0 + PoolLabel::SIZE as u64 > device.size().0 {
            return Ok(None);
        }
        device.read_at(place, &mut bytes)?;
        if let Some(label) = PoolLabel::decode(&bytes) {
            return Ok(Some(label));
        }
    }
    Ok(None)
}
