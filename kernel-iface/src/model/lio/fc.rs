//! Targets on Fibre Channel.

use ashlar_targetd_protocol::Wwn;

use crate::lio::FcFabric;
use crate::model::ModelState;
use crate::model::configfs::NodeId;
use crate::model::kind::Kind;
use crate::tree::Errno;

/// What a new directory would be. `tcm_fc` makes targets of ports that are not there, and takes
/// them when they come; `tcm_qla2xxx` looks for the card.
pub(in crate::model) fn make(
    state: &ModelState,
    parent: NodeId,
    name: &str,
) -> Result<Kind, Errno> {
    match state.nodes.node(parent).kind {
        Kind::Fc => port(name).map(|_| Kind::FcTarget),
        Kind::Qla2xxx => {
            let here = state.fc_hosts.get(&port(name)?) == Some(&FcFabric::Qla2xxx);
            here.then_some(Kind::Qla2xxxTarget).ok_or(Errno::ENODEV)
        }
        Kind::FcTarget if name == "tpgt_1" => Ok(Kind::FcTpg),
        Kind::Qla2xxxTarget if name == "tpgt_1" => Ok(Kind::Qla2xxxTpg),
        Kind::FcAcls => port(name).map(|_| Kind::FcAcl),
        _ => Err(Errno::EINVAL),
    }
}

/// Names are lower-case, with colons.
fn port(name: &str) -> Result<Wwn, Errno> {
    let port: Wwn = name.parse().map_err(|_| Errno::EINVAL)?;
    let exact = port.colons() == name;
    exact.then_some(port).ok_or(Errno::EINVAL)
}
