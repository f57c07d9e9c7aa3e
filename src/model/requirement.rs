//! Sets of label values: what a pod asks of a node, what a NodePool allows, what an offering is.
//!
//! Given operators and values as manifests write them, it gives back sets that can be intersected,
//! tested and written out again without losing anything. A set says of every value, and of the
//! label's absence, whether it is a member.

use std::collections::{BTreeMap, BTreeSet};

use super::labels::LabelSource;

use super::pod::{Expression, NodeTerm};

/// The values that one label key may take, the label's absence included.
///
/// Either a finite set (`complement` false) or everything except a set (`complement` true), within
/// optional inclusive integer bounds; with any bound present, a value that is not an integer is
/// never a member.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    /// True when `values` lists what is excluded.
    pub complement: bool,
    /// The members, or the excluded values.
    pub values: BTreeSet<String>,
    /// True when a node without the label is fine too.
    pub may_be_absent: bool,
    /// Smallest integer that is a member.
    pub at_least: Option<i64>,
    /// Largest integer that is a member.
    pub at_most: Option<i64>,
    /// How many distinct values the offerings of one claim must keep between them.
    pub min_values: Option<u32>,
}

/// An operator and its values do not make a requirement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequirementError {
    /// Not one of the eight.
    #[error("unknown operator `{0}`: use In, NotIn, Exists, DoesNotExist, Gt, Lt, Gte or Lte")]
    UnknownOperator(String),
    /// In and NotIn need values.
    #[error("operator {0} needs at least one value")]
    NoValues(String),
    /// Exists and DoesNotExist take none.
    #[error("operator {0} takes no values")]
    SurplusValues(String),
    /// Comparisons need exactly one integer.
    #[error("operator {0} needs exactly one value, an integer")]
    NotAnInteger(String),
}

/// One entry of a requirement list as manifests write it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequirementEntry {
    /// One of `In`, `NotIn`, `Exists`, `DoesNotExist`, `Gte`, `Lte`.
    pub operator: &'static str,
    /// Values in order.
    pub values: Vec<String>,
    /// As in [`Requirement::min_values`].
    pub min_values: Option<u32>,
}

/// A requirement with every set operation at its default, for the constructors below.
const fn set(complement: bool, may_be_absent: bool) -> Requirement {
    Requirement {
        complement,
        values: BTreeSet::new(),
        may_be_absent,
        at_least: None,
        at_most: None,
        min_values: None,
    }
}

impl Requirement {
    /// Everything, absence included.
    pub const fn anything() -> Self {
        set(true, true)
    }

    /// Any value.
    pub const fn exists() -> Self {
        set(true, false)
    }

    /// Only absence.
    pub const fn does_not_exist() -> Self {
        set(false, true)
    }

    /// Nothing at all.
    pub const fn nothing() -> Self {
        set(false, false)
    }

    /// One of these values.
    pub fn one_of<Value: Into<String>>(values: impl IntoIterator<Item = Value>) -> Self {
        Self {
            values: values.into_iter().map(Into::into).collect(),
            ..set(false, false)
        }
    }

    /// Anything but these values, absence included.
    pub fn none_of<Value: Into<String>>(values: impl IntoIterator<Item = Value>) -> Self {
        Self {
            values: values.into_iter().map(Into::into).collect(),
            ..set(true, true)
        }
    }

    /// Integers within inclusive bounds.
    pub fn within(at_least: Option<i64>, at_most: Option<i64>) -> Self {
        Self {
            at_least,
            at_most,
            ..set(true, false)
        }
        .normalised()
    }

