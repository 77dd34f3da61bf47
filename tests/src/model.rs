//! An appliance in this process: the real agent and the real targetd, with TLS between client
//! and agent and a socket between agent and targetd, on the model kernel.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use ashlar_agent::config::{Config, Tls};
use ashlar_agent::engine::{Engine, EngineOptions};
use ashlar_agent::firmware::FirmwareOptions;
use ashlar_agent::http::Server as ManagementPort;
use ashlar_agent::identity;
use ashlar_ctl::pki::{Directory, Profile, Validity};
use ashlar_ctl::{Client, Endpoint, Identity};
use ashlar_kernel_iface::lio::FcFabric;
use ashlar_kernel_iface::model::{ModelDisk, ModelKernel};
use ashlar_protocol::{Role, Wwn};
use ashlar_targetd::server::{SocketOptions, bind};
use ashlar_targetd::{AllowedPeers, Kernel, Server, Targetd};
use ashlar_targetd_protocol::Bytes;
use nix::unistd::geteuid;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::runner::{Answer, Appliance};
use crate::scenario::{Accident, Request};
use crate::wire::Wire;

/// Size of each of the two disks, as in the virtual machine.
const DISK_SIZE: Bytes = Bytes(8 << 30);

/// Its port on Fibre Channel, as in the virtual machine.
const FC_PORT: &str = "2000525400a50001";

/// Where the program that reads images is.
const CONVERT: &str = "convert";

/// How long a killed agent's threads may take to let go of the store.
const LET_GO: Duration = Duration::from_secs(20);

/// An appliance on the model kernel.
pub struct Model {
    folder: TempDir,
    /// The kernel, for looking at and for faults.
    pub kernel: ModelKernel,
    fc_ports: Vec<Wwn>,
    targetd: Option<Server>,
    agent: Option<Agent>,
    /// Where the management port is, whoever serves it.
    address: SocketAddr,
    wires: BTreeMap<String, Wire>,
}

impl Model {
    /// Switches an appliance on, with two blank disks and a port on Fibre Channel.
    pub fn boot() -> anyhow::Result<Model> {
        Model::boot_with(&[FC_PORT.parse()?])
    }

    /// The same with these ports.
    pub fn boot_with(fc_ports: &[Wwn]) -> anyhow::Result<Model> {
        let folder = tempfile::tempdir()?;
        make_certificates(&folder.path().join("pki"))?;
        let kernel = ModelKernel::new();
        kernel.add_disk(ModelDisk::new("DISK0", DISK_SIZE));
        kernel.add_disk(ModelDisk::new("DISK1", DISK_SIZE));
        for port in fc_ports {
            kernel.add_fc_host(*port, FcFabric::LibFc);
        }
        let mut model = Model {
            folder,
            kernel,
            fc_ports: fc_ports.to_vec(),
            targetd: None,
            agent: None,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            wires: BTreeMap::new(),
        };
        model.start_targetd()?;
        model.start_agent()?;
        Ok(model)
    }

    /// Has images of disks read by `program`, `ashlar-convert` or one that does as it does.
    pub fn convert_with(&self, program: &Path) -> anyhow::Result<()> {
        let place = self.folder.path().join(CONVERT);
        std::os::unix::fs::symlink(program, place).context("failed to link the program")
    }

    /// A client with the certificate of `identity`, for what is not CBOR.
    pub fn wire(&self, identity: &str) -> &Wire {
        &self.wires[identity]
    }

    /// Where the management port is, whichever agent serves it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client with the certificate of `identity`, of what listens at `address`.
    ///
    /// # Errors
    /// When there is no such identity.
    pub fn client_at(&self, address: SocketAddr, identity: &str) -> anyhow::Result<Client> {
        let directory = Directory::at(self.pki());
        let (own, ca) = (directory.paths(identity), directory.paths("ca"));
        let identity = Identity::from_files(&own.certificate, &own.key, &ca.certificate)?;
        let endpoint: Endpoint = address.to_string().parse()?;
        Ok(Client::new(endpoint, &identity))
    }

    /// A client with the certificate of `identity`.
    ///
    /// # Errors
    /// When there is no such identity.
    pub fn client(&self, identity: &str) -> anyhow::Result<Client> {
        self.client_at(self.address, identity)
    }

    /// Copies the agent's store while the agent is stopped.
    pub fn back_up(&mut self) -> anyhow::Result<TempDir> {
        self.agent = None;
        let copy = tempfile::tempdir()?;
        copy_tree(&self.store(), copy.path())?;
        self.start_agent()?;
        Ok(copy)
    }

    /// Switches the appliance off and on, with a copy in the place of the agent's store.
    pub fn put_back(&mut self, copy: &Path) -> anyhow::Result<()> {
        self.agent = None;
        std::fs::remove_dir_all(self.store())?;
        copy_tree(copy, &self.store())?;
        self.power_cut()
    }

    fn start_targetd(&mut self) -> anyhow::Result<()> {
        let listener = bind(&SocketOptions {
            path: self.socket(),
            group: None,
        })?;
        let dbroot = self.folder.path().join("reservations");
        let targetd = Targetd::start(Kernel::model(&self.kernel), &dbroot)?;
        let allowed = AllowedPeers { agent: geteuid() };
        self.targetd = Some(Server::spawn(Arc::new(targetd), listener, allowed)?);
        Ok(())
    }

    fn stop_targetd(&mut self) {
        if let Some(server) = self.targetd.take() {
            server.stop();
        }
    }

