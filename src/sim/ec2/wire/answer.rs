//! The XML that an answer of EC2's or IAM's query protocol is.
//!
//! Given elements; given back a document, escaped. Lists are sets of `item` everywhere in EC2, and of
//! `member` in IAM.

use std::borrow::Cow;
use std::fmt::Display;
use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use crate::sim::ec2::refusal::Refusal;
use crate::sim::ec2::template::Tags;

/// The name space of EC2's answers. Source: the version that its SDKs speak.
const NAME_SPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

/// The name space of IAM's answers. Source: likewise.
const IAM_NAME_SPACE: &str = "https://iam.amazonaws.com/doc/2010-05-08/";

/// An element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    name: Cow<'static, str>,
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
        name: Cow::Borrowed(name),
        content: Content::Text(value),
    }
}

/// An element with elements.
pub(super) const fn within(name: &'static str, elements: Vec<Element>) -> Element {
    Element {
        name: Cow::Borrowed(name),
        content: Content::Elements(elements),
    }
}

/// A list.
pub(super) fn set(name: &'static str, members: impl IntoIterator<Item = Vec<Element>>) -> Element {
    let items = members.into_iter().map(|member| within("item", member));
    within(name, items.collect())
}

/// A list as IAM writes it.
pub(super) fn members(
    name: &'static str,
    members: impl IntoIterator<Item = Vec<Element>>,
) -> Element {
    let items = members.into_iter().map(|member| within("member", member));
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

/// The answer to an operation of IAM.
pub(super) fn iam_document(operation: &str, request: &str, elements: Vec<Element>) -> String {
    let metadata = within("ResponseMetadata", vec![text("RequestId", request)]);
    let result = (!elements.is_empty()).then(|| Element {
        name: Cow::Owned(format!("{operation}Result")),
        content: Content::Elements(elements),
    });
    let all: Vec<Element> = result.into_iter().chain([metadata]).collect();
    written(&format!("{operation}Response"), Some(IAM_NAME_SPACE), &all)
}

/// The answer to a refused operation of IAM.
pub(super) fn iam_refusal(refusal: &Refusal, request: &str) -> String {
    let side = if refusal.status < 500 {
        "Sender"
    } else {
        "Receiver"
    };
    let error = within(
        "Error",
        vec![
            text("Type", side),
            text("Code", refusal.code),
            text("Message", &refusal.message),
        ],
    );
    let all = [error, text("RequestId", request)];
    written("ErrorResponse", Some(IAM_NAME_SPACE), &all)
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
        let element = writer.create_element(self.name.as_ref());
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
    fn iam_wraps_what_it_answers() {
        let name = || text("Name", "a");
        let wrapped = iam_document("GetIt", "r-1", vec![members("List", [vec![name()]])]);
        assert!(wrapped.ends_with(
            "<GetItResult><List><member><Name>a</Name></member></List></GetItResult>\
             <ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata></GetItResponse>"
        ));
        assert!(!iam_document("DeleteIt", "r-2", Vec::new()).contains("Result>"));
        let refused = iam_refusal(&Refusal::new("NoSuchEntity", "no"), "r-3");
        assert!(
            refused.contains(
                "<Error><Type>Sender</Type><Code>NoSuchEntity</Code><Message>no</Message></Error>"
            ),
            "{refused}"
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
