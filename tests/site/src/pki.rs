//! The certificates of a lab.

use std::path::{Path, PathBuf};

use ashlar_ctl::pki::{Directory, Profile, Validity};
use ashlar_ctl::{Client, Endpoint, Identity};
use ashlar_protocol::Role;

/// A folder with an authority (`ca`), an appliance (`server`), one client for each role
/// (`admin`, `operator`, `reader`) and one without (`roleless`).
#[derive(Clone, Debug)]
pub struct Pki {
    folder: PathBuf,
}

const DAYS: u32 = 30;

impl Pki {
    /// Makes all of them anew.
    pub fn create(folder: &Path) -> anyhow::Result<Pki> {
        let directory = Directory::at(folder).overwriting(true);
        directory.init("Ashlar lab", Validity::days(DAYS))?;
        let server = Profile::Server {
            names: vec![
                "127.0.0.1".into(),
                "localhost".into(),
                crate::APPLIANCE_ADDRESS.into(),
            ],
        };
        directory.issue("server", &server, Validity::days(DAYS))?;
        let clients = [
            ("admin", Some(Role::Admin)),
            ("operator", Some(Role::Operator)),
            ("reader", Some(Role::Reader)),
            ("roleless", None),
        ];
        for (name, role) in clients {
            directory.issue(name, &Profile::Client { role }, Validity::days(DAYS))?;
        }
        Ok(Pki::at(folder))
    }

    /// Those that were made there.
    pub fn at(folder: &Path) -> Pki {
        Pki {
            folder: folder.to_owned(),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file of it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A client under one of the names.
    pub fn client(&self, name: &str, port: u16) -> anyhow::Result<Client> {
        let identity = Identity::from_files(
            &self.file(&format!("{name}.pem")),
            &self.file(&format!("{name}.key")),
            &self.file("ca.pem"),
        )?;
        let endpoint: Endpoint = format!("127.0.0.1:{port}").parse()?;
        Ok(Client::new(endpoint, &identity))
    }
}
