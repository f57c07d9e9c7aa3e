//! The constraints that a pod can carry, each written into a pod as a user would write it.
//!
//! The default spread of the cluster is none of them. It goes to pods that a ReplicaSet or its like made, and those
//! controllers make pods themselves, under names of their own, and remove the ones that a set has held back.

use serde_json::{Value, json};

use crate::generate::{DRIVER, Numbers, ZONES};

const ZONE: &str = "topology.kubernetes.io/zone";
const HOSTNAME: &str = "kubernetes.io/hostname";
const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";

macro_rules! constraints {
    ($($name:ident),* $(,)?) => {
        /// What is counted: each must occur often enough.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Constraint {
            $($name),*
        }

        impl Constraint {
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

constraints! {
    NodeSelector, NodeAffinityAlternatives, NodeAffinityOperators, NodePreference, NodeContradiction,
    Toleration, PreferNoScheduleTaint,
    SpreadOverZones, SpreadOverNodes, SpreadMinDomains, SpreadIgnoringAffinity, SpreadHonoringTaints,
    SpreadMatchLabelKeys, SpreadAnyway, SpreadSelectingNothing,
    AffinityOverZones, AffinityOverNodes, AffinityPreferred, AffinityToOthers,
    AntiAffinityOverZones, AntiAffinityOverNodes, AntiAffinityPreferred, AntiAffinityToOthers,
    AffinityNamespaces, AffinityNamespaceSelector, AffinityMatchLabelKeys, AffinityMismatchLabelKeys,
    HostPort, SidecarHostPort, InitHostPort, InitContainer, Sidecar, Overhead, PodLevelResources, LimitRangeDefault,
    BoundVolume, LateVolume, EphemeralVolume, ManyVolumes, ExtendedResource, Priority, SchedulingGate, NodeLimit, StandingNode,
}

/// Which pod of which set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'set> {
    pub(crate) set: &'set str,
    pub(crate) workload: usize,
    pub(crate) workloads: usize,
    pub(crate) index: usize,
}

impl Place<'_> {
    fn app(&self) -> Value {
        json!({"matchLabels": {"app": format!("app-{}", self.workload)}})
    }

    /// The app of the next workload of the set.
    fn neighbour(&self) -> Value {
        let next = (self.workload + 1) % self.workloads;
        json!({"matchLabels": {"app": format!("app-{next}")}})
    }
}

fn append(pod: &mut Value, pointer: &str, value: Value) {
    let mut here = pod;
    for part in pointer.split('.') {
        here = &mut here[part];
    }
    match here.as_array_mut() {
        Some(list) => list.push(value),
        None => *here = json!([value]),
    }
}

fn term(key: &str, selector: &Value) -> Value {
    json!({"topologyKey": key, "labelSelector": selector})
}

const AFFINITY: &str = "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution";
const ANTI: &str = "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution";
const LIKED: &str = "spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution";
const DISLIKED: &str =
    "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution";

impl Constraint {
    /// Those that a workload may carry; the others belong to the pools of a set.
    pub(crate) fn of_pods() -> Vec<Self> {
        Self::ALL
            .iter()
            .copied()
            .filter(|constraint| {
                !matches!(
                    constraint,
                    Self::PreferNoScheduleTaint | Self::NodeLimit | Self::StandingNode
                )
            })
            .collect()
    }

