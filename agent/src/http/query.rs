//! What follows the question mark.

use ashlar_protocol::page::{DEFAULT_LIMIT, MAX_LIMIT};
use ashlar_protocol::{Operation, Problem, ProblemCode};
use uuid::Uuid;

use super::headers::{cut, hyphenated};
use crate::engine::PageQuery;

/// Longest cursor in bytes; ours are far shorter.
const MAX_CURSOR: usize = 256;

/// A list's page and filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListQuery {
    pub(super) page: PageQuery,
    /// Connections of this volume only.
    pub(super) volume: Option<Uuid>,
}

/// Which parameters an operation takes.
fn parameters(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::PoolList | Operation::VolumeList | Operation::HostList | Operation::JobList => {
            &["limit", "after"]
        }
        Operation::ConnectionList => &["limit", "after", "volume"],
        _ => &[],
    }
}

/// Reads the query of `operation`; unknown and repeated parameters are refused.
pub(super) fn parse(operation: Operation, query: Option<&str>) -> Result<ListQuery, Problem> {
    let known = parameters(operation);
    let mut found: [Option<String>; 3] = Default::default();
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let Some(place) = known.iter().position(|known| *known == name) else {
            return Err(refused(&name, "is not a parameter of this request"));
        };
        if found[place].replace(value.into_owned()).is_some() {
            return Err(refused(&name, "is there more than once"));
        }
    }
    let [limit, after, volume] = found;
    Ok(ListQuery {
        page: PageQuery {
            after: after.map(cursor).transpose()?,
            limit: limit.map_or(Ok(DEFAULT_LIMIT), |text| self::limit(&text))?,
        },
        volume: volume.map(|text| self::volume(&text)).transpose()?,
    })
}

fn limit(text: &str) -> Result<usize, Problem> {
    match text.parse() {
        Ok(limit) if (1..=MAX_LIMIT).contains(&limit) => Ok(limit),
        _ => Err(refused(
            "limit",
            &format!("is {:?}, not a number from 1 to {MAX_LIMIT}", cut(text)),
        )),
    }
}

fn cursor(text: String) -> Result<String, Problem> {
    if text.is_empty() || text.len() > MAX_CURSOR {
        return Err(refused("after", "is not the `next` of a page before"));
    }
    Ok(text)
}

fn volume(text: &str) -> Result<Uuid, Problem> {
    hyphenated(text).ok_or_else(|| refused("volume", &format!("is {:?}, not a UUID", cut(text))))
}

fn refused(name: &str, why: &str) -> Problem {
    Problem::new(
        ProblemCode::InvalidField,
        format!("query parameter {} {why}", cut(name)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_limits() {
        let read = |query| parse(Operation::VolumeList, Some(query)).map(|q| q.page);
        let page = |limit, after: Option<&str>| PageQuery {
            after: after.map(str::to_owned),
            limit,
        };
        assert_eq!(read(""), Ok(page(DEFAULT_LIMIT, None)));
        assert_eq!(read("limit=7&after=a%2Fb"), Ok(page(7, Some("a/b"))));
        for bad in [
            "limit=0",
            "limit=1001",
            "limit=",
            "limit=-1",
            "limit=1&limit=2",
            "after=",
            "offset=3",
            "volume=6ba7b810-9dad-41d1-80b4-00c04fd430c8",
        ] {
            assert_eq!(
                read(bad).unwrap_err().code,
                ProblemCode::InvalidField,
                "{bad}"
            );
        }
    }

    #[test]
    fn only_lists_take_parameters() {
        assert!(parse(Operation::VolumeShow, None).is_ok());
        assert!(parse(Operation::VolumeShow, Some("limit=1")).is_err());
        let id = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
        let query = parse(Operation::ConnectionList, Some(&format!("volume={id}"))).unwrap();
        assert_eq!(query.volume, Some(id.parse().unwrap()));
    }
}
