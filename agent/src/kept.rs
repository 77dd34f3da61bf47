//! What is told in order and kept for a while, for those who list it, wait for it or stream it.
//!
//! ```text
//! durable ── publish ──► ring, newest id in a watch
//!                           └─► readers, each at its own pace
//! ```
//!
//! A reader asks for what comes after the last id it has seen, so a slow one costs nothing but
//! its place: when the ring has moved past it, it is told that something is lost.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ashlar_protocol::{Page, Problem, ProblemCode};
use tokio::sync::watch;

/// What is kept has a number that counts from 1.
pub trait Numbered: Clone {
    /// How many are kept; the oldest go first.
    const KEPT: usize;
    /// What one is called.
    const CALLED: &'static str;

    /// Its number.
    fn id(&self) -> u64;
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// With the oldest kept.
    Beginning,
    /// After this one.
    Id(u64),
    /// With those to come.
    Newest,
}

/// What is kept.
#[derive(Debug)]
pub struct Kept<T> {
    ring: Mutex<VecDeque<T>>,
    newest: watch::Sender<u64>,
}

impl<T: Numbered> Kept<T> {
    /// Of what was stored, in order.
    pub fn new(stored: VecDeque<T>) -> Kept<T> {
        let newest = stored.back().map_or(0, T::id);
        Kept {
            ring: Mutex::new(stored),
            newest: watch::channel(newest).0,
        }
    }

    /// The newest one's id; 0 before the first.
    pub fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// Shows what is durable, and wakes who waits.
    pub fn publish(&self, news: impl Iterator<Item = T>) {
        let newest = {
            let mut ring = self.lock();
            ring.extend(news);
            let excess = ring.len().saturating_sub(T::KEPT);
            ring.drain(..excess);
            ring.back().map_or(0, T::id)
        };
        self.newest.send_if_modified(|known| {
            let news = *known != newest;
            *known = newest;
            news
        });
    }

    /// A reader of it.
    ///
    /// # Errors
    /// When the one to go on after was never given, or the next one is not kept any more.
    pub fn reader(self: &Arc<Kept<T>>, after: After) -> Result<Reader<T>, Problem> {
        let last = self.place(after);
        self.after(last, 0)?;
        Ok(Reader {
            newest: self.newest.subscribe(),
            kept: Arc::clone(self),
            last,
        })
    }

    /// One page; after a wait of up to `wait` when there is nothing.
    ///
    /// # Errors
    /// As [`Kept::reader`].
    pub async fn page(
        self: &Arc<Kept<T>>,
        after: After,
        limit: usize,
        wait: Duration,
    ) -> Result<Page<T>, Problem> {
        let mut reader = self.reader(after)?;
        // Whether it is news or the time is up: what is there is what is answered.
        drop(tokio::time::timeout(wait, reader.news()).await);
        let (items, more) = reader.read(limit)?;
        let next = more.then(|| reader.last.to_string());
        Ok(Page { items, next })
    }

    /// The id to go on after, for a reader that begins so.
    fn place(&self, after: After) -> u64 {
        match after {
            After::Id(id) => id,
            After::Newest => self.newest(),
            After::Beginning => self.lock().front().map_or(0, |oldest| oldest.id() - 1),
        }
    }

    /// Up to `limit` after an id, and whether there are more.
    fn after(&self, id: u64, limit: usize) -> Result<(Vec<T>, bool), Problem> {
        let ring = self.lock();
        let (oldest, newest) = match (ring.front(), ring.back()) {
            (Some(oldest), Some(newest)) => (oldest.id(), newest.id()),
            _ => (1, 0),
        };
        if id > newest || id.saturating_add(1) < oldest {
            return Err(lost(T::CALLED, id, oldest, newest));
        }
        let from = ring.partition_point(|item| item.id() <= id);
        let items: Vec<T> = ring.iter().skip(from).take(limit).cloned().collect();
        let more = ring.len() > from + items.len();
        Ok((items, more))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.ring.lock().expect("no holder of this lock panics")
    }
}

fn lost(called: &str, after: u64, oldest: u64, newest: u64) -> Problem {
    let detail = match after > newest {
        true => format!("{called} {after} is not of this box; the oldest kept is {oldest}"),
        false => {
            format!("{called}s after {after} are not kept any more; the oldest kept is {oldest}")
        }
    };
    Problem::new(ProblemCode::EventsLost, detail)
}

/// A reader's place.
#[derive(Debug)]
pub struct Reader<T> {
    kept: Arc<Kept<T>>,
    newest: watch::Receiver<u64>,
    last: u64,
}

impl<T: Numbered> Reader<T> {
    /// Up to `limit`, and whether more are there; none only when none are.
    ///
    /// # Errors
    /// When the next one is not kept any more.
    pub fn read(&mut self, limit: usize) -> Result<(Vec<T>, bool), Problem> {
        let (items, more) = self.kept.after(self.last, limit)?;
        self.last = items.last().map_or(self.last, T::id);
        Ok((items, more))
    }

    /// Resolves when there is something to read. Cancel-safe. False when there never will be.
    pub async fn news(&mut self) -> bool {
        let last = self.last;
        self.newest.wait_for(|newest| *newest != last).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its number.
    #[derive(Clone, Debug)]
    struct Item(u64);

    impl Numbered for Item {
        const KEPT: usize = 100;
        const CALLED: &'static str = "item";

        fn id(&self) -> u64 {
            self.0
        }
    }

    fn ids(read: Result<(Vec<Item>, bool), Problem>) -> (Vec<u64>, bool) {
        let (items, more) = read.unwrap();
        (items.iter().map(Item::id).collect(), more)
    }

    #[test]
    fn a_reader_gets_what_comes_after_its_place() {
        let kept = Kept::new(VecDeque::new());
        assert_eq!(ids(kept.after(0, 10)), (vec![], false));
        kept.publish((1..=5).map(Item));
        assert_eq!(ids(kept.after(0, 2)), (vec![1, 2], true));
        assert_eq!(ids(kept.after(2, 3)), (vec![3, 4, 5], false));
        assert_eq!(ids(kept.after(5, 3)), (vec![], false));
        assert_eq!(kept.place(After::Beginning), 0);
        assert_eq!(kept.place(After::Newest), 5);
    }

    #[test]
    fn a_number_that_is_missing_hides_nothing_else() {
        let kept = Kept::new([3, 4, 7, 8].map(Item).into());
        assert_eq!(ids(kept.after(2, 3)), (vec![3, 4, 7], true));
        assert_eq!(ids(kept.after(5, 3)), (vec![7, 8], false));
    }

    #[test]
    fn the_oldest_go_first_and_who_wants_them_is_told() {
        let kept = Kept::new((1..=100).map(Item).collect());
        assert!(kept.after(0, 1).is_ok());
        kept.publish((101..=103).map(Item));
        assert_eq!(kept.place(After::Beginning), 3);
        assert_eq!(ids(kept.after(3, 1)), (vec![4], true));
        for gone in [0, 2, 104, u64::MAX] {
            let problem = kept.after(gone, 1).unwrap_err();
            assert_eq!(problem.code, ProblemCode::EventsLost, "{gone}");
            assert!(problem.detail.contains("oldest kept is 4"), "{problem}");
        }
    }
}
