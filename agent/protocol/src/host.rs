//! Hosts: who may reach volumes.

use std::collections::BTreeSet;

use ashlar_targetd_protocol::{ChapCredentials, DhchapExchange, DhchapKey, Iqn, Nqn, Wwn};
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
    /// The names of its Fibre Channel ports. No two hosts have the same. It proves nothing there.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub wwpns: BTreeSet<Wwn>,
    /// Whether it must prove who it is. Absent: `required`.
    #[serde(default)]
    pub authentication: Authentication,
    /// How it proves that over NVMe. SHA-256 and no group when absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dhchap: DhchapExchange,
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
    /// The same, and the box proves itself to the host in return.
    Mutual,
    /// Its name is enough. For isolated networks only.
    None,
}

/// New secrets for a host, in place of all that it has. What is absent of the rest stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRotation {
    /// The secrets. What is absent and needed is generated.
    #[serde(default, skip_serializing_if = "is_default")]
    pub secrets: HostSecrets,
    /// Whether it must prove who it is from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// How it proves that over NVMe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhchap: Option<DhchapExchange>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The secrets of a host. Kept in the store, given to targetd, told once to the client that
/// created the host or gave it new ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostSecrets {
    /// CHAP: what the initiator proves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chap: Option<ChapCredentials>,
    /// Mutual CHAP: what the target proves. Only if given, or for `mutual`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chap_mutual: Option<ChapCredentials>,
    /// DH-HMAC-CHAP: what the NVMe host proves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhchap: Option<DhchapKey>,
    /// Bidirectional DH-HMAC-CHAP: what the controller proves. Only if given, or for `mutual`.
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
    /// The names of its Fibre Channel ports.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub wwpns: BTreeSet<Wwn>,
    /// Whether it must prove who it is.
    pub authentication: Authentication,
    /// How it proves that over NVMe. SHA-256 and no group when absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dhchap: DhchapExchange,
    /// How many connections it has.
    pub connections: u64,
    /// The generation of its last change.
    pub generation: u64,
}

/// The answer to creating a host, or to giving it new secrets: the one time they are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostCreated {
    /// The host.
    pub host: Host,
    /// Its secrets, given or generated. Empty when it existed already, or has got others since.
    pub secrets: HostSecrets,
}
