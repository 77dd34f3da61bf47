//! What the steps of an NVMe export do to the kernel.

use std::path::Path;

use ashlar_kernel_iface::nvmet::{
    Host, ModelNumber, Namespace, Port, PortAddress, SerialNumber, Subsystem,
};
use ashlar_kernel_iface::tree::{Change, TreeError};
use ashlar_targetd_protocol::{NvmeHost, NvmePort};
use uuid::Uuid;

use super::{MODEL, nsid};

/// Whoever let the device grow may have died before hosts were told, and the size that hosts
/// were told cannot be read back. The kernel tells them only if it differs.
pub(super) fn announce(namespace: &Namespace<'_>) {
    let announced = match namespace.observe() {
        Ok(Some(state)) if state.enabled => namespace.revalidate_size(),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = announced {
        // It is going away.
        tracing::debug!(%error, "no size to announce");
    }
}

pub(super) fn withdraw(subsystem: &Subsystem<'_>, port: &Port<'_>) -> Result<Change, TreeError> {
    let unlinked = port.unlink(subsystem)?;
    Ok(unlinked.or(unless_used(port.remove())?))
}

pub(super) fn dismiss(subsystem: &Subsystem<'_>, host: &Host<'_>) -> Result<Change, TreeError> {
    let unlisted = subsystem.disallow(host)?;
    Ok(unlisted.or(unless_used(host.remove())?))
}

/// Other volumes may use the same port or host; only the kernel knows without counting them.
pub(super) fn unless_used(removed: Result<Change, TreeError>) -> Result<Change, TreeError> {
    match removed {
        Err(error) if error.is_in_use() => Ok(Change::Unchanged),
        outcome => outcome,
    }
}

pub(super) fn remove_namespace(subsystem: &Subsystem<'_>) -> Result<Change, TreeError> {
    subsystem.namespace(nsid()).remove()
}

pub(super) fn identify(subsystem: &Subsystem<'_>, serial: &str) -> Result<Change, TreeError> {
    let serial = SerialNumber::try_from(serial).expect("20 hexadecimal digits");
    let model = ModelNumber::try_from(MODEL).expect("printable and short");
    let numbered = subsystem.set_serial(&serial)?;
    Ok(numbered.or(subsystem.set_model(&model)?))
}

pub(super) fn create_namespace(
    namespace: &Namespace<'_>,
    node: &Path,
    volume: Uuid,
) -> Result<Change, TreeError> {
    let made = namespace.create()?;
    let placed = made.or(namespace.set_device(node)?);
    let named = placed.or(namespace.set_uuid(volume)?);
    Ok(named.or(namespace.set_nguid(*volume.as_bytes())?))
}

/// The keys come before the entry, so that nobody connects without them; and after what the kernel
/// may lack, so that it still takes the old ones then.
pub(super) fn admit(
    subsystem: &Subsystem<'_>,
    host: &Host<'_>,
    keys: &NvmeHost,
) -> Result<Change, TreeError> {
    let known = host.create()?;
    let agreed = known.or(host.set_exchange(keys.exchange)?);
    let keyed = agreed.or(host.set_key(keys.key.as_ref())?);
    let mutual = keyed.or(host.set_controller_key(keys.controller_key.as_ref())?);
    Ok(mutual.or(subsystem.allow(host)?))
}

/// An empty port is not left behind when nothing can listen there.
pub(super) fn publish(
    subsystem: &Subsystem<'_>,
    port: &Port<'_>,
    at: NvmePort,
) -> Result<Change, TreeError> {
    let made = port.create()?;
    let addressed = port
        .set_address(&PortAddress::from(at))
        .and_then(|change| Ok(change.or(port.link(subsystem)?)));
    if addressed.is_err() {
        // The first error is the one to tell.
        let _ = unless_used(port.remove());
    }
    Ok(made.or(addressed?))
}
