//! Filters of Describe calls, and the wildcards that they and IAM share.
//!
//! Given filters and what a thing has under their names; given back whether it meets all of them. A
//! name that EC2 does not know for the kind of thing is refused, as EC2 does.

use super::form::Part;
use crate::sim::ec2::refusal::Refusal;
use crate::sim::ec2::template::Tags;

/// One filter: any of the values will do.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Filter<'form> {
    name: &'form str,
    values: Vec<&'form str>,
}

/// The filters of a request: all must be met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filters<'form>(Vec<Filter<'form>>);

impl<'form> Filters<'form> {
    /// Reads `Filter.1` and so on; `known` are the names that the operation has, beside those of tags.
    pub(super) fn read(all: &Part<'form>, known: &[&str]) -> Result<Self, Refusal> {
        let filters = all.parts("Filter").into_iter().map(|filter| {
            let name = filter.required("Name")?;
            let values = filter.texts("Value");
            let is_known = known.contains(&name) || name == "tag-key" || name.starts_with("tag:");
            if !is_known {
                return Err(Refusal::new(
                    "InvalidParameterValue",
                    format!("The filter '{name}' is invalid"),
                ));
            }
            if values.is_empty() {
                return Err(filter.missing("Value"));
            }
            Ok(Filter { name, values })
        });
        filters.collect::<Result<_, _>>().map(Self)
    }

    /// Whether a thing with such tags meets them; `of` says what it has under a name.
    pub(super) fn meet(&self, tags: &Tags, of: impl Fn(&str) -> Vec<String>) -> bool {
        self.0.iter().all(|filter| {
            let found = match filter.name.strip_prefix("tag:") {
                Some(key) => tags.get(key).cloned().into_iter().collect(),
                None if filter.name == "tag-key" => tags.keys().cloned().collect(),
                None => of(filter.name),
            };
            filter
                .values
                .iter()
                .any(|wanted| found.iter().any(|found| matches(wanted, found)))
        })
    }
}

/// Whether a text is like a pattern, in which `*` is any text and `?` any character.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    // Where in the pattern the last star is, and up to where in the text it reaches.
    let mut star: Option<(usize, usize)> = None;
    let (mut at, mut read) = (0, 0);
    while read < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(wanted) if *wanted == '?' || text.get(read) == Some(wanted) => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((place, reach)) = star else {
                    return false;
                };
                star = Some((place, reach + 1));
                at = place + 1;
                read = reach + 1;
            }
        }
    }
    pattern.iter().skip(at).all(|left| *left == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::ec2::wire::form::Form;

    #[test]
    fn wildcards_match_as_in_shells() {
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("a*c", "abbbc", true),
            ("a*c", "abbb", false),
            ("*", "", true),
            ("?", "", false),
            ("a?c*", "abcd", true),
            ("*ab*ab", "abxabab", true),
            ("arn:*:image/*", "arn:aws:ec2::image/ami-1", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn all_filters_and_any_value() {
        let form = Form::read(
            b"Filter.1.Name=tag:team&Filter.1.Value.1=x&Filter.1.Value.2=da*\
              &Filter.2.Name=state&Filter.2.Value.1=on&Filter.3.Name=tag-key&Filter.3.Value.1=team",
        );
        let filters = Filters::read(&form.all(), &["state"]).unwrap();
        let tags = Tags::from([("team".to_owned(), "data".to_owned())]);
        let state = |state: &str| {
            let state = state.to_owned();
            move |_name: &str| vec![state.clone()]
        };
        assert!(filters.meet(&tags, state("on")));
        assert!(!filters.meet(&tags, state("off")));
        assert!(!filters.meet(&Tags::new(), state("on")));
        let refusal = Filters::read(&form.all(), &[]).unwrap_err();
        assert_eq!(refusal.message, "The filter 'state' is invalid");
    }
}
