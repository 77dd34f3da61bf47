//! Real traffic against `protocol.cddl`.

use std::sync::LazyLock;

use anyhow::{Context, anyhow, ensure};
use ashlar_protocol::{ROUTES, Route};
use cddl_cat::cbor::validate_cbor;
use cddl_cat::context::BasicContext;
use cddl_cat::flatten::flatten_from_str;

const CONTRACT: &str = include_str!("../../agent/protocol/protocol.cddl");

static RULES: LazyLock<BasicContext> =
    LazyLock::new(|| BasicContext::new(flatten_from_str(CONTRACT).expect("the contract is CDDL")));

/// Whether a request and its answer are as the contract says. A refused request may be anything;
/// its answer is a problem.
pub fn check(
    method: &str,
    path: &str,
    sent: &[u8],
    status: u16,
    answer: &[u8],
) -> anyhow::Result<()> {
    let at = || format!("{method} {path} against the contract");
    if status >= 400 {
        return fits("problem", answer).with_context(at);
    }
    let route = route(method, path).with_context(at)?;
    let operation = serde_json::to_value(route.operation)?;
    let operation = operation.as_str().context("an operation is a word")?;
    let request = format!("{operation}-request");
    match RULES.rules.contains_key(&request) {
        true => fits(&request, sent).with_context(at)?,
        false => no_body(sent).with_context(at)?,
    }
    let rule = match status {
        202 => "job".to_owned(),
        204 => return no_body(answer).with_context(at),
        _ => format!("{operation}-reply"),
    };
    fits(&rule, answer).with_context(at)
}

fn no_body(bytes: &[u8]) -> anyhow::Result<()> {
    ensure!(bytes.is_empty(), "there is no body here");
    Ok(())
}

/// The row of the table that a request is for.
pub fn route(method: &str, path: &str) -> anyhow::Result<&'static Route> {
    let path = path.split('?').next().unwrap_or(path);
    ROUTES
        .iter()
        .find(|route| route.method.as_str() == method && matches(route.path, path))
        .ok_or_else(|| anyhow!("succeeded, but is no route"))
}

fn matches(pattern: &str, path: &str) -> bool {
    let (mut expected, mut words) = (pattern.split('/'), path.split('/'));
    loop {
        match (expected.next(), words.next()) {
            (None, None) => return true,
            (Some("{id}"), Some(_)) => {}
            (Some(expected), Some(word)) if expected == word => {}
            _ => return false,
        }
    }
}

fn fits(rule: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let value = ciborium::from_reader(bytes).with_context(|| format!("{rule}: not CBOR"))?;
    let definition = RULES
        .rules
        .get(rule)
        .with_context(|| format!("there is no rule {rule}"))?;
    validate_cbor(definition, &value, &*RULES).map_err(|error| anyhow!("{rule}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_breaks_the_contract_is_noticed() {
        let empty_map = [0xa0];
        assert!(check("GET", "/v1/system", &[], 200, &empty_map).is_err());
        assert!(check("GET", "/v1/nowhere", &[], 200, &empty_map).is_err());
        let empty_page = [0xa1, 0x65, b'i', b't', b'e', b'm', b's', 0x80];
        assert!(check("GET", "/v1/pools?limit=3", &[], 200, &empty_page).is_ok());
        assert!(check("DELETE", "/v1/pools", &[], 404, &empty_map).is_err());
    }
}