    /// Reads an operator and its values.
    ///
    /// # Errors
    /// [`RequirementError`] for an unknown operator or values that do not suit it.
    pub fn parse(operator: &str, values: &[String]) -> Result<Self, RequirementError> {
        let own = || operator.to_owned();
        let integer = || match values {
            [value] => value
                .parse::<i64>()
                .map_err(|_not_a_number| RequirementError::NotAnInteger(own())),
            _ => Err(RequirementError::NotAnInteger(own())),
        };
        match operator {
            "In" | "NotIn" if values.is_empty() => Err(RequirementError::NoValues(own())),
            "In" => Ok(Self::one_of(values.iter().cloned())),
            "NotIn" => Ok(Self::none_of(values.iter().cloned())),
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                Err(RequirementError::SurplusValues(own()))
            }
            "Exists" => Ok(Self::exists()),
            "DoesNotExist" => Ok(Self::does_not_exist()),
            "Gt" => Ok(integer()?
                .checked_add(1)
                .map_or_else(Self::nothing, |bound| Self::within(Some(bound), None))),
            "Lt" => Ok(integer()?
                .checked_sub(1)
                .map_or_else(Self::nothing, |bound| Self::within(None, Some(bound)))),
            "Gte" => Ok(Self::within(Some(integer()?), None)),
            "Lte" => Ok(Self::within(None, Some(integer()?))),
            _ => Err(RequirementError::UnknownOperator(own())),
        }
    }

    /// The same with a number of values to keep.
    pub fn keeping(mut self, min_values: Option<u32>) -> Self {
        self.min_values = min_values;
        self
    }

    /// Drops bounds from finite sets and values that bounds exclude anyway.
    fn normalised(mut self) -> Self {
        if let (Some(least), Some(most)) = (self.at_least, self.at_most)
            && least > most
        {
            return Self::nothing().keeping(self.min_values);
        }
        if self.at_least.is_some() || self.at_most.is_some() {
            let (least, most) = (self.at_least, self.at_most);
            self.values.retain(|value| within(value, least, most));
            if !self.complement {
                self.at_least = None;
                self.at_most = None;
            }
        }
        self
    }

    /// True when a label of this value is fine.
    pub fn contains(&self, value: &str) -> bool {
        self.values.contains(value) != self.complement && within(value, self.at_least, self.at_most)
    }

    /// True when a node with this value, or without the label, is fine.
    pub fn accepts(&self, value: Option<&str>) -> bool {
        value.map_or(self.may_be_absent, |value| self.contains(value))
    }

    /// What both allow.
    pub fn intersection(&self, other: &Self) -> Self {
        let values = match (self.complement, other.complement) {
            (true, true) => self.values.union(&other.values).cloned().collect(),
            (true, false) => other.values.difference(&self.values).cloned().collect(),
            (false, true) => self.values.difference(&other.values).cloned().collect(),
            (false, false) => self.values.intersection(&other.values).cloned().collect(),
        };
        Self {
            complement: self.complement && other.complement,
            values,
            may_be_absent: self.may_be_absent && other.may_be_absent,
            at_least: self.at_least.max(other.at_least),
            at_most: match (self.at_most, other.at_most) {
                (Some(own), Some(theirs)) => Some(own.min(theirs)),
                (own, theirs) => own.or(theirs),
            },
            min_values: self.min_values.max(other.min_values),
        }
        .normalised()
    }

    /// True when no value and not even absence is allowed.
    ///
    /// An integer range is taken as non-empty even if its few members are all excluded one by one;
    /// see [`Self::members`] for an exact answer over known values.
    pub fn is_impossible(&self) -> bool {
        !self.may_be_absent && !self.complement && self.values.is_empty()
    }

    /// True when some value, or absence, is allowed by both.
    pub fn intersects(&self, other: &Self) -> bool {
        !self.intersection(other).is_impossible()
    }

    /// The single value that is allowed, when there is exactly one and absence is not allowed.
    pub fn single(&self) -> Option<&str> {
        match (self.complement, self.may_be_absent, self.values.len()) {
            (false, false, 1) => self.values.first().map(String::as_str),
            _ => None,
        }
    }

    /// Those of the given values that are allowed.
    pub fn members<'value>(
        &self,
        values: impl IntoIterator<Item = &'value str>,
    ) -> Vec<&'value str> {
        values
            .into_iter()
            .filter(|value| self.contains(value))
            .collect()
    }

    /// The entries that say exactly this, in the form manifests use; none when everything is
    /// allowed.
    pub fn entries(&self) -> Vec<RequirementEntry> {
        let entry = |operator, values| RequirementEntry {
            operator,
            values,
            min_values: self.min_values,
        };
        let values: Vec<String> = self.values.iter().cloned().collect();
        if !self.complement {
            return match (values.is_empty(), self.may_be_absent) {
                (false, _) => vec![entry("In", values)],
                (true, true) => vec![entry("DoesNotExist", values)],
                (true, false) => vec![entry("Exists", Vec::new()), entry("DoesNotExist", values)],
            };
        }
        let mut entries = Vec::new();
        if let Some(bound) = self.at_least {
            entries.push(entry("Gte", vec![bound.to_string()]));
        }
        if let Some(bound) = self.at_most {
            entries.push(entry("Lte", vec![bound.to_string()]));
        }
        if entries.is_empty() && !self.may_be_absent {
            entries.push(entry("Exists", Vec::new()));
        }
        if !values.is_empty() {
            entries.push(entry("NotIn", values));
        }
        entries
    }
}

