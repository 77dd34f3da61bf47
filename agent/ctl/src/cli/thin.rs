//! What volumes and snapshots take of their pool, as each noun's verbs show it.

use ashlar_protocol::{Extent, ThinDevice, ThinId, Usage};

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
    const COLUMNS: &'static [&'static str] = &["thin-id", "used", "end", "of", "adoptable"];

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
            (
                "adoptable",
                self.reason
                    .map_or("yes".to_owned(), |why| format!("no: {}", word(&why))),
            ),
        ]
    }
}

/// The id of a thin device.
pub fn thin_id(text: &str) -> Result<ThinId, String> {
    let number: u64 = text.parse().map_err(|_| "it is a number".to_owned())?;
    ThinId::try_from(number).map_err(|error| error.to_string())
}
