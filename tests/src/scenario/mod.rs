//! The scenario format.
//!
//! ```text
//! # A comment.
//! as operator                          the identity of the requests that follow (admin at first)
//! PUT /v1/volumes/{v1}                 a request; {v1} is a UUID made from the name "v1"
//!   {"name": "one", "pool": "{p1}"}    its body in JSON; a text that is one placeholder is a UUID
//! => 201 {"size": 2097152}             the status and fields that the answer must have
//! with request-id {r1}                 a header for the next request only
//! kernel                               what the kernel holds of ours must be exactly these lines
//!   volume {v1} 4096
//! do kill agent                        an accident: kill agent|targetd, power-cut
//! ```
//!
//! Indented lines continue the line above them.

mod body;
mod files;
mod parse;

pub use body::{Mismatch, expect_subset, from_cbor, to_cbor};
pub use files::all;
pub use parse::{ParseError, parse};

use serde_json::Value as Json;
use uuid::Uuid;

/// A parsed file.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The file's name without its ending.
    pub name: String,
    /// Its steps in order.
    pub steps: Vec<Step>,
}

/// One step and the line it begins on.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Line number from 1.
    pub line: usize,
    /// What to do.
    pub action: Action,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Use another identity from here on.
    As(String),
    /// Send a request and compare its answer.
    Request(Request),
    /// Compare what the kernel holds.
    Kernel(Vec<String>),
    /// Cause an accident.
    Do(Accident),
}

/// A request with its expected answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// `GET`, `PUT`, `POST` or `DELETE`.
    pub method: String,
    /// Path and query, placeholders replaced.
    pub path: String,
    /// The request id to send, or none.
    pub request_id: Option<Uuid>,
    /// The body, or none.
    pub body: Option<Json>,
    /// The status it must get.
    pub status: u16,
    /// The fields its answer must have, or none to look at the status alone.
    pub answer: Option<Json>,
}

impl Request {
    /// A request of which nothing is expected: its answer is for the caller to judge.
    pub fn new(method: &str, path: impl Into<String>, body: Option<Json>) -> Request {
        Request {
            method: method.to_owned(),
            path: path.into(),
            request_id: None,
            body,
            status: 0,
            answer: None,
        }
    }
}

/// Something that goes wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accident {
    /// SIGKILL to the agent, then a new one.
    KillAgent,
    /// SIGKILL to targetd, then a new one.
    KillTargetd,
    /// The box loses power: the kernel forgets, the disks keep what was written.
    PowerCut,
    /// The box has a new state disk: what the agent knew is gone, and who it is. The rest is as after
    /// a power cut.
    LoseStore,
}

/// The UUID that stands for a placeholder: the same in every run, different for every name.
pub fn placeholder(name: &str) -> Uuid {
    let mut bytes = [0_u8; 16];
    for (i, byte) in name.bytes().enumerate() {
        bytes[i % 16] = bytes[i % 16].rotate_left(3) ^ byte;
    }
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Replaces every `{name}` in a text by its UUID.
pub fn fill(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let (before, from) = rest.split_at(open);
        out.push_str(before);
        match whole_placeholder(from) {
            Some((name, after)) => {
                out.push_str(&placeholder(name).to_string());
                rest = after;
            }
            None => {
                out.push('{');
                rest = &from[1..];
            }
        }
    }
    out + rest
}

/// Splits `{name}rest`; a name is 1 to 16 lower-case letters and digits.
fn whole_placeholder(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text.strip_prefix('{')?.split_once('}')?;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    ((1..=16).contains(&name.len()) && name.bytes().all(plain)).then_some((name, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_stable_and_distinct() {
        assert_eq!(placeholder("v1"), placeholder("v1"));
        assert_ne!(placeholder("v1"), placeholder("v2"));
        assert_ne!(placeholder("v1"), placeholder("1v"));
    }

    #[test]
    fn only_placeholders_are_filled() {
        let v1 = placeholder("v1");
        assert_eq!(fill("/v1/volumes/{v1}/x"), format!("/v1/volumes/{v1}/x"));
        assert_eq!(fill("{\"a\": 1}"), "{\"a\": 1}");
        assert_eq!(fill("{"), "{");
    }
}