    fn start_agent(&mut self) -> anyhow::Result<()> {
        let config = self.config()?;
        let begin = Instant::now();
        let agent = loop {
            match Agent::start(&config) {
                Ok(agent) => break agent,
                // The one before was killed, not stopped, and may not have let go yet.
                Err(_) if begin.elapsed() < LET_GO => thread::sleep(Duration::from_millis(20)),
                Err(error) => return Err(error),
            }
        };
        self.address = agent.address;
        let address = agent.address.to_string();
        self.wires = ["admin", "operator", "reader", "roleless"]
            .into_iter()
            .map(|who| Ok((who.to_owned(), Wire::new(&address, &self.pki(), who)?)))
            .collect::<anyhow::Result<_>>()?;
        self.agent = Some(agent);
        Ok(())
    }

    /// The defaults, with everything that is a place in our own folder.
    fn config(&self) -> anyhow::Result<Config> {
        let path = self.folder.path().join("agent.toml");
        std::fs::write(&path, "name = \"model\"\n")?;
        let mut config = Config::read(&path)?;
        config.state_dir = self.store();
        config.targetd_socket = self.socket();
        config.fc.ports.clone_from(&self.fc_ports);
        config.convert = self.folder.path().join(CONVERT);
        // The machine that this runs on has an updater of its own, or none.
        config.firmware = FirmwareOptions::within(self.folder.path());
        config.listen.address = self.address;
        config.tls = Some(Tls {
            certificate: self.pki().join("server.pem"),
            key: self.pki().join("server.key"),
            client_ca: self.pki().join("ca.pem"),
        });
        Ok(config)
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("targetd.sock")
    }

    /// Where the certificates are that it was made with.
    pub fn pki(&self) -> PathBuf {
        self.folder.path().join("pki")
    }

    fn power_cut(&mut self) -> anyhow::Result<()> {
        self.agent = None;
        self.stop_targetd();
        self.kernel.reboot();
        self.start_targetd()?;
        self.start_agent()
    }
}

impl Appliance for Model {
    async fn exchange(&mut self, identity: &str, request: &Request) -> anyhow::Result<Answer> {
        let wire = self
            .wires
            .get(identity)
            .with_context(|| format!("no identity {identity}"))?;
        wire.exchange(request).await
    }

    async fn kernel(&mut self) -> anyhow::Result<Vec<String>> {
        ashlar_kernel_view::view(&self.kernel, &self.kernel, &self.kernel.dm())
    }

    async fn accident(&mut self, accident: Accident) -> anyhow::Result<()> {
        match accident {
            Accident::KillAgent => {
                self.agent = None;
                self.start_agent()
            }
            Accident::KillTargetd => {
                self.stop_targetd();
                self.start_targetd()
            }
            Accident::PowerCut => self.power_cut(),
            Accident::LoseStore => {
                // By then the catalogs of pools have what was asked for before.
                tokio::time::sleep(Duration::from_millis(1500)).await;
                self.agent = None;
                std::fs::remove_dir_all(self.store())?;
                self.power_cut()
            }
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.agent = None;
        self.stop_targetd();
    }
}

/// An agent on a thread of its own. Dropping it ends its tasks wherever they are.
struct Agent {
    address: SocketAddr,
    end: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    fn start(config: &Config) -> anyhow::Result<Agent> {
        let (tell, told) = mpsc::channel();
        let (end, ended) = watch::channel(false);
        let config = config.clone();
        let thread = thread::spawn(move || {
            let outcome = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(anyhow::Error::from)
                .and_then(|runtime| {
                    let result = runtime.block_on(serve(config, &tell, ended));
                    // Not a stop: tasks are dropped where they are.
                    runtime.shutdown_background();
                    result
                });
            if let Err(error) = outcome {
                // The starter may have its answer already.
                let _ = tell.send(Err(error));
            }
        });
        let address = told
            .recv()
            .map_err(|_| anyhow!("the agent's thread ended"))??;
        Ok(Agent {
            address,
            end,
            thread: Some(thread),
        })
    }
}

async fn serve(
    config: Config,
    tell: &mpsc::Sender<anyhow::Result<SocketAddr>>,
    mut ended: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let identity = identity::Identity::open(&config)?;
    let options = EngineOptions {
        state_dir: config.state_dir.clone(),
        targetd_socket: config.targetd_socket.clone(),
        convert: config.convert.clone(),
        firmware: config.firmware.clone(),
        support: config.support(),
        name: config.box_name(),
        listens: config.listens(),
        ready_within: Duration::from_secs(10),
        spare_after: Duration::from_millis(100),
        scrub_day: Duration::from_secs(86_400),
    };
    let (engine, _task) = Engine::start(options).await?;
    let port = ManagementPort::bind(config.listen, identity, engine.clone()).await?;
    let address = port.address()?;
    let (_never, running) = watch::channel(false);
    tokio::spawn(port.run(running));
    engine.ready().await;
    // The starter waits for this.
    let _ = tell.send(Ok(address));
    // An error means that the appliance is gone, which is an end too.
    let _ = ended.wait_for(|end| *end).await;
    Ok(())
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.end.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // It ended by itself or by our word; a panic was printed.
            let _ = thread.join();
        }
    }
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type()?.is_dir() {
            true => copy_tree(&from, &to)?,
            false => drop(std::fs::copy(from, to)?),
        }
    }
    Ok(())
}

fn make_certificates(folder: &Path) -> anyhow::Result<()> {
    let directory = Directory::at(folder);
    let validity = Validity::days(1);
    directory.init("model", validity)?;
    let names = vec!["127.0.0.1".to_owned()];
    directory.issue("server", &Profile::Server { names }, validity)?;
    for (name, role) in [
        ("admin", Some(Role::Admin)),
        ("operator", Some(Role::Operator)),
        ("reader", Some(Role::Reader)),
        ("roleless", None),
    ] {
        directory.issue(name, &Profile::Client { role }, validity)?;
    }
    Ok(())
}
