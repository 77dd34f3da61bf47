//! QEMU's monitor: one JSON object a line, each way.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::time::{TimeVal, TimeValLike};
use serde_json::{Value, json};

use crate::shell::connect;

/// How long QEMU may take to say something. Writing a guest's memory takes it some seconds.
const LIMIT: Duration = Duration::from_secs(120);

/// Bytes per second, more than any disk takes: by default, memory is written in a minute.
const BANDWIDTH: u64 = 16 << 30;

/// A conversation with one QEMU.
pub struct Monitor {
    stream: BufReader<UnixStream>,
    events: VecDeque<Value>,
}

impl Monitor {
    /// Connects.
    pub fn open(socket: &Path) -> anyhow::Result<Monitor> {
        let stream = connect(socket)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut monitor = Monitor {
            stream: BufReader::new(stream),
            events: VecDeque::new(),
        };
        monitor.message().context("no greeting")?;
        monitor.call("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    /// Has the memory and the devices' state written to a file. The guest runs on until the last
    /// of it is, and then no more; by then its disks are written as well.
    pub fn save(&mut self, file: &Path) -> anyhow::Result<()> {
        let capabilities = json!([{ "capability": "events", "state": true }]);
        self.call(
            "migrate-set-capabilities",
            json!({ "capabilities": capabilities }),
        )?;
        self.call(
            "migrate-set-parameters",
            json!({ "max-bandwidth": BANDWIDTH }),
        )?;
        let socket = file.with_extension("sock");
        let listener = UnixListener::bind(&socket)?;
        setsockopt(
            &listener,
            ReceiveTimeout,
            &TimeVal::seconds(LIMIT.as_secs() as i64),
        )?;
        self.call(
            "migrate",
            json!({ "uri": format!("unix:{}", socket.display()) }),
        )?;
        let (mut memory, _) = listener.accept().context("QEMU sends no memory")?;
        memory.set_read_timeout(Some(LIMIT))?;
        io::copy(&mut memory, &mut File::create(file)?)?;
        fs::remove_file(socket)?;
        loop {
            let event = self.event()?;
            match event["data"]["status"].as_str() {
                _ if event["event"] != "MIGRATION" => {}
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => {
                    let state = self.call("query-migrate", json!({}))?;
                    bail!("writing {}: {state}", file.display());
                }
                _ => {}
            }
        }
    }

    /// Takes a device away and waits until the guest has let go of it.
    pub fn unplug(&mut self, id: &str) -> anyhow::Result<()> {
        self.call("device_del", json!({ "id": id }))?;
        loop {
            let event = self.event()?;
            match event["event"].as_str() {
                Some("DEVICE_DELETED") if event["data"]["device"] == id => return Ok(()),
                Some("DEVICE_UNPLUG_GUEST_ERROR") => bail!("the guest keeps it: {event}"),
                _ => {}
            }
        }
    }

    /// Puts a disk into a slot.
    pub fn plug(&mut self, id: &str, image: &Path, node: &str, slot: &str) -> anyhow::Result<()> {
        let file = json!({ "driver": "file", "filename": image, "discard": "unmap" });
        self.call(
            "blockdev-add",
            json!({ "driver": "raw", "node-name": node, "file": file, "discard": "unmap" }),
        )?;
        let device = json!({
            "driver": "virtio-blk-pci", "id": id, "serial": id, "drive": node, "bus": slot,
        });
        self.call("device_add", device).map(drop)
    }

    fn call(&mut self, command: &str, arguments: Value) -> anyhow::Result<Value> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        self.stream.get_mut().write_all(line.as_bytes())?;
        loop {
            let message = self.message().with_context(|| command.to_owned())?;
            if message.get("event").is_some() {
                self.events.push_back(message);
            } else if let Some(error) = message.get("error") {
                bail!("{command}: {error}");
            } else {
                return Ok(message["return"].clone());
            }
        }
    }

    fn event(&mut self) -> anyhow::Result<Value> {
        match self.events.pop_front() {
            Some(event) => Ok(event),
            None => self.message(),
        }
    }

    fn message(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        let count = self.stream.read_line(&mut line)?;
        ensure!(count > 0, "QEMU has ended");
        serde_json::from_str(&line).with_context(|| line)
    }
}
