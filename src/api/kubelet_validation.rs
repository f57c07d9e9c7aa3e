//! What is wrong with the kubelet configuration of an EC2NodeClass.
//!
//! Given the configuration and the AMI family, adds every problem to a list. A kubelet that does
//! not understand its configuration does not start, so a typing error here would cost a machine per
//! launch; every field name is therefore checked.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::node_class::AmiFamily;
use super::node_class::kubelet::{EVICTION_SIGNALS, KubeletConfiguration, RESERVABLE};
use super::node_pool_validation::edit_distance;
use super::problem::Problem;
use super::syntax::{is_go_duration, is_quantity};

const FIELD: &str = "spec.kubelet";

/// Adds everything that is wrong with `kubelet` for nodes of this family.
pub(super) fn validate(
    kubelet: &KubeletConfiguration,
    family: Option<&AmiFamily>,
    problems: &mut Vec<Problem>,
) {
    other_fields(kubelet, family, problems);
    reserved("systemReserved", &kubelet.system_reserved, problems);
    reserved("kubeReserved", &kubelet.kube_reserved, problems);
    thresholds("evictionHard", &kubelet.eviction_hard, problems);
    thresholds("evictionSoft", &kubelet.eviction_soft, problems);
    grace_periods(kubelet, problems);
    numbers(kubelet, problems);
    if family == Some(&AmiFamily::Bottlerocket) && kubelet.pods_per_core.is_some() {
        let fix = "remove it, or set maxPods";
        problems.push(Problem::new(
            format!("{FIELD}.podsPerCore"),
            "Bottlerocket has no such setting",
            fix,
        ));
    }
    if family == Some(&AmiFamily::Bottlerocket) {
        for (name, amounts) in [
            ("systemReserved", &kubelet.system_reserved),
            ("kubeReserved", &kubelet.kube_reserved),
        ] {
            if amounts.contains_key("pid") {
                problems.push(Problem::new(
                    format!("{FIELD}.{name}[pid]"),
                    "Bottlerocket cannot reserve it",
                    "remove it",
                ));
            }
        }
    }
    let has_settings_file = matches!(family, Some(AmiFamily::Al2023 | AmiFamily::Custom) | None);
    if !has_settings_file && kubelet.cluster_dns.len() > 1 {
        let what = "this AMI family takes one address";
        problems.push(Problem::new(
            format!("{FIELD}.clusterDNS"),
            what,
            "leave one",
        ));
    }
}

fn other_fields(
    kubelet: &KubeletConfiguration,
    family: Option<&AmiFamily>,
    problems: &mut Vec<Problem>,
) {
    for name in kubelet.other.keys() {
        let field = format!("{FIELD}.{name}");
        if name == "registerWithTaints" {
            let fix = "use taints or startupTaints of the NodePool";
            problems.push(Problem::new(field, "the controller sets it", fix));
        } else if !PASSED_ON.contains(&name.as_str()) {
            let nearest = PASSED_ON
                .iter()
                .min_by_key(|known| edit_distance(name, known));
            let fix = match nearest.filter(|known| edit_distance(name, known) <= 3) {
                Some(known) => format!("write {known}"),
                None => {
                    "remove it; a kubelet does not start with a field it does not know".to_owned()
                }
            };
            problems.push(Problem::new(
                field,
                "KubeletConfiguration v1beta1 has no such field",
                fix,
            ));
        } else if matches!(family, Some(AmiFamily::Bottlerocket)) {
            let fix = "set it in userData, or use AL2023";
            problems.push(Problem::new(field, "Bottlerocket cannot pass it on", fix));
        }
    }
}

fn reserved(name: &str, amounts: &BTreeMap<String, Quantity>, problems: &mut Vec<Problem>) {
    for (resource, amount) in amounts {
        let field = format!("{FIELD}.{name}[{resource}]");
        if !RESERVABLE.contains(&resource.as_str()) {
            let fix = format!("reserve {}", RESERVABLE.join(", "));
            problems.push(Problem::new(field, "it cannot be reserved", fix));
        } else if !is_quantity(&amount.0) {
            let what = format!("{:?} is not a quantity of 0 or more", amount.0);
            problems.push(Problem::new(field, what, "write for example 100m or 100Mi"));
        }
    }
}

fn thresholds(name: &str, signals: &BTreeMap<String, String>, problems: &mut Vec<Problem>) {
    for (signal, threshold) in signals {
        let field = format!("{FIELD}.{name}[{signal}]");
        check_signal(&field, signal, problems);
        let is_share = threshold.strip_suffix('%').is_some_and(is_share);
        if !is_share && !is_quantity(threshold) {
            let what = format!("{threshold:?} is not a share or quantity");
            problems.push(Problem::new(field, what, "write for example 5% or 100Mi"));
        }
    }
}

