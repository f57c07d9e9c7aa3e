//! Pages of long answers.
//!
//! Given everything by key, and what the request says of pages; given back one page and the token of
//! the next. A token says after which key to go on, so what comes and goes meanwhile shifts nothing.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::answer::{Element, text};
use super::form::Part;
use crate::sim::ec2::refusal::Refusal;

/// How long a page may be, and is unless the request says otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Length {
    pub(super) least: usize,
    pub(super) most: usize,
    pub(super) usual: usize,
}

impl Length {
    /// From 5 to 1000, and everything at once unless the request says otherwise: EC2's oldest
    /// operations.
    pub(super) const OLD: Self = Self {
        least: 5,
        most: 1_000,
        usual: usize::MAX,
    };
}

/// One page of an answer.
#[derive(Debug)]
pub(super) struct Page<Thing> {
    pub(super) things: Vec<Thing>,
    /// To be put into the answer; nothing after the last page.
    pub(super) next: Option<Element>,
}

/// The page that a request asks for.
pub(super) fn page<Thing>(
    all: BTreeMap<String, Thing>,
    request: &Part<'_>,
    length: Length,
) -> Result<Page<Thing>, Refusal> {
    let wanted = request
        .number("MaxResults")?
        .map_or(Some(length.usual), |wanted| {
            let wanted = usize::try_from(wanted).ok()?;
            (length.least..=length.most)
                .contains(&wanted)
                .then_some(wanted)
        })
        .ok_or_else(|| {
            let wanted = format!(
                "Expecting a value from {} to {}.",
                length.least, length.most
            );
            request.wrong("MaxResults", &wanted)
        })?;
    let after = after(request, "NextToken")?;
    let (things, next) = cut(all, after.as_deref(), wanted);
    Ok(Page {
        things,
        next: next.map(|token| text("nextToken", token)),
    })
}

/// The key after which a request goes on, from the token in a field.
pub(super) fn after(request: &Part<'_>, field: &str) -> Result<Option<String>, Refusal> {
    let token = request.text(field);
    token
        .map(|token| read(token).ok_or_else(|| request.wrong(field, "It is no token of this API.")))
        .transpose()
}

/// So many things after a key, and the token of what follows them.
pub(super) fn cut<Thing>(
    mut all: BTreeMap<String, Thing>,
    after: Option<&str>,
    wanted: usize,
) -> (Vec<Thing>, Option<String>) {
    let mut rest: Vec<(String, Thing)> = match after {
        None => all.into_iter().collect(),
        Some(after) => {
            let mut rest = all.split_off(after);
            rest.remove(after);
            rest.into_iter().collect()
        }
    };
    let more = rest.len() > wanted;
    rest.truncate(wanted);
    let next = match rest.last() {
        Some((last, _thing)) if more => Some(URL_SAFE_NO_PAD.encode(last)),
        _ => None,
    };
    (rest.into_iter().map(|(_key, thing)| thing).collect(), next)
}

fn read(token: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::ec2::wire::form::Form;

    fn all(count: u32) -> BTreeMap<String, u32> {
        (0..count)
            .map(|number| (format!("{number:03}"), number))
            .collect()
    }

    #[test]
    fn pages_go_on_where_the_last_one_ended_whatever_goes_meanwhile() {
        let first = page(all(12), &Form::read(b"MaxResults=5").all(), Length::OLD).unwrap();
        assert_eq!(first.things, [0, 1, 2, 3, 4]);
        let form = format!("MaxResults=7&NextToken={}", URL_SAFE_NO_PAD.encode("004"));
        assert_eq!(
            first.next,
            Some(text("nextToken", URL_SAFE_NO_PAD.encode("004")))
        );
        let mut left = all(12);
        left.remove("002");
        left.remove("004");
        let second = page(left, &Form::read(form.as_bytes()).all(), Length::OLD).unwrap();
        assert_eq!(second.things, [5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(second.next, None);
    }

    #[test]
    fn a_wrong_length_or_token_is_refused() {
        for form in [
            "MaxResults=4",
            "MaxResults=1001",
            "MaxResults=-1",
            "NextToken=!",
        ] {
            let refused = page(all(12), &Form::read(form.as_bytes()).all(), Length::OLD);
            assert_eq!(refused.unwrap_err().code, "InvalidParameterValue", "{form}");
        }
        let everything = page(all(12), &Form::read(b"").all(), Length::OLD).unwrap();
        assert_eq!(everything.things.len(), 12);
    }
}
