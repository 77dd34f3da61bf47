//! A whole agent on a loopback port, with certificates for everybody.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ashlar_agent::config::{Config, IdentityFolders, Listen, Tls};
use ashlar_agent::domain;
use ashlar_agent::engine::{Engine, EngineOptions, EngineTask};
use ashlar_agent::firmware::FirmwareOptions;
use ashlar_agent::http::Server;
use ashlar_agent::identity;
use ashlar_agent::support::SupportOptions;
use ashlar_ctl::client::HttpVersion;
use ashlar_ctl::pki::{Directory, Profile, Validity};
use ashlar_ctl::{Client, Endpoint, Identity};
use ashlar_protocol::{FcPort, PoolSpec, Role, VolumeSpec};
use ashlar_targetd::server::Server as Targetd;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::kernel::{DISKS, Kernel, serve};

/// An agent that serves until [`Appliance::stop`].
pub struct Appliance {
    /// All its files.
    pub dir: Arc<TempDir>,
    /// Its authority, with an identity for each role, called as the role.
    pub pki: Directory,
    /// Where its management port is.
    pub address: SocketAddr,
    /// Who it is.
    pub own: identity::Identity,
    /// What is beneath its targetd.
    pub kernel: Arc<Kernel>,
    targetd: Option<Targetd>,
    stop: watch::Sender<bool>,
    port: JoinHandle<()>,
    task: EngineTask,
}

impl Appliance {
    /// Starts one as it comes.
    pub async fn start() -> Appliance {
        Appliance::with(|_| {}).await
    }

    /// Starts one that comes from a factory, which is its authority until it is sealed.
    pub async fn seeded(serial: &str) -> Appliance {
        let (dir, pki) = authority();
        let factory = dir.path().join("factory");
        std::fs::create_dir(&factory).unwrap();
        std::fs::create_dir(dir.path().join("identity")).unwrap();
        std::fs::write(dir.path().join("token"), TOKEN).unwrap();
        let authority = std::fs::read_to_string(pki.paths("ca").certificate).unwrap();
        let seed = format!(
            "serial = {serial:?}\ntoken = {TOKEN:?}\nauthority = \"\"\"\n{authority}\"\"\"\n"
        );
        std::fs::write(factory.join("seed.toml"), seed).unwrap();
        Appliance::on(dir, pki, 0, |_| {}).await
    }

    /// A client of the factory's, with the identity of that name.
    pub fn station(&self, name: &str) -> Client {
        let own = self.pki.paths(name);
        let token = self.dir.path().join("token");
        let identity = Identity::of_station(&own.certificate, &own.key, &token).unwrap();
        Client::new(self.endpoint(), &identity)
    }

    /// Starts one whose management port is configured otherwise.
    pub async fn with(adjust: impl FnOnce(&mut Listen)) -> Appliance {
        let (dir, pki) = authority();
        let profile = Profile::Server {
            names: vec!["127.0.0.1".to_owned()],
        };
        pki.issue("server", &profile, Validity::days(1)).unwrap();
        Appliance::on(dir, pki, 0, adjust).await
    }

    async fn on(
        dir: Arc<TempDir>,
        pki: Directory,
        port: u16,
        adjust: impl FnOnce(&mut Listen),
    ) -> Appliance {
        identity::reset::finish(&config(&dir, &pki), true).unwrap();
        let (kernel, targetd) = serve(&dir.path().join("targetd.sock"));
        std::fs::create_dir_all(dir.path().join("update")).unwrap();
        let (engine, task) = Engine::start(options(dir.path())).await.unwrap();
        engine.ready().await;
        let own = identity::Identity::open(&config(&dir, &pki)).unwrap();
        let mut listen = Listen {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            ..Listen::default()
        };
        adjust(&mut listen);
        let server = Server::bind(listen, own.clone(), engine).await.unwrap();
        let address = server.address().unwrap();
        let (stop, stopped) = watch::channel(false);
        Appliance {
            dir,
            pki,
            address,
            own,
            kernel,
            targetd: Some(targetd),
            stop,
            port: tokio::spawn(server.run(stopped)),
            task,
        }
    }

    /// Stops, and starts again on the same state and port.
    pub async fn restart(self) -> Appliance {
        let (dir, pki, port) = (self.dir.clone(), self.pki.clone(), self.address.port());
        self.stop().await;
        Appliance::on(dir, pki, port, |_| {}).await
    }

    /// Tells the port to stop, and goes on.
    pub fn begin_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Stops and waits for the end.
    pub async fn stop(self) {
        self.kernel.release();
        self.begin_stop();
        self.port.await.unwrap();
        self.task.stop().await;
        end(self.targetd).await;
    }

    /// Stops its targetd.
    pub async fn stop_targetd(&mut self) {
        end(self.targetd.take()).await;
    }

