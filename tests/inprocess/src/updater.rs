//! The box's updater: one that writes nothing, on a message bus of its own.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, Semaphore};
use zbus::object_server::SignalEmitter;
use zbus::{Connection, ObjectServer, OwnedVariant, Variant, connection, fdo, interface};

/// What it says that it updates.
pub const COMPATIBLE: &str = "ashlar-test";

/// What begins a bundle that it takes: then come its version and what it is for, and `spoilt`
/// when it cannot be written.
const SIGNED: &str = "bundle";

/// RAUC as it answers, on a bus that listens where the agent looks. Gone when dropped.
pub struct Updater {
    bus: Child,
    connection: Option<Connection>,
    state: Arc<State>,
}

struct State {
    slots: Mutex<Slots>,
    /// Leave to write.
    leave: Semaphore,
    begun: Notify,
}

struct Slots {
    /// Of slot b, and what filled it.
    version: Option<String>,
    transaction: String,
    good: bool,
    primary: &'static str,
    operation: &'static str,
    last_error: String,
    percent: i32,
}

impl Updater {
    /// Starts it beside an agent whose files are in `folder`.
    pub async fn start(folder: &Path) -> Updater {
        let socket = folder.join("bus.sock");
        let address = format!("unix:path={}", socket.display());
        let configuration = folder.join("bus.conf");
        let text = format!(
            "<busconfig><listen>{address}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow send_destination=\"*\"/><allow receive_sender=\"*\"/><allow own=\"*\"/>\
             </policy></busconfig>"
        );
        fs::write(&configuration, text).unwrap();
        let mut bus = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", configuration.display()))
            .args(["--nofork", "--print-address"])
            .stdout(Stdio::piped())
            // It complains of limits that it may not raise.
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon starts");
        // It has said where it listens once it does.
        let mut line = String::new();
        let said = bus.stdout.as_mut().expect("its output is taken");
        BufReader::new(said).read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the message bus did not start");

        let state = Arc::new(State {
            slots: Mutex::new(Slots {
                version: None,
                transaction: String::new(),
                good: true,
                primary: "rootfs.0",
                operation: "idle",
                last_error: String::new(),
                percent: 0,
            }),
            leave: Semaphore::new(Semaphore::MAX_PERMITS / 2),
            begun: Notify::new(),
        });
        let connection = connection::Builder::address(address.as_str())
            .serve_at("/", Installer(Arc::clone(&state)))
            .name("de.pengutronix.rauc")
            .build()
            .await
            .unwrap();
        Updater {
            bus,
            connection: Some(connection),
            state,
        }
    }

    /// It writes no more until it is let.
    pub fn hold(&self) {
        self.state.leave.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// It writes again.
    pub fn release(&self) {
        self.state.leave.add_permits(1 << 20);
    }

    /// Waits until it has begun to install, since this was asked last.
    pub async fn begun(&self) {
        self.state.begun.notified().await;
    }

    /// Its process ends, in the middle of whatever it is at.
    pub async fn die(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close().await.unwrap();
        }
    }

    /// Slot b has failed to start.
    pub fn spoil(&self) {
        self.state.slots.lock().unwrap().good = false;
    }

    /// What is in slot b.
    pub fn version(&self) -> Option<String> {
        self.state.slots.lock().unwrap().version.clone()
    }
}

impl Drop for Updater {
    fn drop(&mut self) {
        // Ended already or not.
        let _ = self.bus.kill();
        let _ = self.bus.wait();
    }
}

/// A bundle that it takes.
pub fn bundle(version: &str, length: usize) -> Vec<u8> {
    bundle_for(version, COMPATIBLE, length)
}

/// A bundle that is for something else, or spoilt.
pub fn bundle_for(version: &str, what: &str, length: usize) -> Vec<u8> {
    let mut bytes = format!("{SIGNED} {version} {what}\n").into_bytes();
    bytes.resize(length, b'.');
    bytes
}

/// Its version, and what it is for.
fn read(path: &str) -> Option<(String, String)> {
    let bytes = fs::read(path).ok()?;
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    let mut words = str::from_utf8(line).ok()?.split(' ');
    let signed = words.next()? == SIGNED;
    let version = words.next()?.to_owned();
    let rest: Vec<_> = words.collect();
    signed.then(|| (version, rest.join(" ")))
}

struct Installer(Arc<State>);

impl Installer {
    /// It answers nothing else while it installs.
    fn idle(&self) -> fdo::Result<MutexGuard<'_, Slots>> {
        let slots = self.0.slots.lock().unwrap();
        match slots.operation {
            "idle" => Ok(slots),
            _ => {
                let why = "already processing a different method".to_owned();
                Err(fdo::Error::Failed(why))
            }
        }
    }
}

type Fields = HashMap<String, OwnedVariant>;

fn said(text: &str) -> OwnedVariant {
    OwnedVariant::try_from(Variant::from(text.to_owned())).unwrap()
}

