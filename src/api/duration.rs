//! Durations as the API writes them: Go's notation (`90s`, `1h30m`) and the word `Never`.
//!
//! The text of the manifest is kept and written back byte for byte, so that a GitOps tool never
//! sees `720h` come back as `720h0m0s`. Decoding never fails; [`GoDuration::value`] says whether
//! the text means something. Only whole hours, minutes and seconds are part of the API.

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What the CRD accepts as a duration: one or more numbers with the unit `h`, `m` or `s`.
pub(super) const DURATION_PATTERN: &str = "^([0-9]+(s|m|h))+$";
/// What the CRD accepts where `Never` is allowed too.
pub(super) const DURATION_OR_NEVER_PATTERN: &str = "^(([0-9]+(s|m|h))+|Never)$";
/// The word that switches a timer off.
const NEVER: &str = "Never";

/// A text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DurationError {
    /// The text is not a sequence of numbers with units.
    #[error(
        "{text:?} is not a duration; write hours, minutes and seconds such as 90s, 15m or 1h30m"
    )]
    Malformed {
        /// The text as written.
        text: String,
    },
    /// The duration is longer than about 292 years, which is what Go can hold.
    #[error("{text:?} is too long; the longest duration is 2562047h")]
    TooLong {
        /// The text as written.
        text: String,
    },
}

/// A duration in Go's notation, for example `90s`, `15m` or `1h30m`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GoDuration(String);

impl GoDuration {
    /// Keeps `text` as it is; [`Self::value`] says whether it is a duration.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text as written in the manifest.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The duration, in whole seconds.
    pub fn value(&self) -> Result<Duration, DurationError> {
        parse(&self.0)
    }
}

/// A duration in Go's notation, or `Never`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DurationOrNever(String);

impl DurationOrNever {
    /// Keeps `text` as it is; [`Self::value`] says whether it is a duration or `Never`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The value `Never`.
    pub fn never() -> Self {
        Self::new(NEVER)
    }

    /// The text as written in the manifest.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The duration in whole seconds, or none for `Never`.
    pub fn value(&self) -> Result<Option<Duration>, DurationError> {
        if self.0 == NEVER {
            Ok(None)
        } else {
            parse(&self.0).map(Some)
        }
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for DurationOrNever {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl JsonSchema for GoDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "GoDuration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": DURATION_PATTERN })
    }
}

impl JsonSchema for DurationOrNever {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DurationOrNever".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": DURATION_OR_NEVER_PATTERN })
    }
}

/// Reads a duration of the API: what [`DURATION_PATTERN`] accepts, up to what Go can hold.
pub(super) fn parse(text: &str) -> Result<Duration, DurationError> {
    let malformed = || DurationError::Malformed {
        text: text.to_owned(),
    };
    let too_long = || DurationError::TooLong {
        text: text.to_owned(),
    };
    let mut total: u64 = 0;
    let mut number: Option<u64> = None;
    for character in text.chars() {
        if let Some(digit) = character.to_digit(10) {
            let so_far = number.unwrap_or(0).checked_mul(10).ok_or_else(too_long)?;
            number = Some(so_far.checked_add(u64::from(digit)).ok_or_else(too_long)?);
            continue;
        }
        let unit = match character {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return Err(malformed()),
        };
        let seconds = number
            .take()
            .ok_or_else(malformed)?
            .checked_mul(unit)
            .ok_or_else(too_long)?;
        total = total.checked_add(seconds).ok_or_else(too_long)?;
    }
    if number.is_some() || text.is_empty() {
        return Err(malformed());
    }
    // Go counts nanoseconds in an int64; what it cannot hold, no peer could act on either.
    if total > i64::MAX.unsigned_abs() / 1_000_000_000 {
        return Err(too_long());
    }
    Ok(Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up() {
        for (text, seconds) in [
            ("0s", 0),
            ("90s", 90),
            ("1h30m", 5400),
            ("720h", 2_592_000),
            ("1s1h", 3601),
        ] {
            assert_eq!(
                GoDuration::new(text).value(),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
    }

    #[test]
    fn never_is_no_duration() {
        assert_eq!(DurationOrNever::new("Never").value(), Ok(None));
        assert!(GoDuration::new("Never").value().is_err());
    }

    #[test]
    fn what_is_not_a_duration_says_what_to_write() {
        for text in ["", "5", "s", "-5s", "1.5h", "5m3", "1d", "never"] {
            let error = DurationOrNever::new(text).value().unwrap_err();
            assert!(error.to_string().contains("such as 90s"), "{text}: {error}");
        }
        for text in ["99999999999999999999h", "2562048h", "18446744073709551615h"] {
            assert!(
                matches!(
                    GoDuration::new(text).value(),
                    Err(DurationError::TooLong { .. })
                ),
                "{text}"
            );
        }
        assert!(GoDuration::new("2562047h").value().is_ok());
    }

    #[test]
    fn the_text_comes_back_byte_for_byte() {
        for text in ["\"0720h00m\"", "\"Never\"", "\"nonsense\""] {
            let duration: DurationOrNever = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&duration).unwrap(), text);
        }
    }
}
