//! Where two answers differ.
//!
//! Given the normalised answers of both servers; given back every smallest part that differs, named by
//! the kind of object and the place in it.

use std::fmt;

use serde_json::Value;

use crate::script::Case;

/// One part that differs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Difference {
    /// The case.
    pub(crate) case: String,
    /// The step, from 0.
    pub(crate) step: usize,
    /// The kind of the object that holds it; empty outside of objects.
    pub(crate) kind: String,
    /// Where it is in the object.
    pub(crate) pointer: String,
    /// What the embedded server says; null is nothing.
    pub(crate) embedded: Value,
    /// What the real one says.
    pub(crate) real: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:?}, step {}: {} {}: embedded {}, real {}",
            self.case,
            self.step + 1,
            self.kind,
            self.pointer,
            self.embedded,
            self.real
        )
    }
}

/// Every difference of a case.
pub(crate) fn case(name: &str, embedded: &[Value], real: &[Value]) -> Vec<Difference> {
    let mut found = Vec::new();
    for (step, (embedded, real)) in embedded.iter().zip(real).enumerate() {
        let mut place = Place {
            case: name,
            step,
            found: &mut found,
        };
        place.answer(embedded, real);
    }
    found
}

struct Place<'run> {
    case: &'run str,
    step: usize,
    found: &'run mut Vec<Difference>,
}

/// Code and reason, as one word.
fn outcome(answer: &Value) -> Value {
    let reason = answer["body"]["reason"].as_str().unwrap_or_default();
    format!("{} {reason}", answer["code"]).trim().into()
}

/// What a watch told, without the objects.
fn told(answer: &Value) -> Value {
    let events = answer["events"].as_array().into_iter().flatten();
    events
        .map(|event| {
            let object = &event["object"];
            let what = object["metadata"]["name"].as_str();
            let what = what.or_else(|| object["reason"].as_str());
            format!(
                "{} {}",
                event["type"].as_str().unwrap_or_default(),
                what.unwrap_or_default()
            )
        })
        .collect()
}

impl Place<'_> {
    fn report(&mut self, kind: &str, pointer: &str, embedded: &Value, real: &Value) {
        self.found.push(Difference {
            case: self.case.to_owned(),
            step: self.step,
            kind: kind.to_owned(),
            pointer: pointer.to_owned(),
            embedded: embedded.clone(),
            real: real.clone(),
        });
    }

    /// Where the outcomes differ, the rest of the answers means nothing.
    fn answer(&mut self, embedded: &Value, real: &Value) {
        if embedded == real {
            return;
        }
        let (ours, theirs) = (outcome(embedded), outcome(real));
        if ours != theirs {
            return self.report("", "/outcome", &ours, &theirs);
        }
        let (ours, theirs) = (told(embedded), told(real));
        if ours != theirs {
            return self.report("", "/events", &ours, &theirs);
        }
        self.values("", "", embedded, real);
    }

    fn values(&mut self, kind: &str, pointer: &str, embedded: &Value, real: &Value) {
        if embedded == real {
            return;
        }
        match (embedded, real) {
            (Value::Object(ours), Value::Object(theirs)) => {
                let (kind, pointer) = match kind_of(real).or_else(|| kind_of(embedded)) {
                    Some(kind) => (kind, ""),
                    None => (kind, pointer),
                };
                let names = ours
                    .keys()
                    .chain(theirs.keys().filter(|name| !ours.contains_key(*name)));
                for name in names {
                    let escaped = name.replace('~', "~0").replace('/', "~1");
                    let inner = format!("{pointer}/{escaped}");
                    self.values(kind, &inner, &embedded[name], &real[name]);
                }
            }
            (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
                for (number, (embedded, real)) in ours.iter().zip(theirs).enumerate() {
                    self.values(kind, &format!("{pointer}/{number}"), embedded, real);
                }
            }
            _ => self.report(kind, pointer, embedded, real),
        }
    }
}

/// The kind of an object of the API.
fn kind_of(value: &Value) -> Option<&str> {
    value.get("metadata")?;
    value.get("kind")?.as_str()
}

/// The answers of every step.
pub(crate) fn both(case: &Case, embedded: &[Value], real: &[Value]) -> String {
    let steps = 0..case.steps.len();
    let lines = steps.map(|step| of_step(case, step, embedded, real));
    format!("{:?}\n{}", case.name, lines.collect::<Vec<_>>().join("\n"))
}

/// The answers of the steps that differ.
pub(crate) fn of_steps(
    case: &Case,
    differences: &[Difference],
    embedded: &[Value],
    real: &[Value],
) -> String {
    let mut steps: Vec<usize> = differences.iter().map(|found| found.step).collect();
    steps.dedup();
    let lines = steps
        .into_iter()
        .map(|step| of_step(case, step, embedded, real));
    lines.collect::<Vec<_>>().join("\n")
}

fn of_step(case: &Case, step: usize, embedded: &[Value], real: &[Value]) -> String {
    format!(
        "  {}: {}\n    embedded {}\n    real     {}",
        step + 1,
        case.steps[step].request,
        embedded[step],
        real[step]
    )
}
