//! One method for each route.

use ashlar_protocol::{
    self as protocol, ActivateSpec, AdoptSnapshotSpec, AdoptSpec, AuditRecord, ClaimSpec, Clear,
    Connection, ConnectionSpec, Disk, Event, ExtendSpec, Extent, Firmware, FreezeSpec, Group,
    GroupSnapshot, GroupSnapshotSpec, GroupSnapshotUpdate, GroupSpec, GroupUpdate, Health, Host,
    HostCreated, HostRotation, HostSpec, ImportSpec, InstallSpec, Job, MoveSpec, Operation, Page,
    Pool, PoolGrowth, PoolSpec, PoolStatistics, PoolUpdate, Portal, PortalSpec, ReleaseSpec,
    ReplaceSpec, RequestSpec, ResetSpec, RestartSpec, RevertSpec, ScrubSpec, SealSpec,
    SigningRequest, Snapshot, SnapshotSpec, SnapshotUpdate, System, ThawSpec, ThinDevice,
    TransferSpec, Trust, TrustUpdate, TrustUpdated, Usage, Volume, VolumeSpec, VolumeStatistics,
    VolumeUpdate,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::error::{CallError, Failure};
use super::exchange::{Exchange, Reply, encode};
use super::{Change, Client};

/// Which part of a list to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageQuery {
    /// Begin after this, which is the `next` of the page before.
    pub after: Option<String>,
    /// So many items at most. The appliance has a limit of its own.
    pub limit: Option<usize>,
}

impl PageQuery {
    pub(super) fn to_query(&self) -> String {
        let mut parts = Vec::new();
        if let Some(limit) = self.limit {
            parts.push(format!("limit={limit}"));
        }
        if let Some(after) = &self.after {
            parts.push(format!("after={}", escape(after)));
        }
        parts.join("&")
    }
}

fn since_filter(since: Option<Uuid>) -> String {
    since.map_or_else(String::new, |since| format!("since={since}"))
}

/// Percent-encodes all but what RFC 3986 calls unreserved.
fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

macro_rules! shows {
    ($($(#[$doc:meta])* $name:ident -> $type:ty = $operation:ident;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// When it does not exist, or the call fails.
                pub async fn $name(&self, id: Uuid) -> Result<$type, CallError> {
                    self.look(Operation::$operation, Some(id), String::new()).await
                }
            )*
        }
    };
}

shows! {
    /// Shows what a volume takes of its pool.
    volume_usage -> Usage = VolumeUsage;
    /// Shows what a snapshot takes of its pool.
    snapshot_usage -> Usage = SnapshotUsage;
    /// Shows a pool.
    pool_show -> Pool = PoolShow;
    /// Shows a volume.
    volume_show -> Volume = VolumeShow;
    /// Shows what a pool has done.
    pool_statistics -> PoolStatistics = PoolStatistics;
    /// Shows what a volume has done.
    volume_statistics -> VolumeStatistics = VolumeStatistics;
    /// Shows a snapshot.
    snapshot_show -> Snapshot = SnapshotShow;
    /// Shows a group.
    group_show -> Group = GroupShow;
    /// Shows a group snapshot.
    group_snapshot_show -> GroupSnapshot = GroupSnapshotShow;
    /// Shows a portal.
    portal_show -> Portal = PortalShow;
    /// Shows a host, without its secrets.
    host_show -> Host = HostShow;
    /// Shows a connection.
    connection_show -> Connection = ConnectionShow;
    /// Shows a job.
    job_show -> Job = JobShow;
}

macro_rules! lists {
    ($($what:literal $page:ident $all:ident -> $type:ty = $operation:ident;)*) => {
        impl Client {
            $(
                #[doc = concat!("Lists ", $what, ": one page.")]
                ///
                /// # Errors
                /// When the query is not valid, or the call fails.
                pub async fn $page(&self, query: &PageQuery) -> Result<Page<$type>, CallError> {
                    self.look(Operation::$operation, None, query.to_query()).await
                }

                #[doc = concat!("Lists ", $what, ": all of them, page by page.")]
                ///
                /// # Errors
                /// When a call fails.
                pub async fn $all(&self) -> Result<Vec<$type>, CallError> {
                    self.walk(Operation::$operation, "").await
                }
            )*
        }
    };
}

