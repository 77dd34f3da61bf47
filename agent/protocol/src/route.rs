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
    Get    "/v1/disks"                     DiskList            Reader   "List the disks of the box.";
    Get    "/v1/pools"                     PoolList            Reader   "List pools.";
    Get    "/v1/pools/{id}"                PoolShow            Reader   "Show a pool.";
    Put    "/v1/pools/{id}"                PoolCreate          Admin    "Create a pool on given disks.";
    Get    "/v1/volumes"                   VolumeList          Reader   "List volumes.";
    Get    "/v1/volumes/{id}"              VolumeShow          Reader   "Show a volume.";
    Put    "/v1/volumes/{id}"              VolumeCreate        Operator "Create a volume.";
    Post   "/v1/volumes/{id}/extend"       VolumeExtend        Operator "Grow a volume.";
    Delete "/v1/volumes/{id}"              VolumeDelete        Operator "Destroy a volume and its data.";
    Delete "/v1/volumes/{id}/connections"  VolumeDetachAll     Operator "Detach a volume from every host.";
    Get    "/v1/hosts"                     HostList            Reader   "List hosts.";
    Get    "/v1/hosts/{id}"                HostShow            Reader   "Show a host.";
    Put    "/v1/hosts/{id}"                HostCreate          Operator "Create a host.";
    Delete "/v1/hosts/{id}"                HostDelete          Operator "Forget a host.";
    Get    "/v1/connections"               ConnectionList      Reader   "List connections, of one volume with `?volume=ID`.";
    Get    "/v1/connections/{id}"          ConnectionShow      Reader   "Show a connection.";
    Put    "/v1/connections/{id}"          ConnectionCreate    Operator "Attach a volume to a host.";
    Delete "/v1/connections/{id}"          ConnectionDelete    Operator "Detach a volume from a host.";
    Get    "/v1/jobs"                      JobList             Reader   "List recent jobs.";
    Get    "/v1/jobs/{id}"                 JobShow             Reader   "Show a job.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn only_looking_is_open_to_readers() {
        for route in ROUTES {
            assert_eq!(
                route.method == Method::Get,
                route.role == Role::Reader,
                "{route:?}"
            );
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
