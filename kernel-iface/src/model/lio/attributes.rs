//! The attributes of each kind of object below `target/`, as they are when it is made.

use crate::model::attribute::Store::{Bool, Number, Rule};
use crate::model::attribute::{Attribute, ro, rw, wo};

pub(in crate::model) const TARGET: &[Attribute] = &[
    rw("dbroot", "", Rule),
    ro("version", "Target Engine Core ConfigFS Infrastructure v5.0"),
];
pub(in crate::model) const HBA: &[Attribute] = &[
    ro("hba_info", "HBA Index: 1 plugin: iblock version: v5.0"),
    rw("hba_mode", "0", Rule),
];
pub(in crate::model) const BACKSTORE: &[Attribute] = &[
    rw("alias", "", Rule),
    rw("alua_lu_gp", "", Rule),
    wo("control"),
    rw("enable", "0", Rule),
    ro("info", ""),
    rw("lba_map", "", Rule),
    rw("udev_path", "", Rule),
];
pub(in crate::model) const BACKSTORE_ATTRIB: &[Attribute] = &[
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
pub(in crate::model) const BACKSTORE_WWN: &[Attribute] = &[
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
/// Of many, what is told of reservations.
pub(in crate::model) const BACKSTORE_PR: &[Attribute] = &[rw("res_aptpl_metadata", "", Rule)];
pub(in crate::model) const ISCSI: &[Attribute] = &[
    rw("cpus_allowed_list", "0-1", Rule),
    ro("lio_version", "Datera Inc. iSCSI Target v4.1.0"),
];
pub(in crate::model) const FC: &[Attribute] = &[ro("version", "TCM FC v0.4")];
pub(in crate::model) const FC_TPG: &[Attribute] = &[rw("rtpi", "0x0", Rule)];
pub(in crate::model) const QLA2XXX_TPG: &[Attribute] =
    &[rw("enable", "0", Rule), rw("rtpi", "0x0", Rule)];
pub(in crate::model) const FC_ACL: &[Attribute] = &[
    ro("node_name", ""),
    ro("port_name", ""),
    rw("tag", "", Rule),
];
/// CHAP of an ACL, of a portal group's anyone, or of discovery.
pub(in crate::model) const AUTH: &[Attribute] = &[
    ro("authenticate_target", "0"),
    rw("password", "", Rule),
    rw("password_mutual", "", Rule),
    rw("userid", "", Rule),
    rw("userid_mutual", "", Rule),
];
/// CHAP of initiators that only ask which targets there are.
pub(in crate::model) const DISCOVERY_AUTH: &[Attribute] = &[
    ro("authenticate_target", "0"),
    rw("enforce_discovery_auth", "0", Number(0, 1)),
    rw("password", "", Rule),
    rw("password_mutual", "", Rule),
    rw("userid", "", Rule),
    rw("userid_mutual", "", Rule),
];
pub(in crate::model) const TARGET_PARAM: &[Attribute] = &[
    rw("cmd_completion_affinity", "-1", Rule),
    ro("default_submit_type", "1"),
    ro("direct_submit_supported", "1"),
];
pub(in crate::model) const TPG: &[Attribute] = &[
    ro("dynamic_sessions", ""),
    rw("enable", "0", Rule),
    rw("rtpi", "0x0", Rule),
];
pub(in crate::model) const TPG_ATTRIB: &[Attribute] = &[
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
pub(in crate::model) const TPG_PARAM: &[Attribute] = &[
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
pub(in crate::model) const PORTAL: &[Attribute] = &[rw("cxgbit", "0", Rule), rw("iser", "0", Rule)];
pub(in crate::model) const LUN: &[Attribute] = &[
    rw("alua_tg_pt_gp", "", Rule),
    rw("alua_tg_pt_offline", "0", Rule),
    rw("alua_tg_pt_status", "0", Rule),
    rw("alua_tg_pt_write_md", "0", Rule),
];
pub(in crate::model) const ACL: &[Attribute] = &[
    rw("cmdsn_depth", "64", Number(0, 512)),
    ro("info", ""),
    rw("tag", "", Rule),
];
pub(in crate::model) const ACL_ATTRIB: &[Attribute] = &[
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
pub(in crate::model) const MAPPED_LUN: &[Attribute] = &[rw("write_protect", "", Rule)];
