use std::fmt;

use ashlar_targetd_protocol::Sectors;

use crate::device::DeviceNumber;

/// The `thin-pool` target: blocks of a data device handed out to thin devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThinPool {
    /// Holds the pool's metadata. If its first block is all zero the kernel formats it.
    pub metadata: DeviceNumber,
    /// Holds the data blocks.
    pub data: DeviceNumber,
    /// Size of a block: a multiple of 128 sectors, 128 to 2,097,152.
    pub block: Sectors,
    /// Free blocks below which the kernel raises an event.
    pub low_water_blocks: u64,
    /// What differs from the defaults.
    pub features: PoolFeatures,
}

/// The optional arguments of a thin pool. All `false` is the kernel's default:
/// blocks are zeroed, discards free blocks and go on to the data device, the pool is writable
/// and I/O waits when it is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolFeatures {
    /// Hand out blocks without zeroing them. Lets one volume read what another left behind.
    pub skip_block_zeroing: bool,
    /// Do not free blocks on discard.
    pub ignore_discard: bool,
    /// Free blocks on discard, but do not discard them on the data device.
    pub no_discard_passdown: bool,
    /// Allow no change to the metadata.
    pub read_only: bool,
    /// Fail writes at once when the pool is full, instead of letting them wait.
    pub error_if_no_space: bool,
}

impl PoolFeatures {
    /// In the order the kernel prints them.
    fn words(self) -> [(bool, &'static str); 5] {
        [
            (self.skip_block_zeroing, "skip_block_zeroing"),
            (self.ignore_discard, "ignore_discard"),
            (self.no_discard_passdown, "no_discard_passdown"),
            (self.read_only, "read_only"),
            (self.error_if_no_space, "error_if_no_space"),
        ]
    }

    fn set(&mut self, word: &str) -> Option<()> {
        let field = match word {
            "skip_block_zeroing" => &mut self.skip_block_zeroing,
            "ignore_discard" => &mut self.ignore_discard,
            "no_discard_passdown" => &mut self.no_discard_passdown,
            "read_only" => &mut self.read_only,
            "error_if_no_space" => &mut self.error_if_no_space,
            _ => return None,
        };
        *field = true;
        Some(())
    }
}

impl ThinPool {
    pub(super) fn parse(params: &str) -> Option<Self> {
        let mut words = params.split_ascii_whitespace();
        let mut pool = ThinPool {
            metadata: words.next()?.parse().ok()?,
            data: words.next()?.parse().ok()?,
            block: Sectors(words.next()?.parse().ok()?),
            low_water_blocks: words.next()?.parse().ok()?,
            features: PoolFeatures::default(),
        };
        let features: usize = words.next().unwrap_or("0").parse().ok()?;
        let mut seen = 0;
        for word in words {
            pool.features.set(word)?;
            seen += 1;
        }
        (seen == features).then_some(pool)
    }
}

impl fmt::Display for ThinPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let features = self.features.words();
        write!(
            f,
            "{} {} {} {} {}",
            self.metadata,
            self.data,
            self.block.0,
            self.low_water_blocks,
            features.iter().filter(|(set, _)| *set).count()
        )?;
        features
            .iter()
            .filter(|(set, _)| *set)
            .try_for_each(|(_, word)| write!(f, " {word}"))
    }
}

/// How a thin pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThinPoolStatus {
    /// It answers.
    Good(ThinPoolUsage),
    /// Its metadata cannot be used at all.
    Failed,
}

/// What a working thin pool says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThinPoolUsage {
    /// The compare-and-swap number for metadata kept elsewhere.
    pub transaction_id: u64,
    /// Metadata blocks in use, 4 KiB each.
    pub metadata_used: u64,
    /// Metadata blocks there are.
    pub metadata_total: u64,
    /// Data blocks in use, of the pool's block size each.
    pub data_used: u64,
    /// Data blocks there are.
    pub data_total: u64,
    /// The metadata block where the state held for a reader in user space begins.
    pub held_root: Option<u64>,
    /// What it allows.
    pub mode: PoolMode,
    /// What discards do.
    pub discard: PoolDiscard,
    /// Whether writes fail at once when it is full, instead of waiting.
    pub error_if_no_space: bool,
    /// Whether it demands `thin_check` before it is used again.
    pub needs_check: bool,
}

