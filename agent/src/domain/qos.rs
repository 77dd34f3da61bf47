//! What limits come to for a volume. Pure.

use ashlar_protocol::Qos;
use ashlar_protocol::qos::{MAX_BYTES, MAX_IOPS, MIN_BYTES, MIN_IOPS};
use ashlar_targetd_protocol as targetd;
use ashlar_targetd_protocol::Rate;

const GIB: u64 = 1 << 30;

/// What a limit may be, in a second, and what it is called.
struct Kind {
    read: Option<u64>,
    write: Option<u64>,
    total: Option<u64>,
    least: u64,
    most: u64,
    name: &'static str,
}

fn kinds(qos: &Qos) -> [Kind; 2] {
    [
        Kind {
            read: qos.read_iops,
            write: qos.write_iops,
            total: qos.total_iops,
            least: MIN_IOPS,
            most: MAX_IOPS,
            name: "iops",
        },
        Kind {
            read: qos.read_bytes,
            write: qos.write_bytes,
            total: qos.total_bytes,
            least: MIN_BYTES,
            most: MAX_BYTES,
            name: "bytes",
        },
    ]
}

/// Why limits are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QosError {
    /// A number that is too small or too large.
    #[error("{name} {limit} is not from {least} to {most}")]
    Range {
        /// Which.
        name: String,
        /// The number.
        limit: u64,
        /// The smallest that may be.
        least: u64,
        /// The largest that may be.
        most: u64,
    },
    /// A total beside its parts.
    #[error("total_{0} goes neither with read_{0} nor with write_{0}")]
    TotalAndParts(&'static str),
}

/// Whether limits can be held.
///
/// # Errors
/// When they cannot, whatever the volume's size.
pub fn check(qos: &Qos) -> Result<(), QosError> {
    for kind in kinds(qos) {
        if kind.total.is_some() && (kind.read.is_some() || kind.write.is_some()) {
            return Err(QosError::TotalAndParts(kind.name));
        }
        let least = if qos.per_gib { 1 } else { kind.least };
        let parts = [
            ("read", kind.read),
            ("write", kind.write),
            ("total", kind.total),
        ];
        for (part, limit) in parts {
            let Some(limit) = limit.filter(|limit| !(least..=kind.most).contains(limit)) else {
                continue;
            };
            return Err(QosError::Range {
                name: format!("{part}_{}", kind.name),
                limit,
                least,
                most: kind.most,
            });
        }
    }
    Ok(())
}

/// What limits that were checked come to for a volume of this size.
pub fn effective(qos: &Qos, size: u64) -> targetd::Qos {
    let rate = |kind: &Kind| {
        let scaled = |limit: u64| match qos.per_gib {
            true => limit
                .saturating_mul(size.div_ceil(GIB))
                .clamp(kind.least, kind.most),
            false => limit,
        };
        match kind.total {
            Some(total) => Rate::Total(scaled(total)),
            None => Rate::Each {
                read: kind.read.map(scaled),
                write: kind.write.map(scaled),
            },
        }
    };
    let [iops, bytes] = &kinds(qos);
    targetd::Qos {
        operations: rate(iops),
        bytes: rate(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Qos = Qos {
        read_iops: None,
        write_iops: None,
        total_iops: None,
        read_bytes: None,
        write_bytes: None,
        total_bytes: None,
        per_gib: false,
    };

    #[test]
    fn bounds_hold_for_each_number() {
        let of = |total_iops| Qos {
            total_iops: Some(total_iops),
            ..NONE
        };
        for (limit, fits) in [
            (9, false),
            (10, true),
            (MAX_IOPS, true),
            (MAX_IOPS + 1, false),
        ] {
            assert_eq!(check(&of(limit)).is_ok(), fits, "{limit}");
        }
        let small = Qos {
            write_bytes: Some(MIN_BYTES - 1),
            ..NONE
        };
        let error = check(&small).unwrap_err().to_string();
        assert_eq!(
            error,
            "write_bytes 1048575 is not from 1048576 to 1152921504606846976"
        );
        let for_each = Qos {
            per_gib: true,
            ..small
        };
        assert_eq!(check(&for_each), Ok(()));
        let nothing = Qos {
            per_gib: true,
            write_bytes: Some(0),
            ..NONE
        };
        assert!(check(&nothing).is_err());
    }

    #[test]
    fn a_total_stands_alone_among_its_kind() {
        let both = Qos {
            total_iops: Some(100),
            write_iops: Some(100),
            ..NONE
        };
        assert_eq!(check(&both), Err(QosError::TotalAndParts("iops")));
        let kinds = Qos {
            total_iops: Some(100),
            write_bytes: Some(MIN_BYTES),
            ..NONE
        };
        assert_eq!(check(&kinds), Ok(()));
    }

    #[test]
    fn limits_for_each_gib_follow_the_size_within_bounds() {
        let qos = Qos {
            read_iops: Some(3),
            total_bytes: Some(MIN_BYTES),
            per_gib: true,
            ..NONE
        };
        let read = |size| match effective(&qos, size).operations {
            Rate::Each { read, write: None } => read.unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(read(1), 10);
        assert_eq!(read(10 * GIB), 30);
        assert_eq!(read(10 * GIB + 1), 33);
        assert_eq!(effective(&qos, 4 * GIB).bytes, Rate::Total(4 * MIN_BYTES));
        let most = Qos {
            read_iops: Some(MAX_IOPS),
            ..qos
        };
        let expected = Rate::Each {
            read: Some(MAX_IOPS),
            write: None,
        };
        assert_eq!(effective(&most, u64::MAX).operations, expected);
    }
}
