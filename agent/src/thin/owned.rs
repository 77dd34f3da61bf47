//! What a thin device has alone.

use ashlar_thin_metadata::{BlockSource, Metadata, MetadataError};

use super::error::ThinError;
use super::stretches::{Stretches, StretchesQuestion, collect};
use super::views::Views;

/// Whose a stretch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owned {
    /// The device's alone: it was mapped since the device was made or a snapshot was last taken of
    /// it, and is written where it is.
    Alone,
    /// Others have it or had it: what is written goes elsewhere.
    Shared,
}

impl Views {
    /// A page of what a device maps, and whose that is.
    ///
    /// # Errors
    /// When there is no such device, or the metadata cannot be read.
    pub async fn owned(&self, question: StretchesQuestion) -> Result<Stretches<Owned>, ThinError> {
        self.walk(question.pool, question.freshness, move |metadata| {
            page(metadata, &question)
        })
        .await
    }
}

fn page<S: BlockSource>(
    metadata: &Metadata<S>,
    question: &StretchesQuestion,
) -> Result<Stretches<Owned>, MetadataError> {
    let block = metadata.data_block();
    let thin = question.thin_id.value();
    let snapshotted = metadata.device(thin)?.snapshotted;
    let runs = metadata.extents(thin, question.from / block)?.map(|run| {
        run.map(|run| {
            // As the kernel judges it: see `Metadata::devices`.
            let owned = match run.time >= snapshotted {
                true => Owned::Alone,
                false => Owned::Shared,
            };
            (run.begin, run.length, owned)
        })
    });
    collect(runs, block, question)
}
