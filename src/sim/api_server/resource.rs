//! The kinds of objects that the API server keeps, and how requests name them.

use serde_json::Value;

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Namespaces.
    Namespace,
    /// Nodes.
    Node,
    /// Pods.
    Pod,
    /// PersistentVolumes.
    Volume,
    /// PersistentVolumeClaims.
    VolumeClaim,
    /// Events of `events.k8s.io`.
    Event,
    /// DaemonSets.
    DaemonSet,
    /// Deployments.
    Deployment,
    /// ReplicaSets.
    ReplicaSet,
    /// Jobs.
    Job,
    /// PodDisruptionBudgets.
    DisruptionBudget,
    /// StorageClasses.
    StorageClass,
    /// CSINodes.
    StorageNode,
    /// Leases.
    Lease,
    /// ConfigMaps.
    ConfigMap,
    /// LimitRanges.
    LimitRange,
    /// NodePools.
    NodePool,
    /// NodeClaims.
    NodeClaim,
    /// EC2NodeClasses.
    NodeClass,
}

/// How a kind is named and what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Definition {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// Plural, as in paths.
    pub plural: &'static str,
    /// Kind, as in objects.
    pub kind: &'static str,
    /// Lives in a namespace.
    pub namespaced: bool,
    /// Has the subresource `status`: writes of the object leave its status alone, and the reverse.
    pub status: bool,
}

const fn define(
    api: (&'static str, &'static str),
    (plural, kind): (&'static str, &'static str),
    namespaced: bool,
    status: bool,
) -> Definition {
    Definition {
        group: api.0,
        version: api.1,
        plural,
        kind,
        namespaced,
        status,
    }
}

impl Resource {
    /// Every kind.
    pub const ALL: [Self; 19] = [
        Self::Namespace,
        Self::Node,
        Self::Pod,
        Self::Volume,
        Self::VolumeClaim,
        Self::Event,
        Self::DaemonSet,
        Self::Deployment,
        Self::ReplicaSet,
        Self::Job,
        Self::DisruptionBudget,
        Self::StorageClass,
        Self::StorageNode,
        Self::Lease,
        Self::ConfigMap,
        Self::LimitRange,
        Self::NodePool,
        Self::NodeClaim,
        Self::NodeClass,
    ];

    /// Its names.
    pub const fn definition(self) -> Definition {
        const CORE: (&str, &str) = ("", "v1");
        const APPS: (&str, &str) = ("apps", "v1");
        const STORAGE: (&str, &str) = ("storage.k8s.io", "v1");
        const KARPENTER: (&str, &str) = ("karpenter.sh", "v1");
        match self {
            Self::Namespace => define(CORE, ("namespaces", "Namespace"), false, true),
            Self::Node => define(CORE, ("nodes", "Node"), false, true),
            Self::Pod => define(CORE, ("pods", "Pod"), true, true),
            Self::Volume => define(CORE, ("persistentvolumes", "PersistentVolume"), false, true),
            Self::VolumeClaim => define(
                CORE,
                ("persistentvolumeclaims", "PersistentVolumeClaim"),
                true,
                true,
            ),
            Self::Event => define(("events.k8s.io", "v1"), ("events", "Event"), true, false),
            Self::DaemonSet => define(APPS, ("daemonsets", "DaemonSet"), true, true),
            Self::Deployment => define(APPS, ("deployments", "Deployment"), true, true),
            Self::ReplicaSet => define(APPS, ("replicasets", "ReplicaSet"), true, true),
            Self::Job => define(("batch", "v1"), ("jobs", "Job"), true, true),
            Self::DisruptionBudget => define(
                ("policy", "v1"),
                ("poddisruptionbudgets", "PodDisruptionBudget"),
                true,
                true,
            ),
            Self::StorageClass => define(STORAGE, ("storageclasses", "StorageClass"), false, false),
            Self::StorageNode => define(STORAGE, ("csinodes", "CSINode"), false, false),
            Self::Lease => define(
                ("coordination.k8s.io", "v1"),
                ("leases", "Lease"),
                true,
                false,
            ),
            Self::ConfigMap => define(CORE, ("configmaps", "ConfigMap"), true, false),
            Self::LimitRange => define(CORE, ("limitranges", "LimitRange"), true, false),
            Self::NodePool => define(KARPENTER, ("nodepools", "NodePool"), false, true),
            Self::NodeClaim => define(KARPENTER, ("nodeclaims", "NodeClaim"), false, true),
            Self::NodeClass => define(
                ("tonnage.dev", "v1alpha1"),
                ("ec2nodeclasses", "EC2NodeClass"),
                false,
                true,
            ),
        }
    }

    /// True for the kinds that a CustomResourceDefinition brings.
    pub const fn is_custom(self) -> bool {
        matches!(self, Self::NodePool | Self::NodeClaim | Self::NodeClass)
    }

    /// Reads group, version and plural of a path.
    pub fn of_path(group: &str, version: &str, plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| {
            let known = resource.definition();
            known.group == group && known.version == version && known.plural == plural
        })
    }

    /// Reads `apiVersion` and `kind` of an object.
    pub fn of_object(object: &Value) -> Option<Self> {
        let api_version = object.get("apiVersion")?.as_str()?;
        let kind = object.get("kind")?.as_str()?;
        Self::ALL.into_iter().find(|resource| {
            resource.definition().kind == kind && resource.definition().api_version() == api_version
        })
    }
}

impl Definition {
    /// `GROUP/VERSION`, as objects say it.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// Names one object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its kind.
    pub resource: Resource,
    /// Empty for kinds without namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// A key from its parts.
    pub fn new(resource: Resource, namespace: &str, name: &str) -> Self {
        Self {
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl std::fmt::Display for Key {
    /// As `kubectl` names it: `pods/default/a`, `nodes/b`.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = self.resource.definition().plural;
        if self.namespace.is_empty() {
            write!(formatter, "{plural}/{}", self.name)
        } else {
            write!(formatter, "{plural}/{}/{}", self.namespace, self.name)
        }
    }
}

/// A text at a path of an object, empty when there is none. Each second of a world asks for thousands, so names that
/// escape nothing are not copied as [`Value::pointer`] copies each.
pub fn text<'object>(object: &'object Value, pointer: &str) -> &'object str {
    let mut names = pointer.split('/').skip(1);
    let found = names.try_fold(object, |value, name| {
        if value.is_array() || name.contains('~') {
            value.pointer(&format!("/{name}"))
        } else {
            value.get(name)
        }
    });
    found.and_then(Value::as_str).unwrap_or_default()
}
