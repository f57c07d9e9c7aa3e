//! The Kubernetes version of a cluster, as images are published for it.

use std::fmt;

/// Major and minor version, `1.33` in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KubernetesVersion {
    /// For example 1.
    pub major: u32,
    /// For example 33.
    pub minor: u32,
}

impl KubernetesVersion {
    /// Reads what an API server calls itself; some add a sign to the minor version (`33+`).
    pub fn parse(major: &str, minor: &str) -> Option<Self> {
        let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
        Some(Self {
            major: major.parse().ok()?,
            minor: digits.parse().ok()?,
        })
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_api_servers_call_themselves_is_read() {
        let read = |major, minor| {
            KubernetesVersion::parse(major, minor).map(|version| version.to_string())
        };
        assert_eq!(read("1", "33").as_deref(), Some("1.33"));
        assert_eq!(read("1", "37+").as_deref(), Some("1.37"));
        assert_eq!(read("1", ""), None);
        assert_eq!(read("", "33"), None);
    }
}
