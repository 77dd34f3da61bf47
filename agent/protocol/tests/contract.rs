//! The types here and the contract in `protocol.cddl` say the same.

mod samples;

use std::sync::LazyLock;

use ashlar_codec::{Limits, Value, from_slice, to_vec};
use ashlar_protocol::{Method, Operation, Problem, ProblemCode, ROUTES, Route};
use cddl_cat::cbor::validate_cbor;
use cddl_cat::context::BasicContext;
use cddl_cat::flatten::flatten_from_str;
use cddl_cat::util::ValidateResult;
use samples::Sample;

const CONTRACT: &str = include_str!("../protocol.cddl");

/// The operation's name on the wire, which begins the names of its rules.
fn name(operation: Operation) -> String {
    match serde_json::to_value(operation).unwrap() {
        serde_json::Value::String(name) => name,
        other => panic!("{other}"),
    }
}

/// The contract, parsed once.
static RULES: LazyLock<BasicContext> =
    LazyLock::new(|| BasicContext::new(flatten_from_str(CONTRACT).expect("the contract is CDDL")));

fn check(rule: &str, bytes: &[u8]) -> ValidateResult {
    let value = ciborium::from_reader(bytes).expect("samples are CBOR");
    validate_cbor(&RULES.rules[rule], &value, &*RULES)
}

fn fits(rule: &str, bytes: &[u8]) -> bool {
    check(rule, bytes).is_ok()
}

fn has_rule(rule: &str) -> bool {
    CONTRACT
        .lines()
        .any(|line| line.starts_with(&format!("{rule} = ")))
}

/// Whether its bytes are a volume's or a firmware's, and no CBOR.
fn streams(route: &Route) -> bool {
    route.path.ends_with("/data") || route.path.ends_with("/bundle")
}

/// What a decoder of the sample's type makes of other bytes.
fn decodes(sample: &Sample, bytes: &[u8]) -> bool {
    (sample.decodes)(bytes)
}

#[test]
fn each_route_stands_in_the_contract_with_its_role_and_bodies() {
    for route in ROUTES {
        let (method, path, role) = (route.method.as_str(), route.path, route.role);
        let line = format!("; {:<42}   {role}", format!("{method} {path}"));
        let found = CONTRACT
            .lines()
            .any(|l| l == line || l.starts_with(&format!("{line};")));
        assert!(found, "{line}");
        let name = name(route.operation);
        let takes = matches!(route.method, Method::Post)
            || matches!(route.method, Method::Put) && !streams(route);
        assert_eq!(has_rule(&format!("{name}-request")), takes, "{name}");
        let gives = match route.method {
            Method::Delete => false,
            Method::Get => !streams(route),
            Method::Put => true,
            // Nothing is left to show of what was let go of, or goes down.
            Method::Post if streams(route) => false,
            Method::Post => !["/release", "/restart", "/reset"]
                .iter()
                .any(|end| route.path.ends_with(end)),
        };
        assert_eq!(has_rule(&format!("{name}-reply")), gives, "{name}");
    }
}

#[test]
fn each_rule_of_a_route_has_samples() {
    let samples = samples::all();
    for line in CONTRACT.lines() {
        let Some((rule, _)) = line.split_once(" = ") else {
            continue;
        };
        if rule.ends_with("-request") || rule.ends_with("-reply") {
            assert!(samples.iter().any(|s| s.rule == rule), "{rule}");
        }
    }
}

#[test]
fn what_the_types_write_fits_the_contract() {
    for sample in samples::all() {
        if let Err(error) = check(sample.rule, &sample.bytes) {
            panic!("{}: {error}\n{}", sample.rule, sample.shown);
        }
    }
}

#[test]
fn each_problem_code_and_changing_operation_is_in_the_contract() {
    for code in ProblemCode::ALL {
        let bytes = to_vec(&Problem::new(*code, "a case")).unwrap();
        assert!(fits("problem", &bytes), "{code}");
    }
    for route in ROUTES {
        let bytes = to_vec(&route.operation).unwrap();
        // An export changes nothing, but is a job.
        let changes = route.method != Method::Get || streams(route);
        assert_eq!(fits("operation", &bytes), changes, "{:?}", route.operation);
        assert_eq!(fits("looking", &bytes), !changes, "{:?}", route.operation);
    }
}

/// Every value that is one change away: an entry gone, an entry too many, another value.
fn mutations(value: &Value) -> Vec<Value> {
    let mut found = match value {
        Value::Map(map) => {
            let mut found = Vec::new();
            for (key, inner) in map {
                let mut without = map.clone();
                without.remove(key);
                found.push(Value::Map(without));
                found.extend(mutations(inner).into_iter().map(|inner| {
                    let mut with = map.clone();
                    with.insert(key.clone(), inner);
                    Value::Map(with)
                }));
            }
            for key in [Value::Text("surprise".to_owned()), Value::Integer(0)] {
                let mut with = map.clone();
                with.insert(key, Value::Integer(0));
                found.push(Value::Map(with));
            }
            found
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .flat_map(|(at, item)| {
                mutations(item).into_iter().map(move |item| {
                    let mut with = items.clone();
                    with[at] = item;
                    Value::Array(with)
                })
            })
            .collect(),
        _ => Vec::new(),
    };
    let others = [
        Value::Bool(true),
        Value::Integer(-1),
        Value::Integer(0),
        Value::Float(1.5),
        Value::Text("?".to_owned()),
        Value::Text(String::new()),
        Value::Bytes(vec![0; 3]),
        Value::Map(Default::default()),
    ];
    // serde_cbor takes a variant by its number, too. No client has a reason to send one, and it
    // means the same.
    let number_for_name =
        |other: &Value| matches!((value, other), (Value::Text(_), Value::Integer(0)));
    let others = others.into_iter().filter(|other| other != value);
    found.extend(others.filter(|other| !number_for_name(other)));
    found
}

#[test]
fn requests_are_taken_as_far_as_the_contract_goes_and_no_further() {
    for sample in samples::all() {
        let value: Value = from_slice(&sample.bytes, &Limits::default()).unwrap();
        for other in mutations(&value) {
            let bytes = to_vec(&other).unwrap();
            let (fits, decodes) = (fits(sample.rule, &bytes), decodes(&sample, &bytes));
            if sample.rule.ends_with("-request") {
                assert_eq!(fits, decodes, "{}: {other:?}", sample.rule);
            } else {
                // A client that trusts the contract reads all it allows.
                assert!(!fits || decodes, "{}: {other:?}", sample.rule);
            }
        }
    }
}