fn within(value: &str, at_least: Option<i64>, at_most: Option<i64>) -> bool {
    if at_least.is_none() && at_most.is_none() {
        return true;
    }
    value.parse::<i64>().is_ok_and(|number| {
        at_least.is_none_or(|bound| number >= bound) && at_most.is_none_or(|bound| number <= bound)
    })
}

/// Requirements by label key; an absent key allows everything, the label's absence included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Requirements(pub BTreeMap<String, Requirement>);

impl Requirements {
    /// No requirement at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a key may be; `None` is anything.
    pub fn get(&self, key: &str) -> Option<&Requirement> {
        self.0.get(key)
    }

    /// Narrows a key.
    pub fn add(&mut self, key: &str, requirement: &Requirement) {
        let narrowed = self.0.get(key).map_or_else(
            || requirement.clone(),
            |present| present.intersection(requirement),
        );
        self.0.insert(key.to_owned(), narrowed);
    }

    /// Narrows a key to one value.
    pub fn add_label(&mut self, key: &str, value: &str) {
        self.add(key, &Requirement::one_of([value]));
    }

    /// Narrows every key that the other names.
    pub fn add_all(&mut self, other: &Self) {
        for (key, requirement) in &other.0 {
            self.add(key, requirement);
        }
    }

    /// Reads the expressions of a node selector term.
    ///
    /// # Errors
    /// The key and what is wrong with its expression.
    pub fn from_expressions(
        expressions: &[Expression],
    ) -> Result<Self, (String, RequirementError)> {
        let mut requirements = Self::new();
        for expression in expressions {
            let requirement = Requirement::parse(&expression.operator, &expression.values)
                .map_err(|error| (expression.key.clone(), error))?;
            requirements.add(&expression.key, &requirement);
        }
        Ok(requirements)
    }

    /// The first key whose requirement a node with these labels does not meet.
    pub fn first_unmet<'own>(
        &'own self,
        labels: &BTreeMap<String, String>,
    ) -> Option<(&'own str, &'own Requirement)> {
        self.0.iter().find_map(|(key, requirement)| {
            (!requirement.accepts(labels.get(key).map(String::as_str)))
                .then_some((key.as_str(), requirement))
        })
    }

    /// The first key on which the two exclude each other.
    pub fn first_conflict<'own>(&'own self, other: &Self) -> Option<&'own str> {
        self.0.iter().find_map(|(key, own)| {
            other
                .0
                .get(key)
                .is_some_and(|theirs| !own.intersects(theirs))
                .then_some(key.as_str())
        })
    }
}

