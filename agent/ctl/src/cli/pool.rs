//! `ashlarctl pool …`

use ashlar_protocol::{
    DiskId, ImportSpec, Member, Name, Pool, PoolGrowth, PoolSet, PoolSpec, PoolUpdate, Redundancy,
    ReplaceSpec, SCRUB_DAYS, ScrubMode, ScrubSpec, Scrubbed, SetAction, Watermarks,
};
use clap::{Args, Subcommand, ValueEnum};
use uuid::Uuid;

use super::output::{self, Facts, or_dash, word};
use super::session::{Named, Session, resolve};
use super::volume::moment;
use ashlar_ctl::size::{Size, human};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create a pool on blank disks
    Create {
        /// A label for people
        name: Name,
        /// A disk's id as in `disk list`; given for each disk, in order
        #[arg(long = "disk", value_name = "ID", required = true)]
        disks: Vec<DiskId>,
        /// How the disks stand in for each other, for good
        #[arg(long, value_name = "LEVEL", default_value = "none")]
        redundancy: Level,
        /// The pool's id; made up unless given
        #[arg(long)]
        id: Option<Uuid>,
        /// Allocation unit, a multiple of 64KiB [default: 64KiB]
        #[arg(long, value_name = "SIZE")]
        block_size: Option<Size>,
        /// Room for metadata [default: chosen from the disks' size]
        #[arg(long, value_name = "SIZE")]
        metadata_size: Option<Size>,
        /// Destroy whatever the disks hold
        #[arg(long)]
        wipe: bool,
        #[command(flatten)]
        promises: Promises,
    },
    /// Rename a pool, or change what it may be promised and how full it may get
    Update {
        /// Its id or name
        pool: String,
        /// A new label for people
        #[arg(long)]
        name: Option<Name>,
        #[command(flatten)]
        promises: Promises,
    },
    /// Add disks to a pool while its volumes are in use; one more set of them with redundancy
    Grow {
        /// Its id or name
        pool: String,
        /// A disk's id as in `disk list`; given for each disk, in order
        #[arg(long = "disk", value_name = "ID", required = true)]
        disks: Vec<DiskId>,
        /// Room for metadata afterwards [default: as suits the size of all disks]
        #[arg(long, value_name = "SIZE")]
        metadata_size: Option<Size>,
        /// Destroy whatever the new disks hold
        #[arg(long)]
        wipe: bool,
    },
    /// Give the place of a disk of a pool with redundancy to another one
    Replace {
        /// Its id or name
        pool: String,
        /// The disk that gives up its place, there or not
        disk: DiskId,
        /// The disk that takes it, which is not smaller
        by: DiskId,
        /// Destroy whatever that holds
        #[arg(long)]
        wipe: bool,
    },
    /// Take over a pool with all that its catalog has: volumes, snapshots, groups, hosts and connections
    Import {
        /// Its id, as `disk list` shows it
        pool: Uuid,
        /// Even if the box that had it did not let go of it, or its catalog lacks its last changes.
        /// Never while another box uses its disks
        #[arg(long)]
        force: bool,
    },
    /// Disks that take the place of one that goes, by themselves
    #[command(subcommand)]
    Spare(SpareVerb),
    /// Compare the disks of a pool with redundancy while its volumes are in use, or stop that
    Scrub {
        /// Its id or name
        pool: String,
        /// What to do about what differs
        mode: Mode,
    },
    /// Destroy a pool without volumes and snapshots; its disks are blank then
    Delete {
        /// Its id or name
        pool: String,
        /// Even if thin devices that nobody knows hold data in it, if it grows or is given another
        /// disk, or if disks are missing or fail; those keep what is on them
        #[arg(long)]
        force: bool,
    },
    /// Show what a pool holds and what its disks have done for it
    Statistics {
        /// Its id or name
        pool: String,
    },
    /// Show a pool
    Show {
        /// Its id or name
        pool: String,
    },
    /// List pools
    List,
    /// List the thin devices of a pool, whoever made them
    ThinDevices {
        /// Its id or name
        pool: String,
    },
}

