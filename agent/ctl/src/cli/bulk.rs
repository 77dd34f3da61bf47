//! `ashlarctl bulk`
//!
//! ```text
//! JSON ─ items, each with the words of its operation ─► CBOR, 100 at a time ─► answers ─► JSON
//! ```
//!
//! All of it is read before any of it is sent.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use ashlar_codec::Limits;
use ashlar_protocol::bulk::MAX_ITEMS;
use ashlar_protocol::{
    ActivateSpec, AdoptSnapshotSpec, AdoptSpec, BulkAnswer, BulkItem, BulkMethod, BulkPath,
    BulkSpec, ClaimSpec, Connection, ConnectionSpec, ExtendSpec, Firmware, FreezeSpec, Group,
    GroupSnapshot, GroupSnapshotSpec, GroupSnapshotUpdate, GroupSpec, GroupUpdate, HostCreated,
    HostRotation, HostSpec, Identity, ImportSpec, InstallSpec, Job, JobState, MoveSpec, Operation,
    Pool, PoolGrowth, PoolSpec, PoolUpdate, Portal, PortalSpec, Problem, ROUTES, ReleaseSpec,
    ReplaceSpec, RequestSpec, ResetSpec, RestartSpec, RevertSpec, ScrubSpec, SealSpec,
    SigningRequest, Snapshot, SnapshotSpec, SnapshotUpdate, System, ThawSpec, TransferSpec,
    TrustUpdate, TrustUpdated, Volume, VolumeSpec, VolumeUpdate,
};
use clap::Args;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::output;
use super::session::Session;
use super::usage;

/// What one answer may be.
const LIMITS: Limits = Limits {
    bytes: 4 << 20,
    depth: 16,
};

#[derive(Debug, Args)]
#[command(
    after_help = "Each change is {\"method\": …, \"path\": …, \"body\": …} as in the \
    management protocol:\n  \
    {\"method\": \"PUT\", \"path\": \"/v1/volumes/ID\", \"body\": {\"name\": \"db1\", \
    \"pool\": \"ID\", \"size\": 1073741824}}\n  \
    {\"method\": \"DELETE\", \"path\": \"/v1/connections/ID?force=true\"}\n\
    One a line, or a list of them. Each is answered by a line with its status; those that \
    fail do not keep\nthe others from being made. Exit code 0 says that all were."
)]
pub struct Arguments {
    /// The changes, as JSON; - for standard input
    #[arg(value_name = "FILE")]
    path: PathBuf,
}

pub async fn run(session: &Session, arguments: Arguments) -> anyhow::Result<()> {
    let text = read(&arguments.path)?;
    let changes = changes(&text)?;
    let parts: Vec<&[Change]> = changes.chunks(MAX_ITEMS).collect();
    if parts.len() > 1 && session.client.request_id().is_some() {
        let text = format!("--request-id is for one request, of up to {MAX_ITEMS} changes");
        return Err(usage(&text));
    }
    let (mut number, mut failed) = (0, 0);
    for part in parts {
        let items = part.iter().map(|change| change.item.clone()).collect();
        let reply = session.client.bulk_change(&BulkSpec { items }).await;
        let reply = reply.with_context(|| match number {
            0 => "no change was made".to_owned(),
            number => format!("only the first {number} changes were asked for"),
        })?;
        for (change, answer) in part.iter().zip(reply.items) {
            number += 1;
            let told = Told::of(session, number, change, answer).await?;
            failed += usize::from(!told.done());
            output::line(session.format, &told, &told.text())?;
        }
    }
    match failed {
        0 => Ok(()),
        failed => bail!("{failed} of {number} changes failed"),
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    if path != Path::new("-") {
        return std::fs::read_to_string(path)
            .with_context(|| format!("failed to read {}", path.display()));
    }
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.context("failed to read standard input")?;
    Ok(text)
}

/// A change, ready to be sent.
struct Change {
    operation: Operation,
    item: BulkItem,
}

/// A change as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    method: BulkMethod,
    path: BulkPath,
    #[serde(default)]
    body: Option<Value>,
}

