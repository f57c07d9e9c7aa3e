//! MIME multipart/mixed as cloud-init and nodeadm read it.
//!
//! Given: parts, or a document that a user wrote. Given back: one document, or its parts with their
//! headers. Bodies are carried as they are.

/// One part: header lines without the blank line after them, and the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) headers: Vec<String>,
    pub(super) body: String,
}

impl Part {
    pub(super) fn new(content_type: &str, body: &str) -> Self {
        Self {
            headers: vec![format!("Content-Type: {content_type}")],
            body: body.to_owned(),
        }
    }
}

/// True when the text begins with MIME headers of a multipart document.
pub(super) fn is_multipart(text: &str) -> bool {
    let (headers, _body) = split_headers(text);
    headers
        .iter()
        .any(|header| is_content_type(header) && header.contains("multipart/"))
}

/// The parts of a multipart document.
pub(super) fn parse(text: &str) -> Result<Vec<Part>, String> {
    let (headers, body) = split_headers(text);
    let boundary = headers
        .iter()
        .find(|header| is_content_type(header))
        .and_then(|header| boundary_of(header))
        .ok_or(
            "the MIME document names no boundary: write Content-Type: multipart/mixed; \
             boundary=\"//\"",
        )?;
    let delimiter = format!("--{boundary}");
    let end = format!("--{boundary}--");
    let mut parts: Vec<Vec<&str>> = Vec::new();
    for line in body.lines() {
        let trimmed = line.trim_end();
        if trimmed == end {
            break;
        }
        if trimmed == delimiter {
            parts.push(Vec::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(line);
        }
    }
    if parts.is_empty() {
        return Err(format!(
            "the MIME document has no part: no line is `{delimiter}`"
        ));
    }
    Ok(parts
        .into_iter()
        .map(|lines| {
            let text = lines.join("\n");
            let (headers, body) = split_headers(&text);
            Part {
                headers,
                body: body.to_owned(),
            }
        })
        .collect())
}

/// One document of all parts; its boundary is in none of them.
pub(super) fn write(parts: &[Part]) -> String {
    let is_taken = |boundary: &str| {
        let delimiter = format!("--{boundary}");
        parts.iter().any(|part| part.body.contains(&delimiter))
    };
    let mut boundary = "TONNAGE".to_owned();
    while is_taken(&boundary) {
        boundary.push('_');
    }
    let mut lines = vec![
        "MIME-Version: 1.0".to_owned(),
        format!("Content-Type: multipart/mixed; boundary=\"{boundary}\""),
        String::new(),
    ];
    for part in parts {
        lines.push(format!("--{boundary}"));
        lines.extend(part.headers.iter().cloned());
        lines.push(String::new());
        lines.push(part.body.trim_end_matches('\n').to_owned());
        lines.push(String::new());
    }
    lines.push(format!("--{boundary}--"));
    lines.push(String::new());
    lines.join("\n")
}

fn is_content_type(line: &str) -> bool {
    line.split_once(':')
        .is_some_and(|(key, _value)| key.trim().eq_ignore_ascii_case("content-type"))
}

/// Header lines with continuation lines joined, and what follows the blank line after them. A text
/// that does not begin with a MIME header has none.
fn split_headers(text: &str) -> (Vec<String>, &str) {
    let mut headers: Vec<String> = Vec::new();
    let mut rest = text.trim_start_matches(['\n', '\r']);
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let line = line.trim_end_matches('\r');
        if line.is_empty() {
            return (headers, after);
        }
        match headers.last_mut() {
            Some(header) if line.starts_with([' ', '\t']) => {
                header.push(' ');
                header.push_str(line.trim());
            }
            _ if is_mime_header(line) => headers.push(line.to_owned()),
            _ => return (headers, rest),
        }
        rest = after;
    }
    (headers, rest)
}

fn is_mime_header(line: &str) -> bool {
    line.split_once(':').is_some_and(|(key, _value)| {
        let key = key.to_ascii_lowercase();
        ["content-", "mime-"]
            .iter()
            .any(|prefix| key.starts_with(prefix))
            && key
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

fn boundary_of(header: &str) -> Option<String> {
    header.split(';').find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim()
            .eq_ignore_ascii_case("boundary")
            .then(|| value.trim().trim_matches('"').to_owned())
            .filter(|boundary| !boundary.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_survive_reading_and_writing() {
        let document = write(&[
            Part::new(
                "text/x-shellscript; charset=\"us-ascii\"",
                "#!/bin/bash\n\necho hi\n",
            ),
            Part::new("application/node.eks.aws", "kind: NodeConfig\n"),
        ]);
        assert!(is_multipart(&document));
        let parts = parse(&document).unwrap();
        assert_eq!(write(&parts), document);
        assert_eq!(parts[0].body.trim(), "#!/bin/bash\n\necho hi");
    }

    #[test]
    fn users_documents_are_read() {
        let own = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary=\"//\"\r\n\r\n\
                   --//\r\nContent-Type: text/x-shellscript\r\n\r\necho one\r\n--//--\r\n";
        let parts = parse(own).unwrap();
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].headers, ["Content-Type: text/x-shellscript"]);
        assert!(parts[0].body.contains("echo one"));
    }

    #[test]
    fn a_document_without_boundary_or_part_says_so() {
        let none = parse("Content-Type: multipart/mixed\n\n--x\n").unwrap_err();
        assert!(none.contains("names no boundary"), "{none}");
        let empty = parse("Content-Type: multipart/mixed; boundary=x\n\nnothing\n").unwrap_err();
        assert!(empty.contains("no line is `--x`"), "{empty}");
    }

    #[test]
    fn the_boundary_is_in_no_body() {
        let document = write(&[Part::new("text/plain", "--TONNAGE\n")]);
        assert_eq!(parse(&document).unwrap().len(), 1);
    }

    #[test]
    fn a_script_is_no_document() {
        assert!(!is_multipart(
            "#!/bin/bash\nContent-Type: multipart/mixed; boundary=x\n"
        ));
        assert!(!is_multipart(""));
    }
}
