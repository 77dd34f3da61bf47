//! How long a certificate is good.

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

impl Validity {
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
