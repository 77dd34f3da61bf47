//! One QEMU process.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::accelerator::Accelerator;
use crate::monitor::Monitor;
use crate::shell::{Output, Shell};

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name, for files and messages.
    pub name: String,
    /// A folder of its own for console log, sockets and pid.
    pub folder: PathBuf,
    /// How guest code is run.
    pub accelerator: Accelerator,
    /// Memory in MiB.
    pub memory: u32,
    /// How many processors it has.
    pub processors: u32,
    /// How it starts.
    pub boot: Boot,
    /// Its disks in order.
    pub disks: Vec<Disk>,
    /// Ports of the guest reachable on loopback.
    pub forwards: Vec<Forward>,
    /// The last byte of its network cards' addresses: `n` on the management network, `n + 1` on
    /// the storage network.
    pub address: u8,
    /// The storage network, or none.
    pub storage: Option<StorageLink>,
    /// Further arguments for QEMU.
    pub extra: Vec<String>,
}

/// How a machine starts.
#[derive(Clone, Debug)]
pub enum Boot {
    /// By QEMU, from a kernel and initrd of the host.
    Direct {
        /// The kernel.
        kernel: PathBuf,
        /// The initial RAM disk.
        initrd: PathBuf,
        /// The kernel's command line.
        cmdline: String,
    },
    /// By UEFI firmware, from the first disk, again whenever the guest asks for it.
    Firmware,
}

/// A disk.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Its raw image.
    pub image: PathBuf,
    /// Its serial number, at most 20 characters.
    pub serial: String,
    /// Whether writes are thrown away when the machine ends.
    pub volatile: bool,
    /// Whether it can be [pulled](Machine::pull) while the machine runs.
    pub slot: bool,
}

/// A forwarded port.
#[derive(Clone, Copy, Debug)]
pub struct Forward {
    /// On the host's loopback address.
    pub host: u16,
    /// In the guest.
    pub guest: u16,
}

/// One end of a direct link between two machines: Ethernet frames in UDP on loopback, which has
/// no connection that a power cut could break.
#[derive(Clone, Copy, Debug)]
pub struct StorageLink {
    /// This machine's UDP port.
    pub local: u16,
    /// The other's.
    pub peer: u16,
}

/// A running machine. Dropping it cuts its power, unless it was [left](Machine::leave) running.
pub struct Machine {
    settings: Settings,
    qemu: Option<Child>,
    shell: Option<Shell>,
    /// Whether it is on its way from power to its shell.
    starts: bool,
    /// Disks that are pulled, by their serial numbers.
    pulled: BTreeSet<String>,
    /// How many were plugged in, for names of their own.
    plugged: u32,
}

/// How long a guest may take from power to its shell: an emulated one on a busy host needs most.
const BOOT_LIMIT: Duration = Duration::from_secs(240);

/// What a kernel dies of, once in some hundred starts, when QEMU emulates several processors: one
/// of them runs an instruction that another is replacing, and finds the breakpoint that stands
/// there meanwhile after it has gone. Nothing of ours leads to that.
const EMULATION_FAULT: &str = "Oops: int3";

/// How often a machine is started again for that.
const MOST_FAULTS: u32 = 2;

/// How long a command in a guest may take unless the caller says otherwise.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

impl Machine {
    /// Switches a machine on.
    pub fn start(settings: Settings) -> anyhow::Result<Machine> {
        let mut machine = Machine::off(settings)?;
        machine.power_on()?;
        Ok(machine)
    }

    /// Has a machine go on where another of the same settings was [saved](Machine::save), on disks
    /// as they were then.
    pub fn resume(settings: Settings, memory: &Path) -> anyhow::Result<Machine> {
        let mut machine = Machine::off(settings)?;
        let incoming = format!("exec:cat '{}'", memory.display());
        machine.run_qemu(&["-incoming", &incoming])?;
        machine.set_clock()?;
        Ok(machine)
    }

    fn off(settings: Settings) -> anyhow::Result<Machine> {
        fs::create_dir_all(&settings.folder)?;
        Ok(Machine {
            settings,
            qemu: None,
            shell: None,
            starts: false,
            pulled: BTreeSet::new(),
            plugged: 0,
        })
    }

    /// Writes what is in memory to a file, and ends the machine without its noticing. It must have
    /// written to no disk whose writes are thrown away.
    pub fn save(mut self, memory: &Path) -> anyhow::Result<()> {
        self.shell = None;
        let name = &self.settings.name;
        Monitor::open(&self.monitor_socket())
            .and_then(|mut monitor| monitor.save(memory))
            .with_context(|| format!("saving {name}"))
    }

    /// Pulls a disk out of its slot, whoever uses it; waits until the guest has let go of it.
    pub fn pull(&mut self, serial: &str) -> anyhow::Result<()> {
        self.slot(serial)?;
        let name = &self.settings.name;
        Monitor::open(&self.monitor_socket())
            .and_then(|mut monitor| monitor.unplug(serial))
            .with_context(|| format!("pulling {serial} from {name}"))?;
        self.pulled.insert(serial.to_owned());
        Ok(())
    }