/// A number from 0 to 100, decimals allowed.
fn is_share(text: &str) -> bool {
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    let decimals = text.split_once('.').map_or("0", |(_, decimals)| decimals);
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_integral = decimals.bytes().all(|byte| byte == b'0');
    is_number(whole)
        && is_number(decimals)
        && whole
            .parse::<u32>()
            .is_ok_and(|whole| whole < 100 || (whole == 100 && is_integral))
}

fn check_signal(field: &str, signal: &str, problems: &mut Vec<Problem>) {
    if !EVICTION_SIGNALS.contains(&signal) {
        let fix = format!("use {}", EVICTION_SIGNALS.join(", "));
        problems.push(Problem::new(field, "there is no such eviction signal", fix));
    }
}

fn grace_periods(kubelet: &KubeletConfiguration, problems: &mut Vec<Problem>) {
    for (signal, text) in &kubelet.eviction_soft_grace_period {
        let field = format!("{FIELD}.evictionSoftGracePeriod[{signal}]");
        check_signal(&field, signal, problems);
        if !is_go_duration(text) {
            let what = format!("{text:?} is not a duration of 0 or more");
            problems.push(Problem::new(field, what, "write for example 1m30s"));
        }
    }
    if kubelet
        .eviction_soft
        .keys()
        .ne(kubelet.eviction_soft_grace_period.keys())
    {
        let what = "evictionSoft and evictionSoftGracePeriod name different signals";
        problems.push(Problem::new(
            format!("{FIELD}.evictionSoft"),
            what,
            "give every signal in both",
        ));
    }
}

fn numbers(kubelet: &KubeletConfiguration, problems: &mut Vec<Problem>) {
    for (name, value) in [
        ("maxPods", kubelet.max_pods),
        ("podsPerCore", kubelet.pods_per_core),
        (
            "evictionMaxPodGracePeriod",
            kubelet.eviction_max_pod_grace_period,
        ),
    ] {
        if value.is_some_and(|value| value < 0) {
            problems.push(Problem::new(
                format!("{FIELD}.{name}"),
                "it is negative",
                "write 0 or more",
            ));
        }
    }
    let high = kubelet.image_gc_high_threshold_percent;
    let low = kubelet.image_gc_low_threshold_percent;
    for (name, value) in [
        ("imageGCHighThresholdPercent", high),
        ("imageGCLowThresholdPercent", low),
    ] {
        if value.is_some_and(|value| !(0..=100).contains(&value)) {
            problems.push(Problem::new(
                format!("{FIELD}.{name}"),
                "it is no percentage",
                "write 0 to 100",
            ));
        }
    }
    if high.zip(low).is_some_and(|(high, low)| high <= low) {
        let what = "it must be greater than imageGCLowThresholdPercent";
        problems.push(Problem::new(
            format!("{FIELD}.imageGCHighThresholdPercent"),
            what,
            "raise it or lower the other",
        ));
    }
}

