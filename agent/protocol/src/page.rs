//! Lists by cursor.

use serde::{Deserialize, Serialize};

/// Items in one page when the query has no `limit`.
pub const DEFAULT_LIMIT: usize = 100;

/// Most items in one page.
pub const MAX_LIMIT: usize = 1000;

/// Part of a list, in order of id. Ask on with `?after=NEXT` until `next` is absent.
/// Objects that exist throughout a walk are seen exactly once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; opaque.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
