//! Aliases of images: `al2023@latest`, `bottlerocket@1.46.0`.
//!
//! Given the text of a node class, given back family and version, or what is wrong with it and how to
//! mend it. Whether such an image was ever published is not known here.

/// The family that an alias names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AliasFamily {
    /// Amazon Linux 2023.
    Al2023,
    /// Bottlerocket.
    Bottlerocket,
}

/// An alias, read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageAlias {
    /// The family.
    pub family: AliasFamily,
    /// The pinned version as written; `None` is whatever is the latest.
    pub version: Option<String>,
}

/// A text that is no alias.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AliasError {
    /// It has not the form of one, or names a family that is not known.
    #[error("{0:?} is not an alias")]
    Form(String),
    /// The version cannot be one of the family's.
    #[error("{version:?} is no version of {family}")]
    Version {
        /// As written.
        family: String,
        /// As written.
        version: String,
    },
}

impl AliasError {
    /// What to write instead.
    pub const fn fix(&self) -> &'static str {
        match self {
            Self::Form(_) => {
                "write al2023@latest, bottlerocket@latest or a version instead of latest"
            }
            Self::Version { .. } => {
                "write latest, or a release as in al2023@v20250915 or bottlerocket@1.46.0"
            }
        }
    }
}

impl ImageAlias {
    /// Reads the text of `spec.amiSelectorTerms[].alias`.
    ///
    /// # Errors
    /// It is no alias; the error has a [fix](AliasError::fix).
    pub fn parse(text: &str) -> Result<Self, AliasError> {
        let form = || AliasError::Form(text.to_owned());
        let (name, version) = text.split_once('@').ok_or_else(form)?;
        let family = match name {
            "al2023" => AliasFamily::Al2023,
            "bottlerocket" => AliasFamily::Bottlerocket,
            _ => return Err(form()),
        };
        if version.is_empty() {
            return Err(form());
        }
        if version == "latest" {
            return Ok(Self {
                family,
                version: None,
            });
        }
        if !is_version(family, version) {
            return Err(AliasError::Version {
                family: name.to_owned(),
                version: version.to_owned(),
            });
        }
        Ok(Self {
            family,
            version: Some(version.to_owned()),
        })
    }
}

/// Amazon Linux is released by day (`v20250915`); Bottlerocket by number, with the commit or without
/// (`1.46.0`, `v1.46.0`, `1.46.0-0a1b2c3d`).
fn is_version(family: AliasFamily, version: &str) -> bool {
    let all_digits =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match family {
        AliasFamily::Al2023 => version
            .strip_prefix('v')
            .is_some_and(|day| day.len() == 8 && all_digits(day)),
        AliasFamily::Bottlerocket => {
            let version = version.strip_prefix('v').unwrap_or(version);
            let (numbers, commit) = version.split_once('-').unwrap_or((version, "0"));
            numbers.split('.').count() == 3
                && numbers.split('.').all(all_digits)
                && !commit.is_empty()
                && commit.bytes().all(|byte| byte.is_ascii_alphanumeric())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_read() {
        for (text, family, version) in [
            ("al2023@latest", AliasFamily::Al2023, None),
            ("al2023@v20250915", AliasFamily::Al2023, Some("v20250915")),
            ("bottlerocket@latest", AliasFamily::Bottlerocket, None),
            (
                "bottlerocket@1.46.0",
                AliasFamily::Bottlerocket,
                Some("1.46.0"),
            ),
            (
                "bottlerocket@v1.46.0-0a1b",
                AliasFamily::Bottlerocket,
                Some("v1.46.0-0a1b"),
            ),
        ] {
            let alias = ImageAlias::parse(text).unwrap();
            assert_eq!((alias.family, alias.version.as_deref()), (family, version));
        }
    }

    #[test]
    fn what_is_no_alias_says_what_to_write() {
        for text in ["al2023", "ubuntu@1", "al2023@", "@latest", ""] {
            let error = ImageAlias::parse(text).unwrap_err();
            assert_eq!(error, AliasError::Form(text.to_owned()));
        }
        for text in [
            "al2023@20250915",
            "al2023@v2025",
            "al2023@1.46.0",
            "bottlerocket@1.46",
            "bottlerocket@v20250915",
            "bottlerocket@1.46.0/../x",
        ] {
            let error = ImageAlias::parse(text).unwrap_err();
            assert!(
                matches!(error, AliasError::Version { .. }),
                "{text}: {error}"
            );
            assert!(error.fix().contains("al2023@v20250915"));
        }
    }
}
