//! The differences that are meant, each with its reason.

use crate::compare::Difference;

/// A difference that may be there, and must be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// In this case only; empty is any.
    case: &'static str,
    /// In objects of this kind; empty is any, and what is in no object.
    kind: &'static str,
    /// At this very place; `*` is any one part.
    pointer: &'static str,
    /// Why it may be.
    why: &'static str,
}

const fn known(
    case: &'static str,
    kind: &'static str,
    pointer: &'static str,
    why: &'static str,
) -> Known {
    Known {
        case,
        kind,
        pointer,
        why,
    }
}

/// The real server completes what it stores; what nothing in the embedded world reads is left out.
const DEFAULT: &str = "a default that nothing in the embedded world reads";
/// kube's client fills them in.
const ITEMS: &str =
    "items of built-in kinds come without their kind, and kube's client puts it back";

/// All of them.
pub(crate) const KNOWN: &[Known] = &[
    known("", "Pod", "/spec/volumes", DEFAULT),
    known("", "Pod", "/spec/serviceAccountName", DEFAULT),
    known("", "Pod", "/spec/serviceAccount", DEFAULT),
    known("", "Pod", "/spec/securityContext", DEFAULT),
    known("", "Pod", "/spec/preemptionPolicy", DEFAULT),
    known("", "Pod", "/spec/enableServiceLinks", DEFAULT),
    known("", "Pod", "/spec/dnsPolicy", DEFAULT),
    known("", "Pod", "/spec/containers/*/volumeMounts", DEFAULT),
    known(
        "",
        "Pod",
        "/spec/containers/*/terminationMessagePath",
        DEFAULT,
    ),
    known(
        "",
        "Pod",
        "/spec/containers/*/terminationMessagePolicy",
        DEFAULT,
    ),
    known("", "Pod", "/spec/containers/*/imagePullPolicy", DEFAULT),
    known("", "Pod", "/spec/containers/*/resources", DEFAULT),
    known("", "Pod", "/status/qosClass", DEFAULT),
    known("", "Node", "/status", DEFAULT),
    known("", "Node", "/status/nodeInfo", DEFAULT),
    known("", "Node", "/status/daemonEndpoints", DEFAULT),
    known("", "Lease", "/spec", DEFAULT),
    known("", "Event", "/deprecatedSource", DEFAULT),
    known("", "PodDisruptionBudget", "/status", DEFAULT),
    known("", "Deployment", "/status", DEFAULT),
    known("", "Deployment", "/spec/strategy", DEFAULT),
    known("", "Deployment", "/spec/revisionHistoryLimit", DEFAULT),
    known("", "Deployment", "/spec/progressDeadlineSeconds", DEFAULT),
    known("", "Deployment", "/spec/template/spec/*", DEFAULT),
    known(
        "",
        "Deployment",
        "/spec/template/spec/containers/*/*",
        DEFAULT,
    ),
    known("", "Job", "/status", DEFAULT),
    known("", "Job", "/metadata/labels", DEFAULT),
    known("", "Job", "/spec/selector", DEFAULT),
    known("", "Job", "/spec/suspend", DEFAULT),
    known("", "Job", "/spec/backoffLimit", DEFAULT),
    known("", "Job", "/spec/completions", DEFAULT),
    known("", "Job", "/spec/parallelism", DEFAULT),
    known("", "Job", "/spec/completionMode", DEFAULT),
    known("", "Job", "/spec/manualSelector", DEFAULT),
    known("", "Job", "/spec/podReplacementPolicy", DEFAULT),
    known("", "Job", "/spec/template/metadata", DEFAULT),
    known("", "Job", "/spec/template/spec/*", DEFAULT),
    known("", "Job", "/spec/template/spec/containers/*/*", DEFAULT),
    known("", "Pod", "/kind", ITEMS),
    known("", "Pod", "/apiVersion", ITEMS),
    known("", "ConfigMap", "/kind", ITEMS),
    known("", "ConfigMap", "/apiVersion", ITEMS),
    known(
        "",
        "NodeClaimList",
        "/metadata/continue",
        "an empty token and none are the same to kube's client",
    ),
    known(
        "there must be a namespace to create in",
        "",
        "/outcome",
        "embedded worlds need not make namespaces before they use them",
    ),
    known(
        "a pod is checked when it is made",
        "",
        "/outcome",
        "whoever makes pods in the embedded world gives them containers; its server does not look",
    ),
    known(
        "what cannot be understood is refused",
        "",
        "/outcome",
        "no client of ours asks for a group that there is not, and gets plain text",
    ),
    known(
        "a gated pod waits for its gate",
        "Pod",
        "/spec/schedulingGates",
        "no gate and an empty list of them are the same",
    ),
    known(
        "a gated pod waits for its gate",
        "Pod",
        "/status/conditions",
        "that a pod is gated is read from its gates, never from the condition",
    ),
];

impl Known {
    /// True when it is this difference.
    pub(crate) fn covers(&self, difference: &Difference) -> bool {
        let (wanted, found) = (self.pointer.split('/'), difference.pointer.split('/'));
        !self.why.is_empty()
            && (self.case.is_empty() || self.case == difference.case)
            && (self.kind.is_empty() || self.kind == difference.kind)
            && wanted.clone().count() == found.clone().count()
            && wanted
                .zip(found)
                .all(|(wanted, found)| wanted == "*" || wanted == found)
    }
}
