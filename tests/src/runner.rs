//! Runs a scenario on an appliance, whichever kernel it has.

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::scenario::{Accident, Action, Request, Scenario, expect_subset};

/// How long the kernel may take to hold what a scenario says, after an answer or an accident.
const SETTLE: Duration = Duration::from_secs(90);

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body as JSON, `null` when empty.
    pub body: Json,
}

/// Something that serves the management protocol over a kernel.
pub trait Appliance {
    /// Sends a request under an identity (`admin`, `operator`, `reader`, `roleless`).
    fn exchange(
        &mut self,
        identity: &str,
        request: &Request,
    ) -> impl Future<Output = anyhow::Result<Answer>>;

    /// What the kernel holds of ours, as [`ashlar_kernel_view::view`] puts it.
    fn kernel(&mut self) -> impl Future<Output = anyhow::Result<Vec<String>>>;

    /// Causes an accident and returns when the management port answers again.
    fn accident(&mut self, accident: Accident) -> impl Future<Output = anyhow::Result<()>>;
}

/// Where and how a scenario failed.
#[derive(Debug)]
pub struct Failed {
    scenario: String,
    line: usize,
    reason: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.scenario:{}: {}",
            self.scenario, self.line, self.reason
        )
    }
}

impl std::error::Error for Failed {}

/// Runs all steps in order and stops at the first that fails.
pub async fn run(scenario: &Scenario, appliance: &mut impl Appliance) -> Result<(), Failed> {
    let mut identity = "admin".to_owned();
    for step in &scenario.steps {
        let outcome = match &step.action {
            Action::As(who) => {
                identity.clone_from(who);
                Ok(())
            }
            Action::Request(request) => request_step(&identity, request, appliance).await,
            Action::Kernel(lines) => kernel_step(lines, appliance).await,
            Action::Do(accident) => appliance
                .accident(*accident)
                .await
                .map_err(|e| format!("{e:#}")),
        };
        outcome.map_err(|reason| Failed {
            scenario: scenario.name.clone(),
            line: step.line,
            reason,
        })?;
    }
    Ok(())
}

async fn request_step(
    identity: &str,
    request: &Request,
    appliance: &mut impl Appliance,
) -> Result<(), String> {
    let answer = appliance
        .exchange(identity, request)
        .await
        .map_err(|e| format!("{} {}: {e:#}", request.method, request.path))?;
    let wrong = |what: String| format!("{} {}: {what}", request.method, request.path);
    if answer.status != request.status {
        let got = format!(
            "expected status {}, got {} {}",
            request.status, answer.status, answer.body
        );
        return Err(wrong(got));
    }
    match &request.answer {
        Some(expected) => expect_subset(expected, &answer.body)
            .map_err(|mismatch| wrong(format!("{mismatch}\nwhole answer: {}", answer.body))),
        None => Ok(()),
    }
}

/// Waits until the kernel holds exactly `expected`: an accident's recovery goes on after the
/// management port answers, and nothing tells a bystander when it ends.
async fn kernel_step(expected: &[String], appliance: &mut impl Appliance) -> Result<(), String> {
    let mut expected = expected.to_vec();
    expected.sort();
    let deadline = Instant::now() + SETTLE;
    loop {
        let mut actual = appliance.kernel().await.map_err(|e| format!("{e:#}"))?;
        actual.sort();
        if actual == expected {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!(
                "the kernel should hold\n  {}\nbut holds\n  {}",
                expected.join("\n  "),
                actual.join("\n  ")
            ));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