    /// Starts its targetd again, over a kernel with nothing in it.
    pub fn start_targetd(&mut self) {
        let (kernel, targetd) = serve(&self.dir.path().join("targetd.sock"));
        (self.kernel, self.targetd) = (kernel, Some(targetd));
    }

    /// Where clients connect.
    pub fn endpoint(&self) -> Endpoint {
        self.address.to_string().parse().unwrap()
    }

    /// An identity of its authority, by name.
    pub fn identity(&self, name: &str) -> Identity {
        let (own, ca) = (self.pki.paths(name), self.pki.paths("ca"));
        Identity::from_files(&own.certificate, &own.key, &ca.certificate).unwrap()
    }

    /// A client with that identity.
    pub fn client(&self, name: &str) -> Client {
        Client::new(self.endpoint(), &self.identity(name))
    }

    /// The same over one version of HTTP.
    pub fn client_over(&self, name: &str, version: HttpVersion) -> Client {
        Client::speaking(self.endpoint(), &self.identity(name), &[version])
    }

    /// A certificate of the agent's own authority.
    pub fn issue(&self, name: &str, role: Option<Role>, validity: Validity) {
        let profile = Profile::Client { role };
        self.pki.issue(name, &profile, validity).unwrap();
    }

    /// Creates a pool, for volumes to be in.
    pub async fn pool(&self) -> Uuid {
        let id = Uuid::new_v4();
        let created = self.client("admin").pool_create(id, &pool()).await;
        created.expect("the kernel agrees to pools");
        id
    }
}

/// What boxes from the factory are told with their image.
const TOKEN: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// An authority with an identity for each role, in a new folder.
fn authority() -> (Arc<TempDir>, Directory) {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let pki = Directory::at(dir.path().join("pki"));
    pki.init("test CA", Validity::days(1)).unwrap();
    for role in Role::ALL {
        let profile = Profile::Client { role: Some(role) };
        pki.issue(role.as_str(), &profile, Validity::days(1))
            .unwrap();
    }
    (dir, pki)
}

/// A pool of all disks.
pub fn pool() -> PoolSpec {
    PoolSpec::on(
        "pool".parse().expect("a name"),
        DISKS.map(|disk| disk.parse().expect("a disk id")).into(),
    )
}

/// A volume of 1 GiB.
pub fn volume(pool: Uuid) -> VolumeSpec {
    VolumeSpec::blank("volume".parse().unwrap(), pool, 1 << 30)
}

async fn end(targetd: Option<Targetd>) {
    if let Some(targetd) = targetd {
        let stop = tokio::task::spawn_blocking(|| targetd.stop());
        stop.await.unwrap();
    }
}

fn options(dir: &Path) -> EngineOptions {
    EngineOptions {
        state_dir: dir.join("state"),
        targetd_socket: dir.join("targetd.sock"),
        convert: dir.join("convert"),
        firmware: FirmwareOptions::within(dir),
        support: SupportOptions {
            journalctl: dir.join("journalctl"),
            configuration: Default::default(),
        },
        name: "box1".parse().unwrap(),
        listens: domain::Listens {
            iscsi: served("127.0.0.1:3260"),
            iser: served("127.0.0.1:3260"),
            nvme: served("127.0.0.1:4420"),
            nvme_rdma: served("127.0.0.1:4420"),
            fc: ["20000025b5aa0c1f".parse().unwrap()].into(),
            nvme_fc: [fc_port()].into(),
        },
        ready_within: Duration::from_secs(10),
        spare_after: Duration::from_millis(100),
        scrub_day: Duration::from_secs(86_400),
    }
}

fn fc_port() -> FcPort {
    "nn-0x10000025b5aa0c1f:pn-0x20000025b5aa0c1f"
        .parse()
        .unwrap()
}

fn served(portal: &str) -> domain::Listen {
    domain::Listen {
        portals: [portal.parse().unwrap()].into(),
        advertised: Vec::new(),
        usual: false,
    }
}

/// Where it finds out who it is: of files, unless it was given a seed.
fn config(dir: &TempDir, pki: &Directory) -> Config {
    let identity = IdentityFolders {
        factory: dir.path().join("factory"),
        folder: dir.path().join("identity"),
    };
    let (own, ca) = (pki.paths("server"), pki.paths("ca"));
    let tls = Tls {
        certificate: own.certificate,
        key: own.key,
        client_ca: ca.certificate,
    };
    Config {
        name: "box1".parse().ok(),
        state_dir: dir.path().join("state"),
        firmware: FirmwareOptions::within(dir.path()),
        tls: (!identity.factory.exists()).then_some(tls),
        identity,
        ..Config::default()
    }
}

/// Another authority's directory, whose certificates the agent does not trust.
pub fn strangers(dir: &Path) -> (Directory, PathBuf) {
    let path = dir.join("strangers");
    let pki = Directory::at(&path);
    pki.init("strangers", Validity::days(1)).unwrap();
    (pki, path)
}
