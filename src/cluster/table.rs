//! The objects of one kind as a watch reports them: an ordered, shared map that changes object by
//! object and is replaced as a whole by a list.
//!
//! Given: the events of one watch. Given back: what each of them changed. A list that suddenly has
//! nothing is not believed before a second one a minute later says the same. Readers take a clone of
//! the shared map; a later change copies the map once if a reader still holds it. Nothing here
//! waits or talks to anybody.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// How far apart two lists are at least that must both have nothing where there was something: as far
/// as the lists of instances that must agree before anything is collected. An API server that has lost
/// its data, or whose cache is not filled yet, looks like this.
const NOTHING_FOR: Duration = Duration::from_mins(1);

/// What became of a complete list.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Listed<K, V> {
    /// It replaced everything.
    Taken {
        /// When it began.
        begun: Instant,
        /// What it changed, in key order.
        differences: Vec<Difference<K, V>>,
    },
    /// It has nothing, and that is not believed yet: everything is as it was before.
    Doubted {
        /// How many objects are known.
        known: usize,
    },
}

/// An object that appeared, changed or went away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference<K, V> {
    /// Which object.
    pub(super) key: K,
    /// What it was.
    pub(super) old: Option<Arc<V>>,
    /// What it is.
    pub(super) new: Option<Arc<V>>,
}

/// The complete lists that were read of one kind.
///
/// Whoever deletes things because an object is missing needs to know that the object was missing
/// from complete lists, and whether a list suddenly shrank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListRecord {
    /// How many complete lists were read since the start; 0 means not synced yet.
    pub generation: u64,
    /// When the last of them was complete.
    pub completed: Option<Timestamp>,
    /// How many objects it held.
    pub objects: usize,
    /// How many objects were known just before it replaced them.
    pub objects_before: usize,
}

impl ListRecord {
    /// True when the last list took objects away that were known before it.
    pub const fn shrank(&self) -> bool {
        self.objects < self.objects_before
    }
}

/// The objects of one kind.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    current: Arc<BTreeMap<K, Arc<V>>>,
    staged: Option<Staged<K, V>>,
    record: ListRecord,
    /// When the first of the lists began that have nothing and are not believed.
    nothing_since: Option<Instant>,
}

#[derive(Debug)]
struct Staged<K, V> {
    begun: Instant,
    objects: BTreeMap<K, Arc<V>>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            current: Arc::default(),
            staged: None,
            record: ListRecord::default(),
            nothing_since: None,
        }
    }
}

impl<K: Ord + Clone, V: PartialEq> Table<K, V> {
    /// The objects.
    pub(super) fn objects(&self) -> &Arc<BTreeMap<K, Arc<V>>> {
        &self.current
    }

    /// The lists read so far.
    pub(super) fn record(&self) -> ListRecord {
        self.record
    }

    /// A list begins; what it brings is held back until it is complete.
    pub(super) fn begin_list(&mut self) {
        self.staged = Some(Staged {
            begun: Instant::now(),
            objects: BTreeMap::new(),
        });
    }

    /// An object of the list that is being read.
    pub(super) fn list_item(&mut self, key: K, value: Arc<V>) {
        if let Some(staged) = &mut self.staged {
            staged.objects.insert(key, value);
        }
    }

    /// The list is complete: it replaces everything, unless it has nothing and is not believed yet.
    /// `None` when no list had begun.
    pub(super) fn finish_list(&mut self, now: Timestamp) -> Option<Listed<K, V>> {
        let staged = self.staged.take()?;
        if staged.objects.is_empty() && !self.current.is_empty() {
            let since = *self.nothing_since.get_or_insert(staged.begun);
            if staged.begun.saturating_duration_since(since) < NOTHING_FOR {
                return Some(Listed::Doubted {
                    known: self.current.len(),
                });
            }
        }
        self.nothing_since = None;
        let before = mem::replace(&mut self.current, Arc::new(staged.objects));
        self.record = ListRecord {
            generation: self.record.generation.saturating_add(1),
            completed: Some(now),
            objects: self.current.len(),
            objects_before: before.len(),
        };
        let mut differences = Vec::new();
        for (key, new) in self.current.iter() {
            let old = before.get(key);
            if old.is_none_or(|old| old != new) {
                differences.push(Difference {
                    key: key.clone(),
                    old: old.cloned(),
                    new: Some(Arc::clone(new)),
                });
            }
        }
        for (key, old) in before.iter() {
            if !self.current.contains_key(key) {
                differences.push(Difference {
                    key: key.clone(),
                    old: Some(Arc::clone(old)),
                    new: None,
                });
            }
        }
        Some(Listed::Taken {
            begun: staged.begun,
            differences,
        })
    }

