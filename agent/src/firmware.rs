//! The firmware's slots, through the box's updater: RAUC, on the system's message bus.
//!
//! The updater is root and verifies what it is given by itself; to ask it is all that we may do.
//! While it installs it answers no question but how far it is.

use std::collections::HashMap;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ashlar_protocol::{Firmware, FirmwareSlot, Problem, ProblemCode, SlotName};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use uuid::Uuid;
use zbus::export::futures_core::Stream;
use zbus::proxy::{CacheProperties, OwnerChangedStream};
use zbus::{Connection, OwnedVariant, Variant, connection, fdo, proxy};

const SERVICE: &str = "de.pengutronix.rauc";

/// What it is at when it is at nothing.
const IDLE: &str = "idle";

const MADE_BY_GLIB: &str = "org.gtk.GDBus.UnmappedGError.";

/// Where the firmware says which it is.
const RELEASE: &str = "/usr/lib/os-release";

/// Longest wait for an answer. Looking at slots checks and mounts the ESP, for which it may
/// wait two minutes.
const ANSWER: Duration = Duration::from_secs(150);

/// Longest silence of an updater that is installing, before it is asked whether it still is. The
/// longest step of one, writing the root, tells each percent.
const SILENCE: Duration = Duration::from_secs(300);

/// How long what was seen of the slots is told again. To look has root check and mount the ESP,
/// and anybody may ask.
const FRESH: Duration = Duration::from_secs(5);

/// The pre-install handler's status for what is older than this firmware accepts.
const TOO_OLD: &str = "exited with code 11";

/// The class of slots that a root file system lies in.
const ROOT: &str = "rootfs";

/// Where a box keeps and finds what its firmware is updated with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct FirmwareOptions {
    /// The folder that a bundle is kept in until it is installed.
    pub folder: PathBuf,
    /// The socket of the message bus that the updater is on.
    pub bus: PathBuf,
    /// The socket on which whoever connects has the box started again.
    pub restart: PathBuf,
}

impl Default for FirmwareOptions {
    fn default() -> Self {
        FirmwareOptions {
            folder: "/var/lib/ashlar/update".into(),
            bus: "/run/dbus/system_bus_socket".into(),
            restart: "/run/ashlar-restart.sock".into(),
        }
    }
}

impl FirmwareOptions {
    /// Everything in one folder, for boxes that are none.
    pub fn within(folder: &Path) -> FirmwareOptions {
        FirmwareOptions {
            folder: folder.join("update"),
            bus: folder.join("bus.sock"),
            restart: folder.join("restart.sock"),
        }
    }
}

#[proxy(
    interface = "de.pengutronix.rauc.Installer",
    default_service = "de.pengutronix.rauc",
    default_path = "/"
)]
trait Installer {
    fn install_bundle(&self, source: &str, args: HashMap<&str, Variant<'_>>) -> zbus::Result<()>;

    fn inspect_bundle(
        &self,
        bundle: &str,
        args: HashMap<&str, Variant<'_>>,
    ) -> zbus::Result<HashMap<String, OwnedVariant>>;

    fn mark(&self, state: &str, slot: &str) -> zbus::Result<(String, String)>;

    fn get_slot_status(&self) -> zbus::Result<Vec<(String, HashMap<String, OwnedVariant>)>>;

    fn get_primary(&self) -> zbus::Result<String>;

    #[zbus(signal)]
    fn completed(&self, result: i32) -> zbus::Result<()>;

    #[zbus(property)]
    fn operation(&self) -> zbus::Result<String>;

    #[zbus(property)]
    fn compatible(&self) -> zbus::Result<String>;

    #[zbus(property)]
    fn last_error(&self) -> zbus::Result<String>;

    #[zbus(property)]
    fn progress(&self) -> zbus::Result<(i32, String, i32)>;
}

/// Asks the updater. Connects for each question: between updates nobody is on the bus.
#[derive(Clone, Debug)]
pub struct Updater {
    options: FirmwareOptions,
    /// The slots when they were last looked at. One look at a time.
    seen: Arc<Mutex<Option<Seen>>>,
}

#[derive(Debug)]
struct Seen {
    /// Told again until then.
    fresh: Instant,
    slots: Slots,
}

impl Updater {
    /// One that is found there.
    pub fn new(options: FirmwareOptions) -> Updater {
        Updater {
            options,
            seen: Arc::default(),
        }
    }