    /// Plugs a disk in again that was pulled.
    pub fn plug(&mut self, serial: &str) -> anyhow::Result<()> {
        let (slot, image) = self.slot(serial)?;
        self.plugged += 1;
        let node = format!("plugged{}", self.plugged);
        Monitor::open(&self.monitor_socket())
            .and_then(|mut monitor| monitor.plug(serial, &image, &node, &slot))
            .with_context(|| format!("plugging {serial} into {}", self.settings.name))?;
        self.pulled.remove(serial);
        Ok(())
    }

    /// The slot of a disk, and its image.
    fn slot(&self, serial: &str) -> anyhow::Result<(String, PathBuf)> {
        let mut disks = self.settings.disks.iter().enumerate();
        let found = disks.find(|(_, disk)| disk.serial == serial && disk.slot);
        let (index, disk) = found.with_context(|| format!("{serial} is in no slot"))?;
        Ok((slot(index), disk.image.clone()))
    }

    /// No time has passed in the guest since it was saved.
    fn set_clock(&mut self) -> anyhow::Result<()> {
        self.shell()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        self.check(&format!("date --set=@{}", now.as_secs_f64()))
            .map(drop)
    }

    /// Switches it on again after a power cut.
    pub fn power_on(&mut self) -> anyhow::Result<()> {
        self.starts = true;
        self.run_qemu(&[])
    }

