//! One copy of what many objects say alike.
//!
//! Given the values of objects as they come in; given back the copy that is held already, where there is an equal one.
//! Copies that no object holds any more go after a while, so that there are never many of them. Nothing here waits or
//! talks to anybody.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Changes of objects that are never worth a look through all copies.
const FEW: usize = 64;
/// Beyond [`FEW`], as many changes are as one copy in so many.
const ONE_IN: usize = 8;

/// The copies.
#[derive(Debug)]
pub(crate) struct Interner<T: ?Sized> {
    known: BTreeSet<Arc<T>>,
    /// Objects that came, changed or went since the last look: each may have left a copy of no use.
    changes: usize,
}

impl<T: ?Sized> Default for Interner<T> {
    fn default() -> Self {
        Self {
            known: BTreeSet::new(),
            changes: 0,
        }
    }
}

impl<T: Ord + ?Sized> Interner<T> {
    /// Puts the one copy in the place of a value.
    pub(crate) fn intern(&mut self, value: &mut Arc<T>) {
        self.changed();
        if let Some(known) = self.known.get(&**value) {
            *value = Arc::clone(known);
        } else {
            self.known.insert(Arc::clone(value));
        }
    }

    /// An object changed or went: what it held may be of no use any more.
    pub(super) fn changed(&mut self) {
        self.changes += 1;
        if self.changes > FEW + self.known.len() / ONE_IN {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.changes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(number: usize) -> Arc<[usize]> {
        Arc::from([number, number + 1])
    }

    #[test]
    fn equal_values_are_one_allocation() {
        let mut interner = Interner::default();
        let (mut first, mut second, mut other) = (list(1), list(1), list(2));
        for value in [&mut first, &mut second, &mut other] {
            interner.intern(value);
        }
        assert!(Arc::ptr_eq(&first, &second));
        assert!(!Arc::ptr_eq(&first, &other));
        assert_eq!((first, other), (list(1), list(2)));
    }

    #[test]
    fn what_nothing_holds_any_more_goes() {
        let mut interner = Interner::default();
        let mut held = Vec::new();
        for number in 0..1_000 {
            let mut value = list(number);
            interner.intern(&mut value);
            if number.is_multiple_of(10) {
                held.push(value);
            }
            let most = held.len() + 2 * FEW;
            assert!(interner.known.len() <= most, "{number}");
        }
        for value in &held {
            let mut again: Arc<[usize]> = Arc::from(&**value);
            interner.intern(&mut again);
            assert!(Arc::ptr_eq(&again, value), "what is held stays");
        }
        drop(held);
        for _object in 0..1_000 {
            interner.changed();
        }
        assert!(interner.known.is_empty());
    }
}
