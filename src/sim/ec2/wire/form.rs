//! The form that a request of EC2's or IAM's query protocol is, and the JSON of others as one.
//!
//! Given a body; given back fields by their dotted names, with lists counted from 1 as in
//! `Filter.1.Value.2`. A field that is needed and missing, or no number, is refused with its name.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::sim::ec2::refusal::Refusal;
use crate::sim::ec2::template::Tags;

/// What two requests under one client token need not share.
const ASIDE: [&str; 2] = ["ClientToken", "DryRun"];

/// A whole form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Form {
    fields: BTreeMap<String, String>,
    /// It came as JSON, with the operation in a header.
    pub(super) is_json: bool,
}

impl Form {
    /// Reads a body; of a field that is there twice the last one counts.
    pub(super) fn read(body: &[u8]) -> Self {
        Self {
            fields: form_urlencoded::parse(body).into_owned().collect(),
            is_json: false,
        }
    }

    /// Reads a body of JSON for a `target` such as `AmazonSSM.GetParameters`: texts, numbers and flags, and
    /// those in lists and objects below their names. What is no JSON has no fields.
    pub(super) fn read_json(target: &str, body: &[u8]) -> Self {
        let services = ["AmazonSQS.", "AmazonSSM.", "AWSPriceListService."];
        let mut actions = services
            .iter()
            .filter_map(|service| target.strip_prefix(service));
        let action = actions.next().unwrap_or(target);
        let mut fields = BTreeMap::new();
        add(
            &mut fields,
            String::new(),
            &serde_json::from_slice(body).unwrap_or_default(),
        );
        fields.insert("Action".to_owned(), action.to_owned());
        Self {
            fields,
            is_json: true,
        }
    }

    /// All of it.
    pub(super) const fn all(&self) -> Part<'_> {
        Part {
            fields: &self.fields,
            prefix: String::new(),
        }
    }

    /// What must be equal under an equal client token, as one text.
    pub(super) fn parameters(&self) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        let compared = self
            .fields
            .iter()
            .filter(|(name, _value)| !ASIDE.contains(&name.as_str()));
        form.extend_pairs(compared).finish()
    }
}

/// Adds a value of JSON under a dotted name, and what is in it below that. The reader of JSON bounds the depth.
fn add(fields: &mut BTreeMap<String, String>, name: String, value: &Value) {
    let below = |part: &str| {
        if name.is_empty() {
            part.to_owned()
        } else {
            format!("{name}.{part}")
        }
    };
    match value {
        Value::Null => {}
        Value::String(text) => {
            fields.insert(name, text.clone());
        }
        Value::Bool(_) | Value::Number(_) => {
            fields.insert(name, value.to_string());
        }
        Value::Array(members) => {
            for (number, member) in (1_u32..).zip(members) {
                add(fields, below(&number.to_string()), member);
            }
        }
        Value::Object(members) => {
            for (part, member) in members {
                add(fields, below(part), member);
            }
        }
    }
}

/// The fields of a form below a name.
#[derive(Debug, Clone)]
pub(super) struct Part<'form> {
    fields: &'form BTreeMap<String, String>,
    prefix: String,
}