/// What a thin pool allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// Everything.
    ReadWrite,
    /// Reads, and writes to blocks already there.
    OutOfDataSpace,
    /// Nothing that changes metadata.
    ReadOnly,
}

/// What a thin pool does with discards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolDiscard {
    /// Ignores them.
    Ignored,
    /// Frees the blocks.
    Freed,
    /// Frees the blocks and discards them on the data device.
    PassedDown,
}

impl ThinPoolStatus {
    pub(super) fn parse(params: &str) -> Option<Self> {
        if params.trim() == "Fail" {
            return Some(ThinPoolStatus::Failed);
        }
        let mut words = params.split_ascii_whitespace();
        let transaction_id = words.next()?.parse().ok()?;
        let (metadata_used, metadata_total) = fraction(words.next()?)?;
        let (data_used, data_total) = fraction(words.next()?)?;
        let held_root = match words.next()? {
            "-" => None,
            block => Some(block.parse().ok()?),
        };
        let mode = match words.next()? {
            "rw" => PoolMode::ReadWrite,
            "out_of_data_space" => PoolMode::OutOfDataSpace,
            "ro" => PoolMode::ReadOnly,
            _ => return None,
        };
        let discard = match words.next()? {
            "ignore_discard" => PoolDiscard::Ignored,
            "discard_passdown" => PoolDiscard::PassedDown,
            "no_discard_passdown" => PoolDiscard::Freed,
            _ => return None,
        };
        let error_if_no_space = match words.next()? {
            "error_if_no_space" => true,
            "queue_if_no_space" => false,
            _ => return None,
        };
        // Newer kernels append words (the metadata low-water mark); they are not needed.
        let needs_check = words.next()? == "needs_check";
        Some(ThinPoolStatus::Good(ThinPoolUsage {
            transaction_id,
            metadata_used,
            metadata_total,
            data_used,
            data_total,
            held_root,
            mode,
            discard,
            error_if_no_space,
            needs_check,
        }))
    }
}

fn fraction(word: &str) -> Option<(u64, u64)> {
    let (used, total) = word.split_once('/')?;
    Some((used.parse().ok()?, total.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_working_pools_status_is_understood() {
        let printed = "3 12/1024 7/4096 - rw no_discard_passdown queue_if_no_space - 1024 ";
        let usage = ThinPoolUsage {
            transaction_id: 3,
            metadata_used: 12,
            metadata_total: 1024,
            data_used: 7,
            data_total: 4096,
            held_root: None,
            mode: PoolMode::ReadWrite,
            discard: PoolDiscard::Freed,
            error_if_no_space: false,
            needs_check: false,
        };
        assert_eq!(
            ThinPoolStatus::parse(printed),
            Some(ThinPoolStatus::Good(usage))
        );
    }

    #[test]
    fn trouble_is_told_apart() {
        let usage = |printed| match ThinPoolStatus::parse(printed) {
            Some(ThinPoolStatus::Good(usage)) => usage,
            other => panic!("{other:?}"),
        };
        assert_eq!(ThinPoolStatus::parse("Fail"), Some(ThinPoolStatus::Failed));
        let full = usage("0 1/2 4/4 - out_of_data_space discard_passdown error_if_no_space - 1024");
        assert_eq!(full.mode, PoolMode::OutOfDataSpace);
        assert!(full.error_if_no_space && !full.needs_check);
        let broken = usage("0 1/2 3/4 9 ro ignore_discard queue_if_no_space needs_check 1024");
        assert_eq!(broken.mode, PoolMode::ReadOnly);
        assert!(broken.needs_check && broken.held_root == Some(9));
    }

    #[test]
    fn a_status_of_another_shape_is_not_guessed_at() {
        for strange in [
            "",
            "Error",
            "0 1/2 3/4",
            "0 12 3/4 - rw discard_passdown queue_if_no_space -",
            "0 1/2 3/4 - wo discard_passdown queue_if_no_space -",
        ] {
            assert_eq!(ThinPoolStatus::parse(strange), None, "{strange}");
        }
    }
}
