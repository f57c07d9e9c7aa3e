//! IAM policies, as far as those of a controller go.
//!
//! Given a policy document; given back whether it allows an action on a resource in a context. What is
//! not understood here is refused when the policy is read, so that nothing is allowed by mistake.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::filter::matches;

/// The policy in the documentation: the first JSON of `docs/iam.md`.
const SHIPPED: &str = include_str!("../../../../docs/iam.md");

/// Why a policy cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It is no JSON, or not of a policy's shape.
    #[error("the policy cannot be read: {0}")]
    Shape(String),
    /// It asks for what is not evaluated here.
    #[error("statement {sid}: {what} is not evaluated by the simulated EC2: write it another way")]
    Unknown {
        /// The statement's `Sid`, or its number.
        sid: String,
        /// The field, operator or value.
        what: String,
    },
}

/// What the placeholders of the shipped policy stand for.
#[derive(Debug, Clone, Copy)]
pub struct Names<'call> {
    /// The cluster's name.
    pub cluster: &'call str,
    /// The region.
    pub region: &'call str,
    /// The account.
    pub account: &'call str,
    /// The role of the machines.
    pub node_role: &'call str,
}

/// A policy, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy(Vec<Statement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    allows: bool,
    actions: Vec<String>,
    resources: Vec<String>,
    conditions: Vec<Condition>,
}

/// How the values of a key that may have many are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantifier {
    One,
    All,
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    EqualIgnoringCase,
    Like,
    Absent,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    quantifier: Quantifier,
    comparison: Comparison,
    negated: bool,
    if_exists: bool,
    key: String,
    values: Vec<String>,
}

/// What a caller wants to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Need {
    /// For example `ec2:CreateFleet`.
    pub(super) action: String,
    /// The ARN.
    pub(super) resource: String,
    /// Values by key in lower case.
    pub(super) context: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    statement: Vec<BTreeMap<String, Value>>,
}

impl Policy {
    /// Reads a policy document.
    ///
    /// # Errors
    /// It is no policy, or it asks for what is not evaluated here: variables, `NotAction`, principals,
    /// operators on numbers, dates and addresses.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let document: Document =
            serde_json::from_str(text).map_err(|error| PolicyError::Shape(error.to_string()))?;
        let statements = (1..).zip(document.statement);
        statements
            .map(|(number, fields)| statement(number, &fields))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The policy that ships with Tonnage, as the documentation has it.
    ///
    /// # Errors
    /// The documentation holds a policy that cannot be read.
    pub fn shipped(names: &Names<'_>) -> Result<Self, PolicyError> {
        Self::parse(&Self::shipped_text(names))
    }

    /// The text of the policy that ships with Tonnage.
    pub fn shipped_text(names: &Names<'_>) -> String {
        let (_before, after) = SHIPPED.split_once("```json\n").unwrap_or(("", ""));
        let (json, _after) = after.split_once("```").unwrap_or(("", ""));
        json.replace("NODE-ROLE", names.node_role)
            .replace("CLUSTER", names.cluster)
            .replace("REGION", names.region)
            .replace("ACCOUNT", names.account)
    }

    /// Whether a caller with this policy and no other may do something.
    pub(super) fn allows(&self, need: &Need) -> bool {
        let speaking = |allows: bool| {
            self.0
                .iter()
                .any(|statement| statement.allows == allows && statement.speaks_of(need))
        };
        speaking(true) && !speaking(false)
    }
}

fn statement(number: u32, fields: &BTreeMap<String, Value>) -> Result<Statement, PolicyError> {
    let sid = fields
        .get("Sid")
        .and_then(Value::as_str)
        .map_or_else(|| number.to_string(), str::to_owned);
    let unknown = |what: String| PolicyError::Unknown {
        sid: sid.clone(),
        what,
    };
    let mut read = Statement {
        allows: false,
        actions: Vec::new(),
        resources: Vec::new(),
        conditions: Vec::new(),
    };
    for (name, value) in fields {
        match name.as_str() {
            "Sid" => {}
            "Effect" => {
                let effect = allows(value);
                read.allows = effect.ok_or_else(|| unknown(format!("Effect {value}")))?;
            }
            "Action" => read.actions = texts(value).ok_or_else(|| unknown("Action".to_owned()))?,
            "Resource" => {
                read.resources = texts(value).ok_or_else(|| unknown("Resource".to_owned()))?;
            }
            "Condition" => {
                read.conditions = conditions(value).map_err(unknown)?;
            }
            other => return Err(unknown(other.to_owned())),
        }
    }
    let all = read
        .resources
        .iter()
        .chain(read.conditions.iter().flat_map(|one| &one.values));
    if let Some(variable) = all.into_iter().find(|text| text.contains("${")) {
        return Err(unknown(format!("the variable in {variable}")));
    }
    for (field, list) in [("Action", &read.actions), ("Resource", &read.resources)] {
        if list.is_empty() {
            return Err(unknown(format!("a statement without {field}")));
        }
    }
    Ok(read)
}