/// One document after the other; each a change, a list of them, or such a list as `items`.
fn changes(text: &str) -> anyhow::Result<Vec<Change>> {
    let mut changes = Vec::new();
    for document in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        let document = document.context("this is not JSON")?;
        let all = match document {
            Value::Array(items) => items,
            Value::Object(mut map) if map.len() == 1 && map.contains_key("items") => {
                match map.remove("items") {
                    Some(Value::Array(items)) => items,
                    _ => bail!("items: a list is taken"),
                }
            }
            item => vec![item],
        };
        for item in all {
            let number = changes.len() + 1;
            let change = change(item).with_context(|| format!("change {number}"))?;
            changes.push(change);
        }
    }
    if changes.is_empty() {
        bail!("there is no change in it");
    }
    Ok(changes)
}

fn change(item: Value) -> anyhow::Result<Change> {
    let Written { method, path, body } = serde_json::from_value(item)?;
    let operation = find(method, &path).ok_or_else(|| {
        anyhow!(
            "there is no {} {} that can be asked for here",
            method.as_str(),
            path.as_str()
        )
    })?;
    let words = words(operation).ok_or_else(|| anyhow!("{operation} is a request of its own"))?;
    let body = match (words.asked, body) {
        (Some(asked), Some(body)) => Some(asked(body).context("body")?),
        (Some(_), None) => bail!("{operation} takes a body"),
        (None, Some(_)) => bail!("{operation} takes no body"),
        (None, None) => None,
    };
    let item = BulkItem { method, path, body };
    Ok(Change { operation, item })
}

fn find(method: BulkMethod, path: &BulkPath) -> Option<Operation> {
    let path = path.as_str().split('?').next().unwrap_or_default();
    let fits = |pattern: &str| {
        let (pattern, path) = (pattern.split('/'), path.split('/'));
        pattern.clone().count() == path.clone().count()
            && pattern.zip(path).all(|(p, s)| p == "{id}" || p == s)
    };
    let mut routes = ROUTES
        .iter()
        .filter(|route| route.method.as_str() == method.as_str());
    let route = routes.find(|route| fits(route.path))?;
    Some(route.operation)
}

/// How the bodies of an operation are said in CBOR and in JSON.
struct Words {
    asked: Option<fn(Value) -> anyhow::Result<ashlar_codec::Value>>,
    answered: fn(&ashlar_codec::Value) -> anyhow::Result<Value>,
}