#[interface(name = "de.pengutronix.rauc.Installer")]
impl Installer {
    async fn inspect_bundle(&self, bundle: &str, _args: Fields) -> fdo::Result<Fields> {
        // As the updater tells how far it is with looking.
        self.idle()?.percent = 100;
        let refused = || fdo::Error::Failed("signature verification failed".to_owned());
        let (version, what) = read(bundle).ok_or_else(refused)?;
        let compatible = what.split(' ').next().unwrap_or_default();
        let update: HashMap<String, Variant<'_>> = HashMap::from([
            ("version".to_owned(), Variant::from(version)),
            (
                "compatible".to_owned(),
                Variant::from(compatible.to_owned()),
            ),
        ]);
        let update = Variant::Variant(Box::new(Variant::from(update)));
        let update = OwnedVariant::try_from(update).unwrap();
        Ok(HashMap::from([("update".to_owned(), update)]))
    }

    async fn install_bundle(
        &self,
        source: String,
        args: Fields,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> fdo::Result<()> {
        let mut slots = self.idle()?;
        slots.operation = "installing";
        let transaction = args.get("transaction-id").expect("the agent gives one");
        slots.transaction = transaction.downcast_ref::<&str>().unwrap().to_owned();
        drop(slots);
        self.0.begun.notify_one();
        let (state, server) = (Arc::clone(&self.0), server.clone());
        tokio::spawn(async move { write(&state, &server, &source).await });
        Ok(())
    }

    async fn mark(&self, state: &str, slot: &str) -> fdo::Result<(String, String)> {
        let mut slots = self.idle()?;
        slots.primary = match (state, slot) {
            ("active", "rootfs.0") => "rootfs.0",
            ("active", "rootfs.1") => "rootfs.1",
            _ => return Err(fdo::Error::Failed(format!("no {state} {slot}"))),
        };
        Ok((slot.to_owned(), "activated".to_owned()))
    }

    async fn get_slot_status(&self) -> fdo::Result<Vec<(String, Fields)>> {
        let slots = self.idle()?;
        let slot = |class: &str, bootname: &str, state: &str, good: bool| {
            HashMap::from([
                ("class".to_owned(), said(class)),
                ("bootname".to_owned(), said(bootname)),
                ("state".to_owned(), said(state)),
                (
                    "boot-status".to_owned(),
                    said(if good { "good" } else { "bad" }),
                ),
            ])
        };
        let mut b = slot("rootfs", "b", "inactive", slots.good);
        if let Some(version) = &slots.version {
            b.insert("bundle.version".to_owned(), said(version));
            b.insert("installed.transaction".to_owned(), said(&slots.transaction));
            b.insert(
                "installed.timestamp".to_owned(),
                said("2026-11-30T12:00:00Z"),
            );
        }
        Ok(vec![
            ("rootfs.0".to_owned(), slot("rootfs", "a", "booted", true)),
            ("kernel.0".to_owned(), slot("kernel", "", "active", true)),
            ("rootfs.1".to_owned(), b),
        ])
    }

    async fn get_primary(&self) -> fdo::Result<String> {
        Ok(self.idle()?.primary.to_owned())
    }

    #[zbus(signal)]
    async fn completed(emitter: &SignalEmitter<'_>, result: i32) -> zbus::Result<()>;

    #[zbus(property)]
    async fn operation(&self) -> String {
        self.0.slots.lock().unwrap().operation.to_owned()
    }

    #[zbus(property)]
    async fn compatible(&self) -> String {
        COMPATIBLE.to_owned()
    }

    #[zbus(property)]
    async fn last_error(&self) -> String {
        self.0.slots.lock().unwrap().last_error.clone()
    }

    #[zbus(property)]
    async fn progress(&self) -> (i32, String, i32) {
        let percent = self.0.slots.lock().unwrap().percent;
        (percent, "Copying image".to_owned(), 1)
    }
}

/// Pretends to write, and tells so.
async fn write(state: &State, server: &ObjectServer, source: &str) {
    let installer = server.interface::<_, Installer>("/").await.unwrap();
    let emitter = installer.signal_emitter();
    // What it came to with looking is told late.
    let _ = installer.get().await.progress_changed(emitter).await;
    for percent in [10, 50, 90] {
        state.leave.acquire().await.unwrap().forget();
        state.slots.lock().unwrap().percent = percent;
        let told = installer.get().await;
        // Whoever listened may be gone.
        let _ = told.progress_changed(emitter).await;
        drop(told);
    }
    let (version, what) = read(source).expect("it was looked at");
    let result = {
        let mut slots = state.slots.lock().unwrap();
        slots.operation = "idle";
        match what.contains("spoilt") {
            true => {
                slots.last_error = "failed to write: Input/output error".to_owned();
                1
            }
            false => {
                slots.version = Some(version);
                slots.primary = "rootfs.1";
                0
            }
        }
    };
    let _ = Installer::completed(emitter, result).await;
}