lists! {
    "pools" pool_page pool_list -> Pool = PoolList;
    "volumes" volume_page volume_list -> Volume = VolumeList;
    "snapshots" snapshot_page snapshot_list -> Snapshot = SnapshotList;
    "groups" group_page group_list -> Group = GroupList;
    "group snapshots" group_snapshot_page group_snapshot_list -> GroupSnapshot = GroupSnapshotList;
    "portals" portal_page portal_list -> Portal = PortalList;
    "hosts" host_page host_list -> Host = HostList;
    "connections" connection_page connection_list -> Connection = ConnectionList;
    "recent jobs" job_page job_list -> Job = JobList;
    "events, the oldest kept first" event_page event_list -> Event = EventList;
    "the audit trail, the oldest kept first" audit_page audit_list -> AuditRecord = AuditList;
}

macro_rules! creations {
    ($($what:literal $name:ident($spec:ty) -> $type:ty = $operation:ident;)*) => {
        impl Client {
            $(
                #[doc = concat!($what, " The same id with the same specification is found so.")]
                ///
                /// # Errors
                /// When the appliance refuses, or the call fails.
                pub async fn $name(
                    &self,
                    id: Uuid,
                    spec: &$spec,
                ) -> Result<Change<$type>, CallError> {
                    self.change(Operation::$operation, Some(id), spec).await
                }
            )*
        }
    };
}

creations! {
    "Creates a pool." pool_create(PoolSpec) -> Pool = PoolCreate;
    "Takes over a pool with all that its catalog has." pool_import(ImportSpec) -> Pool = PoolImport;
    "Adds disks to a pool." pool_grow(PoolGrowth) -> Pool = PoolGrow;
    "Gives the place of a disk of a pool to another one." pool_replace(ReplaceSpec) -> Pool = PoolReplace;
    "Creates a volume." volume_create(VolumeSpec) -> Volume = VolumeCreate;
    "Makes a volume of a thin device that is there." volume_adopt(AdoptSpec) -> Volume = VolumeAdopt;
    "Grows a volume." volume_extend(ExtendSpec) -> Volume = VolumeExtend;
    "Makes a snapshot of a thin device that is there." snapshot_adopt(AdoptSnapshotSpec) -> Snapshot = SnapshotAdopt;
    "Takes a snapshot of a volume." snapshot_create(SnapshotSpec) -> Snapshot = SnapshotCreate;
    "Renames a snapshot, or changes its labels." snapshot_update(SnapshotUpdate) -> Snapshot = SnapshotUpdate;
    "Creates a group." group_create(GroupSpec) -> Group = GroupCreate;
    "Renames a group, adds and removes members." group_update(GroupUpdate) -> Group = GroupUpdate;
    "Takes a snapshot of every member of a group." group_snapshot_create(GroupSnapshotSpec) -> GroupSnapshot = GroupSnapshotCreate;
    "Renames a group snapshot." group_snapshot_update(GroupSnapshotUpdate) -> GroupSnapshot = GroupSnapshotUpdate;
    "Serves what is connected over a transport at an address." portal_create(PortalSpec) -> Portal = PortalCreate;
    "Gives a host new secrets, told this once." host_rotate(HostRotation) -> HostCreated = HostRotate;
    "Creates a host; its secrets are told this once." host_create(HostSpec) -> HostCreated = HostCreate;
    "Attaches a volume or a snapshot to a host." connection_create(ConnectionSpec) -> Connection = ConnectionCreate;
}

