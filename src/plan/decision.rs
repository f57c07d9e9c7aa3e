//! What a decision gives back to the loop that asked for it.

use std::collections::BTreeSet;

use jiff::Timestamp;

/// Steps to take now, and when to ask again if nothing else happens before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<Step> {
    /// What to do, most urgent first.
    pub steps: Vec<Step>,
    /// The earliest time at which the passing of time alone changes the decision.
    pub wake: Option<Timestamp>,
    /// Instances that EC2 must be asked about before more can be decided.
    pub look_at: BTreeSet<String>,
}

impl<Step> Default for Decision<Step> {
    fn default() -> Self {
        Self {
            steps: Vec::new(),
            wake: None,
            look_at: BTreeSet::new(),
        }
    }
}

impl<Step> Decision<Step> {
    /// Asks to be asked again at `time`, unless something earlier is asked for already.
    pub fn wake_at(&mut self, time: Timestamp) {
        self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
    }

    /// Adds a step.
    pub fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Adds what another decision of the same kind asks for.
    pub fn extend(&mut self, other: Self) {
        self.steps.extend(other.steps);
        self.look_at.extend(other.look_at);
        if let Some(wake) = other.wake {
            self.wake_at(wake);
        }
    }
}
