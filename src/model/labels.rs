//! The labels of Nodes.
//!
//! Nodes of one type, zone and NodePool say the same but for their own name, so all but that may be one copy for
//! thousands of them: who holds many Nodes sees to that. Which labels mean what is said elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::labels::HOSTNAME;

/// What selectors look labels up in.
pub trait LabelSource {
    /// The value of a label.
    fn value(&self, key: &str) -> Option<&str>;
}

impl LabelSource for BTreeMap<String, String> {
    fn value(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

/// The labels of one Node.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelSet {
    /// All but the hostname.
    alike: Arc<BTreeMap<String, String>>,
    hostname: Option<String>,
}

impl LabelSet {
    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&String> {
        match key {
            HOSTNAME => self.hostname.as_ref(),
            _ => self.alike.get(key),
        }
    }

    /// True when there is a label of that name.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The names of the labels, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let hostname = self.hostname.iter().map(|_value| HOSTNAME);
        self.alike.keys().map(String::as_str).chain(hostname)
    }

    /// Sets a label.
    pub fn insert(&mut self, key: String, value: String) {
        if key == HOSTNAME {
            self.hostname = Some(value);
        } else {
            Arc::make_mut(&mut self.alike).insert(key, value);
        }
    }

    /// Takes a label away.
    pub fn remove(&mut self, key: &str) {
        if key == HOSTNAME {
            self.hostname = None;
        } else if self.alike.contains_key(key) {
            Arc::make_mut(&mut self.alike).remove(key);
        }
    }

    /// All of them, in a map of its own.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::clone(&self.alike);
        let hostname = self.hostname.iter();
        all.extend(hostname.map(|value| (HOSTNAME.to_owned(), value.clone())));
        all
    }

    /// All but the hostname as they are shared, for whoever keeps one copy of those that are equal.
    pub(crate) const fn shared(&mut self) -> &mut Arc<BTreeMap<String, String>> {
        &mut self.alike
    }
}

impl LabelSource for LabelSet {
    fn value(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl From<BTreeMap<String, String>> for LabelSet {
    fn from(mut labels: BTreeMap<String, String>) -> Self {
        let hostname = labels.remove(HOSTNAME);
        Self {
            alike: Arc::new(labels),
            hostname,
        }
    }
}

impl FromIterator<(String, String)> for LabelSet {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(labels: I) -> Self {
        labels.into_iter().collect::<BTreeMap<_, _>>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(node: &str) -> BTreeMap<String, String> {
        let labels = [
            (HOSTNAME, node),
            ("topology.kubernetes.io/zone", "us-east-1a"),
        ];
        labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn a_set_has_what_the_map_has_that_it_was_made_of() {
        let map = labels("ip-1");
        let mut set = LabelSet::from(map.clone());
        assert_eq!(set.to_map(), map);
        for (key, value) in &map {
            assert_eq!(set.get(key), Some(value));
            assert_eq!(set.value(key), Some(value.as_str()));
        }
        assert_eq!(set.keys().count(), map.len());
        for (key, value) in map {
            set.remove(&key);
            assert!(!set.contains_key(&key));
            set.insert(key, value);
        }
        assert_eq!(set, labels("ip-1").into());
    }

    #[test]
    fn labels_that_are_alike_stay_so_when_one_node_gets_another() {
        let one = LabelSet::from(labels("ip-1"));
        let mut other = one.clone();
        other.insert("team".to_owned(), "data".to_owned());
        other.insert(HOSTNAME.to_owned(), "ip-2".to_owned());
        assert_eq!(one, labels("ip-1").into());
        assert_eq!(other.get("team").map(String::as_str), Some("data"));
        assert_eq!(other.get(HOSTNAME).map(String::as_str), Some("ip-2"));
    }
}
