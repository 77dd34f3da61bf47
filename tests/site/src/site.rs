//! One appliance and, if asked for, one initiator.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use ashlar_ctl::Client;
use ashlar_image::StateFile;
use ashlar_vm::{
    Accelerator, Boot, Disk, Forward, Machine, Settings, StorageLink, free_port, free_udp_pair,
};

use crate::{ISCSI_PORT, MANAGEMENT_PORT, NVME_PORT, Parts, Pki};

/// What a site should be like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Data disks of the appliance; their serial numbers are `DISK0`, `DISK1`, …
    pub disks: u32,
    /// Size of each in bytes. Files are sparse.
    pub disk_size: u64,
    /// Whether there is an initiator beside the appliance.
    pub initiator: bool,
    /// How the appliance starts.
    pub start: Start,
    /// Memory of the appliance in MiB.
    pub memory: u32,
    /// How many processors the appliance has. An emulated one alone is a third faster than each of
    /// several, and [`Start::Firmware`] needs it: with several, an emulated kernel may take its
    /// timer for broken and not start at all.
    pub processors: u32,
    /// A folder whose content the appliance is to have; see [`Site::unpack`].
    pub payload: Option<PathBuf>,
    /// Whether the data disks come before the system's, so that the first of them is `/dev/vda`.
    /// Not with [`Start::Firmware`], which boots from the first disk.
    pub data_disks_first: bool,
    /// Whether the data disks can be pulled while the appliance runs.
    pub slots: bool,
    /// Further words for the kernel's command line. [`Start::Firmware`] takes none.
    pub cmdline: String,
}

/// How the appliance starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// As it would on a board: firmware, boot loader, kernel. There is no way into it but its
    /// own services.
    Firmware,
    /// The same disk with its kernel handed over by QEMU, a root that is not verified, and a root
    /// shell for tests.
    Direct,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            disks: 2,
            disk_size: 8 << 30,
            initiator: false,
            start: Start::Direct,
            memory: 1536,
            processors: 1,
            payload: None,
            data_disks_first: false,
            slots: false,
            cmdline: String::new(),
        }
    }
}

/// Ports on the host's loopback address.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// The agent.
    pub management: u16,
    /// iSCSI targets.
    pub iscsi: u16,
    /// NVMe subsystems.
    pub nvme: u16,
}

/// A running lab.
pub struct Site {
    /// The box.
    pub appliance: Machine,
    /// Its customer.
    pub initiator: Option<Machine>,
    /// Where to reach the box from the host.
    pub ports: Ports,
    /// Who may manage it.
    pub pki: Pki,
    folder: PathBuf,
}

/// How long an appliance may take from power to serving.
const READY_LIMIT: Duration = Duration::from_secs(240);

/// For kernels in emulated machines: without what slows them down, and without a look at the timer,
/// which they take for broken when the emulator was not given a processor for some milliseconds.
const EMULATED: &str = "mitigations=off no_timer_check";

const CONFIG: &str = r#"
name = "lab"
state_dir = "/var/lib/ashlar/store"

[tls]
certificate = "/var/lib/ashlar/tls/cert.pem"
key = "/var/lib/ashlar/tls/key.pem"
client_ca = "/var/lib/ashlar/tls/ca.pem"

[iscsi]
advertise = ["10.77.0.1:3260"]

[nvme]
advertise = ["10.77.0.1:4420"]
"#;

/// Where there are hosts beside the appliance, and so a storage network.
const CONFIG_OF_LAB: &str = r#"
[iser]
portals = ["10.77.0.1:3261"]

[nvme-rdma]
portals = ["10.77.0.1:4420"]

[fc]
ports = ["2000525400a50002"]

[nvme-fc]
ports = ["nn-0x10000025b5aa0c1f:pn-0x20000025b5aa0c1f"]
"#;

/// Where there is none. The one card can be made a port of Fibre Channel by whoever needs that.
const CONFIG_ALONE: &str = r#"
[fc]
ports = ["2000525400a50001"]
"#;

