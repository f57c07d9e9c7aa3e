//! When launch templates were last used.
//!
//! Given the names that launches use and those that EC2 has; given back the names that nothing has used
//! for a day and no claim's record names, which may be removed. A burst from zero finds the templates
//! of yesterday's; those of old images and old user data do not pile up until the quota stops every
//! launch. A template that is removed too early costs one refused call and is made again.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::model::launch::TemplateOverrides;
use crate::model::snapshot::Snapshot;

/// How long a template stays unused: nightly work finds its own again.
const KEPT_UNUSED: SignedDuration = SignedDuration::from_hours(24);
/// Names that are written at most, the latest first: what is left out counts as used when it is next listed.
const MOST_ENTRIES: usize = 2_000;

/// When each template was last used, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TemplateUse(BTreeMap<String, Timestamp>);

/// A text that is no memory of templates.
#[derive(Debug, thiserror::Error)]
#[error("the learned use of launch templates cannot be read; delete the entry to begin anew")]
pub struct UnreadableTemplates(#[from] serde_json::Error);

impl TemplateUse {
    /// A launch is about to use templates.
    pub fn used(&mut self, templates: &[TemplateOverrides], now: Timestamp) {
        for template in templates {
            self.0.insert(template.name.clone(), now);
        }
    }

    /// Takes in what EC2 has: what was never seen before counts as used now, and what is not there any
    /// more is forgotten.
    pub fn listed(&mut self, names: &BTreeSet<String>, now: Timestamp) {
        self.0.retain(|name, _at| names.contains(name));
        for name in names {
            self.0.entry(name.clone()).or_insert(now);
        }
    }

    /// What may be removed.
    pub fn unused(&self, snapshot: &Snapshot) -> Vec<String> {
        let recorded: BTreeSet<&str> = snapshot
            .claims
            .values()
            .filter_map(|claim| claim.launch.as_ref())
            .flat_map(|record| &record.templates)
            .map(|template| template.name.as_str())
            .collect();
        self.0
            .iter()
            .filter(|(name, at)| {
                snapshot.now.duration_since(**at) >= KEPT_UNUSED
                    && !recorded.contains(name.as_str())
            })
            .map(|(name, _at)| name.clone())
            .collect()
    }

    /// A template was removed.
    pub fn removed(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// As text, for [`TemplateUse::read`].
    pub fn write(&self) -> String {
        let mut latest: Vec<(&String, &Timestamp)> = self.0.iter().collect();
        latest.sort_by(|one, other| other.1.cmp(one.1).then_with(|| one.0.cmp(other.0)));
        let kept: BTreeMap<&String, &Timestamp> = latest.into_iter().take(MOST_ENTRIES).collect();
        // Names and times can always be written.
        serde_json::to_string(&kept).unwrap_or_default()
    }

    /// From the text of [`TemplateUse::write`], which may be old, and may come from anybody.
    ///
    /// # Errors
    /// The text is not of that form.
    pub fn read(text: &str, now: Timestamp) -> Result<Self, UnreadableTemplates> {
        let read: BTreeMap<String, Timestamp> = serde_json::from_str(text)?;
        let held = |(name, at): (String, Timestamp)| (name, at.min(now));
        Ok(Self(read.into_iter().map(held).collect()))
    }

    /// Takes over what was known before; what was used later wins.
    pub fn absorb(&mut self, earlier: Self) {
        for (name, at) in earlier.0 {
            let known = self.0.entry(name).or_insert(at);
            *known = at.max(*known);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::launch::LaunchRecord;
    use crate::model::offering::CapacityType;
    use crate::plan::examples::{at, claim, world};

    const DAY: i64 = 86_400;

    fn template(name: &str) -> TemplateOverrides {
        TemplateOverrides {
            name: name.to_owned(),
            overrides: Vec::new(),
        }
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_nothing_used_for_a_day_may_go() {
        let mut templates = TemplateUse::default();
        templates.used(&[template("a"), template("b")], at(0));
        templates.listed(&names(&["a", "b", "found"]), at(10));
        templates.used(&[template("b")], at(DAY - 5));
        let unused = |second: i64| templates.unused(&world(second, &[], &[], &[]));
        assert_eq!(unused(DAY - 1), Vec::<String>::new());
        assert_eq!(unused(DAY), ["a"]);
        assert_eq!(
            unused(DAY + 10),
            ["a", "found"],
            "a day from when it was found"
        );
        // What somebody else removed is forgotten.
        templates.listed(&names(&["b"]), at(DAY + 20));
        assert_eq!(templates.0.len(), 1);
    }

    #[test]
    fn what_a_record_names_stays() {
        let mut templates = TemplateUse::default();
        templates.used(&[template("a")], at(0));
        let mut claim = claim("a", &["c5.xlarge/us-east-1a/spot"]);
        claim.launch = Some(Arc::new(LaunchRecord {
            batch: "b".to_owned(),
            attempt: 1,
            size: 1,
            capacity_type: CapacityType::Spot,
            reservation: None,
            templates: vec![template("a")],
        }));
        let unused = templates.unused(&world(10 * DAY, &[claim], &[], &[]));
        assert_eq!(unused, Vec::<String>::new());
    }

    #[test]
    fn a_restart_forgets_no_use_and_believes_no_future() {
        let mut templates = TemplateUse::default();
        templates.used(&[template("a")], at(5));
        let read = TemplateUse::read(&templates.write(), at(9)).unwrap();
        assert_eq!(read, templates);
        let mut anew = TemplateUse::default();
        anew.used(&[template("a")], at(7));
        anew.absorb(read);
        assert_eq!(anew.0["a"], at(7));
        assert!(TemplateUse::read("[]", at(0)).is_err());
        let future = r#"{"a":"9999-01-01T00:00:00Z"}"#;
        let read = TemplateUse::read(future, at(3)).unwrap();
        assert_eq!(read.0["a"], at(3));
    }
}
