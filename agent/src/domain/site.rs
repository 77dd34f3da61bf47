//! The box as configured: what the intent is rendered and shown with.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_protocol::{FcPort, Name, PortalAddr, Transport, Wwn};
use ashlar_targetd_protocol::{NvmeFabric, NvmePort, PortId};
use uuid::Uuid;

use crate::domain::change::Edit;
use crate::domain::intent::Intent;
use crate::domain::portals::served;
use crate::domain::record::{BoxRecord, Record};
use crate::domain::secrets::Random;

/// Where a transport is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    /// Addresses the kernel listens on.
    pub portals: BTreeSet<PortalAddr>,
    /// Addresses told to clients; when empty, those that are listened on.
    pub advertised: Vec<PortalAddr>,
    /// Whether these are the usual ones, which nobody has given.
    pub usual: bool,
}

impl Listen {
    /// Addresses told to clients.
    pub fn told(&self) -> Vec<PortalAddr> {
        match self.advertised.is_empty() {
            true => self.portals.iter().copied().collect(),
            false => self.advertised.clone(),
        }
    }
}

/// The box: its identity from the store, the rest from its configuration; and, from
/// [`Site::as_of`] on, from requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its id for life.
    pub id: Uuid,
    /// Its name.
    pub name: Name,
    /// Where iSCSI is served.
    pub iscsi: Listen,
    /// Where iSER is served.
    pub iser: Listen,
    /// Where Fibre Channel is served.
    pub fc: BTreeSet<Wwn>,
    /// Where NVMe/TCP is served.
    pub nvme: Listen,
    /// Where NVMe/RDMA is served.
    pub nvme_rdma: Listen,
    /// Where NVMe/FC is served.
    pub nvme_fc: BTreeSet<FcPort>,
    /// The nvmet ports of the addresses in `nvme`, `nvme_rdma` and `nvme_fc`.
    pub nvme_ports: BTreeMap<PortId, NvmePort>,
    /// Transports of which a portal was ever asked for. Where none is left, that is as it was asked.
    pub managed: BTreeSet<Transport>,
    /// Transports whose last portal was taken away by force.
    pub shut: BTreeSet<Transport>,
}

static NO_ADDRESSES: Listen = Listen {
    portals: BTreeSet::new(),
    advertised: Vec::new(),
    usual: false,
};

/// Where each transport is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listens {
    /// iSCSI; no portals, no iSCSI, and likewise below.
    pub iscsi: Listen,
    /// iSER.
    pub iser: Listen,
    /// Fibre Channel, at ports of the box's own.
    pub fc: BTreeSet<Wwn>,
    /// NVMe/TCP.
    pub nvme: Listen,
    /// NVMe/RDMA.
    pub nvme_rdma: Listen,
    /// NVMe/FC, at ports of the box's own that nvmet can use.
    pub nvme_fc: BTreeSet<FcPort>,
}

impl Site {
    /// The box of `record`, with what the configuration says.
    pub fn new(record: &BoxRecord, name: Name, listens: Listens) -> Site {
        let Listens {
            iscsi,
            iser,
            fc,
            nvme,
            nvme_rdma,
            nvme_fc,
        } = listens;
        let tcp = record.nvme_ports.iter();
        let tcp = tcp
            .filter(|(portal, _)| nvme.portals.contains(portal))
            .map(|(portal, port)| (*port, NvmePort::Tcp(*portal)));
        let rdma = record.rdma_ports.iter();
        let rdma = rdma
            .filter(|(portal, _)| nvme_rdma.portals.contains(portal))
            .map(|(portal, port)| (*port, NvmePort::Rdma(*portal)));
        let nvme_over_fc = record.fc_ports.iter();
        let nvme_over_fc = nvme_over_fc
            .filter(|(at, _)| nvme_fc.contains(at))
            .map(|(at, port)| (*port, NvmePort::Fc(*at)));
        Site {
            id: record.id,
            name,
            nvme_ports: tcp.chain(rdma).chain(nvme_over_fc).collect(),
            iscsi,
            iser,
            fc,
            nvme,
            nvme_rdma,
            nvme_fc,
            managed: record.managed.clone(),
            shut: record.shut.clone(),
        }
    }