impl Site {
    /// Makes a new site in `folder`, throwing away what was there, and switches it on.
    pub fn create(parts: &Parts, folder: &Path, options: &Options) -> anyhow::Result<Site> {
        let flash = |image: &Path, disk: &Path, pki: &Pki| {
            let state = state_files(pki, options)?;
            ashlar_image::instance(image, &state, disk).context("making the appliance's disk")
        };
        Site::flashed(parts, folder, options, flash)
    }

    /// The same with a system disk that `flash` makes of the appliance's image; what it is told
    /// last may manage the box, if that is told so.
    pub fn flashed(
        parts: &Parts,
        folder: &Path,
        options: &Options,
        flash: impl FnOnce(&Path, &Path, &Pki) -> anyhow::Result<()>,
    ) -> anyhow::Result<Site> {
        empty(folder)?;
        let pki = Pki::create(&folder.join("pki"))?;
        let images = Images::make(parts, folder, options)?;
        flash(&parts.appliance.image, &images.system, &pki)?;
        let builder = Builder::new(parts, folder, options, images)?;
        builder.site(pki, Machine::start, Machine::start)
    }

    /// The same, but the site has booted, serves and has its payload unpacked: only the first with
    /// these options boots, the others go on from where that one was. They share its certificates.
    pub fn booted(parts: &Parts, folder: &Path, options: &Options) -> anyhow::Result<Site> {
        let first = boot_once(parts, options)?;
        empty(folder)?;
        let images = Images::copy(&first, folder, options)?;
        let builder = Builder::new(parts, folder, options, images)?;
        let resume = |machine| {
            let memory = first.join(machine).with_extension("mem");
            move |settings| Machine::resume(settings, &memory)
        };
        let pki = Pki::at(&first.join("pki"));
        let site = builder.site(pki, resume("appliance"), resume("initiator"))?;
        site.await_management()?;
        Ok(site)
    }

    /// Cuts the power of the whole site and switches it on again, on the same disks but in the way
    /// that these options say. Which disks there are they must say as before.
    pub fn again(self, parts: &Parts, options: &Options) -> anyhow::Result<Site> {
        let (folder, pki) = (self.folder.clone(), self.pki.clone());
        drop(self);
        let images = Images::there(&folder, options);
        let builder = Builder::new(parts, &folder, options, images)?;
        builder.site(pki, Machine::start, Machine::start)
    }

    /// Waits until the agent answers a request.
    pub fn await_management(&self) -> anyhow::Result<()> {
        let client = self.client("admin")?;
        // Callers may be in a runtime, where waiting for another one is not allowed.
        let answered = thread::spawn(move || answers(&client)).join();
        answered
            .map_err(|_| anyhow!("the waiting thread panicked"))?
            .with_context(|| format!("see {}", self.appliance.console().display()))
    }

    /// Makes the payload's files available in the appliance, in `/run/payload`.
    pub fn unpack(&mut self) -> anyhow::Result<()> {
        self.appliance.check(
            "mkdir -p /run/payload && tar -C /run/payload -xf /dev/disk/by-id/virtio-PAYLOAD",
        )?;
        Ok(())
    }

    /// A client under one of the names in [`Pki`].
    pub fn client(&self, name: &str) -> anyhow::Result<Client> {
        self.pki.client(name, self.ports.management)
    }

