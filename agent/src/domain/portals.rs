//! Portals: where the box is served, by its configuration and by request. Pure.
//!
//! What the configuration file says holds, and what was asked for comes on top. The usual address of
//! a transport, everywhere at its port, is only that of a box to which nobody has said anything: once
//! a portal of the transport was asked for, it is gone for good.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use ashlar_protocol::{PortalAddr, Transport};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::intent::Intent;
use crate::domain::record::{BoxRecord, PortalPhase};
use crate::domain::site::{Listen, Site};

/// Most portals of one transport. Each target listens on all of them.
pub const MAX_PORTALS: usize = 16;

/// Where a transport is served, by configuration and by request.
pub(super) fn served(
    configured: &Listen,
    intent: &Intent,
    site: &BoxRecord,
    transport: Transport,
) -> Listen {
    let mut listen = match configured.usual && site.managed.contains(&transport) {
        true => Listen::default(),
        false => configured.clone(),
    };
    let asked = intent.portals().values();
    let asked = asked.filter(|portal| {
        portal.spec.transport == transport && portal.phase == PortalPhase::Present
    });
    for portal in asked {
        if !listen.advertised.is_empty() {
            listen.advertised.push(portal.spec.address);
        }
        listen.portals.insert(portal.spec.address);
    }
    listen
}

/// The id of a portal of the configuration file. It follows from what the portal is, so that it is the
/// same after each start.
pub fn configured_id(site: Uuid, transport: Transport, address: PortalAddr) -> Uuid {
    let hash = Sha256::new()
        .chain_update(site)
        .chain_update(format!("{transport} {address}"))
        .finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// The portals of the configuration file that hold, each with its id.
pub fn configured(site: &Site, intent: &Intent) -> Vec<(Uuid, Transport, PortalAddr)> {
    let now = site.as_of(intent);
    let of_one = |transport: Transport| {
        let listen = site.listen(transport);
        let served = &now.listen(transport).portals;
        let addresses: BTreeSet<PortalAddr> = &listen.portals & served;
        addresses
            .into_iter()
            .map(move |address| (transport, address))
    };
    let all = Transport::ALL.into_iter().flat_map(of_one);
    all.map(|(transport, at)| (configured_id(site.id, transport, at), transport, at))
        .collect()
}

/// Whether two portals cannot both be: the kernel listens over TCP wherever it does for iSER, and TCP
/// and RDMA have port numbers of their own. A target takes both iSCSI and iSER at one address.
pub fn collide(one: (Transport, PortalAddr), other: (Transport, PortalAddr)) -> bool {
    let (at, there) = (one.1.socket(), other.1.socket());
    if one.0 == other.0 {
        return overlap(at, there);
    }
    let by_tcp = |transport| !matches!(transport, Transport::NvmeRdma);
    let by_rdma = |transport| matches!(transport, Transport::Iser | Transport::NvmeRdma);
    let one_target = !one.0.is_nvme() && !other.0.is_nvme();
    let tcp =
        by_tcp(one.0) && by_tcp(other.0) && overlap(at, there) && !(one_target && at == there);
    // There each family has wildcards of its own.
    let rdma =
        by_rdma(one.0) && by_rdma(other.0) && at.is_ipv4() == there.is_ipv4() && overlap(at, there);
    tcp || rdma
}

/// Whether two sockets cannot both listen: the unspecified address stands for all of its family, and
/// that of IPv6 for IPv4, too.
pub fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |wide: SocketAddr, narrow: SocketAddr| {
        wide.ip().is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
    };
    one.port() == other.port() && (one == other || covers(one, other) || covers(other, one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portals_collide_where_the_kernel_cannot_listen_for_both() {
        use Transport::{Iscsi, Iser, NvmeRdma, NvmeTcp};
        for (one, other, expected) in [
            ((Iscsi, "10.0.0.1:3260"), (Iscsi, "10.0.0.1:3260"), true),
            ((Iscsi, "10.0.0.1:3260"), (Iscsi, "10.0.0.1:3261"), false),
            ((Iscsi, "10.0.0.1:3260"), (Iscsi, "0.0.0.0:3260"), true),
            ((Iscsi, "10.0.0.1:3260"), (Iscsi, "[::]:3260"), true),
            (
                (Iscsi, "[2001:db8::1]:3260"),
                (Iscsi, "0.0.0.0:3260"),
                false,
            ),
            ((Iscsi, "10.0.0.1:3260"), (Iser, "10.0.0.1:3260"), false),
            ((Iscsi, "0.0.0.0:3260"), (Iser, "10.0.0.1:3260"), true),
            ((Iscsi, "10.0.0.1:3260"), (NvmeTcp, "10.0.0.1:3260"), true),
            ((Iscsi, "10.0.0.1:3260"), (NvmeRdma, "10.0.0.1:3260"), false),
            ((Iser, "10.0.0.1:3260"), (NvmeRdma, "10.0.0.1:3260"), true),
            ((Iser, "[::]:3260"), (NvmeRdma, "10.0.0.1:3260"), false),
            (
                (NvmeTcp, "10.0.0.1:4420"),
                (NvmeRdma, "10.0.0.1:4420"),
                false,
            ),
        ] {
            let parsed = |(transport, at): (_, &str)| (transport, at.parse().unwrap());
            assert_eq!(
                collide(parsed(one), parsed(other)),
                expected,
                "{one:?} {other:?}"
            );
            assert_eq!(
                collide(parsed(other), parsed(one)),
                expected,
                "{other:?} {one:?}"
            );
        }
    }

    #[test]
    fn a_portal_of_the_file_has_the_same_id_each_time_and_no_other_has_it() {
        let at = "10.0.0.1:4420".parse().unwrap();
        let of = |transport| configured_id(Uuid::max(), transport, at);
        assert_eq!(of(Transport::NvmeTcp), of(Transport::NvmeTcp));
        assert_ne!(of(Transport::NvmeTcp), of(Transport::NvmeRdma));
        assert_ne!(
            of(Transport::NvmeTcp),
            configured_id(Uuid::nil(), Transport::NvmeTcp, at)
        );
    }
}
