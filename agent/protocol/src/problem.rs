//! Errors as concise problem details (RFC 9290).
//!
//! In CBOR a problem is a map: -1 title, -2 detail, -4 response code, and one custom entry
//! under [`ENTRY`] with the stable code, the object and whether a retry can help.

use std::fmt;

use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::job::ObjectRef;

/// Key of the custom entry.
pub const ENTRY: &str = "urn:ashlar:problem";

macro_rules! codes {
    ($($code:ident $status:literal $retryable:literal $title:literal;)*) => {
        /// What went wrong, stable over versions.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum ProblemCode {
            $(#[doc = $title] $code,)*
        }

        impl ProblemCode {
            /// All codes.
            pub const ALL: &[ProblemCode] = &[$(ProblemCode::$code,)*];

            /// The HTTP status that goes with it.
            pub fn status(self) -> u16 {
                match self { $(ProblemCode::$code => $status,)* }
            }

            /// Whether the same request may succeed later without anyone changing anything.
            pub fn retryable(self) -> bool {
                match self { $(ProblemCode::$code => $retryable,)* }
            }

            /// The same short words every time.
            pub fn title(self) -> &'static str {
                match self { $(ProblemCode::$code => $title,)* }
            }
        }
    };
}

codes! {
    MalformedRequest     400 false "The request is not well-formed";
    MalformedBody        400 false "The body is not well-formed CBOR within the limits";
    InvalidField         422 false "A field is missing, unknown or has a value it cannot have";
    OutOfRange           422 false "A number is out of range";
    Forbidden            403 false "The certificate's role does not allow this";
    NoRole               403 false "The certificate carries no role";
    RouteNotFound        404 false "There is no such route";
    NotFound             404 false "The object does not exist";
    MethodNotAllowed     405 false "The path does not take this method";
    NotAcceptable        406 false "Only CBOR can be answered";
    AlreadyExists        409 false "The id is taken by a different object";
    Duplicate            409 false "Another object already has this identity";
    RequestIdReused      409 false "The request id was used for a different request";
    InUse                409 false "The object is in use";
    Busy                 409 true  "The object is being changed";
    NotBlank             409 false "A disk holds something";
    WrongState           409 false "The object is not in a state that allows this";
    Frozen               409 false "The box takes no changes until it is thawed";
    EventsLost           410 false "Events that were asked for are not kept any more";
    Cancelled            409 false "The job was cancelled";
    Interrupted          409 true  "The job was cut short; the work may be asked for again";
    BodyTooLarge         413 false "The body is too large";
    UnsupportedMediaType 415 false "The body is not application/cbor";
    TooManyRequests      429 true  "Too many requests are under way";
    Internal             500 false "The agent failed";
    KernelFailed         500 true  "The kernel refused";
    Unsupported          501 false "The kernel cannot do this";
    TargetdUnavailable   503 true  "The privileged daemon is not answering";
    Stopping             503 true  "The agent is stopping";
    NoSpace              507 false "The pool has no room";
    StateDiskFull        507 true  "The state disk is full";
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The derived kebab-case name is the one on the wire.
        self.serialize(f)
    }
}

/// An error as it goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What went wrong.
    pub code: ProblemCode,
    /// One sentence about this case, naming what was wrong.
    pub detail: String,
    /// The object it is about.
    pub object: Option<ObjectRef>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
}

impl Problem {
    /// A problem with its code's default for `retryable`.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Problem {
            code,
            detail: detail.into(),
            object: None,
            retryable: code.retryable(),
        }
    }

    /// The same problem, about `object`.
    pub fn about(mut self, object: ObjectRef) -> Self {
        self.object = Some(object);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.code.title(), self.detail, self.code)
    }
}

impl std::error::Error for Problem {}

const TITLE: i64 = -1;
const DETAIL: i64 = -2;
const RESPONSE_CODE: i64 = -4;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    code: ProblemCode,
    retryable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    object: Option<ObjectRef>,
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entry = Entry {
            code: self.code,
            retryable: self.retryable,
            object: self.object,
        };
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry(&TITLE, self.code.title())?;
        map.serialize_entry(&DETAIL, &self.detail)?;
        map.serialize_entry(&RESPONSE_CODE, &self.code.status())?;
        map.serialize_entry(ENTRY, &entry)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Problem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ProblemVisitor)
    }
}

struct ProblemVisitor;

/// A key of the map: RFC 9290 uses integers for its own and text for everybody else's.
enum Key {
    Standard(i64),
    Custom(String),
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer or a text key")
            }

            fn visit_i64<E: de::Error>(self, key: i64) -> Result<Key, E> {
                Ok(Key::Standard(key))
            }

            fn visit_u64<E: de::Error>(self, key: u64) -> Result<Key, E> {
                i64::try_from(key).map(Key::Standard).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, key: &str) -> Result<Key, E> {
                // JSON keeps integer keys as text.
                Ok(key
                    .parse()
                    .map_or_else(|_| Key::Custom(key.to_owned()), Key::Standard))
            }
        }
        deserializer.deserialize_any(KeyVisitor)
    }
}

impl<'de> Visitor<'de> for ProblemVisitor {
    type Value = Problem;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("concise problem details")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Problem, A::Error> {
        let mut detail = None;
        let mut entry: Option<Entry> = None;
        while let Some(key) = map.next_key()? {
            match key {
                Key::Standard(DETAIL) => detail = Some(map.next_value()?),
                Key::Custom(key) if key == ENTRY => entry = Some(map.next_value()?),
                // RFC 9290 obliges receivers to pass over what they do not know.
                Key::Standard(_) | Key::Custom(_) => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let entry = entry.ok_or_else(|| de::Error::missing_field(ENTRY))?;
        Ok(Problem {
            code: entry.code,
            detail: detail.unwrap_or_default(),
            object: entry.object,
            retryable: entry.retryable,
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::job::ObjectKind;

    #[test]
    fn a_problem_survives_the_wire_in_json() {
        let problem =
            Problem::new(ProblemCode::InUse, "volume x has 2 connections").about(ObjectRef {
                kind: ObjectKind::Volume,
                id: Uuid::nil(),
            });
        let text = serde_json::to_string(&problem).unwrap();
        assert_eq!(serde_json::from_str::<Problem>(&text).unwrap(), problem);
        assert!(text.contains("\"-4\":409"), "{text}");
    }

    #[test]
    fn codes_print_as_on_the_wire() {
        assert_eq!(ProblemCode::StateDiskFull.to_string(), "state-disk-full");
    }

    #[test]
    fn every_code_has_an_error_status() {
        for code in ProblemCode::ALL {
            assert!((400..600).contains(&code.status()), "{code}");
        }
    }
}
