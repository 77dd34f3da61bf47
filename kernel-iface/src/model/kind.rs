//! Which kinds of objects there are, and which groups and attributes come with each.

use super::attribute::Store::{Bool, Number, Rule, Word};
use super::attribute::{Attribute, ro, rw, wo};

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
    BackstoreAlua,
    Iscsi,
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
                ("pr", Inert),
                ("statistics", BackstoreStatistics),
                ("wwn", BackstoreWwn),
            ],
            BackstoreAlua => &[("default_tg_pt_gp", Inert)],
            Iscsi => &[("discovery_auth", DiscoveryAuth)],
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
            Kind::Target => TARGET,
            Kind::Hba => HBA,
            Kind::Backstore => BACKSTORE,
            Kind::BackstoreAttrib => BACKSTORE_ATTRIB,
            Kind::BackstoreWwn => BACKSTORE_WWN,
            Kind::Iscsi => ISCSI,
            Kind::Auth => AUTH,
            Kind::DiscoveryAuth => DISCOVERY_AUTH,
            Kind::TargetParam => TARGET_PARAM,
            Kind::Tpg => TPG,
            Kind::TpgAttrib => TPG_ATTRIB,
            Kind::TpgParam => TPG_PARAM,
            Kind::Portal => PORTAL,
            Kind::Lun => LUN,
            Kind::Acl => ACL,
            Kind::AclAttrib => ACL_ATTRIB,
            Kind::MappedLun => MAPPED_LUN,
            Kind::Nvmet => NVMET,
            Kind::Subsystem => SUBSYSTEM,
            Kind::Namespace => NAMESPACE,
            Kind::Host => HOST,
            Kind::Port => PORT,
            Kind::AnaGroup => ANA_GROUP,
            _ => &[],
        }
    }

    /// One of its attributes.
    pub(super) fn attribute(self, file: &str) -> Option<&'static Attribute> {
        self.attributes().iter().find(|found| found.file == file)
    }
}