/// The fields of KubeletConfiguration v1beta1 (Kubernetes 1.36) beside those that are typed.
const PASSED_ON: &[&str] = &[
    "address",
    "allowedUnsafeSysctls",
    "authentication",
    "authorization",
    "cgroupDriver",
    "cgroupRoot",
    "cgroupsPerQOS",
    "clusterDomain",
    "configMapAndSecretChangeDetectionStrategy",
    "containerLogMaxFiles",
    "containerLogMaxSize",
    "containerLogMaxWorkers",
    "containerLogMonitorInterval",
    "containerRuntimeEndpoint",
    "contentType",
    "cpuCFSQuotaPeriod",
    "cpuManagerPolicy",
    "cpuManagerPolicyOptions",
    "cpuManagerReconcilePeriod",
    "crashLoopBackOff",
    "enableContentionProfiling",
    "enableControllerAttachDetach",
    "enableDebugFlagsHandler",
    "enableDebuggingHandlers",
    "enableProfilingHandler",
    "enableServer",
    "enableSystemLogHandler",
    "enableSystemLogQuery",
    "enforceNodeAllocatable",
    "eventBurst",
    "eventRecordQPS",
    "evictionMinimumReclaim",
    "evictionPressureTransitionPeriod",
    "failCgroupV1",
    "failSwapOn",
    "featureGates",
    "fileCheckFrequency",
    "hairpinMode",
    "healthzBindAddress",
    "healthzPort",
    "httpCheckFrequency",
    "imageMaximumGCAge",
    "imageMinimumGCAge",
    "imagePullCredentialsVerificationPolicy",
    "imageServiceEndpoint",
    "iptablesDropBit",
    "iptablesMasqueradeBit",
    "kernelMemcgNotification",
    "kubeAPIBurst",
    "kubeAPIQPS",
    "kubeReservedCgroup",
    "kubeletCgroups",
    "localStorageCapacityIsolation",
    "logging",
    "makeIPTablesUtilChains",
    "maxOpenFiles",
    "maxParallelImagePulls",
    "memoryManagerPolicy",
    "memoryReservationPolicy",
    "memorySwap",
    "memoryThrottlingFactor",
    "mergeDefaultEvictionSettings",
    "nodeLeaseDurationSeconds",
    "nodeStatusMaxImages",
    "nodeStatusReportFrequency",
    "nodeStatusUpdateFrequency",
    "oomScoreAdj",
    "podCIDR",
    "podLogsDir",
    "podPidsLimit",
    "port",
    "preloadedImagesVerificationAllowlist",
    "protectKernelDefaults",
    "providerID",
    "qosReserved",
    "readOnlyPort",
    "registerNode",
    "registryBurst",
    "registryPullQPS",
    "reservedMemory",
    "reservedSystemCPUs",
    "resolvConf",
    "rotateCertificates",
    "runOnce",
    "runtimeRequestTimeout",
    "seccompDefault",
    "serializeImagePulls",
    "serverTLSBootstrap",
    "showHiddenMetricsForVersion",
    "shutdownGracePeriod",
    "shutdownGracePeriodByPodPriority",
    "shutdownGracePeriodCriticalPods",
    "singleProcessOOMKill",
    "staticPodPath",
    "staticPodURL",
    "staticPodURLHeader",
    "streamingConnectionIdleTimeout",
    "syncFrequency",
    "systemCgroups",
    "systemReservedCgroup",
    "tlsCertFile",
    "tlsCipherSuites",
    "tlsCurvePreferences",
    "tlsMinVersion",
    "tlsPrivateKeyFile",
    "topologyManagerPolicy",
    "topologyManagerPolicyOptions",
    "topologyManagerScope",
    "tracing",
    "userNamespaces",
    "volumePluginDir",
    "volumeStatsAggPeriod",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str, family: &str) -> Vec<String> {
        let kubelet: KubeletConfiguration = serde_saphyr::from_str(text).unwrap();
        let mut problems = Vec::new();
        validate(&kubelet, Some(&family.into()), &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_sound_configuration_has_no_problems() {
        let text = "{maxPods: 110, kubeReserved: {cpu: 100m}, evictionHard: {memory.available: 5%, nodefs.available: \
                    10Gi, pid.available: 100%}, evictionSoft: {memory.available: 7.5%}, evictionSoftGracePeriod: \
                    {memory.available: 1m30s}, topologyManagerPolicy: best-effort, clusterDNS: [a, b]}";
        assert_eq!(problems(text, "AL2023"), Vec::<String>::new());
    }

    /// Settings, AMI family, and what is said of them.
    const MISTAKES: &[(&str, &str, &str)] = &[
        (
            "{maxPod: 5}",
            "AL2023",
            "spec.kubelet.maxPod: KubeletConfiguration v1beta1 has no such field",
        ),
        ("{failSwapOnn: true}", "Custom", "write failSwapOn"),
        (
            "{registerWithTaints: []}",
            "Custom",
            "the controller sets it; use taints or startupTaints",
        ),
        (
            "{failSwapOn: true}",
            "Bottlerocket",
            "Bottlerocket cannot pass it on",
        ),
        (
            "{podsPerCore: 5}",
            "Bottlerocket",
            "Bottlerocket has no such setting",
        ),
        (
            "{kubeReserved: {pid: 100}}",
            "Bottlerocket",
            "kubeReserved[pid]: Bottlerocket cannot reserve it",
        ),
        (
            "{clusterDNS: [a, b]}",
            "Bottlerocket",
            "this AMI family takes one address",
        ),
        (
            "{kubeReserved: {gpu: 1}}",
            "AL2023",
            "kubeReserved[gpu]: it cannot be reserved; reserve cpu",
        ),
        (
            "{systemReserved: {cpu: -1}}",
            "AL2023",
            "\"-1\" is not a quantity of 0 or more",
        ),
        (
            "{evictionHard: {memory.free: 5%}}",
            "AL2023",
            "there is no such eviction signal",
        ),
        (
            "{evictionHard: {memory.available: 101%}}",
            "AL2023",
            "\"101%\" is not a share or quantity",
        ),
        (
            "{evictionSoft: {memory.available: 5%}}",
            "AL2023",
            "name different signals",
        ),
        (
            "{imageGCHighThresholdPercent: 5, imageGCLowThresholdPercent: 5}",
            "AL2023",
            "must be greater",
        ),
        (
            "{maxPods: -1}",
            "AL2023",
            "spec.kubelet.maxPods: it is negative",
        ),
    ];

    #[test]
    fn each_mistake_is_named_with_its_fix() {
        for (text, family, expected) in MISTAKES {
            let found = problems(text, family);
            assert!(
                found.len() == 1 && found[0].contains(expected),
                "{text}\n{found:#?}"
            );
        }
    }
}
