//! How long a certificate is good.

use time::macros::datetime;
use time::{Duration, OffsetDateTime};

/// From when to when a certificate is good, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: OffsetDateTime,
    /// The last second.
    pub not_after: OffsetDateTime,
}

/// How far a peer's clock may be behind ours.
const SKEW: Duration = Duration::minutes(5);

/// What RFC 5280 has for certificates that do not end.
const NEVER: OffsetDateTime = datetime!(9999-12-31 23:59:59 UTC);

impl Validity {
    /// From now on, for good.
    pub fn forever() -> Self {
        Self::until(NEVER)
    }

    /// From now, for so many days.
    pub fn days(days: u32) -> Self {
        Self::until(OffsetDateTime::now_utc() + Duration::days(days.into()))
    }

    /// From now until `not_after`. A moment in the past gives a certificate that has expired.
    pub fn until(not_after: OffsetDateTime) -> Self {
        let begin = OffsetDateTime::now_utc().min(not_after);
        Validity {
            not_before: begin - SKEW,
            not_after,
        }
    }
}