    /// The box as it is with the portals that were asked for.
    pub fn as_of(&self, intent: &Intent) -> Site {
        let Some(record) = intent.site() else {
            return self.clone();
        };
        let served = |transport| served(self.listen(transport), intent, record, transport);
        let listens = Listens {
            iscsi: served(Transport::Iscsi),
            iser: served(Transport::Iser),
            fc: self.fc.clone(),
            nvme: served(Transport::NvmeTcp),
            nvme_rdma: served(Transport::NvmeRdma),
            nvme_fc: self.nvme_fc.clone(),
        };
        Site::new(record, self.name.clone(), listens)
    }

    /// The addresses where a transport is served. Fibre Channel has none.
    pub fn listen(&self, transport: Transport) -> &Listen {
        match transport {
            Transport::Iscsi => &self.iscsi,
            Transport::Iser => &self.iser,
            Transport::NvmeTcp => &self.nvme,
            Transport::NvmeRdma => &self.nvme_rdma,
            Transport::Fc | Transport::NvmeFc => &NO_ADDRESSES,
        }
    }

    /// Whether a transport is not served because that was asked for, by force. That the configuration
    /// names no address any more cuts nobody off.
    pub fn is_shut(&self, transport: Transport) -> bool {
        self.shut.contains(&transport) && !self.serves(transport)
    }

    /// The nvmet ports of one fabric.
    pub fn ports_of(&self, fabric: NvmeFabric) -> impl Iterator<Item = (PortId, NvmePort)> {
        let ports = self.nvme_ports.iter();
        ports
            .filter(move |(_, port)| port.fabric() == fabric)
            .map(|(id, port)| (*id, *port))
    }

    /// Whether a transport has an address to listen on.
    pub fn serves(&self, transport: Transport) -> bool {
        match transport {
            Transport::Iscsi => !self.iscsi.portals.is_empty(),
            Transport::Iser => !self.iser.portals.is_empty(),
            Transport::Fc => !self.fc.is_empty(),
            Transport::NvmeTcp => self.ports_of(NvmeFabric::Tcp).next().is_some(),
            Transport::NvmeRdma => self.ports_of(NvmeFabric::Rdma).next().is_some(),
            Transport::NvmeFc => self.ports_of(NvmeFabric::Fc).next().is_some(),
        }
    }

    /// Transports with an address to listen on.
    pub fn transports(&self) -> BTreeSet<Transport> {
        let all = Transport::ALL.into_iter();
        all.filter(|transport| self.serves(*transport)).collect()
    }
}

/// The box record with an nvmet port number for every address, and the version of the firmware
/// that runs; an edit when that is news.
///
/// Numbers of addresses that are no longer configured stay theirs: the kernel may still have
/// the port, and they may come back.
pub fn found(
    intent: &Intent,
    listens: &Listens,
    version: &str,
    random: &mut dyn Random,
) -> (BoxRecord, Option<Edit>) {
    let mut record = intent.site().cloned().unwrap_or_else(|| {
        let mut bytes = [0; 16];
        random.fill(&mut bytes);
        let id = uuid::Builder::from_random_bytes(bytes).into_uuid();
        BoxRecord {
            id,
            nvme_ports: BTreeMap::new(),
            rdma_ports: BTreeMap::new(),
            fc_ports: BTreeMap::new(),
            frozen: None,
            firmware: None,
            managed: BTreeSet::new(),
            shut: BTreeSet::new(),
        }
    });
    record.firmware = Some(version.to_owned());
    for (transport, listen) in [
        (Transport::NvmeTcp, &listens.nvme),
        (Transport::NvmeRdma, &listens.nvme_rdma),
    ] {
        for portal in &listen.portals {
            // Past 65,535 addresses there is no number; the configuration holds a handful.
            give_port(&mut record, transport, *portal);
        }
    }
    for port in &listens.nvme_fc {
        if let (false, Some(free)) = (record.fc_ports.contains_key(port), free_port(&record)) {
            record.fc_ports.insert(*port, free);
        }
    }
    let news = intent.site() != Some(&record);
    let edit = news.then(|| Edit::put(Record::Box(record.clone())));
    (record, edit)
}

