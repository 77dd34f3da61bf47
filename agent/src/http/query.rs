//! What follows the question mark.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use ashlar_protocol::event::NEWEST;
use ashlar_protocol::page::{DEFAULT_LIMIT, MAX_LIMIT};
use ashlar_protocol::{Clear, Connected, Operation, Problem, ProblemCode};
use uuid::Uuid;

use super::headers::{MAX_WAIT, cut, hyphenated};
use crate::data::{Format, Shape};
use crate::domain::record::Clearing;
use crate::engine::{After, ExtentsQuery, PageQuery, ThinDevicesQuery};

/// Longest cursor in bytes; ours are far shorter.
const MAX_CURSOR: usize = 256;

/// A list's page and filter, and how a change is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) page: PageQuery,
    /// Connections or snapshots of this volume only.
    pub(super) volume: Option<Uuid>,
    /// Connections of this snapshot only.
    snapshot: Option<Uuid>,
    /// Whether a host that uses what it is to lose is cut off.
    pub(super) force: bool,
    /// How long to wait for something to list.
    pub(super) wait: Duration,
    /// What changed since this snapshot only.
    since: Option<Uuid>,
    /// Bytes a second at most.
    bandwidth: Option<u64>,
    /// What is done with what is destroyed, and with how much of it.
    clear: Option<Clear>,
    clear_size: Option<u64>,
    /// From this byte on.
    offset: Option<u64>,
    /// So many bytes.
    length: Option<u64>,
    /// What a body is, or is to be.
    shape: Option<Shape>,
}

impl Query {
    /// Which thin devices. A page's `next` is the last id in it.
    pub(super) fn thin_devices(&self) -> Result<ThinDevicesQuery, Problem> {
        let last = self.page.after.as_deref();
        Ok(ThinDevicesQuery {
            after: last.map(|text| number("after", text)).transpose()?,
            limit: self.page.limit,
        })
    }

    /// Of what connections are listed, if not all.
    pub(super) fn connected(&self) -> Result<Option<Connected>, Problem> {
        match (self.volume, self.snapshot) {
            (None, None) => Ok(None),
            (volume, snapshot) => Connected::one(volume, snapshot)
                .map(Some)
                .map_err(|error| refused("snapshot", &error.to_string())),
        }
    }

    /// Where a transfer begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset.unwrap_or_default()
    }

    /// How much is transferred, if not all.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// What a body is, or is to be, if that is said.
    pub(super) fn shape(&self) -> Option<Shape> {
        self.shape
    }

    /// Bytes a second at most.
    pub(super) fn bandwidth(&self) -> Option<u64> {
        self.bandwidth
    }

    /// What is done with what is destroyed, before.
    pub(super) fn clearing(&self) -> Result<Option<Clearing>, Problem> {
        let size = self.clear_size;
        match self.clear {
            None if size.is_some() => Err(refused("clear_size", "is there without clear")),
            None if self.bandwidth.is_some() => Err(refused("bandwidth", "is there without clear")),
            Some(Clear::None) if size.is_some() => Err(refused(
                "clear_size",
                "is there, but nothing is to be cleared",
            )),
            None => Ok(None),
            Some(how) => Ok(Some(Clearing {
                how,
                // As with Cinder's volume_clear_size, 0 means all of it.
                size: size.filter(|size| *size > 0),
                bandwidth: self.bandwidth,
                since: 0,
            })),
        }
    }

    /// What is read is what differs from this snapshot.
    pub(super) fn since(&self) -> Option<Uuid> {
        self.since
    }

    /// Which extents. A page's `next` is where it ended, and goes before `offset`.
    pub(super) fn extents(&self) -> Result<ExtentsQuery, Problem> {
        let reached = self.page.after.as_deref().map(|text| number("after", text));
        Ok(ExtentsQuery {
            since: self.since,
            offset: reached.transpose()?.or(self.offset).unwrap_or_default(),
            limit: self.page.limit,
        })
    }
}

/// Which parameters an operation takes.
fn parameters(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::PoolList | Operation::VolumeList | Operation::HostList | Operation::JobList => {
            &["limit", "after"]
        }
        Operation::SnapshotList => &["limit", "after", "volume"],
        Operation::ConnectionList => &["limit", "after", "volume", "snapshot"],
        Operation::ConnectionDelete | Operation::PoolDelete | Operation::PortalDelete => &["force"],
        Operation::EventList | Operation::AuditList => &["limit", "after", "wait"],
        Operation::ThinDeviceList => &["limit", "after"],
        Operation::VolumeExtents | Operation::SnapshotExtents => {
            &["limit", "after", "since", "offset"]
        }
        Operation::VolumeImport => &["offset", "format", "bandwidth"],
        Operation::VolumeExport | Operation::SnapshotExport => {
            &["offset", "length", "format", "since", "bandwidth"]
        }
        Operation::VolumeDelete => &["clear", "clear_size", "bandwidth"],
        _ => &[],
    }
}

