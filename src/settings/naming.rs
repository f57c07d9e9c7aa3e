//! What instances are called at EC2.
//!
//! Given the flag; given back whose name they carry.

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

/// Whose name an instance carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceNames {
    /// That of its NodePool, from its launch on.
    OfNodePool,
    /// That of its Node once it has joined, beside that of its claim.
    OfNode,
}

impl InstanceNames {
    /// True where each instance is told its own names, with a call.
    pub fn are_told(self) -> bool {
        self == Self::OfNode
    }
}

impl NamingFlags {
    /// Whose name instances carry.
    pub(super) const fn names(&self) -> InstanceNames {
        if self.name_instances {
            InstanceNames::OfNode
        } else {
            InstanceNames::OfNodePool
        }
    }
}

/// The part of the reference page about this flag.
pub(super) fn markdown() -> String {
    page::table(PREAMBLE, NamingFlags::augment_args)
}

const PREAMBLE: &str = "
# Names of instances

The EC2 console shows the tag `Name`. An EC2NodeClass gives it in `spec.tags`; where it does not, every instance is launched with
the name of its NodePool, which costs no call. No two instances have the same Node, so their own names take a call for each:
1000 instances that join at once get theirs within two minutes. Nothing is decided by either name; the controller's role needs
`NameOwnInstances` for it (docs/iam.md).
";