/// What is to become of spares.
#[derive(Debug, Subcommand)]
pub enum SpareVerb {
    /// Have blank disks wait for one of the pool's to fail or be missing for half a minute
    Add {
        /// Its id or name
        pool: String,
        /// Disks' ids as in `disk list`, the first to be taken first
        #[arg(required = true)]
        disks: Vec<DiskId>,
    },
    /// Have disks wait no more
    Remove {
        /// Its id or name
        pool: String,
        /// Disks' ids
        #[arg(required = true)]
        disks: Vec<DiskId>,
    },
}

/// How disks stand in for each other.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Level {
    /// They do not: a disk that fails takes the pool along
    None,
    /// Each disk of a set has all of it; 2 to 32 disks
    Raid1,
    /// Stripes over pairs of disks; an even number from 4 to 32
    Raid10,
    /// Stripes with one parity; 3 to 32 disks
    Raid5,
    /// Stripes with two parities; 4 to 32 disks
    Raid6,
}

impl From<Level> for Redundancy {
    fn from(level: Level) -> Redundancy {
        match level {
            Level::None => Redundancy::None,
            Level::Raid1 => Redundancy::Raid1,
            Level::Raid10 => Redundancy::Raid10,
            Level::Raid5 => Redundancy::Raid5,
            Level::Raid6 => Redundancy::Raid6,
        }
    }
}

/// What is done about disks that differ.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Mode {
    /// Count it
    Check,
    /// Count it and make them the same
    Repair,
    /// End what was begun
    Stop,
}

impl From<Mode> for ScrubMode {
    fn from(mode: Mode) -> ScrubMode {
        match mode {
            Mode::Check => ScrubMode::Check,
            Mode::Repair => ScrubMode::Repair,
            Mode::Stop => ScrubMode::Stop,
        }
    }
}

/// What a pool may be promised, how full it may get, and how often its disks are compared.
#[derive(Debug, Args)]
pub struct Promises {
    /// How much thin volumes may be promised together, from 100 on; 0 for any amount
    #[arg(long, value_name = "PERCENT")]
    over_subscription: Option<u32>,
    /// How much of its capacity no volume is promised
    #[arg(long, value_name = "PERCENT")]
    reserved: Option<u32>,
    /// How full it is when it warns, is told to be critical, and takes nothing new
    #[arg(long, value_name = "PERCENT,PERCENT,PERCENT", value_parser = watermarks)]
    watermarks: Option<Watermarks>,
    /// Days from one comparison of its disks to the next; 0 for never by itself
    #[arg(long, value_name = "DAYS")]
    scrub_days: Option<u32>,
}

/// Three percents, as `75,90,97`.
fn watermarks(text: &str) -> Result<Watermarks, String> {
    let percents: Result<Vec<u32>, _> = text.split(',').map(str::parse).collect();
    match percents.as_deref() {
        Ok(&[warn, critical, stop]) => Ok(Watermarks {
            warn,
            critical,
            stop,
        }),
        Ok(_) | Err(_) => Err("three percents, as 75,90,97".to_owned()),
    }
}