    /// Writes it into a pod, and what it needs into the objects of the set. False where the pod cannot carry it
    /// beside what it has, and is left as it was.
    pub(crate) fn add(
        self,
        pod: &mut Value,
        objects: &mut Vec<Value>,
        place: Place<'_>,
        numbers: &mut Numbers,
    ) -> bool {
        match self {
            Self::NodeSelector
            | Self::NodeAffinityAlternatives
            | Self::NodeAffinityOperators
            | Self::NodePreference
            | Self::NodeContradiction
            | Self::Toleration => {
                self.add_nodes(pod, numbers);
            }
            Self::SpreadOverZones
            | Self::SpreadOverNodes
            | Self::SpreadMinDomains
            | Self::SpreadIgnoringAffinity
            | Self::SpreadHonoringTaints
            | Self::SpreadMatchLabelKeys
            | Self::SpreadAnyway
            | Self::SpreadSelectingNothing => return self.add_spread(pod, place, numbers),
            Self::BoundVolume | Self::LateVolume | Self::EphemeralVolume => {
                self.add_volume(pod, objects, place, numbers);
            }
            Self::ManyVolumes => add_many_volumes(pod),
            Self::SchedulingGate if place.index > 0 => return false,
            Self::HostPort
            | Self::SidecarHostPort
            | Self::InitHostPort
            | Self::InitContainer
            | Self::Sidecar
            | Self::Overhead
            | Self::PodLevelResources
            | Self::LimitRangeDefault
            | Self::ExtendedResource
            | Self::Priority
            | Self::SchedulingGate => self.add_containers(pod, objects, numbers),
            Self::PreferNoScheduleTaint | Self::NodeLimit | Self::StandingNode => return false,
            _ => self.add_company(pod, place, numbers),
        }
        true
    }

    fn add_nodes(self, pod: &mut Value, numbers: &mut Numbers) {
        let affinity = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
        let zone = *numbers.pick(&ZONES);
        match self {
            Self::NodeSelector => {
                let key = *numbers.pick(&[ZONE, INSTANCE_TYPE]);
                let value = if key == ZONE {
                    zone
                } else {
                    *numbers.pick(&["small", "large"])
                };
                pod["spec"]["nodeSelector"][key] = json!(value);
            }
            Self::NodeAffinityAlternatives => {
                append(
                    pod,
                    affinity,
                    json!({"matchExpressions": [
                    {"key": ZONE, "operator": "In", "values": [zone]},
                    {"key": INSTANCE_TYPE, "operator": "In", "values": ["huge", "small"]}]}),
                );
                append(
                    pod,
                    affinity,
                    json!({"matchExpressions": [
                    {"key": INSTANCE_TYPE, "operator": "In", "values": ["large"]}]}),
                );
            }
            Self::NodeAffinityOperators => {
                let expressions = [
                    json!({"key": ZONE, "operator": "NotIn", "values": [zone]}),
                    json!({"key": "example.com/size", "operator": "Gt", "values": ["3"]}),
                    json!({"key": "example.com/size", "operator": "Lt", "values": ["5"]}),
                    json!({"key": "example.com/absent", "operator": "DoesNotExist"}),
                    json!({"key": "example.com/size", "operator": "Exists"}),
                    json!({"key": "example.com/absent", "operator": "Exists"}),
                ];
                let one = numbers.pick(&expressions).clone();
                append(pod, affinity, json!({"matchExpressions": [one]}));
            }
            Self::NodePreference => {
                let preferred =
                    "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution";
                for (weight, value) in [(10, zone), (50, "nowhere")] {
                    append(
                        pod,
                        preferred,
                        json!({"weight": weight, "preference": {"matchExpressions": [
                        {"key": ZONE, "operator": "In", "values": [value]}]}}),
                    );
                }
            }
            Self::NodeContradiction => {
                append(
                    pod,
                    affinity,
                    json!({"matchExpressions": [
                    {"key": ZONE, "operator": "In", "values": [zone]},
                    {"key": ZONE, "operator": "NotIn", "values": [zone]}]}),
                );
            }
            _ => append(
                pod,
                "spec.tolerations",
                json!(
                {"key": "dedicated", "operator": "Equal", "value": "x", "effect": "NoSchedule"}),
            ),
        }
    }

