//! `ashlarctl portal …`

use ashlar_protocol::{Portal, PortalAddr, PortalSpec, Transport};
use clap::Subcommand;
use uuid::Uuid;

use super::output::{self, Facts, or_dash, word};
use super::session::Session;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Serve what is connected over a transport at an address, too
    Create {
        /// The address and port, such as 192.0.2.7:3260 or [2001:db8::7]:4420
        address: PortalAddr,
        /// By what
        #[arg(long, short)]
        transport: Transport,
        /// The portal's id; made up unless given
        #[arg(long)]
        id: Option<Uuid>,
    },
    /// Show a portal
    Show {
        /// Its id
        portal: Uuid,
    },
    /// List portals, those of the configuration file too
    List,
    /// Serve there no longer
    Delete {
        /// The portal's id
        portal: Uuid,
        /// Cut off the hosts that have no other portal
        #[arg(long)]
        force: bool,
    },
}

pub async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    let client = &session.client;
    match verb {
        Verb::Create {
            address,
            transport,
            id,
        } => {
            let id = session.new_id(id);
            let spec = PortalSpec { address, transport };
            let shown = async || client.under_new_ids().portal_show(id).await;
            session.change(client.portal_create(id, &spec), shown).await
        }
        Verb::Show { portal } => output::one(session.format, &client.portal_show(portal).await?),
        Verb::List => output::many(session.format, &client.portal_list().await?),
        Verb::Delete { portal, force } => {
            let text = format!("portal {portal} is gone");
            match force {
                true => session.removal(client.portal_cut(portal), &text).await,
                false => session.removal(client.portal_delete(portal), &text).await,
            }
        }
    }
}

impl Facts for Portal {
    const COLUMNS: &'static [&'static str] =
        &["id", "transport", "address", "state", "from", "detail"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        let from = match self.configured {
            true => "configuration",
            false => "request",
        };
        vec![
            ("id", self.id.to_string()),
            ("transport", self.transport.to_string()),
            ("address", self.address.to_string()),
            ("state", word(&self.state)),
            ("from", from.to_owned()),
            ("detail", or_dash(self.detail.as_ref())),
        ]
    }
}