pub async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    let client = &session.client;
    match verb {
        Verb::Create {
            name,
            disks,
            redundancy,
            id,
            block_size,
            metadata_size,
            wipe,
            promises,
        } => {
            let id = session.new_id(id);
            let spec = PoolSpec {
                name,
                disks,
                redundancy: redundancy.into(),
                block_size: block_size.map(|size| size.0),
                metadata_size: metadata_size.map(|size| size.0),
                wipe,
                over_subscription: promises.over_subscription.unwrap_or(0),
                reserved: promises.reserved.unwrap_or(0),
                watermarks: promises.watermarks.unwrap_or_default(),
                scrub_days: promises.scrub_days.unwrap_or(SCRUB_DAYS),
            };
            let shown = async || client.under_new_ids().pool_show(id).await;
            session.change(client.pool_create(id, &spec), shown).await
        }
        Verb::Update {
            pool,
            name,
            promises,
        } => {
            let id = self::id(session, &pool).await?;
            let spec = PoolUpdate {
                name,
                over_subscription: promises.over_subscription,
                reserved: promises.reserved,
                watermarks: promises.watermarks,
                spares: None,
                scrub_days: promises.scrub_days,
            };
            let shown = async || client.under_new_ids().pool_show(id).await;
            session.change(client.pool_update(id, &spec), shown).await
        }
        Verb::Grow {
            pool,
            disks,
            metadata_size,
            wipe,
        } => {
            let id = self::id(session, &pool).await?;
            let spec = PoolGrowth {
                disks,
                metadata_size: metadata_size.map(|size| size.0),
                wipe,
            };
            let shown = async || client.under_new_ids().pool_show(id).await;
            session.change(client.pool_grow(id, &spec), shown).await
        }
        Verb::Import { pool, force } => {
            let shown = async || client.under_new_ids().pool_show(pool).await;
            let spec = ImportSpec { force };
            session.change(client.pool_import(pool, &spec), shown).await
        }
        Verb::Replace {
            pool,
            disk,
            by,
            wipe,
        } => {
            let id = self::id(session, &pool).await?;
            let spec = ReplaceSpec { disk, by, wipe };
            let shown = async || client.under_new_ids().pool_show(id).await;
            session.change(client.pool_replace(id, &spec), shown).await
        }
        Verb::Spare(verb) => change_spares(session, verb).await,
        Verb::Scrub { pool, mode } => {
            let id = self::id(session, &pool).await?;
            let mode = mode.into();
            let shown = async || client.under_new_ids().pool_show(id).await;
            session
                .change(client.pool_scrub(id, &ScrubSpec { mode }), shown)
                .await
        }
        Verb::Delete { pool, force } => {
            let id = self::id(session, &pool).await?;
            let text = format!("pool {id} is gone");
            match force {
                true => {
                    session
                        .removal(client.pool_delete_by_force(id), &text)
                        .await
                }
                false => session.removal(client.pool_delete(id), &text).await,
            }
        }
        Verb::Statistics { pool } => {
            let id = self::id(session, &pool).await?;
            output::one(session.format, &client.pool_statistics(id).await?)
        }
        Verb::Show { pool } => {
            let id = self::id(session, &pool).await?;
            output::one(session.format, &client.pool_show(id).await?)
        }
        Verb::List => output::many(session.format, &client.pool_list().await?),
        Verb::ThinDevices { pool } => {
            let id = self::id(session, &pool).await?;
            output::many(session.format, &client.thin_devices(id).await?)
        }
    }
}

/// A pool has all of its spares said anew.
async fn change_spares(session: &Session, verb: SpareVerb) -> anyhow::Result<()> {
    let (SpareVerb::Add { pool, .. } | SpareVerb::Remove { pool, .. }) = &verb;
    let id = self::id(session, pool).await?;
    let has = session.client.under_new_ids().pool_show(id).await?.spares;
    let spares = match verb {
        SpareVerb::Add { disks, .. } => {
            let new = disks.into_iter().filter(|disk| !has.contains(disk));
            has.iter().cloned().chain(new).collect()
        }
        SpareVerb::Remove { disks, .. } => {
            if let Some(other) = disks.iter().find(|disk| !has.contains(disk)) {
                anyhow::bail!("disk {other} is no spare of pool {id}");
            }
            let left = has.into_iter().filter(|disk| !disks.contains(disk));
            left.collect()
        }
    };
    let spec = PoolUpdate {
        spares: Some(spares),
        ..PoolUpdate::default()
    };
    let client = &session.client;
    let shown = async || client.under_new_ids().pool_show(id).await;
    session.change(client.pool_update(id, &spec), shown).await
}