    /// An object was added or changed; `None` when nothing that is kept of it changed.
    pub(super) fn apply(&mut self, key: K, value: Arc<V>) -> Option<Difference<K, V>> {
        let old = self.current.get(&key).cloned();
        if old.as_ref() == Some(&value) {
            return None;
        }
        Arc::make_mut(&mut self.current).insert(key.clone(), Arc::clone(&value));
        Some(Difference {
            key,
            old,
            new: Some(value),
        })
    }

    /// An object went away; `None` when it was not known.
    pub(super) fn delete(&mut self, key: &K) -> Option<Difference<K, V>> {
        if !self.current.contains_key(key) {
            return None;
        }
        let old = Arc::make_mut(&mut self.current).remove(key);
        Some(Difference {
            key: key.clone(),
            old,
            new: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(changed: &[Difference<String, u32>]) -> Vec<(&str, bool)> {
        changed
            .iter()
            .map(|difference| (difference.key.as_str(), difference.new.is_some()))
            .collect()
    }

    fn list(table: &mut Table<String, u32>, items: &[(&str, u32)]) -> Vec<Difference<String, u32>> {
        table.begin_list();
        for (key, value) in items {
            table.list_item((*key).to_owned(), Arc::new(*value));
        }
        finish(table)
    }

    fn finish(table: &mut Table<String, u32>) -> Vec<Difference<String, u32>> {
        match table.finish_list(Timestamp::UNIX_EPOCH) {
            Some(Listed::Taken { differences, .. }) => differences,
            doubted => panic!("not taken: {doubted:?}"),
        }
    }

    #[test]
    fn a_list_replaces_everything_and_says_what_it_took_away() {
        let mut table = Table::default();
        assert_eq!(table.record().generation, 0);
        list(&mut table, &[("a", 1), ("b", 2), ("c", 3)]);
        assert!(!table.record().shrank());
        let changed = list(&mut table, &[("a", 1), ("b", 5)]);
        assert_eq!(keys(&changed), [("b", true), ("c", false)]);
        let record = table.record();
        assert_eq!(
            (record.generation, record.objects, record.objects_before),
            (2, 2, 3)
        );
        assert!(record.shrank());
    }

    #[test]
    fn a_list_that_breaks_off_changes_nothing() {
        let mut table = Table::default();
        list(&mut table, &[("a", 1)]);
        table.begin_list();
        table.list_item("b".to_owned(), Arc::new(2));
        table.begin_list();
        table.list_item("a".to_owned(), Arc::new(1));
        let changed = finish(&mut table);
        assert_eq!(keys(&changed), []);
        assert_eq!(table.objects().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_where_there_was_something_is_believed_from_two_lists_a_minute_apart() {
        let mut table = Table::default();
        list(&mut table, &[]);
        list(&mut table, &[("a", 1), ("b", 2)]);
        let nothing = |table: &mut Table<String, u32>| {
            table.begin_list();
            table.finish_list(Timestamp::UNIX_EPOCH).unwrap()
        };
        let doubted = Listed::Doubted { known: 2 };
        assert_eq!(nothing(&mut table), doubted);
        tokio::time::advance(NOTHING_FOR / 2).await;
        list(&mut table, &[("a", 1), ("b", 2)]);
        tokio::time::advance(NOTHING_FOR / 2).await;
        assert_eq!(
            nothing(&mut table),
            doubted,
            "there was something meanwhile"
        );
        tokio::time::advance(NOTHING_FOR / 2).await;
        assert_eq!(nothing(&mut table), doubted);
        assert_eq!(table.objects().len(), 2);
        tokio::time::advance(NOTHING_FOR / 2).await;
        assert_eq!(keys(&list(&mut table, &[])), [("a", false), ("b", false)]);
        assert_eq!(
            table.record().generation,
            4,
            "a list in doubt does not count"
        );
    }

    #[test]
    fn readers_keep_what_they_took() {
        let mut table = Table::default();
        list(&mut table, &[("a", 1)]);
        let taken = Arc::clone(table.objects());
        assert!(table.apply("a".to_owned(), Arc::new(2)).is_some());
        assert!(table.apply("a".to_owned(), Arc::new(2)).is_none());
        assert!(table.delete(&"zz".to_owned()).is_none());
        assert_eq!(taken.get("a").map(|value| **value), Some(1));
        assert_eq!(table.objects().get("a").map(|value| **value), Some(2));
    }
}
