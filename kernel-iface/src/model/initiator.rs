//! What an initiator gets to see: the rules of login, without the protocols.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ashlar_targetd_protocol::{ChapCredentials, DhchapKey, FcPort, Iqn, Nqn, NvmePort, Wwn};

use super::configfs::NodeId;
use super::kind::Kind;
use super::{ModelKernel, ModelState, lio, nvmet, socket};
use crate::device::DeviceNumber;

/// Why an initiator was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nothing listens there.
    #[error("connection refused")]
    Refused,
    /// There is no such target or subsystem at that address.
    #[error("no such target")]
    NoTarget,
    /// The initiator is not listed.
    #[error("not allowed")]
    NotAllowed,
    /// It did not prove who it is.
    #[error("authentication failed")]
    Authentication,
}

/// A SCSI disk as an initiator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenDisk {
    /// The device behind it.
    pub device: DeviceNumber,
    /// The serial number.
    pub serial: String,
    /// It refuses writes, unless they say that they read.
    pub write_protected: bool,
    /// Blocks that one WRITE SAME may write, even one that says it reads.
    pub write_same: String,
}

/// A namespace as a host sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenNamespace {
    /// The device behind it.
    pub device: DeviceNumber,
    /// The UUID.
    pub uuid: String,
    /// The NGUID.
    pub nguid: String,
}

impl ModelKernel {
    /// Logs an initiator in to a target, if that lets it; its session lasts until the portal
    /// group is disabled or its ACL goes. Answers the disks it sees, by LUN.
    pub fn iscsi_login(
        &self,
        portal: SocketAddr,
        target: &Iqn,
        initiator: &Iqn,
        chap: Option<&ChapCredentials>,
    ) -> Result<BTreeMap<u64, SeenDisk>, Denied> {
        self.lock()
            .log_in(Carrier::Tcp, portal, target, initiator, chap)
    }

    /// The same over RDMA.
    pub fn iser_login(
        &self,
        portal: SocketAddr,
        target: &Iqn,
        initiator: &Iqn,
        chap: Option<&ChapCredentials>,
    ) -> Result<BTreeMap<u64, SeenDisk>, Denied> {
        self.lock()
            .log_in(Carrier::Rdma, portal, target, initiator, chap)
    }

    /// What an initiator sees at a port of Fibre Channel, by LUN. There is nothing to log in with.
    pub fn fc_disks(&self, port: Wwn, initiator: Wwn) -> BTreeMap<u64, SeenDisk> {
        let state = self.lock();
        let mut acls = state.nodes.of_kind(Kind::FcAcl);
        let acl = acls.find(|(id, node)| {
            let target = state.nodes.node(state.nodes.ancestor(*id, 3));
            node.name == initiator.colons() && target.name == port.colons()
        });
        acl.map(|(acl, _)| state.disks(acl)).unwrap_or_default()
    }

    /// Whether a host could connect to a subsystem at an address. Answers the namespaces it
    /// would see, by id.
    pub fn nvme_connect(
        &self,
        address: SocketAddr,
        subsystem: &Nqn,
        host: &Nqn,
        key: Option<&DhchapKey>,
    ) -> Result<BTreeMap<u64, SeenNamespace>, Denied> {
        let reached = |open: NvmePort| match open {
            NvmePort::Tcp(open) => socket::reaches(open.socket(), address),
            NvmePort::Rdma(_) | NvmePort::Fc(_) => false,
        };
        self.lock().connect(reached, subsystem, host, key)
    }

    /// The same over Fibre Channel, at a port of the box.
    pub fn nvme_connect_fc(
        &self,
        port: FcPort,
        subsystem: &Nqn,
        host: &Nqn,
        key: Option<&DhchapKey>,
    ) -> Result<BTreeMap<u64, SeenNamespace>, Denied> {
        let reached = |open| open == NvmePort::Fc(port);
        self.lock().connect(reached, subsystem, host, key)
    }
}

/// What carries a login.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Tcp,
    Rdma,
}

impl ModelState {
    fn log_in(
        &mut self,
        over: Carrier,
        portal: SocketAddr,
        target: &Iqn,
        initiator: &Iqn,
        chap: Option<&ChapCredentials>,
    ) -> Result<BTreeMap<u64, SeenDisk>, Denied> {
        let acl = self.iscsi_acl(over, portal, target, initiator)?;
        self.check_chap(acl, chap)?;
        let session = initiator.as_str().to_owned();
        let notes = &mut self.nodes.node_mut(acl).notes;
        notes.insert("session", session);
        Ok(self.disks(acl))
    }

    fn iscsi_acl(
        &self,
        over: Carrier,
        portal: SocketAddr,
        target: &Iqn,
        initiator: &Iqn,
    ) -> Result<NodeId, Denied> {
        let listens = match over {
            Carrier::Tcp => self.sockets.iscsi_listens(portal),
            Carrier::Rdma => self.sockets.iser_listens(portal),
        };
        if !listens {
            return Err(Denied::Refused);
        }
        let mut targets = self.nodes.of_kind(Kind::IscsiTarget);
        let (_, target) = targets
            .find(|(_, node)| node.name == target.as_str())
            .ok_or(Denied::NoTarget)?;
        let tpg = target
            .children
            .values()
            .find(|tpg| self.listens(**tpg, over, portal))
            .ok_or(Denied::NoTarget)?;
        let acls = self.nodes.node(self.nodes.group(*tpg, "acls"));
        let acl = acls.children.get(initiator.as_str());
        acl.copied().ok_or(Denied::NotAllowed)
    }

