//! `ashlarctl job …`

use ashlar_ctl::Change;
use ashlar_protocol::{Job, Progress};
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
    /// Cancel a job: long work stops, and what is being created is taken back
    Cancel {
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
        Verb::Cancel { job } => match client.job_cancel(job).await? {
            Change::Done { .. } => output::done(session.format, &format!("job {job} is cancelled")),
            Change::Accepted(ending) => output::one(session.format, &ending),
        },
        Verb::Wait { job } => {
            let job = client.job_show(job).await?;
            output::one(session.format, &session.wait(job).await?)
        }
    }
}

/// "12 of 40 bytes", and what part of it that is.
fn told(progress: Progress) -> String {
    let Progress { done, total } = progress;
    match total {
        Some(0) => "100 %".to_owned(),
        Some(total) => {
            let percent = u128::from(done) * 100 / u128::from(total);
            format!("{done} of {total} bytes, {percent} %")
        }
        None => format!("{done} bytes"),
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
            ("progress", or_dash(self.progress.map(told))),
            ("problem", or_dash(self.problem.as_ref())),
        ]
    }
}