    /// Where a bundle is kept until it is installed.
    pub fn folder(&self) -> &Path {
        &self.options.folder
    }

    /// What runs, and what is started next. While an update is being installed, as it was before.
    ///
    /// # Errors
    /// When there is no updater, or it does not answer; likewise below.
    pub async fn show(&self) -> Result<Firmware, Problem> {
        let mut seen = self.seen.lock().await;
        let fresh = seen.as_ref().filter(|seen| Instant::now() < seen.fresh);
        if let Some(Seen { slots, .. }) = fresh {
            return slots.shown(false);
        }
        let bus = self.bus().await?;
        if bus.operation().await? == IDLE {
            match bus.slots().await {
                Ok(slots) => {
                    let fresh = Instant::now() + FRESH;
                    return seen.insert(Seen { fresh, slots }).slots.shown(false);
                }
                // It may just have begun.
                Err(problem) if bus.operation().await? == IDLE => return Err(problem),
                Err(_) => {}
            }
        }
        match &*seen {
            Some(seen) => seen.slots.shown(true),
            None => Err(Problem::new(
                ProblemCode::Busy,
                "an update is being installed, until when the slots are not told",
            )),
        }
    }

    /// Refuses while an update is being installed, by whomever.
    pub async fn check_idle(&self) -> Result<(), Problem> {
        self.bus().await?.check_idle().await
    }

    /// Has a slot started next.
    ///
    /// # Errors
    /// Also when the slot is not good.
    pub async fn activate(&self, slot: SlotName) -> Result<(), Problem> {
        let mut seen = self.seen.lock().await;
        let bus = self.bus().await?;
        bus.check_idle().await?;
        let slots = bus.slots().await?;
        let entry = slots.find(slot)?;
        if !entry.told.good {
            let detail = format!("slot {slot} is not good: it is not whole, or failed to start");
            return Err(Problem::new(ProblemCode::WrongState, detail));
        }
        *seen = None;
        answered(bus.installer.mark("active", &entry.key)).await?;
        Ok(())
    }

    /// Installs a bundle under an id, and tells how many percent of it are done as that changes.
    /// `begin` is asked before anything is written.
    ///
    /// # Errors
    /// When the bundle is refused, of which nothing is changed then; or it cannot be written, which
    /// may leave the slot that does not run without a firmware.
    pub async fn install(
        &self,
        (id, bundle): (Uuid, &Path),
        begin: impl FnOnce() -> Result<(), Problem>,
        tell: impl Fn(u64),
    ) -> Result<(), Problem> {
        let bus = self.bus().await?;
        bus.check_idle().await?;
        {
            // For those who ask meanwhile.
            let mut seen = self.seen.lock().await;
            let slots = bus.slots().await?;
            let fresh = Instant::now();
            *seen = Some(Seen { fresh, slots });
        }
        let path = bundle.to_string_lossy();
        bus.inspect(&path).await?;
        begin()?;

        // Before it begins, so that nothing is missed.
        let mut ends = answered(bus.installer.receive_completed()).await?;
        let mut changes = answered(bus.properties.receive_properties_changed()).await?;
        let mut owners = answered(bus.installer.inner().receive_owner_changed()).await?;
        let id = id.to_string();
        let args = HashMap::from([("transaction-id", Variant::from(id.as_str()))]);
        answered(bus.installer.install_bundle(&path, args)).await?;
        self.look_again().await;
        let code = bus
            .watch((&mut ends, &mut changes, &mut owners), tell)
            .await;
        self.look_again().await;
        if let Ok(Some(code)) = code
            && code != 0
        {
            return Err(bus.not_installed().await);
        }
        // What was told may have been of another installation, or by one that took its place.
        let slots = async { self.bus().await?.slots().await };
        match slots.await {
            Ok(slots) if slots.holds(&id) => Ok(()),
            _ => Err(gone()),
        }
    }

