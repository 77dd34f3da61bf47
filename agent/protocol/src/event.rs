//! Events: what happened to the box and its objects, in order.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::job::{ObjectKind, ObjectRef};

/// How many events are kept; the oldest go first.
pub const KEPT_EVENTS: usize = 10_000;

/// What stands for an event's id in `?after=` when only those to come are wanted.
pub const NEWEST: &str = "newest";

/// Something that happened. It is durable before anyone is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Counts the events of the box from 1, without gaps.
    pub id: u64,
    /// When it was recorded.
    pub time: u64,
    /// What happened.
    pub kind: EventKind,
    /// To what.
    pub object: ObjectRef,
    /// The request that brought it about, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Uuid>,
    /// A name or a sentence, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// `OBJECT.WHAT`, such as `volume.created`. Versions to come have more of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventKind(String);

/// Text that is no kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a kind of event is OBJECT.WHAT, both of lower-case letters with single hyphens")]
pub struct NotAKind;

impl EventKind {
    /// What happened to objects of a kind.
    ///
    /// # Panics
    /// When `what` is not lower-case letters with single hyphens.
    pub fn new(object: ObjectKind, what: &str) -> EventKind {
        let kind = EventKind::try_from(format!("{object}.{what}"));
        kind.expect("the caller's words are plain")
    }

    /// The kind as it is on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for EventKind {
    type Error = NotAKind;

    fn try_from(text: String) -> Result<EventKind, NotAKind> {
        let plain = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
        let words = |part: &str| part.split('-').all(plain);
        match text.split_once('.') {
            Some((object, what)) if words(object) && words(what) => Ok(EventKind(text)),
            _ => Err(NotAKind),
        }
    }
}

impl From<EventKind> for String {
    fn from(kind: EventKind) -> String {
        kind.0
    }
}

impl std::fmt::Display for EventKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_two_plain_words() {
        for good in ["volume.created", "group-snapshot.create-failed"] {
            assert!(EventKind::try_from(good.to_owned()).is_ok(), "{good}");
        }
        for bad in [
            "", ".", "volume", "volume.", ".created", "a.b.c", "a.B", "a.-b", "a.b-",
        ] {
            assert_eq!(EventKind::try_from(bad.to_owned()), Err(NotAKind), "{bad}");
        }
    }
}
