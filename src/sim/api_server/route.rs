//! What a request asks for: its path and query, taken apart.

use std::collections::BTreeMap;

use super::refusal::Refusal;
use super::resource::{Key, Resource};

/// A path, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    /// The kind.
    pub(super) resource: Resource,
    /// Empty for all namespaces, and for kinds without.
    pub(super) namespace: String,
    /// The object; `None` for the collection.
    pub(super) name: Option<String>,
    /// `status`, `scale`, `eviction` or `binding`.
    pub(super) subresource: Option<String>,
}

impl Route {
    /// Reads a path such as `/apis/apps/v1/namespaces/default/deployments/web/scale`.
    pub(super) fn parse(path: &str) -> Result<Self, Refusal> {
        let unknown = || Refusal::not_found(format!("the server could not find {path}"));
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Err(unknown()),
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() && rest != ["status"] => {
                (*namespace, rest)
            }
            rest => ("", rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (plural, None, None),
            [plural, name] => (plural, Some(*name), None),
            [plural, name, subresource] => (plural, Some(*name), Some(*subresource)),
            _ => return Err(unknown()),
        };
        let resource = Resource::of_path(group, version, plural).ok_or_else(unknown)?;
        Ok(Self {
            resource,
            namespace: namespace.to_owned(),
            name: name.map(str::to_owned),
            subresource: subresource.map(str::to_owned),
        })
    }

    /// The key of the named object.
    pub(super) fn key(&self) -> Key {
        Key::new(
            self.resource,
            &self.namespace,
            self.name.as_deref().unwrap_or_default(),
        )
    }
}

/// A query, taken apart and decoded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    /// Reads a query such as `watch=true&resourceVersion=12`.
    pub(super) fn parse(text: &str) -> Self {
        let pairs = text
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (decode(name), decode(value)));
        Self(pairs.collect())
    }

    /// A value; `None` when it is absent or empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// A whole number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// True for `true` and `1`.
    pub(super) fn is_true(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1"))
    }
}

/// Undoes URL encoding; what is not well-formed stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let code = std::str::from_utf8(&digits)
                    .ok()
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok());
                bytes.push(code.unwrap_or(b'%'));
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_collections_objects_and_subresources() {
        let route = Route::parse("/apis/apps/v1/namespaces/default/deployments/web/scale").unwrap();
        assert_eq!(route.resource, Resource::Deployment);
        assert_eq!(route.key().to_string(), "deployments/default/web");
        assert_eq!(route.subresource.as_deref(), Some("scale"));
        let all = Route::parse("/api/v1/pods").unwrap();
        assert_eq!((all.namespace.as_str(), all.name), ("", None));
        let namespace = Route::parse("/api/v1/namespaces/blue").unwrap();
        assert_eq!(namespace.key().to_string(), "namespaces/blue");
        assert_eq!(Route::parse("/apis/x/v1/things").unwrap_err().code, 404);
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("labelSelector=app%3Dweb%2Ctier+in+%28a%29&watch=1&limit=");
        assert_eq!(query.get("labelSelector"), Some("app=web,tier in (a)"));
        assert!(query.is_true("watch"));
        assert_eq!(query.number("limit"), None);
    }
}
