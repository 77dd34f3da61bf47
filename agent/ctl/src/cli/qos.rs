//! Limits and counters, as arguments and as rows.

use ashlar_protocol::{IoCounters, IoTotals, PoolStatistics, Qos, VolumeStatistics};
use clap::Args;

use super::output::{Facts, or_dash};
use ashlar_ctl::size::{Size, human};

/// Limits; what is not given stays as it is.
#[derive(Clone, Debug, Default, Args)]
pub struct Limits {
    /// Most read operations in a second; 0 for no limit
    #[arg(long, value_name = "NUMBER")]
    qos_read_iops: Option<u64>,
    /// Most write operations in a second; 0 for no limit
    #[arg(long, value_name = "NUMBER")]
    qos_write_iops: Option<u64>,
    /// Most operations in a second; 0 for no limit
    #[arg(long, value_name = "NUMBER")]
    qos_total_iops: Option<u64>,
    /// Most bytes read in a second; 0 for no limit
    #[arg(long, value_name = "SIZE")]
    qos_read_bytes: Option<Size>,
    /// Most bytes written in a second; 0 for no limit
    #[arg(long, value_name = "SIZE")]
    qos_write_bytes: Option<Size>,
    /// Most bytes in a second; 0 for no limit
    #[arg(long, value_name = "SIZE")]
    qos_total_bytes: Option<Size>,
    /// Whether these are for each GiB of the volume's size
    #[arg(long, value_name = "BOOL")]
    qos_per_gib: Option<bool>,
}

impl Limits {
    /// Whether any is given.
    pub fn any(&self) -> bool {
        let bytes = [
            self.qos_read_bytes,
            self.qos_write_bytes,
            self.qos_total_bytes,
        ];
        let iops = [self.qos_read_iops, self.qos_write_iops, self.qos_total_iops];
        let bytes = bytes.iter().any(Option::is_some);
        bytes || iops.iter().any(Option::is_some) || self.qos_per_gib.is_some()
    }

    /// The present limits with those given in their place.
    pub fn over(&self, present: Qos) -> Qos {
        let limit = |given: Option<u64>, present| match given {
            Some(0) => None,
            Some(limit) => Some(limit),
            None => present,
        };
        let bytes = |given: Option<Size>, present| limit(given.map(|size| size.0), present);
        Qos {
            read_iops: limit(self.qos_read_iops, present.read_iops),
            write_iops: limit(self.qos_write_iops, present.write_iops),
            total_iops: limit(self.qos_total_iops, present.total_iops),
            read_bytes: bytes(self.qos_read_bytes, present.read_bytes),
            write_bytes: bytes(self.qos_write_bytes, present.write_bytes),
            total_bytes: bytes(self.qos_total_bytes, present.total_bytes),
            per_gib: self.qos_per_gib.unwrap_or(present.per_gib),
        }
    }
}

/// A row of limits, if there are any.
pub fn limited(qos: Option<Qos>) -> Option<(&'static str, String)> {
    let qos = qos?;
    let unit = if qos.per_gib { "/s for each GiB" } else { "/s" };
    let operations = |limit: Option<u64>, what| Some(format!("{} {what}{unit}", limit?));
    let bytes = |limit: Option<u64>, what| Some(format!("{} {what}{unit}", human(limit?)));
    let lines = [
        operations(qos.read_iops, "reads"),
        operations(qos.write_iops, "writes"),
        operations(qos.total_iops, "operations"),
        bytes(qos.read_bytes, "read"),
        bytes(qos.write_bytes, "written"),
        bytes(qos.total_bytes, "moved"),
    ];
    let lines: Vec<String> = lines.into_iter().flatten().collect();
    Some(("limits", lines.join("\n")))
}

impl Facts for VolumeStatistics {
    const COLUMNS: &'static [&'static str] = &["id", "active", "used"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("id", self.id.to_string()),
            ("active", self.active.to_string()),
            ("used", or_dash(self.used.map(human))),
        ];
        facts.extend(self.io.iter().flat_map(counted));
        facts
    }
}

impl Facts for PoolStatistics {
    const COLUMNS: &'static [&'static str] = &["id", "capacity", "used", "provisioned"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("id", self.id.to_string()),
            ("capacity", or_dash(self.capacity.map(human))),
            ("used", or_dash(self.used.map(human))),
            ("metadata used", or_dash(self.metadata_used.map(human))),
            ("provisioned", human(self.provisioned)),
            ("thick", human(self.thick)),
        ];
        facts.extend(self.data.iter().flat_map(counted));
        let metadata = self.metadata.iter();
        facts.extend(metadata.flat_map(|io| {
            [
                ("metadata reads", totals(&io.reads)),
                ("metadata writes", totals(&io.writes)),
            ]
        }));
        facts
    }
}

fn counted(io: &IoCounters) -> [(&'static str, String); 6] {
    let (reads, writes) = (io.reads_in_flight, io.writes_in_flight);
    [
        ("reads", totals(&io.reads)),
        ("writes", totals(&io.writes)),
        ("discards", totals(&io.discards)),
        ("flushes", totals(&io.flushes)),
        ("busy", format!("{} ms", io.busy_milliseconds)),
        ("in flight", format!("{reads} reads, {writes} writes")),
    ]
}

/// How many, how much, and how long each took.
fn totals(totals: &IoTotals) -> String {
    let IoTotals {
        operations,
        bytes,
        milliseconds,
    } = *totals;
    let latency = milliseconds as f64 / operations.max(1) as f64;
    format!("{operations}, {}, {latency:.2} ms each", human(bytes.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_stays_and_0_lifts() {
        let present = Qos {
            read_iops: Some(100),
            write_bytes: Some(1 << 20),
            ..Qos::default()
        };
        let given = Limits {
            qos_read_iops: Some(0),
            qos_write_iops: Some(50),
            ..Limits::default()
        };
        let expected = Qos {
            read_iops: None,
            write_iops: Some(50),
            ..present
        };
        assert!(given.any());
        assert_eq!(given.over(present), expected);
        assert!(!Limits::default().any());
    }
}
