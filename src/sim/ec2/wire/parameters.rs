//! SSM parameters on the wire: those of images that AWS publishes, and the account's own.

use serde_json::{Value, json};

use super::Desk;
use crate::cloud::facts::BUILT_IN_REGION;
use crate::sim::ec2::State;
use crate::sim::ec2::account::ACCOUNT;
use crate::sim::ec2::published;
use crate::sim::ec2::refusal::Refusal;

/// Names in one request at most. Source: "GetParameters" in the SSM API reference.
const MOST_NAMES: usize = 10;

/// The names that a request asks for.
pub(super) fn names<'form>(desk: &Desk<'form>) -> Result<Vec<&'form str>, Refusal> {
    let names = desk.all.texts("Names");
    if names.is_empty() {
        return Err(desk.all.missing("Names"));
    }
    if names.len() > MOST_NAMES {
        return Err(desk.all.wrong("Names", "Ten names are the most."));
    }
    Ok(names)
}

/// The ARN of a parameter; those that AWS publishes are nobody's.
pub(super) fn arn(name: &str) -> String {
    let account = if name.starts_with("/aws/") {
        ""
    } else {
        ACCOUNT
    };
    let name = name.trim_start_matches('/');
    format!("arn:aws:ssm:{BUILT_IN_REGION}:{account}:parameter/{name}")
}

impl State {
    fn parameter(&self, name: &str) -> Option<&str> {
        let own = self.parameters.get(name).map(String::as_str);
        own.or_else(|| published::parameter(name))
    }
}

pub(super) fn get(desk: &Desk<'_>) -> Result<Value, Refusal> {
    let mut found = Vec::new();
    let mut invalid = Vec::new();
    for name in names(desk)? {
        match desk.state.parameter(name) {
            Some(value) => found.push(json!({
                "Name": name,
                "Type": "String",
                "Value": value,
                "Version": 1,
                "ARN": arn(name),
                "DataType": "text",
            })),
            None => invalid.push(name),
        }
    }
    Ok(json!({ "Parameters": found, "InvalidParameters": invalid }))
}