const TARGET: &[Attribute] = &[
    rw("dbroot", "", Rule),
    ro("version", "Target Engine Core ConfigFS Infrastructure v5.0"),
];
const HBA: &[Attribute] = &[
    ro("hba_info", "HBA Index: 1 plugin: iblock version: v5.0"),
    rw("hba_mode", "0", Rule),
];
const BACKSTORE: &[Attribute] = &[
    rw("alias", "", Rule),
    rw("alua_lu_gp", "", Rule),
    wo("control"),
    rw("enable", "0", Rule),
    ro("info", ""),
    rw("lba_map", "", Rule),
    rw("udev_path", "", Rule),
];
const BACKSTORE_ATTRIB: &[Attribute] = &[
    rw("alua_support", "1", Rule),
    rw("block_size", "0", Rule),
    rw("emulate_3pc", "1", Bool),
    rw("emulate_caw", "1", Bool),
    rw("emulate_dpo", "1", Rule),
    rw("emulate_fua_read", "1", Rule),
    rw("emulate_fua_write", "1", Bool),
    rw("emulate_model_alias", "0", Rule),
    rw("emulate_pr", "1", Bool),
    rw("emulate_rest_reord", "0", Rule),
    rw("emulate_rsoc", "1", Bool),
    rw("emulate_tas", "1", Rule),
    rw("emulate_tpu", "0", Rule),
    rw("emulate_tpws", "0", Rule),
    rw("emulate_ua_intlck_ctrl", "0", Rule),
    rw("emulate_write_cache", "0", Rule),
    rw("enforce_pr_isids", "1", Bool),
    rw("force_pr_aptpl", "0", Rule),
    ro("hw_block_size", "0"),
    ro("hw_max_sectors", "0"),
    ro("hw_pi_prot_type", "0"),
    ro("hw_queue_depth", "0"),
    rw("is_nonrot", "0", Bool),
    rw("max_unmap_block_desc_count", "0", Number(0, u32::MAX)),
    rw("max_unmap_lba_count", "0", Number(0, u32::MAX)),
    rw("max_write_same_len", "0", Number(0, u32::MAX)),
    rw("optimal_sectors", "0", Rule),
    rw("pgr_support", "1", Rule),
    rw("pi_prot_format", "0", Rule),
    rw("pi_prot_type", "0", Rule),
    rw("pi_prot_verify", "0", Rule),
    rw("queue_depth", "0", Rule),
    rw("submit_type", "0", Number(0, 2)),
    rw("unmap_granularity", "0", Number(0, u32::MAX)),
    rw("unmap_granularity_alignment", "0", Number(0, u32::MAX)),
    rw("unmap_zeroes_data", "0", Rule),
];
const BACKSTORE_WWN: &[Attribute] = &[
    rw("company_id", "0x001405", Rule),
    rw("product_id", "IBLOCK", Rule),
    rw("revision", "4.0", Rule),
    rw("vendor_id", "LIO-ORG", Rule),
    ro("vpd_assoc_logical_unit", ""),
    ro("vpd_assoc_scsi_target_device", ""),
    ro("vpd_assoc_target_port", ""),
    ro("vpd_protocol_identifier", ""),
    rw("vpd_unit_serial", "", Rule),
];
const ISCSI: &[Attribute] = &[
    rw("cpus_allowed_list", "0-1", Rule),
    ro("lio_version", "Datera Inc. iSCSI Target v4.1.0"),
];
/// CHAP of an ACL, of a portal group's anyone, or of discovery.
const AUTH: &[Attribute] = &[
    ro("authenticate_target", "0"),
    rw("password", "", Rule),
    rw("password_mutual", "", Rule),
    rw("userid", "", Rule),
    rw("userid_mutual", "", Rule),
];
/// CHAP of initiators that only ask which targets there are.
const DISCOVERY_AUTH: &[Attribute] = &[
    ro("authenticate_target", "0"),
    rw("enforce_discovery_auth", "0", Number(0, 1)),
    rw("password", "", Rule),
    rw("password_mutual", "", Rule),
    rw("userid", "", Rule),
    rw("userid_mutual", "", Rule),
];
const TARGET_PARAM: &[Attribute] = &[
    rw("cmd_completion_affinity", "-1", Rule),
    ro("default_submit_type", "1"),
    ro("direct_submit_supported", "1"),
];
const TPG: &[Attribute] = &[
    ro("dynamic_sessions", ""),
    rw("enable", "0", Rule),
    rw("rtpi", "0x0", Rule),
];
const TPG_ATTRIB: &[Attribute] = &[
    rw("authentication", "1", Rule),
    rw("cache_dynamic_acls", "0", Rule),
    rw("default_cmdsn_depth", "64", Number(1, 512)),
    rw("default_erl", "0", Number(0, 2)),
    rw("demo_mode_discovery", "1", Number(0, 1)),
    rw("demo_mode_write_protect", "1", Number(0, 1)),
    rw("fabric_prot_type", "0", Rule),
    rw("generate_node_acls", "0", Rule),
    rw("login_keys_workaround", "1", Number(0, 1)),
    rw("login_timeout", "15", Number(5, 30)),
    rw("prod_mode_write_protect", "0", Number(0, 1)),
    rw("t10_pi", "0", Number(0, 1)),
    rw("tpg_enabled_sendtargets", "1", Number(0, 1)),
];
const TPG_PARAM: &[Attribute] = &[
    rw("AuthMethod", "CHAP", Rule),
    rw("DataDigest", "CRC32C,None", Rule),
    rw("DataPDUInOrder", "Yes", Rule),
    rw("DataSequenceInOrder", "Yes", Rule),
    rw("DefaultTime2Retain", "20", Rule),
    rw("DefaultTime2Wait", "2", Rule),
    rw("ErrorRecoveryLevel", "0", Rule),
    rw("FirstBurstLength", "65536", Rule),
    rw("HeaderDigest", "CRC32C,None", Rule),
    rw("IFMarkInt", "Reject", Rule),
    rw("IFMarker", "No", Rule),
    rw("ImmediateData", "Yes", Rule),
    rw("InitialR2T", "Yes", Rule),
    rw("MaxBurstLength", "262144", Rule),
    rw("MaxConnections", "1", Rule),
    rw("MaxOutstandingR2T", "1", Rule),
    rw("MaxRecvDataSegmentLength", "8192", Rule),
    rw("MaxXmitDataSegmentLength", "262144", Rule),
    rw("OFMarkInt", "Reject", Rule),
    rw("OFMarker", "No", Rule),
    rw("TargetAlias", "LIO Target", Rule),
];
const PORTAL: &[Attribute] = &[rw("cxgbit", "0", Rule), rw("iser", "0", Rule)];
const LUN: &[Attribute] = &[
    rw("alua_tg_pt_gp", "", Rule),
    rw("alua_tg_pt_offline", "0", Rule),
    rw("alua_tg_pt_status", "0", Rule),
    rw("alua_tg_pt_write_md", "0", Rule),
];
const ACL: &[Attribute] = &[
    rw("cmdsn_depth", "64", Number(0, 512)),
    ro("info", ""),
    rw("tag", "", Rule),
];
const ACL_ATTRIB: &[Attribute] = &[
    rw("authentication", "-1", Rule),
    rw("dataout_timeout", "3", Number(2, 60)),
    rw("dataout_timeout_retries", "5", Number(1, 15)),
    rw("default_erl", "0", Number(0, 2)),
    rw("nopin_response_timeout", "30", Number(3, 60)),
    rw("nopin_timeout", "15", Rule),
    rw("random_datain_pdu_offsets", "0", Number(0, 1)),
    rw("random_datain_seq_offsets", "0", Number(0, 1)),
    rw("random_r2t_offsets", "0", Number(0, 1)),
];
const MAPPED_LUN: &[Attribute] = &[rw("write_protect", "", Rule)];

