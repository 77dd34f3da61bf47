//! The table of routes. What is not in it needs the role `admin` to be told that it is not found.

use serde::{Deserialize, Serialize};

use crate::role::Role;

/// HTTP methods in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Look.
    Get,
    /// Create under a client-chosen id.
    Put,
    /// Act.
    Post,
    /// Remove.
    Delete,
}

impl Method {
    /// The method as in HTTP.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Put => "PUT",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        }
    }
}

/// One row: a method on a path. `{id}` stands for one UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path's pattern.
    pub path: &'static str,
    /// What it does.
    pub operation: Operation,
    /// The least role it takes.
    pub role: Role,
}

macro_rules! routes {
    ($($method:ident $path:literal $operation:ident $role:ident $doc:literal;)*) => {
        /// Everything a client can ask.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Operation {
            $(#[doc = $doc] $operation,)*
        }

        impl Operation {
            /// The row that asks for it.
            pub fn route(self) -> &'static Route {
                match self {
                    $(Operation::$operation => &Route {
                        method: Method::$method,
                        path: $path,
                        operation: Operation::$operation,
                        role: Role::$role,
                    },)*
                }
            }
        }

        impl std::fmt::Display for Operation {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                // The derived kebab-case name is the one on the wire.
                self.serialize(f)
            }
        }

        /// All routes.
        pub const ROUTES: &[Route] = &[
            $(Route {
                method: Method::$method,
                path: $path,
                operation: Operation::$operation,
                role: Role::$role,
            },)*
        ];
    };
}

