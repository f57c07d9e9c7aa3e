//! Which pods are never voluntary victims: the value of `tonnage.dev/protect`.
//!
//! Terms are separated by semicolons. A term in CamelCase without `=`, `!`, blanks or parentheses
//! is the kind of a pod's owner (`Job`); anything else is a label selector in Kubernetes' notation
//! (`team=ml,tier!=web`, `app in (spark, flink)`, `!scratch`).

use super::requirement::RequirementOperator;
use super::syntax::{is_label_value, is_qualified_name};

/// Pods that are never voluntary victims: those that match any kind or any selector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Protection {
    /// Kinds of owners, for example `Job`.
    pub owner_kinds: Vec<String>,
    /// Label selectors; all terms of one selector must match.
    pub selectors: Vec<Vec<SelectorTerm>>,
}

/// One term of a label selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectorTerm {
    /// The label's key.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: RequirementOperator,
    /// The values of `In` and `NotIn`.
    pub values: Vec<String>,
}

impl Protection {
    /// Reads the value of the annotation; none when it is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let mut protection = Self::default();
        for term in text
            .split(';')
            .map(str::trim)
            .filter(|term| !term.is_empty())
        {
            if is_kind(term) {
                protection.owner_kinds.push(term.to_owned());
            } else {
                protection.selectors.push(selector(term)?);
            }
        }
        Some(protection)
    }
}

fn is_kind(term: &str) -> bool {
    term.starts_with(|c: char| c.is_ascii_uppercase())
        && term.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Splits at the commas outside parentheses and reads each term.
fn selector(text: &str) -> Option<Vec<SelectorTerm>> {
    let mut terms = Vec::new();
    let mut depth = 0_u32;
    let mut current = String::new();
    for character in text.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1)?,
            ',' if depth == 0 => {
                terms.push(selector_term(current.trim())?);
                current.clear();
                continue;
            }
            _ => {}
        }
        current.push(character);
    }
    terms.push(selector_term(current.trim())?);
    (depth == 0).then_some(terms)
}

fn selector_term(text: &str) -> Option<SelectorTerm> {
    use RequirementOperator::{DoesNotExist, Exists, In, NotIn};
    if let Some((key, value)) = text.split_once("!=") {
        return checked(key, NotIn, vec![value]);
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return checked(key, In, vec![value]);
    }
    if let Some((head, list)) = text.split_once('(') {
        let values: Vec<&str> = list.strip_suffix(')')?.split(',').collect();
        let mut words = head.split_whitespace();
        let (key, word) = (words.next()?, words.next()?);
        return match (word, words.next()) {
            ("in", None) => checked(key, In, values),
            ("notin", None) => checked(key, NotIn, values),
            _ => None,
        };
    }
    match text.strip_prefix('!') {
        Some(key) => checked(key, DoesNotExist, Vec::new()),
        None => checked(text, Exists, Vec::new()),
    }
}

fn checked(key: &str, operator: RequirementOperator, values: Vec<&str>) -> Option<SelectorTerm> {
    let key = key.trim();
    let values: Vec<String> = values
        .into_iter()
        .map(|value| value.trim().to_owned())
        .collect();
    let well_formed = is_qualified_name(key) && values.iter().all(|value| is_label_value(value));
    well_formed.then(|| SelectorTerm {
        key: key.to_owned(),
        operator,
        values,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(key: &str, operator: &str, values: &[&str]) -> SelectorTerm {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        SelectorTerm {
            key: key.to_owned(),
            operator: operator.into(),
            values,
        }
    }

    #[test]
    fn kinds_and_selectors_are_told_apart() {
        let protection =
            Protection::parse("Job; team=ml,tier!=web; app in (spark, flink); !scratch;gpu")
                .unwrap();
        assert_eq!(protection.owner_kinds, ["Job"]);
        assert_eq!(
            protection.selectors,
            [
                vec![term("team", "In", &["ml"]), term("tier", "NotIn", &["web"])],
                vec![term("app", "In", &["spark", "flink"])],
                vec![term("scratch", "DoesNotExist", &[])],
                vec![term("gpu", "Exists", &[])],
            ]
        );
    }

    #[test]
    fn nothing_protects_nobody() {
        assert_eq!(Protection::parse(" ; "), Some(Protection::default()));
    }

    #[test]
    fn malformed_selectors_are_refused() {
        for text in [
            "a b",
            "a in spark",
            "a in (x",
            "a) in (x",
            "=x",
            "team=a b",
            "a from (x)",
            "a,,b",
        ] {
            assert_eq!(Protection::parse(text), None, "{text}");
        }
    }
}
