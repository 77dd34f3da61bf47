//! What a block device has done, as sysfs counts it.

use ashlar_targetd_protocol::{Bytes, IoCounters, IoTotals, Sectors};

/// Reads the text of a device's `stat` and `inflight`; kernels append columns, never change them.
pub(super) fn parse(stat: &str, in_flight: &str) -> Option<IoCounters> {
    let columns = numbers(stat)?;
    let totals = |first: usize| {
        Some(IoTotals {
            operations: *columns.get(first)?,
            bytes: Sectors(*columns.get(first + 2)?).bytes(),
            milliseconds: *columns.get(first + 3)?,
        })
    };
    let flushes = IoTotals {
        operations: *columns.get(15)?,
        bytes: Bytes(0),
        milliseconds: *columns.get(16)?,
    };
    let [reads_in_flight, writes_in_flight] = numbers(in_flight)?.try_into().ok()?;
    Some(IoCounters {
        reads: totals(0)?,
        writes: totals(4)?,
        discards: totals(11)?,
        flushes,
        busy_milliseconds: *columns.get(9)?,
        reads_in_flight,
        writes_in_flight,
    })
}

fn numbers(text: &str) -> Option<Vec<u64>> {
    let words = text.split_ascii_whitespace();
    words.map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_are_found_in_their_order() {
        let stat = "  10 1 80 7  20 2 320 9  3 44 55  6 0 4096 5  8 2\n";
        let counters = parse(stat, "       1        2\n").unwrap();
        let totals = |operations, bytes, milliseconds| IoTotals {
            operations,
            bytes: Bytes(bytes),
            milliseconds,
        };
        let expected = IoCounters {
            reads: totals(10, 80 * 512, 7),
            writes: totals(20, 320 * 512, 9),
            discards: totals(6, 4096 * 512, 5),
            flushes: totals(8, 0, 2),
            busy_milliseconds: 44,
            reads_in_flight: 1,
            writes_in_flight: 2,
        };
        assert_eq!(counters, expected);
    }

    #[test]
    fn what_is_cut_short_is_no_count() {
        assert_eq!(parse("1 2 3", "0 0"), None);
        assert_eq!(
            parse("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", "0"),
            None
        );
        assert_eq!(
            parse("x 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", "0 0"),
            None
        );
    }
}
