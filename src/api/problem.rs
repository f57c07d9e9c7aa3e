//! What is wrong with an object, in words that say what to change.

use std::fmt;

/// One thing that is wrong with an object: where, what, and what would fix it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Path of the field, for example `spec.template.spec.taints[1].key`, or an annotation key.
    pub field: String,
    /// What is wrong with it, the value included.
    pub what: String,
    /// What to write instead.
    pub fix: String,
}

impl Problem {
    /// Describes one problem.
    pub fn new(field: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            what: what.into(),
            fix: fix.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}; {}", self.field, self.what, self.fix)
    }
}

/// Joins problems to one message for a condition or an event; empty when there are none.
pub fn message(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join(". ")
}
