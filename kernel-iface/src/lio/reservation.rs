//! Persistent reservations that outlast a power cut (APTPL), as LIO writes them down for each device.
//!
//! ```text
//! PR_REG_START: 0                  one registration, a line for each thing known of it
//! initiator_fabric=iSCSI
//! initiator_node=iqn.…
//! sa_res_key=18446744073709551615
//! …
//! PR_REG_END: 0
//! ```
//!
//! The kernel reads none of it back. Each registration is told to it in one line, before the device is
//! exported; it keeps them until the initiator and the LUN they are of are there again.

/// Longest that the kernel takes for one.
const LONGEST: usize = 4095;

/// The registrations in what the kernel wrote down, each as it takes them back. What was cut short is
/// left out.
pub fn registrations(written: &str) -> Vec<String> {
    let blocks = written.split("PR_REG_START: ").skip(1);
    let whole = blocks.filter_map(|block| block.split_once("PR_REG_END: "));
    let told = whole.map(|(block, _)| {
        let lines = block.lines().skip(1).filter(|line| line.contains('='));
        lines.collect::<Vec<_>>().join(",")
    });
    told.filter(|line| !line.is_empty() && line.len() <= LONGEST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = "PR_REG_START: 0\ninitiator_fabric=iSCSI\n\
        initiator_node=iqn.2026-11.org.example:alpha\ninitiator_sid=0x00023d000000\nsa_res_key=171\n\
        res_holder=1\nres_type=05\nres_scope=00\nres_all_tg_pt=0\nmapped_lun=0\n\
        target_fabric=iSCSI\ntarget_node=iqn.2026-11.org.example:target\ntpgt=1\nport_rtpi=1\n\
        target_lun=0\nPR_REG_END: 0\nPR_REG_START: 1\ninitiator_fabric=iSCSI\n\
        initiator_node=iqn.2026-11.org.example:beta\nsa_res_key=205\nres_holder=0\n\
        res_all_tg_pt=0\nmapped_lun=0\ntarget_fabric=iSCSI\n\
        target_node=iqn.2026-11.org.example:target\ntpgt=1\nport_rtpi=1\ntarget_lun=0\n\
        PR_REG_END: 1\n";

    #[test]
    fn each_registration_is_one_line() {
        let told = registrations(WRITTEN);
        assert_eq!(told.len(), 2);
        assert!(
            told[0].starts_with(
                "initiator_fabric=iSCSI,initiator_node=iqn.2026-11.org.example:alpha,"
            )
        );
        assert!(told[0].contains(",sa_res_key=171,res_holder=1,res_type=05,"));
        assert!(told[1].ends_with(",tpgt=1,port_rtpi=1,target_lun=0"));
    }

    #[test]
    fn none_and_half_of_one_are_none() {
        assert_eq!(registrations("No Registrations or Reservations\n"), [""; 0]);
        assert_eq!(registrations(""), [""; 0]);
        let half = &WRITTEN[..WRITTEN.len() - 40];
        assert_eq!(registrations(half).len(), 1);
        assert_eq!(registrations("PR_REG_START: 0\nPR_REG_END: 0\n"), [""; 0]);
        let long = format!("PR_REG_START: 0\na={}\nPR_REG_END: 0\n", "b".repeat(5000));
        assert_eq!(registrations(&long), [""; 0]);
    }
}
