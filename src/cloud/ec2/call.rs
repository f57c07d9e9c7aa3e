//! From the SDK's errors to ours, and small builders that every call shares.

use std::collections::BTreeMap;

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::types::{Filter, Tag};

use crate::cloud::{CloudError, errors};

/// The error of a call, classified.
pub(super) fn failed<E>(operation: &'static str, error: &SdkError<E>) -> CloudError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let status = error.raw_response().map(|answer| answer.status().as_u16());
    match error {
        SdkError::ServiceError(context) => {
            let service = context.err();
            errors::cloud_error(
                operation,
                service.code().unwrap_or(""),
                service.message().unwrap_or("no message"),
                status,
            )
        }
        SdkError::ResponseError(_) => errors::cloud_error(
            operation,
            "",
            &format!("the answer could not be read: {}", causes(error)),
            Some(status.unwrap_or(500)),
        ),
        other => {
            let text = causes(other);
            let code = if is_about_credentials(&text) {
                errors::NO_CREDENTIALS
            } else {
                errors::NO_ANSWER
            };
            errors::cloud_error(operation, code, &text, None)
        }
    }
}

/// The SDK has no error kind of its own for credentials that could not be had.
fn is_about_credentials(text: &str) -> bool {
    ["credential", "identity"]
        .iter()
        .any(|word| text.contains(word))
}

/// An error and its causes, the first line of each.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(current) = next {
        let text = current.to_string();
        // The chain of credentials goes on with a list of everything that it tried.
        let line = text
            .lines()
            .next()
            .unwrap_or("")
            .trim_end_matches("Attempted:")
            .trim();
        let is_news = !texts.iter().any(|known| known.contains(line));
        if is_news {
            texts.push(line.to_owned());
        }
        next = current.source();
    }
    texts.join(": ").chars().take(300).collect()
}

/// A filter with values.
pub(super) fn filter(
    name: impl Into<String>,
    values: impl IntoIterator<Item = impl Into<String>>,
) -> Filter {
    values
        .into_iter()
        .fold(Filter::builder().name(name), |filter, value| {
            filter.values(value)
        })
        .build()
}

/// Filters that a tag selector stands for: `*` is any value.
pub(super) fn tag_filters(tags: &BTreeMap<String, String>) -> Vec<Filter> {
    tags.iter()
        .map(|(key, value)| {
            if value == "*" {
                filter("tag-key", [key])
            } else {
                filter(format!("tag:{key}"), [value])
            }
        })
        .collect()
}

/// Tags in key order.
pub(super) fn tag_list(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter()
        .map(|(key, value)| Tag::builder().key(key).value(value).build())
        .collect()
}

/// Tags as a map.
pub(super) fn tag_map(tags: &[Tag]) -> BTreeMap<String, String> {
    tags.iter()
        .filter_map(|tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or("").to_owned())))
        .collect()
}