/// The id of a pool given by id or name.
pub async fn id(session: &Session, text: &str) -> anyhow::Result<Uuid> {
    resolve(text, async || {
        session.client.under_new_ids().pool_list().await
    })
    .await
}

impl Named for Pool {
    const KIND: &'static str = "pool";

    fn id(&self) -> Uuid {
        self.id
    }

    fn name(&self) -> &str {
        self.name.as_str()
    }
}

fn percents(marks: &Watermarks) -> String {
    let Watermarks {
        warn,
        critical,
        stop,
    } = marks;
    format!("warn {warn} %, critical {critical} %, stop {stop} %")
}

fn over_subscription(percent: u32) -> String {
    match percent {
        0 => "any".to_owned(),
        percent => format!("{percent} %"),
    }
}

/// What goes on in a set, with how far it is.
fn doing(set: &PoolSet) -> String {
    let percent = u128::from(set.done) * 100 / u128::from(set.total.max(1));
    let action = match set.action {
        SetAction::Idle | SetAction::Frozen => word(&set.action),
        SetAction::Resync | SetAction::Rebuild | SetAction::Check | SetAction::Repair => {
            format!("{} {percent} %", word(&set.action))
        }
    };
    match set.mismatches {
        0 => action,
        differing => format!("{action}, {} differ", human(differing)),
    }
}

/// A line for each set, and one for each of its disks.
fn sets(pool: &Pool) -> String {
    let mut lines = Vec::new();
    for (number, set) in (0..).zip(&pool.sets) {
        lines.push(format!("{number} {}", doing(set)));
        let members = pool.members.iter().filter(|member| member.set == number);
        lines.extend(members.map(|Member { disk, state, .. }| format!("{disk} {}", word(state))));
    }
    lines.join("\n")
}

/// When its disks were compared, with what result, and how often they are.
fn compared(pool: &Pool) -> String {
    let last = match pool.scrubbed {
        Some(Scrubbed { time, mismatches }) => {
            format!("{}, {mismatches} bytes differ", moment(time))
        }
        None => "never".to_owned(),
    };
    match pool.scrub_days {
        0 => format!("{last}; only when asked for"),
        days => format!("{last}; every {days} days"),
    }
}

impl Facts for Pool {
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "name",
        "state",
        "level",
        "capacity",
        "used",
        "provisioned",
        "volumes",
    ];

    fn facts(&self) -> Vec<(&'static str, String)> {
        let disks: Vec<_> = self.disks.iter().map(DiskId::as_str).collect();
        let mut facts = vec![
            ("id", self.id.to_string()),
            ("name", self.name.to_string()),
            ("state", word(&self.state)),
            ("capacity", or_dash(self.capacity.map(human))),
            ("used", or_dash(self.used.map(human))),
            ("provisioned", human(self.provisioned)),
            ("thick", human(self.thick)),
            (
                "over-subscription",
                over_subscription(self.over_subscription),
            ),
            ("reserved", format!("{} %", self.reserved)),
            ("level", word(&self.level)),
            ("watermarks", percents(&self.watermarks)),
            ("volumes", self.volumes.to_string()),
            ("snapshots", self.snapshots.to_string()),
            ("metadata", human(self.metadata_size)),
            ("metadata used", or_dash(self.metadata_used.map(human))),
            ("block size", human(self.block_size)),
            ("redundancy", word(&self.redundancy)),
            ("disks", disks.join("\n")),
        ];
        if !self.sets.is_empty() {
            facts.push(("sets", sets(self)));
        }
        if self.redundancy != Redundancy::None {
            facts.push(("compared", compared(self)));
        }
        if !self.spares.is_empty() {
            let spares: Vec<_> = self.spares.iter().map(DiskId::as_str).collect();
            facts.push(("spares", spares.join("\n")));
        }
        if let Some(replacing) = &self.replacing {
            let text = format!("{} by {}", replacing.disk, replacing.by);
            facts.push(("replacing", text));
        }
        facts
    }
}
