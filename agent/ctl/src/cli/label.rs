//! Labels on the command line.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::Context;
use ashlar_protocol::Labels;

/// One label, written `NAME=TEXT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    name: String,
    text: String,
}

/// Text that is no label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a label is NAME=TEXT")]
pub struct NotALabel;

impl FromStr for Label {
    type Err = NotALabel;

    fn from_str(text: &str) -> Result<Self, NotALabel> {
        let (name, text) = text.split_once('=').ok_or(NotALabel)?;
        Ok(Label {
            name: name.to_owned(),
            text: text.to_owned(),
        })
    }
}

/// All labels given; of those with one name, the last.
pub fn labels(given: Vec<Label>) -> anyhow::Result<Labels> {
    let pairs = given.into_iter().map(|label| (label.name, label.text));
    let labels: BTreeMap<_, _> = pairs.collect();
    Labels::try_from(labels).context("failed to understand the labels")
}

/// A row of labels, if there are any.
pub fn noted(labels: &Labels) -> Option<(&'static str, String)> {
    let lines: Vec<_> = labels
        .iter()
        .map(|(name, text)| format!("{name}={text}"))
        .collect();
    (!lines.is_empty()).then(|| ("labels", lines.join("\n")))
}
