//! The XML that an answer of EC2's query protocol is.
//!
//! Given elements; given back a document, escaped. Lists are sets of `item`, as everywhere in EC2.

use std::fmt::Display;
use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use crate::sim::ec2::refusal::Refusal;
use crate::sim::ec2::template::Tags;

/// The name space of EC2's answers. Source: the version that its SDKs speak.
const NAME_SPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

/// An element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    name: &'static str,
    content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Text(String),
    Elements(Vec<Element>),
}

/// An element with a text; what XML cannot hold is left out.
pub(super) fn text(name: &'static str, value: impl Display) -> Element {
    let mut value = value.to_string();
    value.retain(|character| !character.is_control() || matches!(character, '\t' | '\n' | '\r'));
    Element {
        name,
        content: Content::Text(value),
    }
}

/// An element with elements.
pub(super) const fn within(name: &'static str, elements: Vec<Element>) -> Element {
    Element {
        name,
        content: Content::Elements(elements),
    }
}

/// A list.
pub(super) fn set(name: &'static str, members: impl IntoIterator<Item = Vec<Element>>) -> Element {
    let items = members.into_iter().map(|member| within("item", member));
    within(name, items.collect())
}

/// A list of texts.
pub(super) fn texts(
    name: &'static str,
    members: impl IntoIterator<Item = impl Display>,
) -> Element {
    let items = members.into_iter().map(|member| text("item", member));
    within(name, items.collect())
}

/// Tags.
pub(super) fn tag_set(tags: &Tags) -> Element {
    let member = |(key, value): (&String, &String)| vec![text("key", key), text("value", value)];
    set("tagSet", tags.iter().map(member))
}

/// The answer to an operation.
pub(super) fn document(operation: &str, request: &str, elements: Vec<Element>) -> String {
    let mut all = vec![text("requestId", request)];
    all.extend(elements);
    written(&format!("{operation}Response"), Some(NAME_SPACE), &all)
}

/// The answer to a refused operation.
pub(super) fn refusal(refusal: &Refusal, request: &str) -> String {
    let error = within(
        "Error",
        vec![
            text("Code", refusal.code),
            text("Message", &refusal.message),
        ],
    );
    let all = [within("Errors", vec![error]), text("RequestID", request)];
    written("Response", None, &all)
}

fn written(root: &str, name_space: Option<&str>, elements: &[Element]) -> String {
    let mut writer = Writer::new(Vec::new());
    let declaration = Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None));
    let attributes = name_space.map(|name_space| ("xmlns", name_space));
    // Writing into memory does not fail.
    writer.write_event(declaration).ok();
    writer
        .create_element(root)
        .with_attributes(attributes)
        .write_inner_content(|writer| write_all(elements, writer))
        .ok();
    String::from_utf8_lossy(&writer.into_inner()).into_owned()
}

fn write_all(elements: &[Element], writer: &mut Writer<Vec<u8>>) -> io::Result<()> {
    elements
        .iter()
        .try_for_each(|element| element.write(writer))
}

impl Element {
    fn write(&self, writer: &mut Writer<Vec<u8>>) -> io::Result<()> {
        let element = writer.create_element(self.name);
        match &self.content {
            Content::Text(text) => element.write_text_content(BytesText::new(text)),
            Content::Elements(elements) => {
                element.write_inner_content(|writer| write_all(elements, writer))
            }
        }
        .map(|_writer| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_escaped_and_nested() {
        let tags = Tags::from([("a<b".to_owned(), "c&d\u{1}".to_owned())]);
        assert_eq!(
            document("DescribeTags", "r-1", vec![tag_set(&tags)]),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
             <DescribeTagsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
             <requestId>r-1</requestId><tagSet><item><key>a&lt;b</key><value>c&amp;d</value></item>\
             </tagSet></DescribeTagsResponse>"
        );
    }

    #[test]
    fn refusals_have_the_shape_that_sdks_read() {
        assert_eq!(
            refusal(&Refusal::throttled(), "r-2"),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Errors><Error>\
             <Code>RequestLimitExceeded</Code><Message>Request limit exceeded.</Message></Error>\
             </Errors><RequestID>r-2</RequestID></Response>"
        );
    }
}
