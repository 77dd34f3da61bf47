//! The box as configured: what the intent is rendered and shown with.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_protocol::{Name, PortalAddr, Transport};
use ashlar_targetd_protocol::PortId;
use uuid::Uuid;

use crate::domain::change::Edit;
use crate::domain::intent::Intent;
use crate::domain::record::{BoxRecord, Record};
use crate::domain::secrets::Random;

/// Where a transport is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    /// Addresses the kernel listens on.
    pub portals: BTreeSet<PortalAddr>,
    /// Addresses told to clients; when empty, those that are listened on.
    pub advertised: Vec<PortalAddr>,
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

/// The box: its identity from the store, the rest from its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its id for life.
    pub id: Uuid,
    /// Its name.
    pub name: Name,
    /// Where iSCSI is served.
    pub iscsi: Listen,
    /// Where NVMe/TCP is served.
    pub nvme: Listen,
    /// nvmet port numbers of the addresses in `nvme`.
    pub nvme_ports: BTreeMap<PortId, PortalAddr>,
}

impl Site {
    /// The box of `record`, with what the configuration says.
    pub fn new(record: &BoxRecord, name: Name, iscsi: Listen, nvme: Listen) -> Site {
        let configured = record.nvme_ports.iter();
        let nvme_ports = configured
            .filter(|(portal, _)| nvme.portals.contains(portal))
            .map(|(portal, port)| (*port, *portal))
            .collect();
        Site {
            id: record.id,
            name,
            iscsi,
            nvme,
            nvme_ports,
        }
    }

    /// Transports with an address to listen on.
    pub fn transports(&self) -> BTreeSet<Transport> {
        let iscsi = (!self.iscsi.portals.is_empty()).then_some(Transport::Iscsi);
        let nvme = (!self.nvme_ports.is_empty()).then_some(Transport::NvmeTcp);
        iscsi.into_iter().chain(nvme).collect()
    }
}

/// The box record with an nvmet port number for every address; an edit when that is news.
///
/// Numbers of addresses that are no longer configured stay theirs: the kernel may still have
/// the port, and they may come back.
pub fn found(
    intent: &Intent,
    nvme: &BTreeSet<PortalAddr>,
    random: &mut dyn Random,
) -> (BoxRecord, Option<Edit>) {
    let mut record = intent.site().cloned().unwrap_or_else(|| {
        let mut bytes = [0; 16];
        random.fill(&mut bytes);
        let id = uuid::Builder::from_random_bytes(bytes).into_uuid();
        BoxRecord {
            id,
            nvme_ports: BTreeMap::new(),
            frozen: None,
        }
    });
    for portal in nvme {
        if record.nvme_ports.contains_key(portal) {
            continue;
        }
        let used: BTreeSet<u64> = record.nvme_ports.values().map(|p| u64::from(*p)).collect();
        let free = (1..)
            .find(|number| !used.contains(number))
            .unwrap_or_default();
        // Past 65,535 addresses there is no number; the configuration holds a handful.
        if let Ok(port) = PortId::try_from(free) {
            record.nvme_ports.insert(*portal, port);
        }
    }
    let news = intent.site() != Some(&record);
    let edit = news.then(|| Edit::put(Record::Box(record.clone())));
    (record, edit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secrets::OsRandom;

    fn portals(all: &[&str]) -> BTreeSet<PortalAddr> {
        all.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn an_address_keeps_its_port_number_when_others_come_and_go() {
        let mut intent = Intent::default();
        let both = portals(&["10.0.0.1:4420", "10.0.0.2:4420"]);
        let (first, edit) = found(&intent, &both, &mut OsRandom);
        intent.apply(&edit.unwrap()).unwrap();
        let kept = first.nvme_ports[&"10.0.0.2:4420".parse().unwrap()];

        let (second, edit) = found(
            &intent,
            &portals(&["10.0.0.0:4420", "10.0.0.2:4420"]),
            &mut OsRandom,
        );
        assert!(edit.is_some());
        assert_eq!(second.id, first.id);
        assert_eq!(second.nvme_ports[&"10.0.0.2:4420".parse().unwrap()], kept);
        let numbers: BTreeSet<_> = second.nvme_ports.values().collect();
        assert_eq!(numbers.len(), 3);
    }

    #[test]
    fn an_equal_configuration_changes_nothing() {
        let mut intent = Intent::default();
        let one = portals(&["[::]:4420"]);
        intent
            .apply(&found(&intent, &one, &mut OsRandom).1.unwrap())
            .unwrap();
        assert_eq!(found(&intent, &one, &mut OsRandom).1, None);
    }
}