/// Reads the query of `operation`; unknown and repeated parameters are refused.
pub(super) fn parse(operation: Operation, query: Option<&str>) -> Result<Query, Problem> {
    let known = parameters(operation);
    let mut found = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let Some(name) = known.iter().find(|known| **known == name) else {
            return Err(refused(&name, "is not a parameter of this request"));
        };
        if found.insert(*name, value.into_owned()).is_some() {
            return Err(refused(name, "is there more than once"));
        }
    }
    let mut take = |name| found.remove(name);
    Ok(Query {
        page: PageQuery {
            after: take("after").map(cursor).transpose()?,
            limit: take("limit").map_or(Ok(DEFAULT_LIMIT), |text| limit(&text))?,
        },
        volume: take("volume").map(|text| id("volume", &text)).transpose()?,
        snapshot: take("snapshot")
            .map(|text| id("snapshot", &text))
            .transpose()?,
        since: take("since").map(|text| id("since", &text)).transpose()?,
        offset: take("offset")
            .map(|text| number("offset", &text))
            .transpose()?,
        length: take("length")
            .map(|text| number("length", &text))
            .transpose()?,
        shape: take("format").map(|text| shape(&text)).transpose()?,
        bandwidth: take("bandwidth")
            .map(|text| number("bandwidth", &text))
            .transpose()?,
        clear: take("clear").map(|text| clear(&text)).transpose()?,
        clear_size: take("clear_size")
            .map(|text| number("clear_size", &text))
            .transpose()?,
        force: take("force").map_or(Ok(false), |text| truth("force", &text))?,
        wait: take("wait").map_or(Ok(Duration::ZERO), |text| wait(&text))?,
    })
}

/// Where to begin with events: after an id, or with those to come.
pub(super) fn after(page: &PageQuery) -> Result<After, Problem> {
    match page.after.as_deref() {
        None => Ok(After::Beginning),
        Some(NEWEST) => Ok(After::Newest),
        Some(id) => match id.parse() {
            Ok(id) => Ok(After::Id(id)),
            Err(_) => {
                let why = format!("is {:?}, neither an event's id nor {NEWEST:?}", cut(id));
                Err(refused("after", &why))
            }
        },
    }
}

fn wait(text: &str) -> Result<Duration, Problem> {
    match text.parse() {
        Ok(seconds) if seconds <= MAX_WAIT => Ok(Duration::from_secs(seconds)),
        _ => Err(refused(
            "wait",
            &format!("is {:?}, not whole seconds from 0 to {MAX_WAIT}", cut(text)),
        )),
    }
}

fn truth(name: &str, text: &str) -> Result<bool, Problem> {
    text.parse()
        .map_err(|_| refused(name, &format!("is {:?}, not true or false", cut(text))))
}

fn shape(text: &str) -> Result<Shape, Problem> {
    match (text, text.parse()) {
        ("raw", _) => Ok(Shape::Stream(Format::Raw)),
        ("extents", _) => Ok(Shape::Stream(Format::Extents)),
        ("auto", _) => Ok(Shape::Image(None)),
        (_, Ok(format)) => Ok(Shape::Image(Some(format))),
        (_, Err(_)) => Err(refused(
            "format",
            &format!(
                "is {:?}, not raw, extents, qcow2, vmdk, vhd, vhdx or auto",
                cut(text)
            ),
        )),
    }
}