    /// Whether an enabled portal group is reached at an address.
    fn listens(&self, tpg: NodeId, over: Carrier, address: SocketAddr) -> bool {
        let node = self.nodes.node(tpg);
        if node.kind != Kind::Tpg || self.nodes.value(tpg, "enable") != "1" {
            return false;
        }
        let portals = self.nodes.node(self.nodes.group(tpg, "np"));
        portals.children.iter().any(|(name, portal)| {
            let rdma = || self.nodes.value(*portal, "iser") == "1";
            name.parse().is_ok_and(|open| match over {
                Carrier::Tcp => socket::reaches(open, address),
                Carrier::Rdma => rdma() && socket::reaches_by_rdma(open, address),
            })
        })
    }

    fn check_chap(&self, acl: NodeId, chap: Option<&ChapCredentials>) -> Result<(), Denied> {
        let tpg = self.nodes.ancestor(acl, 2);
        let group_demands = self
            .nodes
            .value(self.nodes.group(tpg, "attrib"), "authentication");
        let acl_demands = self
            .nodes
            .value(self.nodes.group(acl, "attrib"), "authentication");
        let demanded = match acl_demands {
            "-1" => group_demands == "1",
            own => own == "1",
        };
        if !demanded {
            return Ok(());
        }
        let auth = self.nodes.group(acl, "auth");
        let name = self.nodes.value(auth, "userid");
        let secret = self.nodes.value(auth, "password");
        let proven = chap.is_some_and(|chap| {
            lio::is_set(name)
                && lio::is_set(secret)
                && chap.name.as_str() == name
                && chap.secret.expose() == secret
        });
        proven.then_some(()).ok_or(Denied::Authentication)
    }

    fn disks(&self, acl: NodeId) -> BTreeMap<u64, SeenDisk> {
        let mapped = self.nodes.node(acl).children.iter();
        mapped
            .filter_map(|(name, mapped)| {
                let lun = name.strip_prefix("lun_")?.parse().ok()?;
                Some((lun, self.disk(*mapped)?))
            })
            .collect()
    }

    fn disk(&self, mapped: NodeId) -> Option<SeenDisk> {
        let node = self.nodes.node(mapped);
        let access = node.notes.get("access")?;
        let lun = self.nodes.node(*node.links.values().next()?);
        let backstore = *lun.links.values().next()?;
        let wwn = self.nodes.group(backstore, "wwn");
        let attrib = self.nodes.group(backstore, "attrib");
        Some(SeenDisk {
            device: self.nodes.node(backstore).device?,
            serial: self.nodes.value(wwn, "vpd_unit_serial").to_owned(),
            write_protected: access == "1",
            write_same: self.nodes.value(attrib, "max_write_same_len").to_owned(),
        })
    }

    fn connect(
        &self,
        reached: impl Fn(NvmePort) -> bool,
        subsystem: &Nqn,
        host: &Nqn,
        key: Option<&DhchapKey>,
    ) -> Result<BTreeMap<u64, SeenNamespace>, Denied> {
        let subsystem = self.nvme_subsystem(reached, subsystem)?;
        self.check_host(subsystem, host, key)?;
        Ok(self.namespaces(subsystem))
    }

    fn nvme_subsystem(
        &self,
        reached: impl Fn(NvmePort) -> bool,
        subsystem: &Nqn,
    ) -> Result<NodeId, Denied> {
        let port = self.nodes.of_kind(Kind::Port).find(|(id, node)| {
            let open = nvmet::address(self, *id);
            node.notes.contains_key("enabled") && open.is_some_and(&reached)
        });
        let (port, _) = port.ok_or(Denied::Refused)?;
        let linked = self.nodes.node(self.nodes.group(port, "subsystems"));
        let mut subsystems = linked.links.values().copied();
        subsystems
            .find(|id| self.nodes.node(*id).name == subsystem.as_str())
            .ok_or(Denied::NoTarget)
    }

    fn check_host(
        &self,
        subsystem: NodeId,
        host: &Nqn,
        key: Option<&DhchapKey>,
    ) -> Result<(), Denied> {
        if self.nodes.value(subsystem, "attr_allow_any_host") == "1" {
            return Ok(());
        }
        let allowed = self
            .nodes
            .node(self.nodes.group(subsystem, "allowed_hosts"));
        let mut hosts = allowed.links.values().copied();
        let host = hosts
            .find(|id| self.nodes.node(*id).name == host.as_str())
            .ok_or(Denied::NotAllowed)?;
        let demanded = self.nodes.value(host, "dhchap_key");
        let proven = demanded.is_empty() || key.is_some_and(|key| key.expose() == demanded);
        proven.then_some(()).ok_or(Denied::Authentication)
    }

    fn namespaces(&self, subsystem: NodeId) -> BTreeMap<u64, SeenNamespace> {
        let namespaces = self.nodes.node(self.nodes.group(subsystem, "namespaces"));
        let seen = namespaces.children.iter().filter_map(|(nsid, id)| {
            let namespace = SeenNamespace {
                device: self.nodes.node(*id).device?,
                uuid: self.nodes.value(*id, "device_uuid").to_owned(),
                nguid: self.nodes.value(*id, "device_nguid").to_owned(),
            };
            Some((nsid.parse().ok()?, namespace))
        });
        seen.collect()
    }
}