    /// What was seen is what was: whoever asks next is told what is.
    async fn look_again(&self) {
        if let Some(seen) = &mut *self.seen.lock().await {
            seen.fresh = Instant::now();
        }
    }

    /// Has the box started again. Returns once that is asked for.
    ///
    /// # Errors
    /// When nobody is there to do that, or an update is being installed.
    pub async fn restart(&self) -> Result<(), Problem> {
        self.check_restartable().await?;
        self.start_again().await
    }

    /// That no update is being installed.
    ///
    /// # Errors
    /// When one is, or that cannot be told.
    pub async fn check_restartable(&self) -> Result<(), Problem> {
        match self.check_idle().await {
            // Then nobody installs anything.
            Err(problem) if problem.code == ProblemCode::Unsupported => Ok(()),
            idle => idle,
        }
    }

    /// Has the box started again, whatever goes on. Returns once that is asked for.
    ///
    /// # Errors
    /// When nobody is there to do that.
    pub async fn start_again(&self) -> Result<(), Problem> {
        let socket = &self.options.restart;
        let asked = UnixStream::connect(socket).await;
        asked.map(drop).map_err(|error| {
            let detail = format!(
                "nothing starts this box again at {}: {error}",
                socket.display()
            );
            Problem::new(ProblemCode::Unsupported, detail)
        })
    }

    async fn bus(&self) -> Result<Bus, Problem> {
        let socket = &self.options.bus;
        let connected = async {
            let address = format!("unix:path={}", socket.display());
            let connection: Connection = connection::Builder::address(address.as_str())
                .method_timeout(ANSWER)
                .build()
                .await?;
            let installer = InstallerProxy::builder(&connection)
                .cache_properties(CacheProperties::No)
                .build()
                .await?;
            let properties = fdo::PropertiesProxy::builder(&connection)
                .destination(SERVICE)
                .path("/")
                .cache_properties(CacheProperties::No)
                .build()
                .await?;
            zbus::Result::Ok(Bus {
                installer,
                properties,
            })
        };
        timed(connected).await?.map_err(|error| {
            let detail = format!(
                "this box takes no updates: nobody is on the message bus {}: {error}",
                socket.display()
            );
            Problem::new(ProblemCode::Unsupported, detail)
        })
    }
}

/// What happens while an update is installed.
enum Turn {
    /// It says so, with this result.
    Ended(i32),
    /// There is nobody any more.
    Gone,
    /// Something of it has changed.
    Moved,
}

/// The updater, for a few questions.
struct Bus {
    installer: InstallerProxy<'static>,
    properties: fdo::PropertiesProxy<'static>,
}

impl Bus {
    async fn operation(&self) -> Result<String, Problem> {
        answered(self.installer.operation()).await
    }

    async fn check_idle(&self) -> Result<(), Problem> {
        match self.operation().await?.as_str() {
            IDLE => Ok(()),
            operation => {
                let detail = format!("the updater is {operation}");
                Err(Problem::new(ProblemCode::Busy, detail))
            }
        }
    }

    /// Waits for an installation to end; what it ended with, if that was told.
    async fn watch(
        &self,
        (ends, changes, owners): (
            &mut CompletedStream,
            &mut fdo::PropertiesChangedStream,
            &mut OwnerChangedStream<'_>,
        ),
        tell: impl Fn(u64),
    ) -> Result<Option<i32>, Problem> {
        // It has told an end, and is not through with it; of another installation, perhaps.
        let mut ended = None;
        loop {
            let turn = async {
                tokio::select! {
                    biased;
                    end = next(ends) => match end.map(|end| end.args().map(|args| args.result)) {
                        Some(Ok(code)) => Turn::Ended(code),
                        Some(Err(_)) | None => Turn::Gone,
                    },
                    // Whoever takes its place knows nothing of this.
                    _ = next(owners) => Turn::Gone,
                    _ = next(changes) => Turn::Moved,
                }
            };
            match tokio::time::timeout(SILENCE, turn).await {
                Ok(Turn::Gone) => return Ok(None),
                Ok(Turn::Ended(code)) => ended = Some(code),
                Ok(Turn::Moved) if ended.is_none() => {
                    let (percent, ..) = answered(self.installer.progress()).await?;
                    // All of it is what it has inspected; the end of this is told otherwise.
                    if let Ok(percent @ 0..100) = u64::try_from(percent) {
                        tell(percent);
                    }
                    continue;
                }
                Ok(Turn::Moved) => {}
                Err(_silence) => {
                    tracing::warn!("the updater has told nothing for {} s", SILENCE.as_secs());
                }
            }
            if self.operation().await? == IDLE {
                return Ok(ended);
            }
        }
    }

