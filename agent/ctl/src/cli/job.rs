//! `ashlarctl job …`

use ashlar_protocol::Job;
use clap::Subcommand;
use uuid::Uuid;

use super::output::{self, Facts, or_dash, word};
use super::session::Session;
use super::volume::moment;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List recent jobs
    List,
    /// Show a job
    Show {
        /// Its id, which is the request's
        job: Uuid,
    },
    /// Wait until a job is done; fails when the job failed
    Wait {
        /// Its id, which is the request's
        job: Uuid,
    },
}

pub async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    let client = &session.client;
    match verb {
        Verb::List => output::many(session.format, &client.job_list().await?),
        Verb::Show { job } => output::one(session.format, &client.job_show(job).await?),
        Verb::Wait { job } => {
            let job = client.job_show(job).await?;
            output::one(session.format, &session.wait(job).await?)
        }
    }
}

impl Facts for Job {
    const COLUMNS: &'static [&'static str] = &["id", "operation", "object", "state", "created"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("id", self.id.to_string()),
            ("operation", word(&self.operation)),
            ("object", self.object.to_string()),
            ("state", word(&self.state)),
            ("created", moment(self.created)),
            ("problem", or_dash(self.problem.as_ref())),
        ]
    }
}
