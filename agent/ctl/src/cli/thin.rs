//! What volumes and snapshots take of their pool, as each noun's verbs show it.

use ashlar_protocol::{Extent, ThinDevice, Usage};

use super::output::{Facts, or_dash, word};
use ashlar_ctl::size::human;

impl Facts for Usage {
    const COLUMNS: &'static [&'static str] = &["size", "used", "shared"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("size", human(self.size)),
            ("used", human(self.used)),
            ("shared", or_dash(self.shared.map(human))),
        ]
    }
}

impl Facts for Extent {
    const COLUMNS: &'static [&'static str] = &["offset", "length", "kind"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        // In bytes, for scripts that read or write there.
        vec![
            ("offset", self.offset.to_string()),
            ("length", self.length.to_string()),
            ("kind", word(&self.kind)),
        ]
    }
}

impl Facts for ThinDevice {
    const COLUMNS: &'static [&'static str] = &["thin-id", "used", "end", "of"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        let owned = match (self.volume, self.snapshot) {
            (Some(volume), _) => Some(format!("volume {volume}")),
            (None, Some(snapshot)) => Some(format!("snapshot {snapshot}")),
            (None, None) => None,
        };
        vec![
            ("thin-id", self.thin_id.to_string()),
            ("used", human(self.used)),
            ("end", human(self.end)),
            ("of", or_dash(owned)),
        ]
    }
}
