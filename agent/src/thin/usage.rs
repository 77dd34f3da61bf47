//! How much of a pool a device takes.

use ashlar_targetd_protocol::ThinId;
use ashlar_thin_metadata::MetadataError;
use uuid::Uuid;

use super::error::ThinError;
use super::views::{Freshness, Views};

/// In bytes of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What is mapped.
    pub used: u64,
    /// What of it others map as well; unknown when there are too many of them.
    pub shared: Option<u64>,
}

impl Views {
    /// What a device takes. `others` are all that may share with it; those that do not exist
    /// are passed over.
    ///
    /// # Errors
    /// When there is no such device, or the metadata cannot be read.
    pub async fn usage(
        &self,
        pool: Uuid,
        device: ThinId,
        others: Vec<ThinId>,
    ) -> Result<Usage, ThinError> {
        self.walk(pool, Freshness::Now, move |metadata| {
            let block = metadata.data_block();
            let mapped = metadata.device(device.value())?.mapped_blocks;
            let others = others.iter().map(|other| other.value());
            let alone = match metadata.exclusive_blocks(device.value(), others) {
                Ok(alone) => Some(alone),
                Err(MetadataError::TooManyRelatives(_)) => None,
                Err(error) => return Err(error),
            };
            let shared = alone.map(|alone| mapped.saturating_sub(alone).saturating_mul(block));
            Ok(Usage {
                used: mapped.saturating_mul(block),
                shared,
            })
        })
        .await
    }
}