    async fn slots(&self) -> Result<Slots, Problem> {
        let primary = answered(self.installer.get_primary()).await?;
        let all = answered(self.installer.get_slot_status()).await?;
        let mut roots: Vec<_> = all.into_iter().filter_map(Entry::read).collect();
        roots.sort_by_key(|entry| entry.told.name);
        Ok(Slots { primary, roots })
    }

    async fn not_installed(&self) -> Problem {
        let why = match answered(self.installer.last_error()).await {
            Ok(why) => why,
            Err(problem) => problem.detail,
        };
        let (code, detail) = match why.contains(TOO_OLD) {
            true => (
                ProblemCode::MalformedRequest,
                format!("the bundle is older than this firmware accepts: {why}"),
            ),
            false => (
                ProblemCode::KernelFailed,
                format!("the update was not installed: {why}"),
            ),
        };
        let mut problem = Problem::new(code, detail);
        problem.retryable = false;
        problem
    }

    /// Whether a bundle is whole enough to be read, signed, and for this box.
    async fn inspect(&self, path: &str) -> Result<(), Problem> {
        let refused = |why: String| Problem::new(ProblemCode::MalformedRequest, why);
        let inspected = timed(self.installer.inspect_bundle(path, HashMap::new())).await?;
        let told = inspected.map_err(|error| match refusal(&error) {
            Some(why) => refused(format!("the bundle is refused: {why}")),
            None => silent(error),
        })?;
        let update = told.get("update").map(fields).unwrap_or_default();
        let ours = answered(self.installer.compatible()).await?;
        let theirs = text(&update, "compatible").unwrap_or_default();
        if theirs != ours {
            let detail = format!("the bundle is for {theirs:?}, this box is {ours:?}");
            return Err(refused(detail));
        }
        tracing::info!(version = text(&update, "version"), "installs an update");
        Ok(())
    }
}

/// What the updater says of its slots.
#[derive(Debug)]
struct Slots {
    primary: String,
    roots: Vec<Entry>,
}

/// A slot of a root file system.
#[derive(Debug)]
struct Entry {
    /// What the updater calls it.
    key: String,
    booted: bool,
    /// The installation that filled it.
    transaction: Option<String>,
    told: FirmwareSlot,
}

impl Slots {
    fn shown(&self, installing: bool) -> Result<Firmware, Problem> {
        Ok(Firmware {
            version: version(),
            running: self.running()?,
            next: self.next()?,
            installing,
            slots: self.roots.iter().map(|entry| entry.told.clone()).collect(),
        })
    }

    /// Whether an installation has come to its end: it is in a slot, which is started next.
    fn holds(&self, transaction: &str) -> bool {
        let primary = self.roots.iter().find(|entry| entry.key == self.primary);
        primary.is_some_and(|entry| entry.transaction.as_deref() == Some(transaction))
    }

    fn find(&self, slot: SlotName) -> Result<&Entry, Problem> {
        let mut roots = self.roots.iter();
        roots
            .find(|entry| entry.told.name == slot)
            .ok_or_else(|| strange(&format!("it has no slot {slot}")))
    }

    fn running(&self) -> Result<SlotName, Problem> {
        let booted = self.roots.iter().find(|entry| entry.booted);
        booted
            .map(|entry| entry.told.name)
            .ok_or_else(|| strange("it does not know what the box runs from"))
    }

