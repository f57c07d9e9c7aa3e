//! Amounts that are written as null.
//!
//! Given an object of a kind of Kubernetes; given back the same with a zero in their place, which is what Kubernetes
//! reads there. A null anywhere else is a field that is not set, and stays.

use serde_json::{Value, json};

/// Fields whose value is a list of amounts by resource.
const AMOUNTS: [&str; 12] = [
    "allocatable",
    "allocatedResources",
    "capacity",
    "default",
    "defaultRequest",
    "limits",
    "max",
    "maxLimitRequestRatio",
    "min",
    "overhead",
    "podFixed",
    "requests",
];

/// Writes zeros where amounts are null.
pub(super) fn to_zero(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                to_zero(field);
                if let (true, Value::Object(amounts)) = (AMOUNTS.contains(&name.as_str()), field) {
                    for (resource, amount) in amounts {
                        // The overhead of a RuntimeClass holds the list, and that of a pod is one.
                        if amount.is_null() && resource != "podFixed" {
                            *amount = json!("0");
                        }
                    }
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(to_zero),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_amounts_become_zero() {
        let mut pod = json!({"spec": {"nodeName": null, "overhead": {"cpu": null}, "containers": [
            {"name": "a", "resources": {"requests": {"cpu": null, "memory": "1Gi"}, "limits": null}}]}});
        to_zero(&mut pod);
        let expected = json!({"spec": {"nodeName": null, "overhead": {"cpu": "0"}, "containers": [
            {"name": "a", "resources": {"requests": {"cpu": "0", "memory": "1Gi"}, "limits": null}}]}});
        assert_eq!(pod, expected);
        let mut class = json!({"overhead": {"podFixed": null}});
        to_zero(&mut class);
        assert_eq!(class, json!({"overhead": {"podFixed": null}}));
        let range = |amount: &Value| {
            json!({"spec": {"limits": [{"type": "Container", "default": {"cpu": amount}, "max": {"cpu": amount},
                "maxLimitRequestRatio": {"cpu": amount}, "min": {"cpu": amount}}]}})
        };
        let mut limits = range(&Value::Null);
        to_zero(&mut limits);
        assert_eq!(limits, range(&json!("0")));
    }
}
