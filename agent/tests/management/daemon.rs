//! The program itself: what it tells systemd, what signals do, how it refuses to start.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use ashlar_ctl::pki::{Directory, Profile, Validity};
use ashlar_ctl::{Client, Identity};
use ashlar_protocol::{HealthStatus, ProblemCode, Role, VolumeState};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use uuid::Uuid;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ashlar-agent");

/// Far longer than a start or a stop takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A directory with all that a daemon needs, and systemd's end of the notification socket.
struct Place {
    dir: TempDir,
    pki: Directory,
    systemd: UnixDatagram,
    port: u16,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let pki = Directory::at(dir.path().join("pki"));
        pki.init("test CA", Validity::days(1)).unwrap();
        let names = vec!["127.0.0.1".to_owned()];
        let server = Profile::Server { names };
        pki.issue("server", &server, Validity::days(1)).unwrap();
        let role = Some(Role::Admin);
        pki.issue("admin", &Profile::Client { role }, Validity::days(1))
            .unwrap();
        let systemd = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        systemd.set_read_timeout(Some(PATIENCE)).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        Place {
            dir,
            pki,
            systemd,
            port,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the configuration, with `more` at its beginning.
    fn configure(&self, more: &str) -> PathBuf {
        let (server, ca) = (self.pki.paths("server"), self.pki.paths("ca"));
        let text = format!(
            "{more}\nstate_dir = {:?}\ntargetd_socket = {:?}\n\
             [listen]\naddress = \"127.0.0.1:{}\"\n\
             [tls]\ncertificate = {:?}\nkey = {:?}\nclient_ca = {:?}\n",
            self.path("state"),
            self.path("targetd.sock"),
            self.port,
            server.certificate,
            server.key,
            ca.certificate,
        );
        let path = self.path("agent.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, config: &Path) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .arg("--config")
            .arg(config)
            .env("NOTIFY_SOCKET", self.path("notify"))
            .env_remove("JOURNAL_STREAM")
            .stderr(Stdio::piped());
        command
    }

    /// What systemd is told next.
    fn told(&self) -> String {
        let mut message = [0; 4096];
        let length = self.systemd.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    fn client(&self) -> Client {
        let (own, ca) = (self.pki.paths("admin"), self.pki.paths("ca"));
        let identity = Identity::from_files(&own.certificate, &own.key, &ca.certificate).unwrap();
        let endpoint = format!("127.0.0.1:{}", self.port).parse().unwrap();
        Client::new(endpoint, &identity)
    }
}

fn signal(daemon: &Child, signal: Signal) {
    let pid = i32::try_from(daemon.id()).unwrap();
    kill(Pid::from_raw(pid), signal).unwrap();
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hears_of_each_stage_and_signals_are_answered() {
    let place = Place::new();
    let (_kernel, targetd) = ashlar_inprocess::serve(&place.path("targetd.sock"));
    let config = place.configure("name = \"box1\"");
    let daemon = place.command(&config).spawn().unwrap();

    assert_eq!(place.told(), "READY=1\n");
    let client = place.client();
    assert_eq!(client.system_show().await.unwrap().name.as_str(), "box1");
    let health = client.health_show().await.unwrap();
    assert_eq!(health.status, HealthStatus::Ok, "{health:?}");

    signal(&daemon, Signal::SIGHUP);
    let reloading = place.told();
    assert!(
        reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="),
        "{reloading}"
    );
    assert_eq!(place.told(), "READY=1\n");
    client.system_show().await.unwrap();
    assert_eq!(client.connections_made(), 1);

    signal(&daemon, Signal::SIGTERM);
    assert_eq!(place.told(), "STOPPING=1\n");
    let output = daemon.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    targetd.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_the_kernel_and_loses_nothing() {
    let place = Place::new();
    let (kernel, targetd) = ashlar_inprocess::serve(&place.path("targetd.sock"));
    let config = place.configure("");
    let daemon = place.command(&config).spawn().unwrap();
    assert_eq!(place.told(), "READY=1\n");
    let (client, pool, id) = (place.client(), Uuid::new_v4(), Uuid::new_v4());
    let spec = ashlar_inprocess::pool();
    client.pool_create(pool, &spec).await.unwrap();

    kernel.hold();
    let creating = client.clone();
    let spec = ashlar_inprocess::volume(pool);
    let create = tokio::spawn(async move { creating.volume_create(id, &spec).await });
    let begun = async { while client.volume_show(id).await.is_err() {} };
    tokio::time::timeout(PATIENCE, begun).await.unwrap();
    signal(&daemon, Signal::SIGTERM);
    let told = create.await.unwrap().unwrap_err();
    assert_eq!(told.problem().unwrap().code, ProblemCode::Stopping);
    let output = daemon.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", self::told(&output));
    assert_eq!(place.told(), "STOPPING=1\n");

    kernel.release();
    let daemon = place.command(&config).spawn().unwrap();
    assert_eq!(place.told(), "READY=1\n");
    let created =
        async { while client.volume_show(id).await.unwrap().state != VolumeState::Available {} };
    tokio::time::timeout(PATIENCE, created).await.unwrap();
    signal(&daemon, Signal::SIGTERM);
    let output = daemon.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", self::told(&output));
    targetd.stop();
}

#[test]
fn the_watchdog_is_pinged_while_the_engine_answers() {
    let place = Place::new();
    let (_kernel, targetd) = ashlar_inprocess::serve(&place.path("targetd.sock"));
    let config = place.configure("");
    let mut command = place.command(&config);
    let daemon = command.env("WATCHDOG_USEC", "300000").spawn().unwrap();
    assert_eq!(place.told(), "READY=1\n");
    for _ in 0..3 {
        assert_eq!(place.told(), "WATCHDOG=1\n");
    }
    signal(&daemon, Signal::SIGTERM);
    let output = daemon.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    targetd.stop();
}

#[test]
fn what_keeps_it_from_starting_is_told() {
    let place = Place::new();
    let refused = |config: &Path, words: &[&str]| {
        let output = place.command(config).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let told = told(&output);
        for word in words {
            assert!(told.contains(word), "{word}: {told}");
        }
    };
    refused(
        &place.path("nowhere.toml"),
        &["nowhere.toml", "No such file"],
    );
    refused(
        &place.configure("colour = \"red\""),
        &["agent.toml", "unknown field `colour`"],
    );
    let config = place.configure("");
    let held = std::net::TcpListener::bind(("127.0.0.1", place.port)).unwrap();
    refused(&config, &["failed to listen on 127.0.0.1", "in use"]);
    drop(held);
    let key = place.pki.paths("server").key;
    std::fs::copy(place.pki.paths("admin").key, &key).unwrap();
    refused(&config, &["server.pem", "server.key"]);
    std::fs::remove_file(&key).unwrap();
    refused(&config, &["failed to read the key in", "server.key"]);
}

#[test]
fn a_configuration_can_be_checked_without_starting() {
    let place = Place::new();
    let check = |config: &Path| place.command(config).arg("--check").output().unwrap();
    let output = check(&place.configure(""));
    assert!(output.status.success(), "{}", told(&output));
    assert!(!place.path("state").exists());
    assert_eq!(check(&place.configure("x = 1")).status.code(), Some(1));

    let output = Command::new(PROGRAM).arg("--nonsense").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("Usage"), "{}", told(&output));
}