    fn run_qemu(&mut self, further: &[&str]) -> anyhow::Result<()> {
        let socket = self.shell_socket();
        let _ = fs::remove_file(&socket);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.settings.folder.join("qemu.log"))?;
        let mut qemu = Command::new("qemu-system-x86_64")
            .args(self.arguments())
            .args(further)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("failed to start qemu-system-x86_64")?;
        fs::write(self.settings.folder.join("pid"), qemu.id().to_string())?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while !socket.exists() {
            if let Some(status) = qemu.try_wait()? {
                let log = fs::read_to_string(self.settings.folder.join("qemu.log"))?;
                bail!("{} did not start ({status}): {log}", self.settings.name);
            }
            if Instant::now() > deadline {
                bail!("{} made no socket", self.settings.name);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.qemu = Some(qemu);
        Ok(())
    }

    /// Cuts the power: the guest is gone between two instructions.
    pub fn cut_power(&mut self) -> anyhow::Result<()> {
        self.shell = None;
        if let Some(mut qemu) = self.qemu.take() {
            qemu.kill()?;
            qemu.wait()?;
        }
        Ok(())
    }

    /// Leaves the machine running when this value goes.
    pub fn leave(mut self) {
        self.qemu = None;
    }

    /// Its root shell; waits for the guest to get there.
    pub fn shell(&mut self) -> anyhow::Result<&mut Shell> {
        if self.shell.as_ref().is_none_or(Shell::is_out_of_step) {
            // QEMU talks to one at a time.
            self.shell = None;
            self.shell = Some(self.open_shell()?);
        }
        Ok(self.shell.as_mut().expect("it was set above"))
    }

    fn open_shell(&mut self) -> anyhow::Result<Shell> {
        let mut faults = 0;
        loop {
            let shell = Shell::open(&self.shell_socket(), BOOT_LIMIT);
            // What one that had come up, or went on from elsewhere, would be without is not for us
            // to say.
            let again = self.starts && faults < MOST_FAULTS && self.was_emulated_wrongly();
            if shell.is_ok() || !again {
                self.starts = false;
                return shell.with_context(|| self.complaint());
            }
            faults += 1;
            let kept = self.settings.folder.join(format!("console-{faults}.log"));
            fs::rename(self.console(), &kept)?;
            eprintln!(
                "{} was emulated wrongly and is started again; see {}",
                self.settings.name,
                kept.display()
            );
            self.cut_power()?;
            self.power_on()?;
        }
    }

    /// Where to look for the reason why it does not answer.
    fn complaint(&mut self) -> String {
        let (name, console) = (&self.settings.name, self.console());
        let ended = self.qemu.as_mut().and_then(|qemu| qemu.try_wait().ok()?);
        match ended {
            None => format!("{name} is not up; see {}", console.display()),
            Some(status) => {
                let log = fs::read_to_string(self.settings.folder.join("qemu.log"));
                format!("{name} ended with {status}: {}", log.unwrap_or_default())
            }
        }
    }

    fn was_emulated_wrongly(&self) -> bool {
        let console = fs::read(self.console()).unwrap_or_default();
        self.settings.accelerator == Accelerator::Tcg
            && String::from_utf8_lossy(&console).contains(EMULATION_FAULT)
    }

    /// Runs a command as root; its status is the caller's to judge.
    pub fn run(&mut self, command: &str) -> anyhow::Result<Output> {
        self.shell()?.run(command, COMMAND_LIMIT)
    }

    /// Runs a command as root that must succeed; answers its standard output.
    pub fn check(&mut self, command: &str) -> anyhow::Result<String> {
        let name = self.settings.name.clone();
        self.shell()?.check(command, COMMAND_LIMIT).context(name)
    }

    /// The same with a limit of the caller's.
    pub fn check_within(&mut self, command: &str, limit: Duration) -> anyhow::Result<String> {
        let name = self.settings.name.clone();
        self.shell()?.check(command, limit).context(name)
    }

    /// What the guest wrote to its console.
    pub fn console(&self) -> PathBuf {
        self.settings.folder.join("console.log")
    }

    /// The folder it keeps its files in.
    pub fn folder(&self) -> &Path {
        &self.settings.folder
    }

    /// Ends a machine that was left running, by its folder. Answers whether there was one.
    pub fn end_left(folder: &Path) -> anyhow::Result<bool> {
        let Ok(text) = fs::read_to_string(folder.join("pid")) else {
            return Ok(false);
        };
        let pid: i32 = text.trim().parse().context("pid file")?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        // The number may have gone to another process since.
        let ours = String::from_utf8_lossy(&command).contains(&*folder.to_string_lossy());
        if ours {
            kill(Pid::from_raw(pid), Signal::SIGKILL)?;
            while Path::new(&format!("/proc/{pid}/fd")).exists()
                && fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|mut d| d.next().is_some())
            {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        fs::remove_file(folder.join("pid"))?;
        Ok(ours)
    }

    fn shell_socket(&self) -> PathBuf {
        self.settings.folder.join("shell.sock")
    }

    fn monitor_socket(&self) -> PathBuf {
        self.settings.folder.join("monitor.sock")
    }

    fn arguments(&self) -> Vec<String> {
        let settings = &self.settings;
        let mut arguments: Vec<String> = settings.accelerator.arguments().map(String::from).into();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(|w| (*w).to_owned()));
        add(&[
            "-machine",
            "q35",
            "-smp",
            &settings.processors.to_string(),
            "-m",
            &format!("{}M", settings.memory),
        ]);
        add(&["-display", "none", "-nodefaults"]);
        add(&["-serial", &format!("file:{}", self.console().display())]);
        let monitor = self.monitor_socket();
        add(&[
            "-qmp",
            &format!("unix:{},server=on,wait=off", monitor.display()),
        ]);
        add(&["-device", "virtio-rng-pci"]);
        // Tells a guest that another one goes on from where it does, so that their random numbers
        // differ.
        add(&["-device", "vmgenid,guid=auto"]);
        add(&["-device", "virtio-serial-pci", "-chardev"]);
        add(&[&format!(
            "socket,id=shell,path={},server=on,wait=off",
            self.shell_socket().display()
        )]);
        add(&[
            "-device",
            "virtserialport,chardev=shell,name=org.ashlar.shell",
        ]);
        match &settings.boot {
            Boot::Direct {
                kernel,
                initrd,
                cmdline,
            } => {
                add(&[
                    "-kernel",
                    &kernel.to_string_lossy(),
                    "-initrd",
                    &initrd.to_string_lossy(),
                ]);
                // A panic ends QEMU, which does not restart this machine, and with it all waiting.
                add(&["-no-reboot", "-append", &format!("{cmdline} panic=-1")]);
            }
            Boot::Firmware => {
                let code = "/usr/share/OVMF/OVMF_CODE_4M.fd";
                add(&[
                    "-drive",
                    &format!("if=pflash,format=raw,readonly=on,file={code}"),
                ]);
            }
        }
        for (index, disk) in settings.disks.iter().enumerate() {
            let mut place = String::new();
            if disk.slot {
                let (slot, chassis) = (slot(index), index + 1);
                add(&["-device"]);
                add(&[&format!("pcie-root-port,id={slot},chassis={chassis}")]);
                place = format!(",bus={slot},id={}", disk.serial);
            }
            if self.pulled.contains(&disk.serial) {
                continue;
            }
            let snapshot = if disk.volatile { ",snapshot=on" } else { "" };
            add(&["-drive"]);
            add(&[&format!(
                "id=disk{index},if=none,format=raw,discard=unmap,cache=writeback,file={}{snapshot}",
                disk.image.display()
            )]);
            add(&[
                "-device",
                &format!(
                    "virtio-blk-pci,drive=disk{index},serial={}{place}",
                    disk.serial
                ),
            ]);
        }
        let forwards: String = settings
            .forwards
            .iter()
            .map(|f| format!(",hostfwd=tcp:127.0.0.1:{}-:{}", f.host, f.guest))
            .collect();
        add(&["-netdev", &format!("user,id=management{forwards}")]);
        add(&["-device", &card("management", settings.address)]);
        if let Some(link) = settings.storage {
            add(&["-netdev"]);
            add(&[&format!(
                "socket,id=storage,udp=127.0.0.1:{},localaddr=127.0.0.1:{}",
                link.peer, link.local
            )]);
            add(&["-device", &card("storage", settings.address + 1)]);
        }
        arguments.extend(settings.extra.iter().cloned());
        arguments
    }
}

/// The name of a disk's slot.
fn slot(index: usize) -> String {
    format!("slot{index}")
}

fn card(network: &str, address: u8) -> String {
    format!("virtio-net-pci,netdev={network},mac=52:54:00:a5:00:{address:02x}")
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Nothing can be done here about a process that cannot be killed.
        let _ = self.cut_power();
    }
}