    fn next(&self) -> Result<SlotName, Problem> {
        let primary = self.roots.iter().find(|entry| entry.key == self.primary);
        primary
            .map(|entry| entry.told.name)
            .ok_or_else(|| strange("it does not know what the box starts from next"))
    }
}

impl Entry {
    fn read((key, fields): (String, HashMap<String, OwnedVariant>)) -> Option<Entry> {
        if text(&fields, "class")? != ROOT {
            return None;
        }
        let installed = text(&fields, "installed.timestamp").and_then(|at| {
            let at = OffsetDateTime::parse(&at, &Rfc3339).ok()?;
            u64::try_from(at.unix_timestamp()).ok()
        });
        Some(Entry {
            booted: text(&fields, "state")? == "booted",
            transaction: text(&fields, "installed.transaction"),
            told: FirmwareSlot {
                name: text(&fields, "bootname")?.parse().ok()?,
                good: text(&fields, "boot-status")? == "good",
                version: text(&fields, "bundle.version"),
                installed,
            },
            key,
        })
    }
}

fn text(fields: &HashMap<String, OwnedVariant>, name: &str) -> Option<String> {
    let value = fields.get(name)?;
    value.downcast_ref::<&str>().ok().map(str::to_owned)
}

/// A dictionary in a value; empty when it is none.
fn fields(value: &OwnedVariant) -> HashMap<String, OwnedVariant> {
    let mut value: &Variant<'_> = value;
    // RAUC has dictionaries in variants of their own.
    while let Variant::Variant(inner) = value {
        value = inner;
    }
    let owned = OwnedVariant::try_from(value).ok();
    let dictionary = owned.and_then(|value| value.try_into().ok());
    dictionary.unwrap_or_default()
}

/// The version of the firmware that runs; of this program, when that does not say.
pub(crate) fn version() -> String {
    let release = std::fs::read_to_string(RELEASE).unwrap_or_default();
    let version = release
        .lines()
        .find_map(|line| line.strip_prefix("IMAGE_VERSION="));
    let version = version.map(|version| version.trim_matches('"'));
    version.unwrap_or(env!("CARGO_PKG_VERSION")).to_owned()
}

/// The next of a stream. Cancel-safe.
async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}

async fn timed<T>(work: impl Future<Output = T>) -> Result<T, Problem> {
    let within = tokio::time::timeout(ANSWER, work).await;
    within.map_err(|_| {
        let detail = format!("the updater did not answer within {} s", ANSWER.as_secs());
        Problem::new(ProblemCode::Internal, detail)
    })
}

async fn answered<T>(question: impl Future<Output = zbus::Result<T>>) -> Result<T, Problem> {
    timed(question).await?.map_err(silent)
}

/// The updater's own words when it says no, rather than nothing.
fn refusal(error: &zbus::Error) -> Option<&str> {
    match error {
        // RAUC's errors have names that GLib makes.
        zbus::Error::MethodError(name, why, _) if name.starts_with(MADE_BY_GLIB) => why.as_deref(),
        zbus::Error::FDO(error) => match &**error {
            fdo::Error::Failed(why) => Some(why),
            _ => None,
        },
        _ => None,
    }
}

fn silent(error: zbus::Error) -> Problem {
    if let zbus::Error::FDO(unknown) = &error
        && let fdo::Error::ServiceUnknown(why) = &**unknown
    {
        let detail = format!("this box takes no updates: {why}");
        return Problem::new(ProblemCode::Unsupported, detail);
    }
    let detail = match refusal(&error) {
        Some(why) => format!("the updater refuses: {why}"),
        None => format!("the updater does not answer: {error}"),
    };
    Problem::new(ProblemCode::Internal, detail)
}

fn gone() -> Problem {
    let detail = "the updater ended in the middle; the slot that does not run may be half written";
    Problem::new(ProblemCode::Interrupted, detail)
}

fn strange(what: &str) -> Problem {
    Problem::new(ProblemCode::Internal, format!("the updater: {what}"))
}