routes! {
    Get    "/v1/system"                    SystemShow          Reader   "Show identity, version and capabilities.";
    Get    "/v1/system/health"             HealthShow          Reader   "Show health.";
    Post   "/v1/system/freeze"             SystemFreeze        Operator "Take no changes until thawed; I/O goes on.";
    Post   "/v1/system/thaw"               SystemThaw          Operator "Take changes again.";
    Post   "/v1/system/restart"            SystemRestart       Admin    "Start the box again; hosts wait meanwhile.";
    Get    "/v1/firmware"                  FirmwareShow        Reader   "Show which firmware runs, and which is started next.";
    Put    "/v1/firmware/bundle"           FirmwareInstall     Admin    "Write an update to the slot that does not run.";
    Post   "/v1/firmware/activate"         FirmwareActivate    Admin    "Choose the slot that is started next.";
    Get    "/v1/identity"                  IdentityShow        Reader   "Show who the box is; to anybody as long as it has no owner.";
    Post   "/v1/identity/request"          IdentityRequest     Admin    "Make a key and a request for a certificate.";
    Put    "/v1/identity/certificate"      IdentityInstall     Admin    "Take the certificate that was requested.";
    Put    "/v1/identity/device"           IdentitySeal        Admin    "Give a new box its device certificate, and close it to the factory.";
    Post   "/v1/identity/claim"            IdentityClaim       Admin    "Take a box that has no owner; anybody with its secret.";
    Post   "/v1/identity/reset"            IdentityReset       Admin    "Forget the owner and all that is his; the box starts again, unclaimed.";
    Get    "/v1/trust"                     TrustShow           Reader   "Show whose clients are let in.";
    Put    "/v1/trust"                     TrustUpdate         Admin    "Change whose clients are let in.";
    Get    "/v1/disks"                     DiskList            Reader   "List the disks of the box.";
    Get    "/v1/pools"                     PoolList            Reader   "List pools.";
    Get    "/v1/pools/{id}"                PoolShow            Reader   "Show a pool.";
    Put    "/v1/pools/{id}"                PoolCreate          Admin    "Create a pool on given disks.";
    Post   "/v1/pools/{id}/update"         PoolUpdate          Admin    "Rename a pool, or change what it may be promised.";
    Post   "/v1/pools/{id}/grow"           PoolGrow            Admin    "Add disks to a pool, beneath its volumes.";
    Post   "/v1/pools/{id}/replace"        PoolReplace         Admin    "Give the place of a disk of a pool to another one.";
    Post   "/v1/pools/{id}/scrub"          PoolScrub           Operator "Compare the disks of a pool that should have the same, or stop that.";
    Post   "/v1/pools/{id}/import"         PoolImport          Admin    "Take over a pool with all that its catalog has.";
    Delete "/v1/pools/{id}"                PoolDelete          Admin    "Destroy a pool; its disks are blank then.";
    Get    "/v1/pools/{id}/statistics"     PoolStatistics      Reader   "Show what a pool has done.";
    Get    "/v1/pools/{id}/thin-devices"   ThinDeviceList      Reader   "List the thin devices of a pool, whoever made them.";
    Get    "/v1/volumes"                   VolumeList          Reader   "List volumes.";
    Get    "/v1/volumes/{id}"              VolumeShow          Reader   "Show a volume.";
    Put    "/v1/volumes/{id}"              VolumeCreate        Operator "Create a volume.";
    Post   "/v1/volumes/{id}/adopt"        VolumeAdopt         Operator "Make a volume of a thin device that is there.";
    Post   "/v1/volumes/{id}/release"      VolumeRelease       Operator "Let go of a volume; its thin device stays as it is.";
    Post   "/v1/volumes/{id}/extend"       VolumeExtend        Operator "Grow a volume.";
    Post   "/v1/volumes/{id}/revert"       VolumeRevert        Operator "Give a volume the content of one of its snapshots.";
    Post   "/v1/volumes/{id}/update"       VolumeUpdate        Operator "Rename a volume, or change its labels, its limits, what is kept for it.";
    Post   "/v1/volumes/{id}/transfer"     VolumeTransfer      Operator "Give a volume to another owner, and take it from every host.";
    Post   "/v1/volumes/{id}/move"         VolumeMove          Operator "Bring a volume to another pool, beneath its connections.";
    Get    "/v1/volumes/{id}/statistics"   VolumeStatistics    Reader   "Show what a volume has done.";
    Delete "/v1/volumes/{id}"              VolumeDelete        Operator "Destroy a volume and its data.";
    Delete "/v1/volumes/{id}/connections"  VolumeDetachAll     Operator "Detach a volume from every host.";
    Get    "/v1/snapshots"                 SnapshotList        Reader   "List snapshots, of one volume with `?volume=ID`.";
    Get    "/v1/snapshots/{id}"            SnapshotShow        Reader   "Show a snapshot.";
    Put    "/v1/snapshots/{id}"            SnapshotCreate      Operator "Take a snapshot of a volume.";
    Post   "/v1/snapshots/{id}/adopt"      SnapshotAdopt       Operator "Make a snapshot of a thin device that is there.";
    Post   "/v1/snapshots/{id}/update"     SnapshotUpdate      Operator "Rename a snapshot, or change its labels.";
    Post   "/v1/snapshots/{id}/release"    SnapshotRelease     Operator "Let go of a snapshot; its thin device stays as it is.";
    Delete "/v1/snapshots/{id}"            SnapshotDelete      Operator "Destroy a snapshot.";
    Get    "/v1/volumes/{id}/usage"        VolumeUsage         Reader   "Show what a volume takes of its pool.";
    Get    "/v1/volumes/{id}/extents"      VolumeExtents       Reader   "List what a volume maps, or what changed in it with `?since=SNAPSHOT`.";
    Get    "/v1/snapshots/{id}/usage"      SnapshotUsage       Reader   "Show what a snapshot takes of its pool.";
    Get    "/v1/snapshots/{id}/extents"    SnapshotExtents     Reader   "List what a snapshot maps, or what changed in it with `?since=SNAPSHOT`.";
    Get    "/v1/groups"                    GroupList           Reader   "List groups.";
    Get    "/v1/groups/{id}"               GroupShow           Reader   "Show a group.";
    Put    "/v1/groups/{id}"               GroupCreate         Operator "Create a group.";
    Post   "/v1/groups/{id}/update"        GroupUpdate         Operator "Rename a group, add and remove members.";
    Delete "/v1/groups/{id}"               GroupDelete         Operator "Dissolve a group; its members stay.";
    Get    "/v1/group-snapshots"           GroupSnapshotList   Reader   "List group snapshots.";
    Get    "/v1/group-snapshots/{id}"      GroupSnapshotShow   Reader   "Show a group snapshot.";
    Put    "/v1/group-snapshots/{id}"      GroupSnapshotCreate Operator "Take a snapshot of every member of a group, at one instant.";
    Post   "/v1/group-snapshots/{id}/update" GroupSnapshotUpdate Operator "Rename a group snapshot.";
    Delete "/v1/group-snapshots/{id}"      GroupSnapshotDelete Operator "Destroy a group snapshot with its snapshots.";
    Get    "/v1/volumes/{id}/data"         VolumeExport        Operator "Read what a volume holds, as a stream.";
    Put    "/v1/volumes/{id}/data"         VolumeImport        Operator "Write to a volume what comes as a stream.";
    Get    "/v1/snapshots/{id}/data"       SnapshotExport      Operator "Read what a snapshot holds, as a stream.";
    Get    "/v1/portals"                   PortalList          Reader   "List portals, those of the configuration file too.";
    Get    "/v1/portals/{id}"              PortalShow          Reader   "Show a portal.";
    Put    "/v1/portals/{id}"              PortalCreate        Admin    "Serve what is connected over a transport at an address.";
    Delete "/v1/portals/{id}"              PortalDelete        Admin    "Serve there no longer.";
    Get    "/v1/hosts"                     HostList            Reader   "List hosts.";
    Get    "/v1/hosts/{id}"                HostShow            Reader   "Show a host.";
    Put    "/v1/hosts/{id}"                HostCreate          Operator "Create a host.";
    Post   "/v1/hosts/{id}/rotate"         HostRotate          Operator "Give a host new secrets.";
    Delete "/v1/hosts/{id}"                HostDelete          Operator "Forget a host.";
    Get    "/v1/connections"               ConnectionList      Reader   "List connections, of one volume with `?volume=ID`, of one snapshot with `?snapshot=ID`.";
    Get    "/v1/connections/{id}"          ConnectionShow      Reader   "Show a connection.";
    Put    "/v1/connections/{id}"          ConnectionCreate    Operator "Attach a volume, or a snapshot to read it, to a host.";
    Delete "/v1/connections/{id}"          ConnectionDelete    Operator "Detach a volume or a snapshot from a host.";
    Post   "/v1/bulk"                      BulkChange          Operator "Make many changes, each with its own answer.";
    Get    "/v1/jobs"                      JobList             Reader   "List recent jobs.";
    Get    "/v1/jobs/{id}"                 JobShow             Reader   "Show a job.";
    Delete "/v1/jobs/{id}"                 JobCancel           Operator "Cancel a job.";
    Get    "/v1/events"                    EventList           Reader   "List events, wait for them, or stream them.";
    Post   "/v1/support/bundle"            SupportBundle       Admin    "Gather what somebody needs who is to help, encrypted to a certificate.";
    Get    "/v1/audit"                     AuditList           Admin    "List who asked for what, wait for it, or stream it.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Readers look at the box, not at what hosts keep in it, nor at each other.
    const CONTENT: [Operation; 3] = [
        Operation::VolumeExport,
        Operation::SnapshotExport,
        Operation::AuditList,
    ];

    #[test]
    fn only_looking_is_open_to_readers() {
        for route in ROUTES {
            let looks = route.method == Method::Get && !CONTENT.contains(&route.operation);
            assert_eq!(looks, route.role == Role::Reader, "{route:?}");
        }
    }

    #[test]
    fn an_operation_finds_its_own_row() {
        for route in ROUTES {
            assert_eq!(route.operation.route(), route);
        }
    }

    #[test]
    fn each_method_and_path_stands_once() {
        let keys: BTreeSet<_> = ROUTES.iter().map(|r| (r.method, r.path)).collect();
        assert_eq!(keys.len(), ROUTES.len());
    }
}
