//! Hosts: who may reach volumes.

use ashlar_targetd_protocol::{ChapCredentials, DhchapKey, Iqn, Nqn};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::name::Name;

/// What a client says to create a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostSpec {
    /// A label for people.
    pub name: Name,
    /// Its iSCSI name. No two hosts have the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iqn: Option<Iqn>,
    /// Its NVMe name. No two hosts have the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nqn: Option<Nqn>,
    /// Whether it must prove who it is. Absent: `required`.
    #[serde(default)]
    pub authentication: Authentication,
    /// Its secrets. What is absent and needed is generated.
    #[serde(default)]
    pub secrets: HostSecrets,
}

/// Whether a host must prove who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Authentication {
    /// CHAP over iSCSI, DH-HMAC-CHAP over NVMe.
    #[default]
    Required,
    /// Its name is enough. For isolated networks only.
    None,
}

/// The secrets of a host. Kept in the store, given to targetd, told once to the client that
/// created the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostSecrets {
    /// CHAP: what the initiator proves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chap: Option<ChapCredentials>,
    /// Mutual CHAP: what the target proves. Only if given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chap_mutual: Option<ChapCredentials>,
    /// DH-HMAC-CHAP: what the NVMe host proves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhchap: Option<DhchapKey>,
    /// Bidirectional DH-HMAC-CHAP: what the controller proves. Only if given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhchap_controller: Option<DhchapKey>,
}

/// A host. Its secrets are not shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its id.
    pub id: Uuid,
    /// Its label.
    pub name: Name,
    /// Its iSCSI name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iqn: Option<Iqn>,
    /// Its NVMe name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nqn: Option<Nqn>,
    /// Whether it must prove who it is.
    pub authentication: Authentication,
    /// How many connections it has.
    pub connections: u64,
    /// The generation of its last change.
    pub generation: u64,
}

/// The answer to creating a host: the one time its secrets are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostCreated {
    /// The host.
    pub host: Host,
    /// Its secrets, given or generated. Empty when it existed already.
    pub secrets: HostSecrets,
}
