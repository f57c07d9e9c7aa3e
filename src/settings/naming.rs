//! What instances are called at EC2.
//!
//! Given the flag; it is a value already and needs no check.

use clap::Args;

use super::page;

/// Flags of the names of instances.
#[derive(Debug, Clone, Args)]
pub struct NamingFlags {
    /// Call each instance like its Node once it has joined, and tag it with its NodeClaim: one call for each. Without it
    /// instances are called like their NodePool
    #[arg(long, env = "TONNAGE_NAME_INSTANCES", action = clap::ArgAction::Set, default_value_t = false)]
    pub name_instances: bool,
}

/// The part of the reference page about this flag.
pub(super) fn markdown() -> String {
    page::table(PREAMBLE, NamingFlags::augment_args)
}

const PREAMBLE: &str = "
# Names of instances

The EC2 console shows the tag `Name`. An EC2NodeClass gives it in `spec.tags`; where it does not, every instance is launched with
the name of its NodePool, which costs no call. No two instances have the same Node, so their own names take a call for each:
1000 instances that join at once get theirs within two minutes. Nothing is decided by either name, and the controller's role needs
`NameOwnInstances` (docs/iam.md) only for this.
";