fn words(operation: Operation) -> Option<Words> {
    use Operation as Op;
    fn both<A: DeserializeOwned + Serialize, B: DeserializeOwned + Serialize>() -> Option<Words> {
        Some(Words {
            asked: Some(to_cbor::<A>),
            answered: to_json::<B>,
        })
    }
    match operation {
        Op::SystemFreeze => both::<FreezeSpec, System>(),
        Op::SystemThaw => both::<ThawSpec, System>(),
        Op::SystemRestart => both::<RestartSpec, Job>(),
        Op::FirmwareActivate => both::<ActivateSpec, Firmware>(),
        Op::IdentityRequest => both::<RequestSpec, SigningRequest>(),
        Op::IdentityInstall => both::<InstallSpec, Identity>(),
        Op::IdentitySeal => both::<SealSpec, Identity>(),
        Op::IdentityClaim => both::<ClaimSpec, Identity>(),
        Op::IdentityReset => both::<ResetSpec, Job>(),
        Op::TrustUpdate => both::<TrustUpdate, TrustUpdated>(),
        Op::PoolCreate => both::<PoolSpec, Pool>(),
        Op::PoolUpdate => both::<PoolUpdate, Pool>(),
        Op::PoolGrow => both::<PoolGrowth, Pool>(),
        Op::PoolImport => both::<ImportSpec, Pool>(),
        Op::PoolReplace => both::<ReplaceSpec, Pool>(),
        Op::PoolScrub => both::<ScrubSpec, Pool>(),
        Op::VolumeCreate => both::<VolumeSpec, Volume>(),
        Op::VolumeExtend => both::<ExtendSpec, Volume>(),
        Op::VolumeRevert => both::<RevertSpec, Volume>(),
        Op::VolumeUpdate => both::<VolumeUpdate, Volume>(),
        Op::VolumeTransfer => both::<TransferSpec, Volume>(),
        Op::VolumeMove => both::<MoveSpec, Volume>(),
        Op::SnapshotCreate => both::<SnapshotSpec, Snapshot>(),
        Op::SnapshotUpdate => both::<SnapshotUpdate, Snapshot>(),
        Op::GroupCreate => both::<GroupSpec, Group>(),
        Op::GroupUpdate => both::<GroupUpdate, Group>(),
        Op::GroupSnapshotCreate => both::<GroupSnapshotSpec, GroupSnapshot>(),
        Op::GroupSnapshotUpdate => both::<GroupSnapshotUpdate, GroupSnapshot>(),
        Op::HostCreate => both::<HostSpec, HostCreated>(),
        Op::PortalCreate => both::<PortalSpec, Portal>(),
        Op::HostRotate => both::<HostRotation, HostCreated>(),
        Op::ConnectionCreate => both::<ConnectionSpec, Connection>(),
        Op::VolumeAdopt => both::<AdoptSpec, Volume>(),
        Op::SnapshotAdopt => both::<AdoptSnapshotSpec, Snapshot>(),
        Op::VolumeRelease | Op::SnapshotRelease => both::<ReleaseSpec, Job>(),
        Op::PoolDelete
        | Op::VolumeDelete
        | Op::VolumeDetachAll
        | Op::SnapshotDelete
        | Op::GroupDelete
        | Op::GroupSnapshotDelete
        | Op::PortalDelete
        | Op::HostDelete
        | Op::ConnectionDelete
        | Op::JobCancel => Some(Words {
            asked: None,
            answered: to_json::<Job>,
        }),
        // What volumes hold is no CBOR, and many in one are not many in many.
        _ => None,
    }
}

fn to_cbor<T: DeserializeOwned + Serialize>(json: Value) -> anyhow::Result<ashlar_codec::Value> {
    let typed: T = serde_json::from_value(json)?;
    let bytes = ashlar_codec::to_vec(&typed)?;
    Ok(ashlar_codec::from_slice(&bytes, &LIMITS)?)
}

fn to_json<T: DeserializeOwned + Serialize>(value: &ashlar_codec::Value) -> anyhow::Result<Value> {
    let bytes = ashlar_codec::to_vec(value)?;
    let typed: T = ashlar_codec::from_slice(&bytes, &LIMITS)?;
    Ok(serde_json::to_value(typed)?)
}

/// The secrets of a rotation that took its time: told to the same request, asked again.
async fn rotated(session: &Session, change: &Change, job: &Job) -> anyhow::Result<Value> {
    let bytes = ashlar_codec::to_vec(&change.item.body)?;
    let spec: HostRotation = ashlar_codec::from_slice(&bytes, &LIMITS)?;
    let asking = session.client.under(job.id);
    match asking.host_rotate(job.object.id, &spec).await?.done() {
        Some(created) => Ok(json!(created)),
        None => Ok(json!(job)),
    }
}

/// What became of a change.
#[derive(Serialize)]
struct Told {
    /// Its place in the input.
    item: usize,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
    #[serde(skip)]
    what: String,
    #[serde(skip)]
    why: Option<String>,
}

