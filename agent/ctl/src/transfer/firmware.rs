//! Updates of the firmware.

use ashlar_protocol::JobResult;

use super::image::sent_whole;
use super::source::Source;
use super::{TransferError, Watch};
use crate::client::Client;

/// Has the appliance install an update. Resolves once it is written, and what the appliance has
/// got is known to be what was read here. Once all of it is given, nothing that breaks hinders
/// the appliance: its job says what came of it.
///
/// # Errors
/// When the update is refused or cannot be written, or the transfer breaks.
pub async fn install(
    client: &Client,
    source: Source,
    watch: Watch,
) -> Result<JobResult, TransferError> {
    let send = async |client: &Client, body| client.firmware_install(body).await;
    sent_whole(client, source, watch, send).await
}
