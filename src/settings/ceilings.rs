//! How fast the fleet may change.
//!
//! Given the flags; they are values already and need no check.

use std::num::NonZeroU32;

use clap::Args;

use super::page;

/// Flags of the ceilings.
#[derive(Debug, Clone, Args)]
pub struct CeilingFlags {
    /// Instances launched within a minute at most, over all NodePools; without it, as many as are
    /// needed
    #[arg(long, env = "TONNAGE_LAUNCHES_PER_MINUTE")]
    pub launches_per_minute: Option<NonZeroU32>,
    /// Instances terminated within a minute at most; without it, as many as are empty or expired.
    /// What waits for it is fenced and costs money
    #[arg(long, env = "TONNAGE_TERMINATIONS_PER_MINUTE")]
    pub terminations_per_minute: Option<NonZeroU32>,
}

/// The part of the reference page about these flags.
pub(super) fn markdown() -> String {
    page::table(PREAMBLE, CeilingFlags::augment_args)
}

const PREAMBLE: &str = "
# Ceilings

A brake for people who want to see a fleet grow and shrink slowly. In no sixty seconds is more launched, or ended, than the
ceiling. A NodeClaim that waits for it says `LaunchCeiling` in its condition `Launched` and is not given up meanwhile: its
launch timeout counts from when there is room for it. What cannot be launched or terminated takes no room from the rest.
Interrupted machines end when EC2 ends them, whatever the ceiling. A change of the leader makes no room: what was launched, or is
on its way out, within the minute before counts too.
";
