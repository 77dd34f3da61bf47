//! Which thin devices a pool has.

use ashlar_targetd_protocol::ThinId;
use ashlar_thin_metadata::{BlockSource, Metadata, MetadataError, ThinDevice};
use uuid::Uuid;

use super::error::ThinError;
use super::views::{Freshness, Views};

/// Which of a pool's thin devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevicesQuestion {
    /// The pool.
    pub pool: Uuid,
    /// The first id.
    pub from: u32,
    /// So many at most.
    pub limit: usize,
}

/// A thin device as the metadata have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenDevice {
    /// Its id.
    pub thin_id: ThinId,
    /// Bytes of the pool that it maps.
    pub used: u64,
    /// Where the last block that it maps ends: it is at least so large. dm-thin keeps no size.
    pub end: u64,
}

impl Views {
    /// Thin devices in order of id.
    ///
    /// # Errors
    /// When the metadata cannot be read.
    pub async fn devices(&self, question: DevicesQuestion) -> Result<Vec<SeenDevice>, ThinError> {
        let DevicesQuestion { pool, from, limit } = question;
        self.walk(pool, Freshness::Now, move |metadata| {
            let devices = metadata.devices(from)?.take(limit);
            devices.map(|device| seen(metadata, device?)).collect()
        })
        .await
    }

    /// The first id of which it is certain that no thin device has it, nor one after it: past
    /// the largest id when that is taken.
    ///
    /// # Errors
    /// When the metadata cannot be read.
    pub async fn first_free(&self, pool: Uuid) -> Result<u32, ThinError> {
        let highest = self
            .walk(pool, Freshness::Now, |metadata| metadata.highest_device())
            .await;
        // Asked once in the life of a pool's device, so nobody is expected to ask next.
        self.rest(pool).await;
        Ok(highest?.map_or(0, |id| id + 1))
    }

    /// One thin device.
    ///
    /// # Errors
    /// When there is no such device, or the metadata cannot be read.
    pub async fn device(&self, pool: Uuid, id: ThinId) -> Result<SeenDevice, ThinError> {
        self.walk(pool, Freshness::Now, move |metadata| {
            seen(metadata, metadata.device(id.value())?)
        })
        .await
    }
}

fn seen<S: BlockSource>(
    metadata: &Metadata<S>,
    device: ThinDevice,
) -> Result<SeenDevice, MetadataError> {
    let block = metadata.data_block();
    let last = metadata.last_block(device.id)?;
    let thin_id = ThinId::try_from(u64::from(device.id));
    Ok(SeenDevice {
        thin_id: thin_id.map_err(|_| MetadataError::NoDevice(device.id))?,
        used: device.mapped_blocks.saturating_mul(block),
        end: last.map_or(0, |last| last.saturating_add(1).saturating_mul(block)),
    })
}
