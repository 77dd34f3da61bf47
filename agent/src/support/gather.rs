//! What a bundle is made of: what the protocol shows, what targetd sees, what the journal has.
//!
//! Where something cannot be had, or not in time, or is more than there is room for, the rest is told all
//! the same: the last file says what became of each.

use std::time::Duration;

use ashlar_protocol::page::MAX_LIMIT;
use ashlar_protocol::{Page, Problem};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::archive::Part;
use super::journal::{Journal, Source};
use crate::clock::now;
use crate::engine::{After, Engine, PageQuery};
use crate::identity::Identity;

/// All of it is gathered within this, but for what the client keeps waiting.
const TIME: Duration = Duration::from_secs(120);

/// What is waited for one answer: what hangs must not take the time of all others.
const ANSWER: Duration = Duration::from_secs(20);

/// Bytes of one list at most.
const LIST: usize = 16 << 20;

/// Bytes of a file at most, but for its last line.
const FILE: usize = 1 << 20;

/// The client has gone.
pub(super) struct Gone;

/// Gathers all there is, the most telling first.
pub(super) async fn everything(
    engine: &Engine,
    identity: &Identity,
    parts: mpsc::Sender<Part>,
) -> Result<(), Gone> {
    let mut bundle = Bundle {
        parts,
        until: Instant::now() + TIME,
        told: Vec::new(),
    };
    let support = engine.support();
    bundle
        .one("system", async { Ok(engine.system().await) })
        .await?;
    bundle
        .one("health", async { Ok(engine.health(identity.due()).await) })
        .await?;
    bundle
        .one("configuration", async { Ok(&support.configuration) })
        .await?;
    bundle.one("identity", async { identity.show() }).await?;
    bundle.one("trust", async { identity.trust() }).await?;
    bundle.one("firmware", engine.firmware()).await?;
    bundle.one("disks", engine.disks()).await?;
    bundle
        .one("kernel/targetd", async { engine.greeting() })
        .await?;
    bundle
        .list("pools", |q| async move { engine.pools(&q).await })
        .await?;
    for id in engine.pool_ids().await {
        let seen = engine.pool_report(id);
        bundle.one(&format!("kernel/pool-{id}"), seen).await?;
    }
    bundle
        .list("events", |q| async move {
            engine.events(after(&q), q.limit, Duration::ZERO).await
        })
        .await?;
    bundle
        .list("audit", |q| async move {
            engine
                .audit()
                .page(after(&q), q.limit, Duration::ZERO)
                .await
        })
        .await?;
    bundle
        .list("jobs", |q| async move { engine.jobs(&q).await })
        .await?;
    for (name, source) in [("units", Source::Units), ("kernel", Source::Kernel)] {
        let journal = Journal::open(&support.journalctl, source);
        bundle.journal(&format!("journal/{name}"), journal).await?;
    }
    bundle
        .list("portals", |q| async move { engine.portals(&q).await })
        .await?;
    bundle
        .list("hosts", |q| async move { engine.hosts(&q).await })
        .await?;
    bundle
        .list("connections", |q| async move {
            engine.connections(&q, None).await
        })
        .await?;
    bundle
        .list("volumes", |q| async move { engine.volumes(&q).await })
        .await?;
    bundle
        .list(
            "snapshots",
            |q| async move { engine.snapshots(&q, None).await },
        )
        .await?;
    bundle
        .list("groups", |q| async move { engine.groups(&q).await })
        .await?;
    bundle
        .list("group-snapshots", |q| async move {
            engine.group_snapshots(&q).await
        })
        .await?;
    for id in engine.pool_ids().await {
        let statistics = engine.pool_statistics(id);
        bundle
            .one(&format!("statistics/pool-{id}"), statistics)
            .await?;
    }
    bundle
        .list("statistics/volumes", |q| volumes_statistics(engine, q))
        .await?;
    bundle.end().await
}

/// What each of some volumes has done. One that has just gone is passed over.
async fn volumes_statistics(
    engine: &Engine,
    query: PageQuery,
) -> Result<Page<impl Serialize>, Problem> {
    let limit = 50;
    let volumes = engine.volumes(&PageQuery { limit, ..query }).await?;
    let mut items = Vec::new();
    for volume in volumes.items {
        items.extend(engine.volume_statistics(volume.id).await.ok());
    }
    Ok(Page {
        items,
        next: volumes.next,
    })
}

/// Lists of what is numbered go on after a number.
fn after(query: &PageQuery) -> After {
    let number = query.after.as_ref().and_then(|text| text.parse().ok());
    number.map_or(After::Beginning, After::Id)
}

/// What is being put together.
struct Bundle {
    parts: mpsc::Sender<Part>,
    until: Instant,
    told: Vec<Told>,
}

