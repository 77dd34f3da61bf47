//! The attributes of each kind of object below `nvmet/`, as they are when it is made.

use crate::model::attribute::Store::{Bool, Number, Rule, Word};
use crate::model::attribute::{Attribute, rw, wo};

pub(in crate::model) const NVMET: &[Attribute] = &[rw(
    "discovery_nqn",
    "nqn.2014-08.org.nvmexpress.discovery",
    Rule,
)];
pub(in crate::model) const SUBSYSTEM: &[Attribute] = &[
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
pub(in crate::model) const NAMESPACE: &[Attribute] = &[
    rw("ana_grpid", "1", Number(1, 128)),
    rw("buffered_io", "0", Rule),
    rw("device_nguid", "00000000-0000-0000-0000-000000000000", Rule),
    rw("device_path", "(null)", Rule),
    rw("device_uuid", "", Rule),
    rw("enable", "0", Rule),
    wo("revalidate_size"),
];
pub(in crate::model) const HOST: &[Attribute] = &[
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
pub(in crate::model) const PORT: &[Attribute] = &[
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
pub(in crate::model) const ANA_GROUP: &[Attribute] = &[rw(
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