    /// False where the pod has a spread over that label already: the API server refuses the same key twice.
    fn add_spread(self, pod: &mut Value, place: Place<'_>, numbers: &mut Numbers) -> bool {
        let skew = 1 + numbers.below(2);
        let mut spread = json!({"topologyKey": ZONE, "maxSkew": skew,
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": place.app()});
        match self {
            Self::SpreadOverNodes => spread["topologyKey"] = json!(HOSTNAME),
            Self::SpreadMinDomains => {
                spread["minDomains"] = json!(2 + numbers.below(3));
                spread["maxSkew"] = json!(1);
            }
            Self::SpreadIgnoringAffinity => {
                spread["topologyKey"] = json!(format!("{}.example.com/rack", place.set));
                spread["nodeAffinityPolicy"] = json!("Ignore");
            }
            Self::SpreadHonoringTaints => spread["nodeTaintsPolicy"] = json!("Honor"),
            Self::SpreadMatchLabelKeys => spread["matchLabelKeys"] = json!(["revision"]),
            Self::SpreadAnyway => spread["whenUnsatisfiable"] = json!("ScheduleAnyway"),
            Self::SpreadSelectingNothing => spread["labelSelector"] = json!({}),
            _ => {}
        }
        let list = pod["spec"]["topologySpreadConstraints"].as_array().cloned();
        let known = list.into_iter().flatten().any(|known| {
            known["topologyKey"] == spread["topologyKey"]
                && known["whenUnsatisfiable"] == spread["whenUnsatisfiable"]
        });
        if known {
            return false;
        }
        append(pod, "spec.topologySpreadConstraints", spread);
        if self == Self::SpreadMatchLabelKeys {
            pod["metadata"]["labels"]["revision"] = json!(format!("r{}", place.index % 2));
        }
        true
    }

    fn add_company(self, pod: &mut Value, place: Place<'_>, numbers: &mut Numbers) {
        let key = *numbers.pick(&[ZONE, HOSTNAME]);
        let weighted =
            |selector: &Value| json!({"weight": 30, "podAffinityTerm": term(key, selector)});
        match self {
            Self::AffinityOverZones => append(pod, AFFINITY, term(ZONE, &place.app())),
            Self::AffinityOverNodes => append(pod, AFFINITY, term(HOSTNAME, &place.app())),
            Self::AffinityPreferred => append(pod, LIKED, weighted(&place.neighbour())),
            Self::AffinityToOthers => append(pod, AFFINITY, term(key, &place.neighbour())),
            Self::AntiAffinityOverZones => append(pod, ANTI, term(ZONE, &place.app())),
            Self::AntiAffinityOverNodes => append(pod, ANTI, term(HOSTNAME, &place.app())),
            Self::AntiAffinityPreferred => append(pod, DISLIKED, weighted(&place.app())),
            Self::AntiAffinityToOthers => append(pod, ANTI, term(key, &place.neighbour())),
            Self::AffinityNamespaces => {
                let mut term = term(key, &json!({"matchLabels": {"group": "all"}}));
                term["namespaces"] = json!([format!("{}-b", place.set)]);
                append(pod, numbers.pick::<&str>(&[AFFINITY, ANTI]), term);
            }
            Self::AffinityNamespaceSelector => {
                let mut term = term(key, &place.neighbour());
                term["namespaceSelector"] = json!({"matchLabels": {"example.com/set": place.set}});
                append(pod, numbers.pick::<&str>(&[AFFINITY, ANTI]), term);
            }
            _ => {
                pod["metadata"]["labels"]["tenant"] = json!(format!("t{}", place.index % 2));
                let mut term = term(
                    key,
                    &json!({"matchLabels": {"app": format!("app-{}", place.workload)}}),
                );
                if self == Self::AffinityMatchLabelKeys {
                    term["matchLabelKeys"] = json!(["tenant"]);
                    append(pod, numbers.pick::<&str>(&[AFFINITY, ANTI]), term);
                } else {
                    term["mismatchLabelKeys"] = json!(["tenant"]);
                    append(pod, ANTI, term);
                }
            }
        }
    }

    fn add_containers(self, pod: &mut Value, objects: &mut Vec<Value>, numbers: &mut Numbers) {
        let port = json!([{"containerPort": 80, "hostPort": 8080}]);
        let extra = |name: &str, cpu: &str| {
            json!({"name": name, "image": "example.com/none",
            "resources": {"requests": {"cpu": cpu, "memory": "64Mi"}}})
        };
        match self {
            Self::HostPort => pod["spec"]["containers"][0]["ports"] = port,
            Self::SidecarHostPort | Self::Sidecar => {
                let named = format!("sidecar-{}", self as usize);
                let mut sidecar = extra(&named, "300m");
                sidecar["restartPolicy"] = json!("Always");
                if self == Self::SidecarHostPort {
                    sidecar["ports"] = port;
                }
                append(pod, "spec.initContainers", sidecar);
            }
            // It ends before the pod runs, so kube-scheduler lets others have its port.
            Self::InitHostPort => {
                let mut init = extra("init-with-port", "100m");
                init["ports"] = port;
                append(pod, "spec.initContainers", init);
            }
            Self::InitContainer => append(pod, "spec.initContainers", extra("init", "1700m")),
            Self::Overhead => pod["spec"]["runtimeClassName"] = json!("heavy"),
            Self::PodLevelResources => {
                let sum = *numbers.pick(&["3", "5", "7"]);
                // Never less than what the containers ask for together.
                pod["spec"]["resources"] = json!({"requests": {"cpu": sum, "memory": "6Gi"}});
            }
            Self::LimitRangeDefault => {
                let space = pod["metadata"]["namespace"].clone();
                let range = json!({"apiVersion": "v1", "kind": "LimitRange",
                    "metadata": {"name": "defaults", "namespace": space},
                    "spec": {"limits": [{"type": "Container", "defaultRequest": {"cpu": "900m", "memory": "900Mi"}}]}});
                if !objects.contains(&range) {
                    objects.push(range);
                }
                pod["spec"]["containers"][0]["resources"] = json!({});
            }
            Self::ExtendedResource => {
                let count = 1 + numbers.below(2);
                pod["spec"]["containers"][0]["resources"]["limits"] =
                    json!({"nvidia.com/gpu": count.to_string()});
            }
            Self::Priority => {
                pod["spec"]["priorityClassName"] = json!(*numbers.pick(&["high", "higher"]));
            }
            Self::SchedulingGate => {
                pod["spec"]["schedulingGates"] = json!([{"name": "example.com/wait"}]);
            }
            _ => {}
        }
    }

    fn add_volume(
        self,
        pod: &mut Value,
        objects: &mut Vec<Value>,
        place: Place<'_>,
        numbers: &mut Numbers,
    ) {
        let zone = *numbers.pick(&ZONES);
        let space = pod["metadata"]["namespace"].clone();
        let name = format!(
            "{}-{}",
            pod["metadata"]["name"].as_str().unwrap_or_default(),
            self as usize
        );
        let class = *numbers.pick(&["late", "late-zone-b"]);
        let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        let volume_name = format!("volume-{}-{}", self as usize, place.workload);
        if self == Self::EphemeralVolume {
            let mut spec = claim;
            spec["storageClassName"] = json!(class);
            append(
                pod,
                "spec.volumes",
                json!({"name": volume_name, "ephemeral": {"volumeClaimTemplate": {"spec": spec}}}),
            );
            return;
        }
        let mut object = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": space}, "spec": claim});
        if self == Self::BoundVolume {
            objects.push(volume(&name, &space, &name, zone, ""));
            object["spec"]["volumeName"] = json!(name);
            object["spec"]["storageClassName"] = json!("");
        } else {
            object["spec"]["storageClassName"] = json!(class);
        }
        objects.push(object);
        append(
            pod,
            "spec.volumes",
            json!({"name": volume_name, "persistentVolumeClaim": {"claimName": name}}),
        );
    }
}

/// More volumes than the smallest machine attaches: it is they that decide how many pods share a node.
fn add_many_volumes(pod: &mut Value) {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "late",
        "resources": {"requests": {"storage": "1Gi"}}});
    for index in 0..3 {
        append(
            pod,
            "spec.volumes",
            json!({"name": format!("scratch-{index}"),
                "ephemeral": {"volumeClaimTemplate": {"spec": spec}}}),
        );
    }
}

/// A volume in a zone, for one claim.
pub(crate) fn volume(name: &str, space: &Value, claim: &str, zone: &str, class: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
    "spec": {
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
        "storageClassName": class, "persistentVolumeReclaimPolicy": "Retain",
        "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": space, "name": claim},
        "csi": {"driver": DRIVER, "volumeHandle": format!("handle-{name}")},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": ZONE, "operator": "In", "values": [zone]}]}]}},
    }})
}