fn allows(value: &Value) -> Option<bool> {
    match value.as_str()? {
        "Allow" => Some(true),
        "Deny" => Some(false),
        _ => None,
    }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Bool(flag) => Some(vec![flag.to_string()]),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    }
}

/// The conditions of a statement, or what of them is not evaluated.
fn conditions(value: &Value) -> Result<Vec<Condition>, String> {
    let mut read = Vec::new();
    let operators = value.as_object().ok_or("Condition")?;
    for (operator, keys) in operators {
        let unknown = || format!("the operator {operator}");
        let (quantifier, rest) = match operator.split_once(':') {
            None => (Quantifier::One, operator.as_str()),
            Some(("ForAllValues", rest)) => (Quantifier::All, rest),
            Some(("ForAnyValue", rest)) => (Quantifier::Any, rest),
            Some(_other) => return Err(unknown()),
        };
        let (rest, if_exists) = rest
            .strip_suffix("IfExists")
            .map_or((rest, false), |rest| (rest, true));
        let (comparison, negated) = match rest {
            "StringEquals" => (Comparison::Equal, false),
            "StringNotEquals" => (Comparison::Equal, true),
            "StringEqualsIgnoreCase" | "Bool" => (Comparison::EqualIgnoringCase, false),
            "StringLike" | "ArnLike" | "ArnEquals" => (Comparison::Like, false),
            "StringNotLike" | "ArnNotLike" | "ArnNotEquals" => (Comparison::Like, true),
            "Null" if !if_exists => (Comparison::Absent, false),
            _ => return Err(unknown()),
        };
        for (key, values) in keys.as_object().ok_or_else(unknown)? {
            read.push(Condition {
                quantifier,
                comparison,
                negated,
                if_exists,
                key: key.to_lowercase(),
                values: texts(values).ok_or_else(|| format!("the value of {key}"))?,
            });
        }
    }
    Ok(read)
}

impl Statement {
    fn speaks_of(&self, need: &Need) -> bool {
        let action = need.action.to_lowercase();
        self.actions
            .iter()
            .any(|known| matches(&known.to_lowercase(), &action))
            && self
                .resources
                .iter()
                .any(|known| matches(known, &need.resource))
            && self
                .conditions
                .iter()
                .all(|condition| condition.holds(&need.context))
    }
}

impl Condition {
    fn holds(&self, context: &BTreeMap<String, Vec<String>>) -> bool {
        let found = context.get(&self.key).filter(|found| !found.is_empty());
        if self.comparison == Comparison::Absent {
            let absent = found.is_none().to_string();
            return self.values.iter().all(|wanted| *wanted == absent);
        }
        let Some(found) = found else {
            // Of no values all are as wanted and none is; what is not there is not equal to anything.
            return match self.quantifier {
                Quantifier::All => true,
                Quantifier::Any => false,
                Quantifier::One => self.if_exists || self.negated,
            };
        };
        let is_wanted = |found: &String| {
            let listed = self
                .values
                .iter()
                .any(|wanted| self.compares(wanted, found));
            listed != self.negated
        };
        match self.quantifier {
            Quantifier::All => found.iter().all(is_wanted),
            Quantifier::One | Quantifier::Any => found.iter().any(is_wanted),
        }
    }