impl<'form> Part<'form> {
    fn name_of(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.prefix)
        }
    }

    /// A field, if it is there and not empty.
    pub(super) fn text(&self, name: &str) -> Option<&'form str> {
        let text = self.fields.get(&self.name_of(name))?.as_str();
        (!text.is_empty()).then_some(text)
    }

    /// A field that must be there.
    pub(super) fn required(&self, name: &str) -> Result<&'form str, Refusal> {
        self.text(name).ok_or_else(|| self.missing(name))
    }

    /// The refusal of a request without a field.
    pub(super) fn missing(&self, name: &str) -> Refusal {
        Refusal::new(
            "MissingParameter",
            format!(
                "The request must contain the parameter {}",
                self.name_of(name)
            ),
        )
    }

    /// The refusal of a value.
    pub(super) fn wrong(&self, name: &str, wanted: &str) -> Refusal {
        Refusal::new(
            "InvalidParameterValue",
            format!(
                "Value ({}) for parameter {} is invalid. {wanted}",
                self.text(name).unwrap_or(""),
                self.name_of(name)
            ),
        )
    }

    /// A flag, if it is there.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.text(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_other) => Err(self.wrong(name, "It must be true or false.")),
        }
    }

    /// A whole number, if it is there.
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, Refusal> {
        self.text(name)
            .map(str::parse::<i64>)
            .transpose()
            .map_err(|_not_a_number| self.wrong(name, "It must be a whole number."))
    }

    /// What is below a name.
    pub(super) fn part(&self, name: &str) -> Self {
        Self {
            fields: self.fields,
            prefix: self.name_of(name),
        }
    }

    /// True when there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        let below = format!("{}.", self.prefix);
        let next = self.fields.range(below.clone()..).next();
        next.is_none_or(|(name, _value)| !name.starts_with(&below))
    }

    /// The members of a list of structures.
    pub(super) fn parts(&self, name: &str) -> Vec<Self> {
        let list = self.part(name);
        (1_u32..)
            .map_while(|number| {
                let member = list.part(&number.to_string());
                (!member.is_empty()).then_some(member)
            })
            .collect()
    }

    /// The members of a list of texts.
    pub(super) fn texts(&self, name: &str) -> Vec<&'form str> {
        let list = self.part(name);
        (1_u32..)
            .map_while(|number| list.text(&number.to_string()))
            .collect()
    }

    /// The tags of `Tag.1.Key` and so on.
    pub(super) fn tags(&self) -> Result<Tags, Refusal> {
        self.tags_of("Tag")
    }

    /// The tags of a list.
    pub(super) fn tags_of(&self, list: &str) -> Result<Tags, Refusal> {
        let mut found = Tags::new();
        for tag in self.parts(list) {
            let key = tag.required("Key")?;
            if key.starts_with("aws:") {
                return Err(tag.wrong("Key", "Tag keys starting with 'aws:' are reserved."));
            }
            let value = tag.text("Value").unwrap_or("").to_owned();
            if found.insert(key.to_owned(), value).is_some() {
                return Err(tag.wrong("Key", "Duplicate tag keys were given."));
            }
        }
        Ok(found)
    }

    /// The tags by kind of `TagSpecification.1` and so on.
    pub(super) fn tag_specifications(&self) -> Result<BTreeMap<String, Tags>, Refusal> {
        let mut found = BTreeMap::new();
        for specification in self.parts("TagSpecification") {
            let kind = specification.required("ResourceType")?.to_owned();
            if found.insert(kind, specification.tags()?).is_some() {
                return Err(specification.wrong("ResourceType", "It is there twice."));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lists_and_tags_are_read() {
        let form = Form::read(
            b"Action=A&ClientToken=t&InstanceId.1=i-1&InstanceId.2=i-2&Max=12&Empty=\
              &TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=a%2Fb\
              &TagSpecification.1.Tag.1.Value=c+d",
        );
        let all = form.all();
        assert_eq!(all.texts("InstanceId"), ["i-1", "i-2"]);
        assert_eq!(all.number("Max"), Ok(Some(12)));
        assert_eq!(all.text("Empty"), None);
        let tags = Tags::from([("a/b".to_owned(), "c d".to_owned())]);
        assert_eq!(
            all.tag_specifications(),
            Ok(BTreeMap::from([("instance".to_owned(), tags)]))
        );
        assert!(!form.parameters().contains("ClientToken"));
        assert!(form.parameters().contains("&InstanceId.2=i-2&"));
    }

    #[test]
    fn json_is_read_as_a_form() {
        let form = Form::read_json(
            "AmazonSSM.GetParameters",
            br#"{"Names":["/a","/b",1],"WithDecryption":true,"Text":"t","Filters":[{"Field":"x"}]}"#,
        );
        let all = form.all();
        assert_eq!(all.text("Action"), Some("GetParameters"));
        assert_eq!(all.texts("Names"), ["/a", "/b", "1"]);
        assert_eq!(all.flag("WithDecryption"), Ok(Some(true)));
        assert_eq!(all.parts("Filters")[0].text("Field"), Some("x"));
        assert_eq!(all.text("Text"), Some("t"));
        let other = Form::read_json("Other.GetParameters", b"no JSON");
        assert_eq!(other.all().text("Action"), Some("Other.GetParameters"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let form = Form::read(b"Max=many&Flag=yes&Tag.1.Key=aws:x");
        let all = form.all();
        assert_eq!(
            all.part("A").required("B").unwrap_err().message,
            "The request must contain the parameter A.B"
        );
        assert_eq!(
            all.number("Max").unwrap_err().message,
            "Value (many) for parameter Max is invalid. It must be a whole number."
        );
        assert!(all.flag("Flag").is_err());
        assert!(all.tags().is_err());
    }
}