/// What became of a part.
#[derive(Serialize)]
struct Told {
    name: String,
    files: usize,
    bytes: usize,
    /// Why there is no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    lacks: Option<String>,
}

/// The last file.
#[derive(Serialize)]
struct Contents<'a> {
    time: u64,
    version: &'static str,
    parts: &'a [Told],
}

impl Bundle {
    async fn one<T: Serialize>(
        &mut self,
        name: &str,
        view: impl Future<Output = Result<T, Problem>>,
    ) -> Result<(), Gone> {
        let mut told = Told::new(name);
        match timeout_at(self.limit(), view).await {
            Ok(Ok(value)) => match serde_json::to_vec_pretty(&value) {
                Ok(bytes) => self.file(&mut told, "json", bytes).await?,
                Err(error) => told.lacks = Some(error.to_string()),
            },
            Ok(Err(problem)) => told.lacks = Some(problem.to_string()),
            Err(_late) => told.lacks = Some(LATE.to_owned()),
        }
        self.told.push(told);
        Ok(())
    }

    /// Until when the next answer is waited for.
    fn limit(&self) -> Instant {
        self.until.min(Instant::now() + ANSWER)
    }

    /// A list, one item a line.
    async fn list<T: Serialize, F>(
        &mut self,
        name: &str,
        page: impl Fn(PageQuery) -> F,
    ) -> Result<(), Gone>
    where
        F: Future<Output = Result<Page<T>, Problem>>,
    {
        let mut told = Told::new(name);
        let mut lines = Vec::new();
        let mut query = PageQuery {
            after: None,
            limit: MAX_LIMIT,
        };
        loop {
            let page = match timeout_at(self.limit(), page(query.clone())).await {
                Ok(Ok(page)) => page,
                Ok(Err(problem)) => break told.lacks = Some(problem.to_string()),
                Err(_late) => break told.lacks = Some(LATE.to_owned()),
            };
            for item in &page.items {
                if let Err(error) = serde_json::to_writer(&mut lines, item) {
                    told.lacks = Some(error.to_string());
                }
                lines.push(b'\n');
                if lines.len() >= FILE {
                    let whole = std::mem::take(&mut lines);
                    self.file(&mut told, "jsonl", whole).await?;
                }
            }
            match page.next {
                None => break,
                Some(_) if told.bytes >= LIST => break told.lacks = Some(MUCH.to_owned()),
                next => query.after = next,
            }
        }
        if !lines.is_empty() {
            self.file(&mut told, "jsonl", lines).await?;
        }
        self.told.push(told);
        Ok(())
    }

    async fn journal(&mut self, name: &str, journal: std::io::Result<Journal>) -> Result<(), Gone> {
        let mut told = Told::new(name);
        match journal {
            Err(error) => told.lacks = Some(format!("the journal cannot be read: {error}")),
            Ok(mut journal) => loop {
                match timeout_at(self.limit(), journal.next()).await {
                    Ok(Ok(None)) => break,
                    Ok(Ok(Some(_))) if told.bytes >= LIST => {
                        break told.lacks = Some(MUCH.to_owned());
                    }
                    Ok(Ok(Some(lines))) => self.file(&mut told, "jsonl", lines).await?,
                    Ok(Err(error)) => {
                        break told.lacks = Some(format!("the journal cannot be read: {error}"));
                    }
                    Err(_late) => break told.lacks = Some(LATE.to_owned()),
                }
            },
        }
        self.told.push(told);
        Ok(())
    }

    async fn file(&mut self, told: &mut Told, kind: &str, bytes: Vec<u8>) -> Result<(), Gone> {
        let name = match told.files {
            0 => format!("{}.{kind}", told.name),
            more => format!("{}-{more}.{kind}", told.name),
        };
        told.files += 1;
        told.bytes += bytes.len();
        let waiting = Instant::now();
        let sent = self.parts.send(Part::File { name, bytes }).await;
        // What the client keeps waiting is not our time.
        self.until += waiting.elapsed();
        sent.map_err(|_| Gone)
    }

    async fn end(mut self) -> Result<(), Gone> {
        let contents = Contents {
            time: now(),
            version: env!("CARGO_PKG_VERSION"),
            parts: &self.told,
        };
        let bytes = serde_json::to_vec_pretty(&contents).map_err(|_| Gone)?;
        self.file(&mut Told::new("contents"), "json", bytes).await?;
        self.parts.send(Part::End).await.map_err(|_| Gone)
    }
}

const LATE: &str = "not in time";
const MUCH: &str = "no more than this was taken";

impl Told {
    fn new(name: &str) -> Told {
        Told {
            name: name.to_owned(),
            files: 0,
            bytes: 0,
            lacks: None,
        }
    }
}