impl Told {
    async fn of(
        session: &Session,
        item: usize,
        change: &Change,
        answer: BulkAnswer,
    ) -> anyhow::Result<Told> {
        let mut told = Told {
            item,
            status: answer.status,
            body: None,
            what: format!(
                "{} {}",
                change.item.method.as_str(),
                change.item.path.as_str()
            ),
            why: None,
        };
        let Some(body) = answer.body else {
            return Ok(told);
        };
        let json = match answer.status {
            400.. => {
                let problem = to_json::<Problem>(&body)?;
                let said: Problem = serde_json::from_value(problem.clone())?;
                told.why = Some(said.to_string());
                problem
            }
            202 => {
                let job: Job = serde_json::from_value(to_json::<Job>(&body)?)?;
                let job = session.outcome(job).await?;
                if let (JobState::Failed | JobState::Cancelled, Some(problem)) =
                    (job.state, &job.problem)
                {
                    told.status = problem.code.status();
                    told.why = Some(problem.to_string());
                }
                match (change.operation, job.state) {
                    (Operation::HostRotate, JobState::Succeeded) => {
                        rotated(session, change, &job).await?
                    }
                    _ => json!(job),
                }
            }
            _ => {
                let words = words(change.operation).context("no such change")?;
                (words.answered)(&body)?
            }
        };
        told.body = Some(json);
        Ok(told)
    }

    fn done(&self) -> bool {
        self.status < 400
    }

    fn text(&self) -> String {
        let Told {
            item, status, what, ..
        } = self;
        match &self.why {
            Some(why) => format!("{item}  {status}  {what}  {why}"),
            None => format!("{item}  {status}  {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use ashlar_protocol::Method;

    use super::*;

    const ID: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

    #[test]
    fn every_change_can_be_said() {
        let own = [
            Operation::VolumeImport,
            Operation::FirmwareInstall,
            Operation::BulkChange,
            Operation::SupportBundle,
        ];
        for route in ROUTES.iter().filter(|route| route.method != Method::Get) {
            let said = words(route.operation).is_some();
            assert_ne!(said, own.contains(&route.operation), "{route:?}");
        }
    }

    #[test]
    fn lines_lists_and_documents_are_read() {
        let one = format!(r#"{{"method": "DELETE", "path": "/v1/volumes/{ID}"}}"#);
        for text in [
            format!("{one}\n{one}\n"),
            format!("[{one}, {one}]"),
            format!(r#"{{"items": [{one}, {one}]}}"#),
        ] {
            assert_eq!(changes(&text).unwrap().len(), 2, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_before_anything_is_sent() {
        let body = format!(r#"{{"name": "a", "pool": "{ID}", "size": 1}}"#);
        let create = |body: &str| {
            format!(r#"{{"method": "PUT", "path": "/v1/volumes/{ID}", "body": {body}}}"#)
        };
        let sound = create(&body);
        assert_eq!(
            changes(&sound).unwrap()[0].operation,
            Operation::VolumeCreate
        );
        for (text, words) in [
            (String::new(), "no change"),
            ("{".to_owned(), "not JSON"),
            (format!("{sound}\n{{}}"), "change 2: missing field `method`"),
            (create(r#"{"name": "a"}"#), "change 1: body: missing field"),
            (create(&body.replace(ID, "x")), "body: "),
            (create(&body.replace("size", "sise")), "unknown field"),
            (sound.replace("PUT", "PATCH"), "unknown variant"),
            (
                sound.replace("volumes", "tapes"),
                "there is no PUT /v1/tapes",
            ),
            (
                r#"{"method": "POST", "path": "/v1/bulk", "body": {}}"#.to_owned(),
                "request of its own",
            ),
            (
                format!(r#"{{"method": "DELETE", "path": "/v1/volumes/{ID}", "body": {{}}}}"#),
                "takes no body",
            ),
            (
                format!(r#"{{"method": "PUT", "path": "/v1/volumes/{ID}"}}"#),
                "takes a body",
            ),
        ] {
            let told = format!("{:#}", changes(&text).map(|_| ()).unwrap_err());
            assert!(told.contains(words), "{text}: {told}");
        }
    }
}