macro_rules! removals {
    ($($what:literal $name:ident = $operation:ident;)*) => {
        impl Client {
            $(
                #[doc = $what]
                ///
                /// # Errors
                /// When it does not exist, is in use, or the call fails.
                pub async fn $name(&self, id: Uuid) -> Result<Change<()>, CallError> {
                    self.remove(Operation::$operation, id, String::new()).await
                }
            )*
        }
    };
}

removals! {
    "Destroys an empty pool; its disks are blank then." pool_delete = PoolDelete;
    "Destroys a volume and its data." volume_delete = VolumeDelete;
    "Detaches a volume from every host." volume_detach_all = VolumeDetachAll;
    "Destroys a snapshot." snapshot_delete = SnapshotDelete;
    "Dissolves a group." group_delete = GroupDelete;
    "Destroys a group snapshot with its snapshots." group_snapshot_delete = GroupSnapshotDelete;
    "Serves at an address no longer." portal_delete = PortalDelete;
    "Forgets a host." host_delete = HostDelete;
    "Detaches a volume or a snapshot from a host." connection_delete = ConnectionDelete;
    "Cancels a job." job_cancel = JobCancel;
}

impl Client {
    /// Shows identity, version and capabilities.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn system_show(&self) -> Result<System, CallError> {
        self.look(Operation::SystemShow, None, String::new()).await
    }

    /// Has the box take no changes until it is thawed.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn system_freeze(&self, spec: &FreezeSpec) -> Result<Change<System>, CallError> {
        self.change(Operation::SystemFreeze, None, spec).await
    }

    /// Has the box take changes again.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn system_thaw(&self) -> Result<Change<System>, CallError> {
        self.change(Operation::SystemThaw, None, &ThawSpec {}).await
    }

    /// Has the box start again. It answers before it goes down.
    ///
    /// # Errors
    /// When an update is being installed, or the call fails.
    pub async fn system_restart(&self) -> Result<Change<()>, CallError> {
        let operation = Operation::SystemRestart;
        self.leave_nothing(Exchange {
            operation,
            id: None,
            query: String::new(),
            body: Some(encode(operation, &RestartSpec {})?),
        })
        .await
    }

    /// Shows which firmware runs, and which is started next.
    ///
    /// # Errors
    /// When the box has no updater, or the call fails.
    pub async fn firmware_show(&self) -> Result<Firmware, CallError> {
        self.look(Operation::FirmwareShow, None, String::new())
            .await
    }

    /// Chooses the slot that is started next.
    ///
    /// # Errors
    /// When it is not good, an update is being installed, or the call fails.
    pub async fn firmware_activate(
        &self,
        spec: &ActivateSpec,
    ) -> Result<Change<Firmware>, CallError> {
        self.change(Operation::FirmwareActivate, None, spec).await
    }

    /// Shows who the box is.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn identity_show(&self) -> Result<protocol::Identity, CallError> {
        self.look(Operation::IdentityShow, None, String::new())
            .await
    }

    /// Has a key made, if none is waiting for its certificate, and a request for that.
    ///
    /// # Errors
    /// When names cannot be in one, or the call fails.
    pub async fn identity_request(
        &self,
        spec: &RequestSpec,
    ) -> Result<Change<SigningRequest>, CallError> {
        self.change(Operation::IdentityRequest, None, spec).await
    }

    /// Has the box show the certificate that was requested. It is kept once a client comes by it.
    ///
    /// # Errors
    /// When it is not for that key or cannot be shown, or the call fails.
    pub async fn identity_install(
        &self,
        spec: &InstallSpec,
    ) -> Result<Change<protocol::Identity>, CallError> {
        self.change(Operation::IdentityInstall, None, spec).await
    }

    /// Gives a new box its device certificate, and closes it to the factory.
    ///
    /// # Errors
    /// When that would not prove who it is, or the call fails.
    pub async fn identity_seal(
        &self,
        spec: &SealSpec,
    ) -> Result<Change<protocol::Identity>, CallError> {
        self.change(Operation::IdentitySeal, None, spec).await
    }

    /// Takes a box that has no owner.
    ///
    /// # Errors
    /// When the secret is another one's, or the call fails.
    pub async fn identity_claim(
        &self,
        spec: &ClaimSpec,
    ) -> Result<Change<protocol::Identity>, CallError> {
        self.change(Operation::IdentityClaim, None, spec).await
    }

    /// Has the box forget its owner and all that is his, and start again.
    ///
    /// # Errors
    /// When the secret is another one's, there are pools, or the call fails.
    pub async fn identity_reset(&self, spec: &ResetSpec) -> Result<Change<()>, CallError> {
        let operation = Operation::IdentityReset;
        self.leave_nothing(Exchange {
            operation,
            id: None,
            query: String::new(),
            body: Some(encode(operation, spec)?),
        })
        .await
    }

    /// Shows whose clients are let in.
    ///
    /// # Errors
    /// When the box has no owner, or the call fails.
    pub async fn trust_show(&self) -> Result<Trust, CallError> {
        self.look(Operation::TrustShow, None, String::new()).await
    }

    /// Changes whose clients are let in, or says what that would come to.
    ///
    /// # Errors
    /// When it would shut us out or cannot be, or the call fails.
    pub async fn trust_update(
        &self,
        update: &TrustUpdate,
    ) -> Result<Change<TrustUpdated>, CallError> {
        self.change(Operation::TrustUpdate, None, update).await
    }

    /// Shows health.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn health_show(&self) -> Result<Health, CallError> {
        self.look(Operation::HealthShow, None, String::new()).await
    }

    /// Lists the disks of the box.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn disk_list(&self) -> Result<Vec<Disk>, CallError> {
        self.walk(Operation::DiskList, "").await
    }

    /// Renames a pool, or changes what it may be promised.
    ///
    /// # Errors
    /// When the appliance refuses, or the call fails; likewise below.
    pub async fn pool_update(
        &self,
        id: Uuid,
        spec: &PoolUpdate,
    ) -> Result<Change<Pool>, CallError> {
        self.change(Operation::PoolUpdate, Some(id), spec).await
    }

    /// Has the disks of a pool compared that should have the same, or ends that.
    pub async fn pool_scrub(&self, id: Uuid, spec: &ScrubSpec) -> Result<Change<Pool>, CallError> {
        self.change(Operation::PoolScrub, Some(id), spec).await
    }

    /// Changes a volume's name, labels, limits, or what is kept for it.
    pub async fn volume_update(
        &self,
        id: Uuid,
        spec: &VolumeUpdate,
    ) -> Result<Change<Volume>, CallError> {
        self.change(Operation::VolumeUpdate, Some(id), spec).await
    }

    /// Gives a volume the content of one of its snapshots.
    ///
    /// # Errors
    /// When the appliance refuses, or the call fails.
    pub async fn volume_revert(
        &self,
        id: Uuid,
        spec: &RevertSpec,
    ) -> Result<Change<Volume>, CallError> {
        self.change(Operation::VolumeRevert, Some(id), spec).await
    }

    /// Gives a volume to another owner, and takes it from every host.
    ///
    /// # Errors
    /// When the appliance refuses, or the call fails.
    pub async fn volume_transfer(
        &self,
        id: Uuid,
        spec: &TransferSpec,
    ) -> Result<Change<Volume>, CallError> {
        self.change(Operation::VolumeTransfer, Some(id), spec).await
    }

    /// Brings a volume to another pool.
    ///
    /// # Errors
    /// When the appliance refuses, or the call fails.
    pub async fn volume_move(
        &self,
        id: Uuid,
        spec: &MoveSpec,
    ) -> Result<Change<Volume>, CallError> {
        self.change(Operation::VolumeMove, Some(id), spec).await
    }

    /// Lists the thin devices of a pool, whoever made them.
    ///
    /// # Errors
    /// When the pool does not exist, or a call fails.
    pub async fn thin_devices(&self, pool: Uuid) -> Result<Vec<ThinDevice>, CallError> {
        self.walk_of(Operation::ThinDeviceList, Some(pool), "")
            .await
    }

    /// Lists what a volume maps, or what changed in it since a snapshot: all of it.
    ///
    /// # Errors
    /// When either does not exist, or a call fails.
    pub async fn volume_extents(
        &self,
        id: Uuid,
        since: Option<Uuid>,
    ) -> Result<Vec<Extent>, CallError> {
        let filter = since_filter(since);
        self.walk_of(Operation::VolumeExtents, Some(id), &filter)
            .await
    }

    /// Lists what a snapshot maps, or what changed in it since another: all of it.
    ///
    /// # Errors
    /// When either does not exist, or a call fails.
    pub async fn snapshot_extents(
        &self,
        id: Uuid,
        since: Option<Uuid>,
    ) -> Result<Vec<Extent>, CallError> {
        let filter = since_filter(since);
        self.walk_of(Operation::SnapshotExtents, Some(id), &filter)
            .await
    }

    /// Lists the snapshots of one volume.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn snapshots_of(&self, volume: Uuid) -> Result<Vec<Snapshot>, CallError> {
        self.walk(Operation::SnapshotList, &format!("volume={volume}"))
            .await
    }

    /// Lists the connections of one volume.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn connections_of(&self, volume: Uuid) -> Result<Vec<Connection>, CallError> {
        self.walk(Operation::ConnectionList, &format!("volume={volume}"))
            .await
    }

    /// Lists the connections of one snapshot.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn connections_of_snapshot(
        &self,
        snapshot: Uuid,
    ) -> Result<Vec<Connection>, CallError> {
        self.walk(Operation::ConnectionList, &format!("snapshot={snapshot}"))
            .await
    }

    pub(super) async fn look<T: DeserializeOwned>(
        &self,
        operation: Operation,
        id: Option<Uuid>,
        query: String,
    ) -> Result<T, CallError> {
        let exchange = Exchange {
            operation,
            id,
            query,
            body: None,
        };
        let reply = self.exchange(exchange).await?;
        let value = match reply.status {
            200 => reply.decode(),
            _ => Err(reply.unexpected("where 200 was expected")),
        };
        value.map_err(|failure| CallError { operation, failure })
    }

    async fn walk<T: DeserializeOwned>(
        &self,
        operation: Operation,
        filter: &str,
    ) -> Result<Vec<T>, CallError> {
        self.walk_of(operation, None, filter).await
    }

    async fn walk_of<T: DeserializeOwned>(
        &self,
        operation: Operation,
        id: Option<Uuid>,
        filter: &str,
    ) -> Result<Vec<T>, CallError> {
        let mut items = Vec::new();
        let mut query = filter.to_owned();
        loop {
            let page: Page<T> = self.look(operation, id, query).await?;
            items.extend(page.items);
            let Some(after) = page.next else {
                return Ok(items);
            };
            query = format!("after={}&{filter}", escape(&after));
            query.truncate(query.trim_end_matches('&').len());
        }
    }

    async fn change<T: DeserializeOwned>(
        &self,
        operation: Operation,
        id: Option<Uuid>,
        spec: &impl Serialize,
    ) -> Result<Change<T>, CallError> {
        let exchange = Exchange {
            operation,
            id,
            query: String::new(),
            body: Some(encode(operation, spec)?),
        };
        let reply = self.exchange(exchange).await?;
        changed(&reply).map_err(|failure| CallError { operation, failure })
    }

    /// Detaches a volume from a host, and cuts that host off if it uses the volume. Other NVMe
    /// hosts of the volume are interrupted with it, and reconnect by themselves.
    ///
    /// # Errors
    /// When it does not exist, or the call fails.
    pub async fn connection_cut(&self, id: Uuid) -> Result<Change<()>, CallError> {
        let query = "force=true".to_owned();
        self.remove(Operation::ConnectionDelete, id, query).await
    }

    /// Serves at an address no longer, and cuts off the hosts that have no other.
    ///
    /// # Errors
    /// When it does not exist, is of the configuration file, or the call fails.
    pub async fn portal_cut(&self, id: Uuid) -> Result<Change<()>, CallError> {
        let query = "force=true".to_owned();
        self.remove(Operation::PortalDelete, id, query).await
    }

    /// Destroys a volume, and does that with its data before: with so many bytes of it, all when
    /// absent, and so many a second at most.
    ///
    /// # Errors
    /// When it does not exist, is in use, or the call fails.
    pub async fn volume_clear(
        &self,
        id: Uuid,
        clear: Clear,
        size: Option<u64>,
        bandwidth: Option<u64>,
    ) -> Result<Change<()>, CallError> {
        let mut query = format!("clear={clear}");
        if let Some(size) = size {
            query += &format!("&clear_size={size}");
        }
        if let Some(bandwidth) = bandwidth {
            query += &format!("&bandwidth={bandwidth}");
        }
        self.remove(Operation::VolumeDelete, id, query).await
    }

    /// Destroys a pool that has no volumes and snapshots, whatever else it holds.
    ///
    /// # Errors
    /// When it does not exist, is in use, or the call fails.
    pub async fn pool_delete_by_force(&self, id: Uuid) -> Result<Change<()>, CallError> {
        let query = "force=true".to_owned();
        self.remove(Operation::PoolDelete, id, query).await
    }

    /// Lets go of a volume; its thin device stays as it is.
    ///
    /// # Errors
    /// When it does not exist, is in use, or the call fails.
    pub async fn volume_release(&self, id: Uuid) -> Result<Change<()>, CallError> {
        self.release(Operation::VolumeRelease, id).await
    }

    /// Lets go of a snapshot; its thin device stays as it is.
    ///
    /// # Errors
    /// When it does not exist, is in use, or the call fails.
    pub async fn snapshot_release(&self, id: Uuid) -> Result<Change<()>, CallError> {
        self.release(Operation::SnapshotRelease, id).await
    }

    async fn release(&self, operation: Operation, id: Uuid) -> Result<Change<()>, CallError> {
        self.leave_nothing(Exchange {
            operation,
            id: Some(id),
            query: String::new(),
            body: Some(encode(operation, &ReleaseSpec {})?),
        })
        .await
    }

    async fn remove(
        &self,
        operation: Operation,
        id: Uuid,
        query: String,
    ) -> Result<Change<()>, CallError> {
        self.leave_nothing(Exchange {
            operation,
            id: Some(id),
            query,
            body: None,
        })
        .await
    }

    /// Makes a change that leaves nothing to show.
    async fn leave_nothing(&self, exchange: Exchange) -> Result<Change<()>, CallError> {
        let operation = exchange.operation;
        let reply = self.exchange(exchange).await?;
        let change = match reply.status {
            204 => Ok(Change::Done {
                value: (),
                created: false,
            }),
            202 => reply.decode().map(Change::Accepted),
            _ => Err(reply.unexpected("where 204 or 202 was expected")),
        };
        change.map_err(|failure| CallError { operation, failure })
    }
}

pub(super) fn changed<T: DeserializeOwned>(reply: &Reply) -> Result<Change<T>, Failure> {
    match reply.status {
        200 | 201 => Ok(Change::Done {
            value: reply.decode()?,
            created: reply.status == 201,
        }),
        202 => reply.decode().map(Change::Accepted),
        _ => Err(reply.unexpected("where 200, 201 or 202 was expected")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_escaped() {
        let query = PageQuery {
            after: Some("a&b=/ é".to_owned()),
            limit: Some(5),
        };
        assert_eq!(query.to_query(), "limit=5&after=a%26b%3D%2F%20%C3%A9");
        assert_eq!(PageQuery::default().to_query(), "");
    }
}
