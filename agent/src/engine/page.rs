//! Lists by cursor.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use ashlar_protocol::page::{DEFAULT_LIMIT, MAX_LIMIT};
use ashlar_protocol::{Page, Problem, ProblemCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

/// Which part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageQuery {
    /// Where to begin: `next` of the page before, or the beginning.
    pub after: Option<String>,
    /// Items at most; 1 to [`MAX_LIMIT`].
    pub limit: usize,
}

impl Default for PageQuery {
    fn default() -> Self {
        PageQuery {
            after: None,
            limit: DEFAULT_LIMIT,
        }
    }
}

impl PageQuery {
    /// The id to begin after.
    pub(super) fn cursor(&self) -> Result<Option<Uuid>, Problem> {
        let Some(text) = &self.after else {
            return Ok(None);
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
        match Uuid::from_slice(&bytes) {
            Ok(id) => Ok(Some(id)),
            Err(_) => {
                let detail = "the cursor is not one that a page ended with";
                Err(Problem::new(ProblemCode::MalformedRequest, detail))
            }
        }
    }

    fn count(&self) -> usize {
        self.limit.clamp(1, MAX_LIMIT)
    }
}

fn text(id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(id.as_bytes())
}

/// One page of `items`, which begin after the cursor and are in order of id.
pub(super) fn page<'a, R: 'a, T>(
    query: &PageQuery,
    items: impl Iterator<Item = (Uuid, &'a R)>,
    view: impl Fn(Uuid, &R) -> T,
) -> Page<T> {
    let mut items = items.peekable();
    let mut seen = Vec::new();
    let mut last = None;
    while seen.len() < query.count() {
        let Some((id, record)) = items.next() else {
            break;
        };
        seen.push(view(id, record));
        last = Some(id);
    }
    let next = match items.peek() {
        Some(_) => last.map(text),
        None => None,
    };
    Page { items: seen, next }
}

/// The entries of `map` after `cursor`.
pub(super) fn after<R>(
    map: &BTreeMap<Uuid, R>,
    cursor: Option<Uuid>,
) -> impl Iterator<Item = (Uuid, &R)> {
    let from = cursor.map_or(Unbounded, Excluded);
    map.range((from, Unbounded))
        .map(|(id, record)| (*id, record))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(map: &BTreeMap<Uuid, u32>, limit: usize) -> (Vec<u32>, usize) {
        let mut query = PageQuery { after: None, limit };
        let (mut items, mut pages) = (Vec::new(), 0);
        loop {
            let cursor = query.cursor().unwrap();
            let page = page(&query, after(map, cursor), |_, n| *n);
            items.extend(page.items);
            pages += 1;
            match page.next {
                Some(next) => query.after = Some(next),
                None => return (items, pages),
            }
        }
    }

    #[test]
    fn a_walk_sees_each_item_once_and_ends_without_an_empty_page() {
        let map: BTreeMap<_, _> = (0..6_u32).map(|n| (Uuid::from_u128(n.into()), n)).collect();
        for (limit, pages) in [(1, 6), (2, 3), (3, 2), (4, 2), (6, 1), (100, 1)] {
            assert_eq!(walk(&map, limit), ((0..6).collect(), pages), "{limit}");
        }
        assert_eq!(walk(&BTreeMap::new(), 5), (Vec::new(), 1));
    }

    #[test]
    fn an_item_removed_under_the_cursor_does_not_end_the_walk() {
        let map: BTreeMap<_, _> = [(Uuid::from_u128(9), 9)].into();
        let query = PageQuery {
            after: Some(text(Uuid::from_u128(5))),
            limit: 10,
        };
        let cursor = query.cursor().unwrap();
        assert_eq!(page(&query, after(&map, cursor), |_, n| *n).items, [9]);
    }

    #[test]
    fn a_cursor_nobody_gave_is_malformed() {
        for bad in ["", "x", "AAAA", "not base64 at all", "../../etc/passwd"] {
            let query = PageQuery {
                after: Some(bad.to_owned()),
                limit: 1,
            };
            let problem = query.cursor().unwrap_err();
            assert_eq!(problem.code, ProblemCode::MalformedRequest, "{bad}");
        }
    }
}