/// Sees to an nvmet port number for an address, if its transport has such. Whether that is so.
pub fn give_port(record: &mut BoxRecord, transport: Transport, portal: PortalAddr) -> bool {
    let free = free_port(record);
    let ports = match transport {
        Transport::NvmeTcp => &mut record.nvme_ports,
        Transport::NvmeRdma => &mut record.rdma_ports,
        Transport::Iscsi | Transport::Iser | Transport::Fc | Transport::NvmeFc => return true,
    };
    if ports.contains_key(&portal) {
        return true;
    }
    match free {
        Some(port) => {
            ports.insert(portal, port);
            true
        }
        None => false,
    }
}

/// Most numbers of nvmet's that are given. Those of addresses that have gone stay theirs.
const MAX_NUMBERS: u64 = 1024;

/// A number that no port of nvmet's has, if there is one.
fn free_port(record: &BoxRecord) -> Option<PortId> {
    let given = record.nvme_ports.values().chain(record.rdma_ports.values());
    let given = given.chain(record.fc_ports.values());
    let used: BTreeSet<u64> = given.map(|port| u64::from(*port)).collect();
    // All are in one record, which has a limit.
    let free = (1..=MAX_NUMBERS).find(|number| !used.contains(number));
    free.and_then(|free| PortId::try_from(free).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::events;
    use crate::domain::secrets::OsRandom;

    /// Portals of both IP fabrics, and one port of Fibre Channel.
    fn listens(tcp: &[&str], rdma: &[&str]) -> Listens {
        let listen = |all: &[&str]| Listen {
            portals: all.iter().map(|text| text.parse().unwrap()).collect(),
            ..Listen::default()
        };
        let fc = "nn-0x10000025b5aa0c1f:pn-0x20000025b5aa0c1f";
        Listens {
            nvme: listen(tcp),
            nvme_rdma: listen(rdma),
            nvme_fc: [fc.parse().unwrap()].into(),
            ..Listens::default()
        }
    }

    #[test]
    fn an_address_keeps_its_port_number_when_others_come_and_go() {
        let mut intent = Intent::default();
        let both = ["10.0.0.1:4420", "10.0.0.2:4420"];
        let both = listens(&both, &both);
        let (first, edit) = found(&intent, &both, "1.0.0", &mut OsRandom);
        intent.apply(&edit.unwrap()).unwrap();
        let kept = first.nvme_ports[&"10.0.0.2:4420".parse().unwrap()];

        let (second, edit) = found(
            &intent,
            &listens(&["10.0.0.0:4420", "10.0.0.2:4420"], &["10.0.0.3:4420"]),
            "1.0.0",
            &mut OsRandom,
        );
        assert!(edit.is_some());
        assert_eq!(second.id, first.id);
        assert_eq!(second.nvme_ports[&"10.0.0.2:4420".parse().unwrap()], kept);
        assert_eq!(second.fc_ports, first.fc_ports);
        let numbers = second.nvme_ports.values().chain(second.rdma_ports.values());
        let numbers = numbers.chain(second.fc_ports.values());
        assert_eq!(numbers.collect::<BTreeSet<_>>().len(), 3 + 3 + 1);
    }

    #[test]
    fn an_equal_configuration_changes_nothing() {
        let mut intent = Intent::default();
        let one = listens(&["[::]:4420"], &["[::]:4420"]);
        intent
            .apply(&found(&intent, &one, "1.0.0", &mut OsRandom).1.unwrap())
            .unwrap();
        assert_eq!(found(&intent, &one, "1.0.0", &mut OsRandom).1, None);
        // Another firmware is news, also to those who watch: they are not told of the first.
        let edit = found(&intent, &one, "1.1.0", &mut OsRandom).1.unwrap();
        let told = events(&intent, &[edit], 0);
        let told: Vec<_> = told
            .iter()
            .map(|event| (event.kind.as_str(), &event.detail))
            .collect();
        let detail = Some("from 1.0.0 to 1.1.0".to_owned());
        assert_eq!(told, [("system.firmware-changed", &detail)]);
        assert_eq!(
            events(
                &Intent::default(),
                &[found(&Intent::default(), &one, "1.0.0", &mut OsRandom)
                    .1
                    .unwrap()],
                0
            ),
            []
        );
    }
}