fn clear(text: &str) -> Result<Clear, Problem> {
    text.parse().map_err(|_| {
        let why = format!("is {:?}, not none, discard or zero", cut(text));
        refused("clear", &why)
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

fn number<T: FromStr>(name: &str, text: &str) -> Result<T, Problem> {
    let plain = text.parse().ok().filter(|_| !text.starts_with('+'));
    plain.ok_or_else(|| refused(name, &format!("is {:?}, not a number in range", cut(text))))
}

fn id(name: &str, text: &str) -> Result<Uuid, Problem> {
    hyphenated(text).ok_or_else(|| refused(name, &format!("is {:?}, not a UUID", cut(text))))
}

fn refused(name: &str, why: &str) -> Problem {
    Problem::new(
        ProblemCode::InvalidField,
        format!("query parameter {} {why}", cut(name).escape_debug()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ImageFormat;

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
    fn force_is_true_or_false_and_false_unless_said() {
        let force = |query| parse(Operation::ConnectionDelete, query).map(|query| query.force);
        assert_eq!(force(None), Ok(false));
        assert_eq!(force(Some("force=true")), Ok(true));
        assert_eq!(force(Some("force=false")), Ok(false));
        for bad in ["force=", "force=1", "force=TRUE", "force=true&force=true"] {
            assert!(force(Some(bad)).is_err(), "{bad}");
        }
        for operation in [Operation::PoolDelete, Operation::PortalDelete] {
            assert!(
                parse(operation, Some("force=true")).is_ok(),
                "{operation:?}"
            );
        }
        assert!(parse(Operation::VolumeDelete, Some("force=true")).is_err());
    }

    #[test]
    fn what_is_destroyed_is_cleared_as_is_said() {
        let read = |query| parse(Operation::VolumeDelete, Some(query))?.clearing();
        let clearing = |how, size, bandwidth| {
            Ok(Some(Clearing {
                how,
                size,
                bandwidth,
                since: 0,
            }))
        };
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("clear=none"), clearing(Clear::None, None, None));
        assert_eq!(
            read("clear=zero&clear_size=1048576&bandwidth=65536"),
            clearing(Clear::Zero, Some(1 << 20), Some(1 << 16))
        );
        assert_eq!(
            read("clear=discard&clear_size=0"),
            clearing(Clear::Discard, None, None)
        );
        for bad in [
            "clear=",
            "clear=shred",
            "clear_size=1",
            "bandwidth=65536",
            "clear=none&clear_size=1",
            "clear=zero&clear_size=-1",
            "clear=zero&clear=zero",
        ] {
            assert_eq!(
                read(bad).unwrap_err().code,
                ProblemCode::InvalidField,
                "{bad}"
            );
        }
        assert!(parse(Operation::SnapshotDelete, Some("clear=zero")).is_err());
    }

    #[test]
    fn events_begin_after_an_id_or_with_those_to_come() {
        let read = |query| parse(Operation::EventList, Some(query));
        let begin = |query| after(&read(query).unwrap().page);
        assert_eq!(begin(""), Ok(After::Beginning));
        assert_eq!(begin("after=7"), Ok(After::Id(7)));
        assert_eq!(begin("after=newest"), Ok(After::Newest));
        assert!(begin("after=-1").is_err());
        assert_eq!(read("wait=60").unwrap().wait, Duration::from_secs(60));
        for bad in ["wait=61", "wait=", "wait=soon", "volume=x"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_body_has_a_format_by_name() {
        let read = |query| parse(Operation::VolumeExport, Some(query)).map(|query| query.shape);
        let image = |format| Some(Shape::Image(format));
        for (query, shape) in [
            ("", None),
            ("format=raw", Some(Shape::Stream(Format::Raw))),
            ("format=extents", Some(Shape::Stream(Format::Extents))),
            ("format=auto", image(None)),
            ("format=qcow2", image(Some(ImageFormat::Qcow2))),
            ("format=vhdx", image(Some(ImageFormat::Vhdx))),
        ] {
            assert_eq!(read(query), Ok(shape), "{query}");
        }
        for bad in [
            "format=",
            "format=QCOW2",
            "format=vpc",
            "format=raw&format=raw",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_moved_has_a_bandwidth() {
        for operation in [
            Operation::VolumeImport,
            Operation::VolumeExport,
            Operation::SnapshotExport,
        ] {
            let read = |query| parse(operation, Some(query)).map(|query| query.bandwidth());
            assert_eq!(read(""), Ok(None));
            assert_eq!(read("bandwidth=65536"), Ok(Some(1 << 16)));
            for bad in ["bandwidth=", "bandwidth=-1", "bandwidth=1MiB"] {
                assert!(read(bad).is_err(), "{bad}");
            }
        }
        assert!(parse(Operation::VolumeExtents, Some("bandwidth=65536")).is_err());
    }

    #[test]
    fn only_lists_take_pages() {
        assert!(parse(Operation::VolumeShow, None).is_ok());
        assert!(parse(Operation::VolumeShow, Some("limit=1")).is_err());
        let id = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
        let query = parse(Operation::ConnectionList, Some(&format!("volume={id}"))).unwrap();
        assert_eq!(query.volume, Some(id.parse().unwrap()));
        let read = |query: &str| parse(Operation::ConnectionList, Some(query))?.connected();
        let uuid = id.parse().unwrap();
        assert_eq!(read(""), Ok(None));
        assert_eq!(
            read(&format!("volume={id}")),
            Ok(Some(Connected::Volume(uuid)))
        );
        assert_eq!(
            read(&format!("snapshot={id}")),
            Ok(Some(Connected::Snapshot(uuid)))
        );
        assert!(read(&format!("volume={id}&snapshot={id}")).is_err());
    }

    #[test]
    fn a_page_of_extents_goes_on_where_the_one_before_ended() {
        let read = |query: &str| parse(Operation::VolumeExtents, Some(query))?.extents();
        let since = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
        let query = |since: Option<&str>, offset, limit| ExtentsQuery {
            since: since.map(|text| text.parse().unwrap()),
            offset,
            limit,
        };
        assert_eq!(read(""), Ok(query(None, 0, DEFAULT_LIMIT)));
        assert_eq!(
            read(&format!("since={since}&offset=4096&limit=2")),
            Ok(query(Some(since), 4096, 2))
        );
        assert_eq!(
            read("offset=4096&after=8192"),
            Ok(query(None, 8192, DEFAULT_LIMIT))
        );
        for bad in [
            "offset=-1",
            "offset=+1",
            "offset=1MiB",
            "offset=18446744073709551616",
            "after=x",
            "since=1",
            "volume=6ba7b810-9dad-41d1-80b4-00c04fd430c8",
        ] {
            assert_eq!(
                read(bad).unwrap_err().code,
                ProblemCode::InvalidField,
                "{bad}"
            );
        }
    }
}
