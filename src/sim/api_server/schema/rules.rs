//! The CEL rules of a schema.
//!
//! Given a value and what it was before; given back the messages of the rules that do not hold. A rule
//! that names `oldSelf` is asked only where there was something before, and never within lists, whose
//! items cannot be told apart. Rules that cannot be read or run refuse, as the API server's do.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use cel::common::types::{CelBool, CelString};
use cel::{Context, DeclarationError, Env, ExecutionError, Program, extensions};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, ValidationRule,
};
use regex::Regex;
use serde_json::Value;

use super::check::of_field;

/// Patterns that rules have matched against so far, compiled: they are parts of the rules' texts, and few.
static PATTERNS: LazyLock<Mutex<BTreeMap<String, Regex>>> = LazyLock::new(Mutex::default);

/// CEL's `matches`, with each pattern compiled once.
fn matches(this: &CelString<'_>, pattern: &CelString<'_>) -> Result<CelBool, ExecutionError> {
    let mut known = PATTERNS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = known.get(pattern.inner()) {
        return Ok(CelBool::from(regex.is_match(this.inner())));
    }
    let regex = Regex::new(pattern.inner()).map_err(|error| ExecutionError::FunctionError {
        function: "matches".to_owned(),
        message: error.to_string(),
    })?;
    let found = regex.is_match(this.inner());
    known.insert(pattern.inner().to_owned(), regex);
    Ok(CelBool::from(found))
}

fn with_matches(env: &mut Env) -> Result<(), DeclarationError> {
    cel::add_member_overload!(env, fn matches: (CelString, CelString) -> Result<CelBool>)
}

/// Rules by their text, compiled.
pub(super) struct Rules {
    env: Arc<Env>,
    programs: BTreeMap<String, Result<Program, String>>,
}

impl fmt::Debug for Rules {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.programs.keys()).finish()
    }
}

impl Rules {
    /// No rule yet.
    pub(super) fn new() -> Self {
        let mut env = Env::stdlib();
        // They fail only where a function of the name is there, and then the rules show it.
        let _extended = env.add_extension(extensions::strings);
        let _extended = env.add_extension(with_matches);
        Self {
            env: Arc::new(env),
            programs: BTreeMap::new(),
        }
    }

    /// Compiles a rule.
    pub(super) fn add(&mut self, rule: &str) {
        let program = self.env.compile(rule).map_err(|error| error.to_string());
        self.programs.insert(rule.to_owned(), program);
    }

    /// Runs the rules of a schema and of what is within.
    pub(super) fn check(
        &self,
        schema: &JSONSchemaProps,
        (value, before): (&Value, Option<&Value>),
        path: &str,
        problems: &mut Vec<String>,
    ) {
        let rules = schema.x_kubernetes_validations.iter().flatten();
        let rules: Vec<&ValidationRule> = rules
            .filter(|rule| before.is_some() || !rule.rule.contains("oldSelf"))
            .collect();
        if !rules.is_empty() {
            let told = self.run(&rules, value, before);
            problems.extend(told.into_iter().map(|told| format!("{path}: {told}")));
        }
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if let Some(schema) = of_field(schema, name) {
                        let was = before.and_then(|before| before.get(name));
                        let path = format!("{path}.{name}");
                        self.check(schema, (value, was), &path, problems);
                    }
                }
            }
            Value::Array(items) => {
                if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
                    for (index, item) in items.iter().enumerate() {
                        let path = format!("{path}[{index}]");
                        self.check(schema, (item, None), &path, problems);
                    }
                }
            }
            _ => {}
        }
    }

    /// Runs rules on one value; gives back what those say that do not hold.
    fn run(&self, rules: &[&ValidationRule], value: &Value, before: Option<&Value>) -> Vec<String> {
        let mut context = Context::with_env(Arc::clone(&self.env));
        for (name, value) in [("self", Some(value)), ("oldSelf", before)] {
            let Some(value) = value else { continue };
            match cel::to_value(value) {
                Ok(value) => context.add_variable_from_value(name, value),
                Err(error) => return vec![error.to_string()],
            }
        }
        let told = rules.iter().filter_map(|rule| {
            let outcome = match self.programs.get(&rule.rule) {
                Some(Ok(program)) => program.execute(&context).map_err(|error| error.to_string()),
                Some(Err(error)) => Err(error.clone()),
                None => Err("the rule was never read".to_owned()),
            };
            match outcome {
                Ok(cel::Value::Bool(true)) => None,
                Ok(_no) => Some(rule.message.clone().unwrap_or_else(|| rule.rule.clone())),
                Err(error) => Some(format!("{}: {error}", rule.rule)),
            }
        });
        told.collect()
    }

    /// The rules that cannot be read.
    #[cfg(test)]
    pub(super) fn broken(&self) -> Vec<String> {
        let broken = self.programs.iter().filter(|(_rule, read)| read.is_err());
        broken
            .map(|(rule, read)| format!("{rule}: {read:?}"))
            .collect()
    }

    /// How many rules there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.programs.len()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_may_match_a_pattern() {
        let rule = ValidationRule {
            rule: "self.matches('^[a-z]+$')".to_owned(),
            ..ValidationRule::default()
        };
        let mut rules = Rules::new();
        rules.add(&rule.rule);
        for _again in 0..2 {
            assert_eq!(
                rules.run(&[&rule], &json!("abc"), None),
                Vec::<String>::new()
            );
            assert_eq!(
                rules.run(&[&rule], &json!("a1"), None),
                std::slice::from_ref(&rule.rule)
            );
        }
    }
}
