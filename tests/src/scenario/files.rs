//! The scenario files of this project.

use std::path::Path;

use super::{Scenario, parse};

/// All scenarios, in order of name. Panics on a file that does not parse: it is our own.
pub fn all() -> Vec<Scenario> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut scenarios: Vec<_> = std::fs::read_dir(&dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|entry| entry.expect("the folder is readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "scenario"))
        .map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let text = std::fs::read_to_string(&path).expect("a scenario is text");
            parse(&name, &text).unwrap_or_else(|e| panic!("{e}"))
        })
        .collect();
    scenarios.sort_by(|a, b| a.name.cmp(&b.name));
    scenarios
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ashlar_protocol::{Operation, ROUTES};

    use crate::contract::route;
    use crate::scenario::Action;

    /// A step waits for its answer, so no scenario meets a job while it runs. That one can be
    /// cancelled is shown where jobs can be held up, by the tests of the agent's engine.
    /// What volumes hold is not CBOR; `tests/data.rs` holds these routes to the contract.
    /// A box whose certificates are configured has been through no factory:
    /// `agent/tests/management/identity.rs` has one that was.
    /// An updater of the firmware is no part of the model: `agent/tests/management/firmware.rs` and
    /// `tests/guest/tests/updates.rs` have one, the latter a real one.
    /// A support bundle is no CBOR either: `agent/ctl/tests/support.rs` opens some.
    /// Disks take the place of others, and are compared, where some can be made to fail: in
    /// `agent/src/engine/tests/redundancy.rs` and `agent/ctl/tests/redundancy.rs`.
    const NEVER_MET: [Operation; 18] = [
        Operation::PoolReplace,
        Operation::PoolScrub,
        Operation::FirmwareShow,
        Operation::FirmwareInstall,
        Operation::FirmwareActivate,
        Operation::IdentityRequest,
        Operation::IdentityInstall,
        Operation::IdentitySeal,
        Operation::IdentityClaim,
        Operation::IdentityReset,
        Operation::TrustShow,
        Operation::TrustUpdate,
        Operation::SystemRestart,
        Operation::SupportBundle,
        Operation::JobCancel,
        Operation::VolumeImport,
        Operation::VolumeExport,
        Operation::SnapshotExport,
    ];

    /// Each exchange of a scenario is held to the contract, so this is what makes the contract
    /// cover real requests and replies of every route.
    #[test]
    fn every_route_succeeds_in_some_scenario() {
        let mut seen = BTreeSet::new();
        for step in super::all().into_iter().flat_map(|s| s.steps) {
            if let Action::Request(request) = step.action
                && request.status < 300
            {
                let route = route(&request.method, &request.path).expect("it succeeds");
                seen.insert((route.method, route.path));
            }
        }
        let missing: Vec<_> = ROUTES
            .iter()
            .filter(|route| !seen.contains(&(route.method, route.path)))
            .filter(|route| !NEVER_MET.contains(&route.operation))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn every_file_parses() {
        let scenarios = super::all();
        assert!(scenarios.iter().any(|s| s.name == "volume-life"));
        assert!(scenarios.iter().all(|s| !s.steps.is_empty()));
    }
}
