//! SSM parameters that hold image ids.
//!
//! Given: names, and how old an answer may be. Given back: the values of those that exist. Names are
//! asked for ten at a time; what SSM said is remembered, and serves on when SSM does not answer, so
//! that an outage of it stops no launch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use aws_sdk_ssm::types::Parameter;
use jiff::{SignedDuration, Timestamp};

use super::Api;
use super::call::failed;
use crate::cloud::CloudError;
use crate::cloud::buckets::Bucket;

const GET: &str = "GetParameters";
/// SSM takes ten names a call.
const NAMES_A_CALL: usize = 10;
/// How long a parameter that does not exist is not asked for again: somebody may be making it.
const ABSENT_FOR: SignedDuration = SignedDuration::from_secs(60);
/// Names remembered at most; beyond that everything is asked anew.
const CAPACITY: usize = 5_000;

/// What SSM said last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    /// `None`: there is no such parameter.
    value: Option<String>,
    asked: Timestamp,
}

/// Parameters by name.
#[derive(Debug, Default)]
pub(super) struct Parameters(Mutex<BTreeMap<String, Known>>);

impl Parameters {
    /// The values of the parameters that exist; `serves_for` says how old each answer may be.
    pub(super) async fn read(
        &self,
        api: &Api,
        wanted: &BTreeMap<String, SignedDuration>,
    ) -> Result<BTreeMap<String, String>, CloudError> {
        let now = api.world.now();
        let due = self.due(wanted, now);
        for names in due.chunks(NAMES_A_CALL) {
            match ask(api, names).await {
                Ok(found) => self.remember(names, &found, now),
                Err(error) if self.knows(names) => {
                    tracing::debug!(%error, "image parameters stay as they were last read");
                }
                Err(error) => return Err(error),
            }
        }
        let known = self.locked();
        let value = |name: &String| Some((name.clone(), known.get(name)?.value.clone()?));
        Ok(wanted.keys().filter_map(value).collect())
    }

    fn due(&self, wanted: &BTreeMap<String, SignedDuration>, now: Timestamp) -> Vec<String> {
        let mut known = self.locked();
        if known.len() > CAPACITY {
            known.clear();
        }
        let is_due = |(name, serves_for): &(&String, &SignedDuration)| {
            known.get(*name).is_none_or(|known| {
                let serves_for = match known.value {
                    Some(_) => **serves_for,
                    None => ABSENT_FOR.min(**serves_for),
                };
                now.duration_since(known.asked) >= serves_for
            })
        };
        let due = wanted.iter().filter(is_due);
        due.map(|(name, _serves_for)| name.clone()).collect()
    }

    fn knows(&self, names: &[String]) -> bool {
        let known = self.locked();
        names.iter().all(|name| known.contains_key(name))
    }

    fn remember(&self, names: &[String], found: &BTreeMap<String, String>, now: Timestamp) {
        let mut known = self.locked();
        for name in names {
            let said = Known {
                value: found.get(name).cloned(),
                asked: now,
            };
            known.insert(name.clone(), said);
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(api: &Api, names: &[String]) -> Result<BTreeMap<String, String>, CloudError> {
    api.buckets.take(Bucket::Other, 1).await;
    let answer = api
        .ssm
        .get_parameters()
        .set_names(Some(names.to_vec()))
        .send()
        .await
        .map_err(|error| failed(GET, &error))?;
    let found = answer.parameters().iter();
    Ok(found
        .flat_map(|parameter| asked_as(parameter, names))
        .collect())
}

/// A parameter may have been asked for by its name or its ARN, with a version or label, or without.
fn asked_as(parameter: &Parameter, names: &[String]) -> Vec<(String, String)> {
    let Some(value) = parameter.value() else {
        return Vec::new();
    };
    let selector = parameter.selector().unwrap_or("");
    let called: BTreeSet<String> = [parameter.name(), parameter.arn()]
        .into_iter()
        .flatten()
        .flat_map(|name| [name.to_owned(), format!("{name}{selector}")])
        .collect();
    let asked = names.iter().filter(|name| called.contains(*name));
    asked.map(|name| (name.clone(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_is_known_serves_its_time_and_what_is_absent_a_minute() {
        let parameters = Parameters::default();
        let wanted: BTreeMap<String, SignedDuration> = ["/here", "/absent"]
            .map(|name| (name.to_owned(), SignedDuration::from_mins(5)))
            .into();
        assert_eq!(parameters.due(&wanted, at(0)), ["/absent", "/here"]);
        let names: Vec<String> = wanted.keys().cloned().collect();
        assert!(!parameters.knows(&names));
        let found = BTreeMap::from([("/here".to_owned(), "ami-1".to_owned())]);
        parameters.remember(&names, &found, at(0));
        assert!(parameters.knows(&names));
        assert_eq!(parameters.due(&wanted, at(59)), Vec::<String>::new());
        assert_eq!(parameters.due(&wanted, at(60)), ["/absent"]);
        assert_eq!(parameters.due(&wanted, at(300)), ["/absent", "/here"]);
    }

    #[test]
    fn answers_are_found_by_name_arn_and_version() {
        let parameter = Parameter::builder()
            .name("/own/image")
            .arn("arn:aws:ssm:us-east-1:1:parameter/own/image")
            .selector(":3")
            .value("ami-1")
            .build();
        let names = [
            "/own/image:3",
            "arn:aws:ssm:us-east-1:1:parameter/own/image",
            "/own/image:4",
            "/other",
        ]
        .map(str::to_owned);
        let found = asked_as(&parameter, &names);
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