    fn compares(&self, wanted: &str, found: &str) -> bool {
        match self.comparison {
            Comparison::Equal => wanted == found,
            Comparison::EqualIgnoringCase => wanted.eq_ignore_ascii_case(found),
            Comparison::Like => matches(wanted, found),
            Comparison::Absent => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn allowed(conditions: &Value, context: &[(&str, &[&str])]) -> bool {
        let policy = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": "ec2:*Tags", "Resource": "arn:aws:ec2:*:instance/*",
            "Condition": conditions,
        }] });
        let need = Need {
            action: "ec2:CreateTags".to_owned(),
            resource: "arn:aws:ec2:us-east-1:1:instance/i-1".to_owned(),
            context: context
                .iter()
                .map(|(key, values)| {
                    let values = values.iter().map(|value| (*value).to_owned());
                    (key.to_lowercase(), values.collect())
                })
                .collect(),
        };
        Policy::parse(&policy.to_string()).unwrap().allows(&need)
    }

    #[test]
    fn operators_judge_as_iam_does() {
        let equal = json!({ "StringEquals": { "aws:ResourceTag/Team": ["a", "b"] } });
        assert!(allowed(&equal, &[("aws:resourcetag/team", &["b"])]));
        assert!(!allowed(&equal, &[("aws:ResourceTag/Team", &["c"])]));
        assert!(!allowed(&equal, &[]));
        let not_equal = json!({ "StringNotEquals": { "k": "a" } });
        assert!(allowed(&not_equal, &[]));
        assert!(!allowed(&not_equal, &[("k", &["a"])]));
        let if_exists = json!({ "StringEqualsIfExists": { "k": "a" } });
        assert!(allowed(&if_exists, &[]));
        assert!(!allowed(&if_exists, &[("k", &["b"])]));
        let like = json!({ "StringLike": { "k": "a*" } });
        assert!(allowed(&like, &[("k", &["abc"])]));
        let all = json!({ "ForAllValues:StringEquals": { "aws:TagKeys": ["x", "y"] } });
        assert!(allowed(&all, &[("aws:TagKeys", &["x"])]));
        assert!(!allowed(&all, &[("aws:TagKeys", &["x", "z"])]));
        assert!(allowed(&all, &[]));
        let any = json!({ "ForAnyValue:StringEquals": { "aws:TagKeys": "x" } });
        assert!(allowed(&any, &[("aws:TagKeys", &["x", "z"])]));
        assert!(!allowed(&any, &[]));
        let null = json!({ "Null": { "k": "true" } });
        assert!(allowed(&null, &[]));
        assert!(!allowed(&null, &[("k", &["a"])]));
        let flag = json!({ "Bool": { "k": true } });
        assert!(allowed(&flag, &[("k", &["TRUE"])]));
    }

    #[test]
    fn denial_wins_and_other_actions_and_resources_are_not_spoken_of() {
        let allow = json!({ "Effect": "Allow", "Action": "ec2:CreateTags", "Resource": "*" });
        let deny = json!({ "Effect": "Deny", "Action": "ec2:*", "Resource": "*/i-1" });
        let policy = json!({ "Statement": [allow, deny] });
        let policy = Policy::parse(&policy.to_string()).unwrap();
        let allows = |action: &str, resource: &str| {
            policy.allows(&Need {
                action: action.to_owned(),
                resource: resource.to_owned(),
                context: BTreeMap::new(),
            })
        };
        assert!(allows("ec2:createtags", "instance/i-2"));
        assert!(!allows("ec2:CreateTags", "instance/i-1"));
        assert!(!allows("ec2:CreateFleet", "instance/i-2"));
    }

    #[test]
    fn what_is_not_evaluated_is_refused_with_its_name() {
        for (field, value, what) in [
            ("NotAction", json!("ec2:*"), "NotAction"),
            (
                "Condition",
                json!({ "NumericLessThan": { "k": "1" } }),
                "NumericLessThan",
            ),
            (
                "Condition",
                json!({ "StringEquals": { "k": "${aws:username}" } }),
                "${aws:username}",
            ),
            ("Effect", json!("Maybe"), "Effect"),
        ] {
            let mut statement = json!({
                "Sid": "One", "Effect": "Allow", "Action": "ec2:*", "Resource": "*",
            });
            statement[field] = value;
            let text = json!({ "Statement": [statement] }).to_string();
            let error = Policy::parse(&text).unwrap_err().to_string();
            assert!(error.contains("One") && error.contains(what), "{error}");
        }
        assert!(Policy::parse("{}").is_err());
    }

    #[test]
    fn the_shipped_policy_is_read_and_filled_in() {
        let names = Names {
            cluster: "blue",
            region: "us-east-1",
            account: "123456789012",
            node_role: "nodes",
        };
        Policy::shipped(&names).unwrap();
        let text = Policy::shipped_text(&names);
        assert!(text.contains("arn:aws:iam::123456789012:role/nodes"));
        for placeholder in ["CLUSTER", "REGION", "ACCOUNT", "NODE-ROLE"] {
            assert!(!text.contains(placeholder), "{placeholder}");
        }
    }
}
