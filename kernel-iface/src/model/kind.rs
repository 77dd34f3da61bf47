//! Which kinds of objects there are, and which groups and attributes come with each.

use super::attribute::Attribute;
use super::lio::attributes as lio;
use super::nvmet::attributes as nvmet;

/// What a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A group that this model gives neither attributes nor children.
    Inert,

    Target,
    Core,
    Hba,
    Backstore,
    BackstoreAttrib,
    BackstoreWwn,
    BackstorePr,
    BackstoreAlua,
    Iscsi,
    Fc,
    FcTarget,
    FcTpg,
    Qla2xxx,
    Qla2xxxTarget,
    Qla2xxxTpg,
    FcAcls,
    FcAcl,
    Auth,
    DiscoveryAuth,
    IscsiTarget,
    TargetParam,
    Tpg,
    Portals,
    Portal,
    Luns,
    Lun,
    Acls,
    Acl,
    AclAttrib,
    MappedLun,
    TpgAttrib,
    TpgParam,
    BackstoreStatistics,
    TargetStatistics,
    LunStatistics,
    AclStatistics,
    MappedLunStatistics,

    Nvmet,
    Subsystems,
    Subsystem,
    Namespaces,
    Namespace,
    AllowedHosts,
    Hosts,
    Host,
    Ports,
    Port,
    PortSubsystems,
    AnaGroups,
    AnaGroup,
}

impl Kind {
    /// Whether the rules of nvmet hold for it, rather than those of LIO.
    pub(super) fn is_nvmet(self) -> bool {
        self >= Kind::Nvmet
    }

    /// The groups the kernel makes along with it.
    pub(super) fn groups(self) -> &'static [(&'static str, Kind)] {
        use Kind::*;
        match self {
            Target => &[("core", Core)],
            Core => &[("alua", Inert)],
            Backstore => &[
                ("action", Inert),
                ("alua", BackstoreAlua),
                ("attrib", BackstoreAttrib),
                ("pr", BackstorePr),
                ("statistics", BackstoreStatistics),
                ("wwn", BackstoreWwn),
            ],
            BackstoreAlua => &[("default_tg_pt_gp", Inert)],
            Iscsi => &[("discovery_auth", DiscoveryAuth)],
            Fc | Qla2xxx => &[("discovery_auth", Inert)],
            FcTarget | Qla2xxxTarget => &[("fabric_statistics", Inert), ("param", Inert)],
            FcTpg | Qla2xxxTpg => &[
                ("acls", FcAcls),
                ("attrib", Inert),
                ("auth", Inert),
                ("lun", Luns),
                ("np", Inert),
                ("param", Inert),
            ],
            FcAcl => &[
                ("attrib", Inert),
                ("auth", Inert),
                ("fabric_statistics", Inert),
                ("param", Inert),
            ],
            IscsiTarget => &[
                ("fabric_statistics", TargetStatistics),
                ("param", TargetParam),
            ],
            Tpg => &[
                ("acls", Acls),
                ("attrib", TpgAttrib),
                ("auth", Auth),
                ("lun", Luns),
                ("np", Portals),
                ("param", TpgParam),
            ],
            Lun => &[("statistics", LunStatistics)],
            MappedLun => &[("statistics", MappedLunStatistics)],
            Acl => &[
                ("attrib", AclAttrib),
                ("auth", Auth),
                ("fabric_statistics", AclStatistics),
                ("param", Inert),
            ],
            BackstoreStatistics => &[
                ("scsi_dev", Inert),
                ("scsi_lu", Inert),
                ("scsi_tgt_dev", Inert),
            ],
            TargetStatistics => &[
                ("iscsi_instance", Inert),
                ("iscsi_login_stats", Inert),
                ("iscsi_logout_stats", Inert),
                ("iscsi_sess_err", Inert),
                ("iscsi_tgt_attr", Inert),
            ],
            LunStatistics => &[
                ("scsi_port", Inert),
                ("scsi_tgt_port", Inert),
                ("scsi_transport", Inert),
            ],
            AclStatistics => &[("iscsi_sess_stats", Inert)],
            MappedLunStatistics => &[("scsi_att_intr_port", Inert), ("scsi_auth_intr", Inert)],
            Nvmet => &[
                ("hosts", Hosts),
                ("ports", Ports),
                ("subsystems", Subsystems),
            ],
            Subsystem => &[
                ("allowed_hosts", AllowedHosts),
                ("namespaces", Namespaces),
                ("passthru", Inert),
            ],
            Port => &[
                ("ana_groups", AnaGroups),
                ("referrals", Inert),
                ("subsystems", PortSubsystems),
            ],
            AnaGroups => &[("1", AnaGroup)],
            _ => &[],
        }
    }

    /// Its attributes.
    pub(super) fn attributes(self) -> &'static [Attribute] {
        match self {
            Kind::Target => lio::TARGET,
            Kind::Hba => lio::HBA,
            Kind::Backstore => lio::BACKSTORE,
            Kind::BackstoreAttrib => lio::BACKSTORE_ATTRIB,
            Kind::BackstoreWwn => lio::BACKSTORE_WWN,
            Kind::BackstorePr => lio::BACKSTORE_PR,
            Kind::Iscsi => lio::ISCSI,
            Kind::Fc => lio::FC,
            Kind::FcTpg => lio::FC_TPG,
            Kind::Qla2xxxTpg => lio::QLA2XXX_TPG,
            Kind::FcAcl => lio::FC_ACL,
            Kind::Auth => lio::AUTH,
            Kind::DiscoveryAuth => lio::DISCOVERY_AUTH,
            Kind::TargetParam => lio::TARGET_PARAM,
            Kind::Tpg => lio::TPG,
            Kind::TpgAttrib => lio::TPG_ATTRIB,
            Kind::TpgParam => lio::TPG_PARAM,
            Kind::Portal => lio::PORTAL,
            Kind::Lun => lio::LUN,
            Kind::Acl => lio::ACL,
            Kind::AclAttrib => lio::ACL_ATTRIB,
            Kind::MappedLun => lio::MAPPED_LUN,
            Kind::Nvmet => nvmet::NVMET,
            Kind::Subsystem => nvmet::SUBSYSTEM,
            Kind::Namespace => nvmet::NAMESPACE,
            Kind::Host => nvmet::HOST,
            Kind::Port => nvmet::PORT,
            Kind::AnaGroup => nvmet::ANA_GROUP,
            _ => &[],
        }
    }

    /// One of its attributes.
    pub(super) fn attribute(self, file: &str) -> Option<&'static Attribute> {
        self.attributes().iter().find(|found| found.file == file)
    }
}