const NVMET: &[Attribute] = &[rw(
    "discovery_nqn",
    "nqn.2014-08.org.nvmexpress.discovery",
    Rule,
)];
const SUBSYSTEM: &[Attribute] = &[
    rw("attr_allow_any_host", "0", Rule),
    rw("attr_cntlid_max", "65519", Rule),
    rw("attr_cntlid_min", "1", Rule),
    rw("attr_firmware", "6.12", Rule),
    rw("attr_ieee_oui", "0x000000", Rule),
    rw("attr_model", "Linux", Rule),
    rw("attr_pi_enable", "0", Bool),
    rw("attr_qid_max", "128", Number(1, 128)),
    rw("attr_serial", "", Rule),
    rw("attr_version", "1.3", Rule),
];
const NAMESPACE: &[Attribute] = &[
    rw("ana_grpid", "1", Number(1, 128)),
    rw("buffered_io", "0", Rule),
    rw("device_nguid", "00000000-0000-0000-0000-000000000000", Rule),
    rw("device_path", "(null)", Rule),
    rw("device_uuid", "", Rule),
    rw("enable", "0", Rule),
    wo("revalidate_size"),
];
const HOST: &[Attribute] = &[
    rw("dhchap_ctrl_key", "", Rule),
    rw(
        "dhchap_dhgroup",
        "null",
        Word(&[
            "null",
            "ffdhe2048",
            "ffdhe3072",
            "ffdhe4096",
            "ffdhe6144",
            "ffdhe8192",
        ]),
    ),
    rw(
        "dhchap_hash",
        "hmac(sha256)",
        Word(&["hmac(sha256)", "hmac(sha384)", "hmac(sha512)"]),
    ),
    rw("dhchap_key", "", Rule),
];
const PORT: &[Attribute] = &[
    rw(
        "addr_adrfam",
        "",
        Word(&["ipv4", "ipv6", "ib", "fc", "loop"]),
    ),
    rw("addr_traddr", "", Rule),
    rw(
        "addr_treq",
        "not specified",
        Word(&["not specified", "required", "not required"]),
    ),
    rw("addr_trsvcid", "", Rule),
    rw("addr_trtype", "", Word(&["rdma", "fc", "tcp", "loop"])),
    rw("addr_tsas", "", Rule),
    rw("param_inline_data_size", "-1", Number(0, i32::MAX as u32)),
    rw("param_max_queue_size", "-1", Number(0, i32::MAX as u32)),
    rw("param_pi_enable", "0", Bool),
];
const ANA_GROUP: &[Attribute] = &[rw(
    "ana_state",
    "optimized",
    Word(&[
        "optimized",
        "non-optimized",
        "inaccessible",
        "persistent-loss",
        "change",
    ]),
)];
