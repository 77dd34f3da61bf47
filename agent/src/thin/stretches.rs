//! Which bytes of a device are mapped, or changed, a page at a time.

use ashlar_targetd_protocol::ThinId;
use ashlar_thin_metadata::{BlockSource, Change, Metadata, MetadataError};
use uuid::Uuid;

use super::error::ThinError;
use super::views::{Freshness, Views};

/// Runs of blocks looked at for one page at most: on a device that is mapped block by block,
/// pages end early.
const MOST_RUNS: usize = 100_000;

/// Which stretches of which device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StretchesQuestion {
    /// The pool.
    pub pool: Uuid,
    /// The thin device.
    pub thin_id: ThinId,
    /// The thin device of which what differs is asked; all that is mapped when absent.
    pub since: Option<ThinId>,
    /// The device's size in bytes; nothing past it is told.
    pub size: u64,
    /// The byte to begin at.
    pub from: u64,
    /// So many at most.
    pub limit: usize,
    /// Whether what was written up to now is wanted. Not needed for snapshots.
    pub freshness: Freshness,
}

/// Bytes that lie side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch<K = StretchKind> {
    /// Where they begin.
    pub offset: u64,
    /// How many.
    pub length: u64,
    /// What they are.
    pub kind: K,
}

/// What a stretch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StretchKind {
    /// Mapped to data of the pool.
    Data,
    /// Not mapped any more: zeros.
    Hole,
}

/// Stretches in order. What is in none of them is not mapped, or did not change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stretches<K = StretchKind> {
    /// The stretches.
    pub items: Vec<Stretch<K>>,
    /// Where to go on; absent when that is all.
    pub next: Option<u64>,
}

impl Views {
    /// A page of stretches.
    ///
    /// # Errors
    /// When there is no such device, or the metadata cannot be read.
    pub async fn stretches(&self, question: StretchesQuestion) -> Result<Stretches, ThinError> {
        self.walk(question.pool, question.freshness, move |metadata| {
            page(metadata, &question)
        })
        .await
    }
}

fn page<S: BlockSource>(
    metadata: &Metadata<S>,
    question: &StretchesQuestion,
) -> Result<Stretches, MetadataError> {
    let block = metadata.data_block();
    let thin = question.thin_id.value();
    let from = question.from / block;
    match question.since {
        None => {
            let extents = metadata.extents(thin, from)?;
            let runs = extents.map(|extent| {
                extent.map(|extent| (extent.begin, extent.length, StretchKind::Data))
            });
            collect(runs, block, question)
        }
        Some(since) => {
            let differences = metadata.differences(since.value(), thin, from)?;
            let runs = differences.map(|run| {
                let kind = |change| match change {
                    Change::Added | Change::Changed => StretchKind::Data,
                    Change::Removed => StretchKind::Hole,
                };
                run.map(|run| (run.begin, run.length, kind(run.change)))
            });
            collect(runs, block, question)
        }
    }
}

type Run<K> = (u64, u64, K);

/// Joins runs of blocks that touch into stretches of bytes.
pub(super) fn collect<K: Copy + Eq>(
    runs: impl Iterator<Item = Result<Run<K>, MetadataError>>,
    block: u64,
    question: &StretchesQuestion,
) -> Result<Stretches<K>, MetadataError> {
    let mut items: Vec<Stretch<K>> = Vec::new();
    for (count, run) in runs.enumerate() {
        let Some(stretch) = within(run?, block, question) else {
            // The first may lie before what is asked; anything else lies behind.
            continue;
        };
        let joins = items.last().is_some_and(|last| last.touches(&stretch));
        if count >= MOST_RUNS || !joins && items.len() == question.limit {
            let next = Some(stretch.offset);
            return Ok(Stretches { items, next });
        }
        match items.last_mut() {
            Some(last) if joins => last.length += stretch.length,
            _ => items.push(stretch),
        }
        if stretch.offset + stretch.length == question.size {
            break;
        }
    }
    Ok(Stretches { items, next: None })
}

/// The bytes of a run that are asked for.
fn within<K>(
    (begin, length, kind): Run<K>,
    block: u64,
    question: &StretchesQuestion,
) -> Option<Stretch<K>> {
    let offset = begin.checked_mul(block)?.max(question.from);
    let end = begin
        .saturating_add(length)
        .saturating_mul(block)
        .min(question.size);
    (offset < end).then(|| Stretch {
        offset,
        length: end - offset,
        kind,
    })
}

impl<K: Eq> Stretch<K> {
    fn touches(&self, next: &Stretch<K>) -> bool {
        self.kind == next.kind && self.offset + self.length == next.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 65_536;

    fn question(size: u64, from: u64, limit: usize) -> StretchesQuestion {
        StretchesQuestion {
            pool: Uuid::from_u128(1),
            thin_id: ThinId::try_from(0).unwrap(),
            since: None,
            size,
            from,
            limit,
            freshness: Freshness::Any,
        }
    }

    fn collected(
        runs: &[Run<StretchKind>],
        question: &StretchesQuestion,
    ) -> (Vec<(u64, u64)>, Option<u64>) {
        let runs = runs.iter().copied().map(Ok);
        let Stretches { items, next } = collect(runs, BLOCK, question).unwrap();
        let items = items.iter().map(|stretch| (stretch.offset, stretch.length));
        (items.collect(), next)
    }

    const RUNS: [Run<StretchKind>; 4] = [
        (0, 2, StretchKind::Data),
        (2, 1, StretchKind::Data),
        (5, 4, StretchKind::Data),
        (9, 1, StretchKind::Hole),
    ];

    #[test]
    fn runs_that_touch_are_one_stretch_if_they_are_of_one_kind() {
        let (items, next) = collected(&RUNS, &question(100 * BLOCK, 0, 10));
        let expected = [(0, 3), (5, 4), (9, 1)];
        assert_eq!(items, expected.map(|(at, n)| (at * BLOCK, n * BLOCK)));
        assert_eq!(next, None);
    }

    #[test]
    fn a_stretch_ends_with_the_device_and_begins_where_it_is_asked() {
        let asked = question(6 * BLOCK + 4096, BLOCK + 512, 10);
        let (items, next) = collected(&RUNS, &asked);
        assert_eq!(
            items,
            [(BLOCK + 512, 2 * BLOCK - 512), (5 * BLOCK, BLOCK + 4096)]
        );
        assert_eq!(next, None);
    }

    #[test]
    fn pages_follow_one_another_without_gap_or_repetition() {
        let mut all = Vec::new();
        let mut from = Some(0);
        while let Some(at) = from {
            let (items, next) = collected(&RUNS, &question(100 * BLOCK, at, 1));
            assert!(items.len() == 1, "{items:?}");
            all.extend(items);
            from = next;
        }
        assert_eq!(all, collected(&RUNS, &question(100 * BLOCK, 0, 10)).0);
    }

    #[test]
    fn runs_past_any_byte_are_left_out() {
        let far = [
            (0, 1, StretchKind::Data),
            (u64::MAX - 1, 1, StretchKind::Data),
        ];
        let (items, next) = collected(&far, &question(BLOCK, 0, 1));
        assert_eq!((items.as_slice(), next), ([(0, BLOCK)].as_slice(), None));
        assert_eq!(collected(&far[1..], &question(BLOCK, 0, 1)), (vec![], None));
    }
}
