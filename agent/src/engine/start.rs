//! Starting and stopping.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::Handle;
use tokio::sync::{RwLock, watch};

use super::catalog::Catalogs;
use super::clerk::Clerk;
use super::desk::StoreDesk;
use super::events::{Events, event};
use super::keeper::Keeper;
use super::watch::{Seen, Watcher};
use super::{Engine, EngineOptions, Shared, schedule, spares};
use crate::audit::{Audit, AuditError, AuditTask};
use crate::domain::decide::work::interrupted;
use crate::domain::intent::Dangling;
use crate::domain::record::RecordError;
use crate::domain::site::found;
use crate::domain::{Edit, Intent, Key, OsRandom, Record, Site};
use crate::firmware::{Updater, version};
use crate::lanes::Lanes;
use crate::reconcile::{Desk, Ledger, Reconciler};
use crate::store::{IndexError, OpenError, Options, Store};
use crate::targetd::Targetd;
use crate::thin::Views;

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store does not open.
    #[error("failed to open the store: {0}")]
    Open(#[from] OpenError),
    /// It opens but cannot be read.
    #[error("failed to read the store: {0}")]
    Read(#[from] IndexError),
    /// A record is damaged, or of a newer version.
    #[error("failed to read the store: {0}")]
    Record(#[from] RecordError),
    /// The records contradict each other.
    #[error("failed to read the store: {0}")]
    Dangling(#[from] Dangling),
    /// What the start itself changes cannot be written.
    #[error("failed to write the box's own records: {0}")]
    Write(ashlar_protocol::Problem),
    /// There is no audit trail.
    #[error("failed to open the audit trail: {0}")]
    Audit(#[from] AuditError),
    /// The store thread does not start.
    #[error("failed to start the store thread: {0}")]
    Thread(#[source] std::io::Error),
    /// Opening ended early.
    #[error("opening the store was cut short: {0}")]
    Cut(#[source] tokio::task::JoinError),
}

/// The threads and tasks behind an [`Engine`].
#[derive(Debug)]
pub struct EngineTask {
    desk: StoreDesk,
    ledger: Arc<Ledger>,
    thread: JoinHandle<()>,
    audit: AuditTask,
    stop: watch::Sender<bool>,
}

impl EngineTask {
    /// Takes no more commands, leaves the kernel as it is, and closes the store. Handlers that
    /// still wait are told that the agent is stopping.
    pub async fn stop(self) {
        self.stop_after(std::future::ready(())).await;
    }

    /// [`EngineTask::stop`], with the audit trail closed after those calls have ended, too.
    pub async fn stop_after<T>(self, calls: impl Future<Output = T>) -> T {
        self.stop.send_replace(true);
        self.ledger.close();
        self.desk.stop().await;
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the store thread did not end well");
        }
        let ended = calls.await;
        self.audit.stop().await;
        ended
    }
}

impl Engine {
    /// Opens the store, and starts the first lap as soon as targetd is there.
    ///
    /// # Errors
    /// When the store does not open or holds what this version cannot read.
    pub async fn start(options: EngineOptions) -> Result<(Engine, EngineTask), StartError> {
        Engine::start_on(options, Options::default()).await
    }

    /// [`Engine::start`] with sizes of the store chosen.
    pub(super) async fn start_on(
        options: EngineOptions,
        sizes: Options,
    ) -> Result<(Engine, EngineTask), StartError> {
        let dir = options.state_dir.clone();
        let listens = options.listens.clone();
        let targetd = Targetd::start(options.targetd_socket);
        let (stop, stopped) = watch::channel(false);
        let intent = Arc::new(RwLock::new(Intent::default()));
        let catalogs = Catalogs::new(targetd.clone(), Arc::clone(&intent), stopped.clone());
        let marks = catalogs.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let (store, mut intent, events) = load(&dir, sizes)?;
            // The store's lock says that nobody else has this directory.
            let audit = Audit::open(&dir.join("audit"))?;
            let mut keeper = Keeper::new(store, Arc::clone(&events), marks);
            let (record, news) = found(&intent, &listens, &version(), &mut OsRandom);
            let edits: Vec<Edit> = news.into_iter().chain(interrupted(&intent)).collect();
            keeper
                .stage(&mut intent, &edits)
                .map_err(StartError::Write)?;
            keeper.commit();
            keeper.starts_at(intent.generation());
            Ok::<_, StartError>((keeper, intent, events, record, audit))
        });
        let (keeper, loaded, events, record, (audit, audit_task)) =
            opened.await.map_err(StartError::Cut)??;
        let EngineOptions {
            convert,
            firmware,
            support,
            name,
            listens,
            ready_within,
            spare_after,
            scrub_day,
            ..
        } = options;
        let site = Arc::new(Site::new(&record, name, listens));
        let ledger = Arc::new(Ledger::default());
        let promised = loaded.generation();
        *intent.write().await = loaded;
        let updater = Updater::new(firmware);
        super::firmware::tidy(&updater);
        let thin = Views::new(targetd.clone());
        let lanes = Lanes::new(targetd.clone());
        let reconciler = Reconciler::new(
            Arc::clone(&intent),
            Arc::clone(&ledger),
            targetd.clone(),
            (thin.clone(), lanes.clone(), catalogs.clone()),
            Arc::clone(&site),
            stopped.clone(),
            promised,
        );
        reconciler.recover().await;

        let (desk, inbox) = StoreDesk::new();
        let seen = Arc::new(Seen::default());
        let clerk = Clerk {
            keeper,
            intent: Arc::clone(&intent),
            ledger: Arc::clone(&ledger),
            reconciler: reconciler.clone(),
            targetd: targetd.clone(),
            site: Arc::clone(&site),
            seen: Arc::clone(&seen),
            desk: desk.downgrade(),
            catalogs: catalogs.clone(),
            runtime: Handle::current(),
            flushing: false,
        };
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || clerk.run(inbox))
            .map_err(StartError::Thread)?;
        let ready = when_ready(reconciler.clone(), ready_within);
        run_laps(reconciler.clone(), Arc::new(desk.clone()), stopped.clone());
        let watcher = Watcher {
            intent: Arc::clone(&intent),
            ledger: Arc::clone(&ledger),
            targetd: targetd.clone(),
            desk: desk.clone(),
            seen,
            mended: Arc::default(),
            reconciler: reconciler.clone(),
            site: Arc::clone(&site),
            spares: Arc::default(),
            addresses: Arc::default(),
            looking: Arc::default(),
        };
        watcher.clone().start(&stopped);
        let task = EngineTask {
            desk: desk.clone(),
            ledger: Arc::clone(&ledger),
            thread,
            audit: audit_task,
            stop,
        };
        let shared = Shared {
            desk,
            intent,
            ledger,
            thin,
            lanes,
            catalogs,
            importing: Arc::default(),
            targetd,
            reconciler,
            site,
            convert,
            updater,
            support,
            works: Arc::default(),
            events,
            audit,
            watcher,
            ready,
        };
        let engine = Engine {
            shared: Arc::new(shared),
        };
        spares::start(engine.clone(), spare_after, stopped.clone());
        schedule::start(engine.clone(), scrub_day, stopped);
        Ok((engine, task))
    }
}

/// Opens the store and reads the intent back from it.
fn load(dir: &Path, sizes: Options) -> Result<(Store, Intent, Arc<Events>), StartError> {
    let (store, report) = Store::open(dir, sizes)?;
    tracing::info!(?report, "store opened");
    let mut intent = Intent::default();
    let mut kept = VecDeque::new();
    for entry in store.load() {
        let (key, value) = entry?;
        // Answers are read when their requests are repeated.
        if matches!(Key::parse(&key)?, Key::Answer(_)) {
            continue;
        }
        match Record::parse(&key, &value) {
            Ok(Record::Event(id, record)) => kept.push_back(event(id, record)),
            Ok(record) => intent.apply(&Edit::put(record))?,
            // Of the firmware that this box has left, and no concern of this one: nobody repeats
            // it here.
            Err(error @ RecordError::Operation { .. }) => tracing::warn!("passed over: {error}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok((store, intent, Arc::new(Events::new(kept))))
}

fn run_laps(reconciler: Reconciler, desk: Arc<dyn Desk>, mut stopped: watch::Receiver<bool>) {
    tokio::spawn(async move {
        // A lap that is broken off is run again by the next start.
        tokio::select! {
            () = reconciler.laps(desk) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    });
}

/// Tells when the first lap is done, or `within` has passed.
fn when_ready(reconciler: Reconciler, within: std::time::Duration) -> watch::Receiver<bool> {
    let (tell, ready) = watch::channel(false);
    tokio::spawn(async move {
        if tokio::time::timeout(within, reconciler.first_lap())
            .await
            .is_err()
        {
            tracing::warn!("serving before the first lap is done");
        }
        tell.send_replace(true);
    });
    ready
}
