//! Answers as tables or JSON.

use std::io::{self, Write};

use comfy_table::{Table, presets};
use serde::Serialize;

use super::access::Format;

/// Something that can be shown to people: facts in order, each with its label.
pub trait Facts {
    /// The labels that make the columns of a list.
    const COLUMNS: &'static [&'static str];

    /// All there is to say about one of them.
    fn facts(&self) -> Vec<(&'static str, String)>;
}

/// Shows one thing.
pub fn one<T: Facts + Serialize>(format: Format, value: &T) -> anyhow::Result<()> {
    match format {
        Format::Json => json(value),
        Format::Table => {
            let mut table = plain();
            for (label, fact) in value.facts() {
                table.add_row([label.to_owned(), fact]);
            }
            print(&format!("{table}"))
        }
    }
}

/// Shows a list of things.
pub fn many<T: Facts + Serialize>(format: Format, values: &[T]) -> anyhow::Result<()> {
    match format {
        Format::Json => json(&values),
        Format::Table => {
            let mut table = plain();
            table.set_header(T::COLUMNS.iter().map(|column| column.to_uppercase()));
            for value in values {
                let facts = value.facts();
                let cell = |column: &&str| {
                    let fact = facts.iter().find(|(label, _)| label == column);
                    fact.map_or("", |(_, fact)| fact).to_owned()
                };
                table.add_row(T::COLUMNS.iter().map(cell));
            }
            print(&format!("{table}"))
        }
    }
}

/// Says that something was done which leaves nothing to show.
pub fn done(format: Format, text: &str) -> anyhow::Result<()> {
    match format {
        Format::Json => Ok(()),
        Format::Table => print(text),
    }
}

/// Shows one of many things that come one by one: a line of text, or of JSON.
pub fn line(format: Format, value: &impl Serialize, text: &str) -> anyhow::Result<()> {
    match format {
        Format::Json => print(&serde_json::to_string(value)?),
        Format::Table => print(text),
    }
}

fn json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&serde_json::to_string_pretty(value)?)
}

/// Columns by white space, so that `awk` can read them too.
fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

/// A closed pipe, as of `head`, is an error like others and no panic.
fn print(text: &str) -> anyhow::Result<()> {
    let trimmed: Vec<&str> = text.lines().map(str::trim_end).collect();
    writeln!(io::stdout().lock(), "{}", trimmed.join("\n"))?;
    Ok(())
}

/// What an optional fact looks like.
pub fn or_dash<T: ToString>(fact: Option<T>) -> String {
    fact.map_or_else(|| "-".to_owned(), |fact| fact.to_string())
}

/// A word of the protocol as it is on the wire.
pub fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}