    /// The folder with everything of this site.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// QEMU accepts connections to a forwarded port long before anybody in the guest does, so only an
/// answer counts.
fn answers(client: &Client) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let begin = Instant::now();
        loop {
            match client.system_show().await {
                Ok(_) => return Ok(()),
                Err(error) if begin.elapsed() > READY_LIMIT => return Err(error.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    })
}

/// What the box is given at the factory: who it is and whom it trusts.
fn state_files(pki: &Pki, options: &Options) -> anyhow::Result<Vec<StateFile>> {
    let read = |name: &str| fs::read(pki.file(name)).with_context(|| name.to_owned());
    let config = match options.initiator {
        true => format!("{CONFIG}{CONFIG_OF_LAB}"),
        false => format!("{CONFIG}{CONFIG_ALONE}"),
    };
    Ok(vec![
        StateFile::config(config),
        StateFile::new("tls/ca.pem", read("ca.pem")?),
        StateFile::new("tls/cert.pem", read("server.pem")?),
        StateFile::new("tls/key.pem", read("server.key")?),
    ])
}

/// Without what has the root verified, and the slot named that it is of: verifying each block
/// takes an emulated machine half a minute. Starts by firmware have it.
fn unverified(cmdline: &str) -> String {
    let words = cmdline.split(' ');
    let words = words.filter(|word| !word.starts_with("ashlar."));
    words.collect::<Vec<_>>().join(" ")
}

/// The folder of a site with these options that has booted and was saved.
fn boot_once(parts: &Parts, options: &Options) -> anyhow::Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    format!("{options:?}").hash(&mut hasher);
    let folder = parts.booted().join(format!("{:016x}", hasher.finish()));
    fs::create_dir_all(parts.booted())?;
    // Whoever comes second waits for the first.
    let lock = File::create(folder.with_extension("lock"))?;
    lock.lock()?;
    let done = folder.join("saved");
    if !done.exists() {
        let mut site = Site::create(parts, &folder, options)?;
        if options.payload.is_some() {
            site.unpack()?;
        }
        site.await_management()?;
        site.appliance.save(&folder.join("appliance.mem"))?;
        if let Some(mut initiator) = site.initiator {
            initiator.shell()?;
            initiator.save(&folder.join("initiator.mem"))?;
        }
        File::create(done)?;
    }
    Ok(folder)
}

/// Ends what a folder's machines are, and throws away what is in it.
fn empty(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        end_machines(folder)?;
        fs::remove_dir_all(folder)?;
    }
    Ok(fs::create_dir_all(folder)?)
}

/// Ends the machines of a site that whoever made it has left behind.
pub(crate) fn end_machines(folder: &Path) -> anyhow::Result<()> {
    for machine in ["appliance", "initiator"] {
        Machine::end_left(&folder.join(machine))?;
    }
    Ok(())
}

/// The images of a site's disks.
struct Images {
    system: PathBuf,
    data: Vec<PathBuf>,
    payload: Option<PathBuf>,
    initiator: Option<Disk>,
}

const SYSTEM: &str = "system.img";
const PAYLOAD: &str = "payload.tar";
const INITIATOR: &str = "initiator.img";

fn data(options: &Options) -> impl Iterator<Item = String> {
    (0..options.disks).map(|number| format!("disk{number}.img"))
}

impl Images {
    /// New ones but for the system's.
    fn make(parts: &Parts, folder: &Path, options: &Options) -> anyhow::Result<Images> {
        let images = Images::there(folder, options);
        for image in &images.data {
            File::create(image)?.set_len(options.disk_size)?;
        }
        if let (Some(archive), Some(content)) = (&images.payload, &options.payload) {
            ashlar_vm::pack(content, archive)?;
        }
        if let Some(root) = &images.initiator {
            ashlar_image::copy(&parts.initiator.image, &root.image)?;
        }
        Ok(images)
    }

    /// Those that a folder has.
    fn there(folder: &Path, options: &Options) -> Images {
        Images {
            system: folder.join(SYSTEM),
            data: data(options).map(|name| folder.join(name)).collect(),
            payload: options.payload.is_some().then(|| folder.join(PAYLOAD)),
            initiator: options
                .initiator
                .then(|| disk(folder.join(INITIATOR), "ROOT", false)),
        }
    }

    /// As another site has them: those that are to outlive a power cut copied, the others shared.
    fn copy(from: &Path, folder: &Path, options: &Options) -> anyhow::Result<Images> {
        let copied = |name: &str| {
            let image = folder.join(name);
            ashlar_image::copy(&from.join(name), &image).map(|()| image)
        };
        Ok(Images {
            system: copied(SYSTEM)?,
            data: data(options)
                .map(|name| copied(&name))
                .collect::<Result<_, _>>()?,
            payload: options.payload.is_some().then(|| from.join(PAYLOAD)),
            initiator: options
                .initiator
                .then(|| disk(from.join(INITIATOR), "ROOT", true)),
        })
    }
}