impl NodeTerm {
    /// True when a node with this name and these labels matches; an empty term, as well as an
    /// expression that cannot be read, matches nothing.
    pub fn matches(&self, name: &str, labels: &impl LabelSource) -> bool {
        let holds = |expression: &Expression, value: Option<&str>| {
            Requirement::parse(&expression.operator, &expression.values)
                .is_ok_and(|requirement| requirement.accepts(value))
        };
        !(self.expressions.is_empty() && self.fields.is_empty())
            && self
                .expressions
                .iter()
                .all(|expression| holds(expression, labels.value(&expression.key)))
            && self
                .fields
                .iter()
                .all(|field| field.key == "metadata.name" && holds(field, Some(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    /// Every value that the generated requirements can tell apart, and absence.
    const UNIVERSE: [Option<&str>; 9] = [
        None,
        Some("a"),
        Some("b"),
        Some("-1"),
        Some("0"),
        Some("1"),
        Some("2"),
        Some("3"),
        Some(""),
    ];

    fn requirement() -> impl Strategy<Value = Requirement> {
        let values = prop::collection::vec(
            prop::sample::select(vec!["a", "b", "-1", "0", "1", "2", "3", ""]),
            1..4,
        );
        let bound = prop::sample::select(vec![
            "-1",
            "0",
            "1",
            "2",
            "3",
            "9223372036854775807",
            "-9223372036854775808",
        ]);
        prop_oneof![
            values.clone().prop_map(|values| ("In", values)),
            values.prop_map(|values| ("NotIn", values)),
            Just(("Exists", vec![])),
            Just(("DoesNotExist", vec![])),
            bound.clone().prop_map(|bound| ("Gt", vec![bound])),
            bound.clone().prop_map(|bound| ("Lt", vec![bound])),
            bound.clone().prop_map(|bound| ("Gte", vec![bound])),
            bound.prop_map(|bound| ("Lte", vec![bound])),
        ]
        .prop_map(|(operator, values)| {
            let values: Vec<String> = values.into_iter().map(str::to_owned).collect();
            Requirement::parse(operator, &values).unwrap()
        })
    }

    fn meant(operator: &str, values: &[&str], label: Option<&str>) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        let Some(label) = label else {
            return matches!(operator, "NotIn" | "DoesNotExist");
        };
        let compare = |holds: fn(i64, i64) -> bool| {
            number(label)
                .zip(values.first().and_then(|value| number(value)))
                .is_some_and(|(label, value)| holds(label, value))
        };
        match operator {
            "In" => values.contains(&label),
            "NotIn" => !values.contains(&label),
            "Exists" => true,
            "Gt" => compare(|label, value| label > value),
            "Lt" => compare(|label, value| label < value),
            "Gte" => compare(|label, value| label >= value),
            "Lte" => compare(|label, value| label <= value),
            _ => false,
        }
    }

    #[test]
    fn each_operator_means_what_the_api_says() {
        for (operator, values) in [
            ("In", vec!["a", "1"]),
            ("NotIn", vec!["a", "1"]),
            ("Exists", vec![]),
            ("DoesNotExist", vec![]),
            ("Gt", vec!["1"]),
            ("Lt", vec!["1"]),
            ("Gte", vec!["1"]),
            ("Lte", vec!["1"]),
        ] {
            let owned: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
            let requirement = Requirement::parse(operator, &owned).unwrap();
            for label in UNIVERSE {
                assert_eq!(
                    requirement.accepts(label),
                    meant(operator, &values, label),
                    "{operator} {values:?} {label:?}"
                );
            }
        }
    }

    #[test]
    fn bad_operators_and_values_are_named() {
        for (operator, values, word) in [
            ("Near", vec!["a"], "unknown operator"),
            ("In", vec![], "at least one value"),
            ("Exists", vec!["a"], "takes no values"),
            ("Gt", vec!["a"], "an integer"),
            ("Lt", vec!["1", "2"], "exactly one"),
            ("Gte", vec!["9223372036854775808"], "an integer"),
        ] {
            let owned: Vec<String> = values.into_iter().map(str::to_owned).collect();
            let error = Requirement::parse(operator, &owned)
                .unwrap_err()
                .to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            rng_seed: RngSeed::Fixed(2),
            ..ProptestConfig::default()
        })]

        #[test]
        fn intersection_is_membership_in_both(
            requirements in prop::collection::vec(requirement(), 1..5)
        ) {
            let all = requirements
                .iter()
                .fold(Requirement::anything(), |sum, next| sum.intersection(next));
            for label in UNIVERSE {
                prop_assert_eq!(
                    all.accepts(label),
                    requirements.iter().all(|each| each.accepts(label)),
                    "{:?}", label
                );
            }
            if all.is_impossible() {
                prop_assert!(UNIVERSE.iter().all(|label| !all.accepts(*label)));
            }
        }

        #[test]
        fn entries_say_the_same_again(
            requirements in prop::collection::vec(requirement(), 0..5),
            min_values in prop::option::of(1_u32..5),
        ) {
            let all = requirements
                .iter()
                .fold(Requirement::anything(), |sum, next| sum.intersection(next))
                .keeping(min_values);
            let mut again = Requirement::anything();
            for entry in all.entries() {
                let read = Requirement::parse(entry.operator, &entry.values).unwrap();
                again = again.intersection(&read.keeping(entry.min_values));
            }
            for label in UNIVERSE {
                prop_assert_eq!(all.accepts(label), again.accepts(label), "{:?}", label);
            }
            if !all.entries().is_empty() {
                prop_assert_eq!(all.min_values, again.min_values);
            }
        }
    }
}
