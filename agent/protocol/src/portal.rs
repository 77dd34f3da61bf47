//! Portals: the addresses at which volumes are served.

use ashlar_targetd_protocol::{PortalAddr, Transport};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a client says to have volumes served at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortalSpec {
    /// Where. An address that the box does not have yet is served once it comes.
    pub address: PortalAddr,
    /// By what.
    pub transport: Transport,
}

/// An address at which everything is served that is connected over its transport.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Portal {
    /// Its id. Those of the configuration file have one, too, which stays the same.
    pub id: Uuid,
    /// Where.
    pub address: PortalAddr,
    /// By what.
    pub transport: Transport,
    /// Whether it is of the configuration file, and can only be removed there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub configured: bool,
    /// How it is.
    pub state: PortalState,
    /// Why it does not serve, or what waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The generation of its last change; 0 of one of the configuration file.
    pub generation: u64,
}

/// How a portal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortalState {
    /// Not everything that is connected is served there yet.
    Adding,
    /// Whatever is connected is served there.
    Ready,
    /// No interface of the box has the address. It is served once one does.
    Waiting,
    /// The kernel does not listen there, though the address is there.
    Failed,
    /// Being taken away.
    Removing,
}