struct Builder<'a> {
    parts: &'a Parts,
    folder: &'a Path,
    options: &'a Options,
    images: Images,
    accelerator: Accelerator,
    links: (u16, u16),
    ports: Ports,
}

impl Builder<'_> {
    fn new<'a>(
        parts: &'a Parts,
        folder: &'a Path,
        options: &'a Options,
        images: Images,
    ) -> anyhow::Result<Builder<'a>> {
        Ok(Builder {
            parts,
            folder,
            options,
            images,
            accelerator: Accelerator::probe(&parts.appliance.kernel, &parts.work)?,
            links: free_udp_pair()?,
            ports: Ports {
                management: free_port()?,
                iscsi: free_port()?,
                nvme: free_port()?,
            },
        })
    }

    /// The site, its machines switched on in these ways.
    fn site(
        &self,
        pki: Pki,
        appliance: impl FnOnce(Settings) -> anyhow::Result<Machine>,
        initiator: impl FnOnce(Settings) -> anyhow::Result<Machine>,
    ) -> anyhow::Result<Site> {
        Ok(Site {
            appliance: appliance(self.appliance())?,
            initiator: self.initiator().map(initiator).transpose()?,
            ports: self.ports,
            pki,
            folder: self.folder.to_owned(),
        })
    }

    fn appliance(&self) -> Settings {
        let built = &self.parts.appliance;
        let (boot, extra) = match self.options.start {
            Start::Firmware => (Boot::Firmware, Vec::new()),
            Start::Direct => {
                let boot = Boot::Direct {
                    kernel: built.kernel.clone(),
                    initrd: built.initrd.clone(),
                    cmdline: format!(
                        "{} {EMULATED} {} {}",
                        unverified(&built.cmdline),
                        ashlar_image::TEST_SHELL_CMDLINE,
                        self.options.cmdline
                    ),
                };
                (boot, ashlar_image::test_shell_qemu_args())
            }
        };
        let forward = |host, guest| Forward { host, guest };
        Settings {
            name: "appliance".into(),
            folder: self.folder.join("appliance"),
            accelerator: self.accelerator,
            memory: self.options.memory,
            processors: self.options.processors,
            boot,
            disks: self.appliance_disks(),
            forwards: vec![
                forward(self.ports.management, MANAGEMENT_PORT),
                forward(self.ports.iscsi, ISCSI_PORT),
                forward(self.ports.nvme, NVME_PORT),
            ],
            address: 0x01,
            storage: Some(StorageLink {
                local: self.links.0,
                peer: self.links.1,
            }),
            extra,
        }
    }

    fn appliance_disks(&self) -> Vec<Disk> {
        let data = self.images.data.iter().enumerate();
        let mut disks: Vec<_> = data
            .map(|(number, image)| Disk {
                slot: self.options.slots,
                ..disk(image.clone(), &format!("DISK{number}"), false)
            })
            .collect();
        let place = match self.options.data_disks_first {
            true => disks.len(),
            false => 0,
        };
        disks.insert(place, disk(self.images.system.clone(), "SYSTEM", false));
        let payload = self.images.payload.iter();
        disks.extend(payload.map(|archive| disk(archive.clone(), "PAYLOAD", true)));
        disks
    }

    fn initiator(&self) -> Option<Settings> {
        let built = &self.parts.initiator;
        let root = self.images.initiator.clone()?;
        Some(Settings {
            name: "initiator".into(),
            folder: self.folder.join("initiator"),
            accelerator: self.accelerator,
            memory: 768,
            processors: 2,
            boot: Boot::Direct {
                kernel: built.kernel.clone(),
                initrd: built.initrd.clone(),
                cmdline: format!("{} {EMULATED}", built.cmdline),
            },
            disks: vec![root],
            forwards: Vec::new(),
            address: 0x11,
            storage: Some(StorageLink {
                local: self.links.1,
                peer: self.links.0,
            }),
            extra: Vec::new(),
        })
    }
}

fn disk(image: PathBuf, serial: &str, volatile: bool) -> Disk {
    Disk {
        image,
        serial: serial.to_owned(),
        volatile,
        slot: false,
    }
}
