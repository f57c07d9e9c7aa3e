//! How much work a solve may do: units instead of milliseconds.
//!
//! Given milliseconds once, at the edge; given back units of work by a constant of the build. The
//! solver counts units and never looks at a clock, so equal problems with equal budgets give equal
//! answers on every machine, only sooner or later.

/// Units of work that one millisecond is turned into.
///
/// Measured with `hack/bench-packing` on one core of a two-core machine with the release profile: a
/// unit is one item tested against one machine. The development profile does about a quarter of
/// that, which is not worth a second constant: plans must not differ between profiles.
pub const UNITS_PER_MILLISECOND: u64 = 100_000;

/// Units of work that a solve may spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Budget {
    /// The units.
    pub units: u64,
}

impl Budget {
    /// What `milliseconds` buy on the machine that [`UNITS_PER_MILLISECOND`] was measured on.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self {
            units: milliseconds.saturating_mul(UNITS_PER_MILLISECOND),
        }
    }
}

/// Counts the units of one solve.
pub struct Meter<'guard> {
    spent: u64,
    limit: u64,
    over: &'guard dyn Fn() -> bool,
    truncated: bool,
}

impl std::fmt::Debug for Meter<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Meter")
            .field("spent", &self.spent)
            .field("limit", &self.limit)
            .field("truncated", &self.truncated)
            .finish_non_exhaustive()
    }
}

impl<'guard> Meter<'guard> {
    /// A meter for a budget. `over` says that the wall-clock guard wants an end; it is asked
    /// between steps only.
    pub fn new(budget: Budget, over: &'guard dyn Fn() -> bool) -> Self {
        Self {
            spent: 0,
            limit: budget.units,
            over,
            truncated: false,
        }
    }

    /// Counts work done.
    #[inline]
    pub const fn spend(&mut self, units: u64) {
        self.spent = self.spent.saturating_add(units);
    }

    /// Units spent so far.
    pub const fn spent(&self) -> u64 {
        self.spent
    }

    /// The whole budget.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// True when `percent` of the budget are spent.
    #[inline]
    pub const fn is_past(&self, percent: u64) -> bool {
        self.truncated || self.spent >= self.limit / 100 * percent
    }

    /// Units left until `percent` of the budget are spent.
    pub const fn left_until(&self, percent: u64) -> u64 {
        if self.truncated {
            0
        } else {
            (self.limit / 100 * percent).saturating_sub(self.spent)
        }
    }

    /// Asks the guard; true when the solve must come to its end.
    pub fn ask_guard(&mut self) -> bool {
        self.truncated = self.truncated || (self.over)();
        self.truncated
    }

    /// True when the guard ended the solve before the units did.
    pub const fn is_truncated(&self) -> bool {
        self.truncated
    }
}
