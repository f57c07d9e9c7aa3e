//! What the wishes of pods may cost.
//!
//! Given the flag, for the controller and for commands that plan as it does; it is a value already and needs no
//! check.

use clap::Args;

use super::page;
use crate::plan::provision::Premium;

/// The flag of wishes.
#[derive(Debug, Clone, Args)]
pub struct WishFlags {
    /// What pods only prefer may make the machines for them dearer by this many percent at most, where its weight is
    /// 100, and by less in proportion; 0 lets it choose only among what costs the same, and from 10000 on no price
    /// counts against it
    #[arg(long, env = "TONNAGE_PREFERENCE_PREMIUM_PERCENT", value_name = "PERCENT", default_value_t = Premium::default().0)]
    pub preference_premium_percent: u32,
}

impl WishFlags {
    /// The planner's setting.
    pub const fn premium(&self) -> Premium {
        Premium(self.preference_premium_percent)
    }
}

/// The part of the reference page about this flag.
pub(super) fn markdown() -> String {
    page::table(PREAMBLE, WishFlags::augment_args)
}

const PREAMBLE: &str = "
# Wishes of pods

Preferred node affinity, preferred affinity and anti-affinity between pods, and spreads with `ScheduleAnyway` (which count
with weight 100) are met as far as they are worth their price (docs/planner.md). What must hold is no wish, and neither
are weights and `PreferNoSchedule` taints of NodePools. `tonnage plan` and `tonnage explain` say what wishes cost.
";
