//! Labels: what people and programs note beside an object.

use std::collections::BTreeMap;

use ashlar_targetd_protocol::NameError;
use serde::{Deserialize, Serialize};

/// Most labels of one object.
pub const MAX_LABELS: usize = 32;

const MAX_NAME: usize = 63;
const MAX_TEXT: usize = 255;

/// At most [`MAX_LABELS`] names of 1 to 63 bytes, each with a text of up to 255 bytes. UTF-8
/// without control characters; it means nothing to the box.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    try_from = "BTreeMap<String, String>",
    into = "BTreeMap<String, String>"
)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names with their texts, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, text)| (&**name, &**text))
    }
}

impl TryFrom<BTreeMap<String, String>> for Labels {
    type Error = NameError;

    fn try_from(labels: BTreeMap<String, String>) -> Result<Self, NameError> {
        if labels.len() > MAX_LABELS {
            return Err(NameError {
                what: "labels",
                value: format!("{} of them", labels.len()),
                rule: "at most 32",
            });
        }
        for (name, text) in &labels {
            if name.is_empty() || name.len() > MAX_NAME {
                return Err(refused("label name", name, "1 to 63 bytes"));
            }
            if text.len() > MAX_TEXT {
                return Err(refused("label text", text, "at most 255 bytes"));
            }
            if name.chars().chain(text.chars()).any(char::is_control) {
                return Err(refused("label", name, "no control characters"));
            }
        }
        Ok(Labels(labels))
    }
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(labels: Labels) -> BTreeMap<String, String> {
        labels.0
    }
}

fn refused(what: &'static str, value: &str, rule: &'static str) -> NameError {
    NameError {
        what,
        value: value.chars().take(80).collect(),
        rule,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, text: &str) -> BTreeMap<String, String> {
        [(name.to_owned(), text.to_owned())].into()
    }

    #[test]
    fn labels_are_few_and_short_and_printable() {
        let many = |count| {
            (0..count)
                .map(|n| (format!("l{n}"), String::new()))
                .collect()
        };
        for good in [
            one("größe", ""),
            one(&"n".repeat(63), &"t".repeat(255)),
            many(32),
        ] {
            assert!(Labels::try_from(good.clone()).is_ok(), "{good:?}");
        }
        for bad in [
            one("", "text"),
            one(&"n".repeat(64), ""),
            one("name", &"t".repeat(256)),
            one("a\n", ""),
            one("a", "\u{0}"),
            many(33),
        ] {
            assert!(Labels::try_from(bad.clone()).is_err(), "{bad:?}");
        }
    }
}
