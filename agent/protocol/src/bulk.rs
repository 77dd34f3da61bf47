//! Many changes in one request, each with its own answer.

use ashlar_codec::Value;
use serde::{Deserialize, Serialize};

/// Most items in one request.
pub const MAX_ITEMS: usize = 100;

/// The body of `POST /v1/bulk`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BulkSpec {
    /// Done independently, in no particular order.
    pub items: Vec<BulkItem>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BulkItem {
    /// As on its own.
    pub method: BulkMethod,
    /// Its path, with its query.
    pub path: BulkPath,
    /// Its body, for those that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
}

/// A path with its query: printable ASCII that begins with `/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BulkPath(String);

impl BulkPath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for BulkPath {
    type Error = &'static str;

    fn try_from(text: String) -> Result<BulkPath, Self::Error> {
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        match plain && text.starts_with('/') {
            true => Ok(BulkPath(text)),
            false => Err("a path is printable ASCII that begins with '/'"),
        }
    }
}

impl From<BulkPath> for String {
    fn from(path: BulkPath) -> String {
        path.0
    }
}

/// Methods that change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum BulkMethod {
    /// Create under a client-chosen id.
    Put,
    /// Act.
    Post,
    /// Remove.
    Delete,
}

impl BulkMethod {
    /// The method as in HTTP.
    pub fn as_str(self) -> &'static str {
        match self {
            BulkMethod::Put => "PUT",
            BulkMethod::Post => "POST",
            BulkMethod::Delete => "DELETE",
        }
    }
}

/// The answers, in order of the items.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BulkReply {
    /// One for each item.
    pub items: Vec<BulkAnswer>,
}

/// The answer to one item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BulkAnswer {
    /// The HTTP status it would have had on its own.
    pub status: u16,
    /// Its body, if it has one: the object, a job, or a problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
}
