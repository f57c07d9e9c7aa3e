//! Where a controller keeps what it has learned.
//!
//! Given the flags; given back [`LearnedSettings`], or an error that names the flag.

use clap::Args;

use super::lease::is_name;
use super::{SettingsError, page};

/// Flags of the memory.
#[derive(Debug, Clone, Args)]
pub struct LearnedFlags {
    /// Keep what was learned of EC2 (shortages, interruptions, real memory), and what was seen without an owner, in a ConfigMap, so that a restart or another leader
    /// does not learn it anew; `false` keeps it in memory only, until the lease is lost
    #[arg(id = "learned-keep", long = "learned-keep", env = "TONNAGE_LEARNED_KEEP", action = clap::ArgAction::Set, default_value_t = true)]
    pub keep: bool,
    /// Name of that ConfigMap
    #[arg(
        id = "learned-name",
        long = "learned-name",
        env = "TONNAGE_LEARNED_NAME",
        default_value = "tonnage-learned"
    )]
    pub name: String,
    /// Namespace of that ConfigMap; without it, that of the pod, or of the kubeconfig's context
    #[arg(
        id = "learned-namespace",
        long = "learned-namespace",
        env = "TONNAGE_LEARNED_NAMESPACE"
    )]
    pub namespace: Option<String>,
}

/// The ConfigMap that keeps what was learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearnedSettings {
    /// Its name.
    pub name: String,
    /// Its namespace; `None` is that of the connection.
    pub namespace: Option<String>,
}

impl Default for LearnedSettings {
    /// As the flags default.
    fn default() -> Self {
        Self {
            name: "tonnage-learned".to_owned(),
            namespace: None,
        }
    }
}

impl LearnedFlags {
    /// Where to keep it, if anywhere.
    pub(super) fn settings(&self) -> Result<Option<LearnedSettings>, SettingsError> {
        if !self.keep {
            return Ok(None);
        }
        if !is_name(&self.name) {
            return Err(SettingsError {
                flag: "learned-name",
                problem: "give a name of lower-case letters, digits, `-` and `.`".to_owned(),
            });
        }
        Ok(Some(LearnedSettings {
            name: self.name.clone(),
            namespace: self
                .namespace
                .clone()
                .filter(|namespace| !namespace.is_empty()),
        }))
    }
}

/// The part of the reference page about these flags.
pub(super) fn markdown() -> String {
    page::table(PREAMBLE, LearnedFlags::augment_args)
}

const PREAMBLE: &str = "
# What is learned

What EC2 refuses and sells is remembered as beliefs that fade, and what Nodes report of their memory replaces a guess
(docs/shortages.md). The controller that acts keeps them in one ConfigMap, which it alone writes, at most twice a minute;
deleting it makes the next start begin anew. The chart names it after the release and allows nothing else by name.
";
