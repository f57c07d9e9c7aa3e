//! What Kubernetes accepts as a name, a label value and a quantity.
//!
//! Given a text, each function says whether it is well formed. Only the form is judged here.

/// Whether `text` is a qualified name: an optional DNS subdomain of at most 253 characters with a
/// slash, and a name of at most 63 characters.
pub(crate) fn is_qualified_name(text: &str) -> bool {
    match text.split_once('/') {
        Some((domain, name)) => is_dns_subdomain(domain) && is_name(name),
        None => is_name(text),
    }
}

/// Whether `text` is a label value: empty, or a name of at most 63 characters.
pub(crate) fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_name(text)
}

/// Whether `text` is a quantity of at least zero: `100m`, `4Gi`, `1.5`, `2e3`.
pub(super) fn is_quantity(text: &str) -> bool {
    const SUFFIXES: &[&str] = &[
        "", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "n", "u", "m", "k", "M", "G", "T", "P", "E",
    ];
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    is_decimal(number) && (SUFFIXES.contains(&suffix) || is_exponent(suffix))
}

/// Whether `text` is a whole number of 0 or more that fits 18 digits.
pub(super) fn is_whole_number(text: &str) -> bool {
    (1..=18).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether `text` is a duration of 0 or more as Go's own parser reads it: `1m30s`, `1.5h`, `500ms`.
pub(super) fn is_go_duration(text: &str) -> bool {
    const UNITS: &[&str] = &["ns", "us", "µs", "ms", "s", "m", "h"];
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    while !rest.is_empty() {
        let after_number = rest.trim_start_matches(is_number);
        let number = rest.strip_suffix(after_number).unwrap_or_default();
        let after_unit = after_number.trim_start_matches(|c: char| !is_number(c));
        let unit = after_number.strip_suffix(after_unit).unwrap_or_default();
        if !is_decimal(number) || !UNITS.contains(&unit) {
            return false;
        }
        rest = after_unit;
    }
    !text.is_empty() && text != "+"
}

fn is_decimal(number: &str) -> bool {
    number.bytes().any(|byte| byte.is_ascii_digit())
        && number.bytes().filter(|byte| *byte == b'.').count() <= 1
}

fn is_exponent(suffix: &str) -> bool {
    let Some(exponent) = suffix.strip_prefix(['e', 'E']) else {
        return false;
    };
    is_whole_number(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))
}

/// Whether `domain` is a DNS subdomain (RFC 1123) of at most 253 characters.
pub(crate) fn is_dns_subdomain(domain: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    domain.len() <= 253 && domain.split('.').all(is_label)
}

fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let edges = bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric);
    edges
        && bytes.len() <= 63
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in [
            "a",
            "A1",
            "example.com/team",
            "a.b-c/x_y.z",
            &"x".repeat(63),
        ] {
            assert!(is_qualified_name(good), "{good}");
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "-a",
            "a-",
            "A.com/x",
            "a..b/x",
            "a b",
            "a/b/c",
            &"x".repeat(64),
        ] {
            assert!(!is_qualified_name(bad), "{bad}");
        }
        assert!(is_label_value(""));
        assert!(!is_label_value("a/b"));
    }

    #[test]
    fn durations_of_go() {
        for good in ["0", "0s", "1m30s", "1.5h", "500ms", "+2h", "1h0.5m"] {
            assert!(is_go_duration(good), "{good}");
        }
        for bad in ["", "+", "-1s", "1", "5d", "s", "1..5s", "1m30"] {
            assert!(!is_go_duration(bad), "{bad}");
        }
    }

    #[test]
    fn quantities() {
        for good in [
            "0", "1", "100m", "4Gi", "1.5", ".5", "2.", "2e3", "1E-2", "+1k", "3E",
        ] {
            assert!(is_quantity(good), "{good}");
        }
        for bad in ["", ".", "-1", "1Gb", "1 Gi", "Gi", "1.2.3", "1e", "ten"] {
            assert!(!is_quantity(bad), "{bad}");
        }
    }

    #[test]
    fn subdomains() {
        assert!(is_dns_subdomain("ip-10-0-0-1.ec2.internal") && is_dns_subdomain("a"));
        for wrong in ["", "-a", "a-", "A", "a..b", "a_b", &"a".repeat(254)] {
            assert!(!is_dns_subdomain(wrong), "{wrong}");
        }
    }
}
