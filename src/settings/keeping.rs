//! How a plan is kept although kube-scheduler prefers empty nodes.
//!
//! Given the flags; they are values already and need no check.

use clap::{ArgAction, Args};

use super::page;

/// Flags of what keeps a plan.
#[derive(Debug, Clone, Args)]
pub struct KeepingFlags {
    /// Tell kube-scheduler which node a pod was planned onto (status.nominatedNodeName), so that
    /// pods fill the nodes that were bought for them
    #[arg(long, env = "TONNAGE_NOMINATE_PODS", action = ArgAction::Set, default_value_t = true)]
    pub nominate_pods: bool,
    /// Bind pods to the node that was planned for them before it opens for others, so that the plan holds whatever
    /// kube-scheduler prefers; needs the verb create on pods/binding
    #[arg(long, env = "TONNAGE_BIND_PODS", action = ArgAction::Set, default_value_t = false)]
    pub bind_pods: bool,
}

/// The part of the reference page about these flags.
pub(super) fn markdown() -> String {
    page::table(PREAMBLE, KeepingFlags::augment_args)
}

const PREAMBLE: &str = "
# Keeping the plan

kube-scheduler prefers empty nodes and undoes dense plans (docs/decisions/0012-when-nodes-open.md). In the chart these are
`rbac.nominatePods` and `rbac.bindPods`, which give the permission with the flag. Who may create bindings may put any pod onto
any node, so nobody has that unasked. Do not bind where kube-scheduler has filters of its own: they are not asked.
";
