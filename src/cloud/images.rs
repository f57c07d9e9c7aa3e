//! Images: what aliases stand for, which machines an image serves, and which of several is taken.
//!
//! Given: aliases, the cluster's Kubernetes version, and images as EC2 describes them. Given back: names
//! of SSM parameters that hold image ids, and images by architecture in order of preference. Nothing
//! is looked up here.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Architecture;
use crate::api::image_alias::{AliasFamily, ImageAlias};
use crate::api::labels;
use crate::api::requirement::{Requirement, RequirementOperator};
use crate::model::kubernetes_version::KubernetesVersion;
use crate::model::node_class::{Accelerator, Image};

/// An SSM parameter that holds an image id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageParameter {
    /// The parameter's name.
    pub name: String,
    /// What the image runs on.
    pub architecture: Architecture,
    /// What the image is for.
    pub serves: BTreeSet<Accelerator>,
}

/// The parameters of the images that an alias stands for, under a version of Kubernetes: one for each
/// architecture and kind of accelerator. Names as AWS documents them for EKS and Bottlerocket.
pub fn parameters_of(alias: &ImageAlias, kubernetes: KubernetesVersion) -> Vec<ImageParameter> {
    use Accelerator::{Neuron, None, Nvidia};
    use Architecture::{Amd64, Arm64};
    let version = alias.version.as_deref();
    match alias.family {
        AliasFamily::Al2023 => [
            (Amd64, "standard", None),
            (Amd64, "nvidia", Nvidia),
            (Amd64, "neuron", Neuron),
            (Arm64, "standard", None),
            (Arm64, "nvidia", Nvidia),
        ]
        .map(|(architecture, variant, accelerator)| {
            let machine = in_names(architecture);
            let release = version.map_or_else(
                || "recommended".to_owned(),
                |version| {
                    format!("amazon-eks-node-al2023-{machine}-{variant}-{kubernetes}-{version}")
                },
            );
            ImageParameter {
                architecture,
                name: format!(
                    "/aws/service/eks/optimized-ami/{kubernetes}/amazon-linux-2023/{machine}/\
                     {variant}/{release}/image_id"
                ),
                serves: BTreeSet::from([accelerator]),
            }
        })
        .into(),
        AliasFamily::Bottlerocket => [
            // The drivers of Neuron devices are in the plain image.
            (Amd64, "", &[None, Neuron][..]),
            (Amd64, "-nvidia", &[Nvidia]),
            (Arm64, "", &[None]),
            (Arm64, "-nvidia", &[Nvidia]),
        ]
        .map(|(architecture, variant, accelerators)| {
            let machine = in_names(architecture);
            let release = version.unwrap_or("latest").trim_start_matches('v');
            ImageParameter {
                architecture,
                name: format!(
                    "/aws/service/bottlerocket/aws-k8s-{kubernetes}{variant}/{machine}/\
                     {release}/image_id"
                ),
                serves: accelerators.iter().copied().collect(),
            }
        })
        .into(),
    }
}

/// How AWS writes an architecture.
const fn in_names(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => "x86_64",
        Architecture::Arm64 => "arm64",
    }
}

/// An image with what it is chosen by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundImage {
    /// Id, name, and whether it is deprecated.
    pub image: Image,
    /// What it runs on.
    pub architecture: Architecture,
    /// When it was made, as EC2 writes it.
    pub created: String,
    /// What it is for, where the selector says it.
    pub serves: Option<BTreeSet<Accelerator>>,
}

/// Images by architecture: not deprecated ones first, then newest first. An image that was selected by
/// id, name or tags serves every machine of its architecture; but where the names of several say that
/// they are for different accelerators, each serves its own machines, or the newest would take all.
pub fn by_architecture(mut found: Vec<FoundImage>) -> BTreeMap<String, Vec<Image>> {
    found.sort_by(|one, other| {
        let key = |found: &FoundImage| found.image.deprecated;
        (key(one), &other.created, &other.image.name, &one.image.id).cmp(&(
            key(other),
            &one.created,
            &one.image.name,
            &other.image.id,
        ))
    });
    let mut named: BTreeMap<Architecture, BTreeSet<BTreeSet<Accelerator>>> = BTreeMap::new();
    for found in &found {
        let of_architecture = named.entry(found.architecture).or_default();
        of_architecture.extend(
            found
                .serves
                .is_none()
                .then(|| by_name(&found.image.name))
                .flatten(),
        );
    }
    let mut images: BTreeMap<String, Vec<Image>> = BTreeMap::new();
    for found in found {
        let differ = named
            .get(&found.architecture)
            .is_some_and(|kinds| kinds.len() > 1);
        let inferred = || differ.then(|| by_name(&found.image.name)).flatten();
        let serves = found.serves.clone().or_else(inferred);
        images
            .entry(found.architecture.as_str().to_owned())
            .or_default()
            .push(Image {
                serves: serves.unwrap_or_else(Accelerator::all),
                ..found.image
            });
    }
    images
}

/// What the name of an image that AWS publishes for EKS says.
fn by_name(name: &str) -> Option<BTreeSet<Accelerator>> {
    let is_published = ["amazon-eks-node-", "bottlerocket-aws-k8s-"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    let serves = |accelerator| Some(BTreeSet::from([accelerator]));
    match name {
        _ if !is_published => None,
        name if name.contains("-nvidia-") => serves(Accelerator::Nvidia),
        name if name.contains("-neuron-") => serves(Accelerator::Neuron),
        name if name.starts_with("bottlerocket") => {
            Some(BTreeSet::from([Accelerator::None, Accelerator::Neuron]))
        }
        _ => serves(Accelerator::None),
    }
}

/// The accelerators that the images of each architecture serve.
pub fn served(images: &BTreeMap<String, Vec<Image>>) -> BTreeMap<String, BTreeSet<Accelerator>> {
    images
        .iter()
        .map(|(architecture, images)| {
            let served = images.iter().flat_map(|image| image.serves.iter().copied());
            (architecture.clone(), served.collect())
        })
        .collect()
}

/// Which instance types an image is for, as a status says it.
pub fn requirements(architecture: &str, image: &Image) -> Vec<Requirement> {
    let requirement = |key: &str, operator: RequirementOperator, values: &[&str]| Requirement {
        key: key.to_owned(),
        operator,
        values: values.iter().map(|value| (*value).to_owned()).collect(),
        min_values: None,
    };
    let mut all = vec![requirement(
        labels::ARCH,
        RequirementOperator::In,
        &[architecture],
    )];
    let serves = |accelerator| image.serves.contains(&accelerator);
    if image.serves == Accelerator::all() {
        return all;
    }
    if serves(Accelerator::Nvidia) {
        all.push(requirement(
            labels::INSTANCE_GPU_MANUFACTURER,
            RequirementOperator::In,
            &["nvidia"],
        ));
    } else {
        all.push(requirement(
            labels::INSTANCE_GPU_COUNT,
            RequirementOperator::DoesNotExist,
            &[],
        ));
    }
    match (serves(Accelerator::None), serves(Accelerator::Neuron)) {
        (true, false) => all.push(requirement(
            labels::INSTANCE_ACCELERATOR_COUNT,
            RequirementOperator::DoesNotExist,
            &[],
        )),
        (false, true) => all.push(requirement(
            labels::INSTANCE_ACCELERATOR_COUNT,
            RequirementOperator::Exists,
            &[],
        )),
        _ => {}
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: KubernetesVersion = KubernetesVersion {
        major: 1,
        minor: 33,
    };

    fn names(alias: &str) -> Vec<String> {
        let alias = ImageAlias::parse(alias).unwrap();
        parameters_of(&alias, VERSION)
            .into_iter()
            .map(|parameter| parameter.name)
            .collect()
    }

    #[test]
    fn aliases_stand_for_the_parameters_that_aws_publishes() {
        let latest = names("al2023@latest");
        assert_eq!(latest.len(), 5);
        assert_eq!(
            latest[0],
            "/aws/service/eks/optimized-ami/1.33/amazon-linux-2023/x86_64/standard/recommended/image_id"
        );
        assert_eq!(
            names("al2023@v20250915")[4],
            "/aws/service/eks/optimized-ami/1.33/amazon-linux-2023/arm64/nvidia/\
             amazon-eks-node-al2023-arm64-nvidia-1.33-v20250915/image_id"
        );
        assert_eq!(
            names("bottlerocket@latest")[1],
            "/aws/service/bottlerocket/aws-k8s-1.33-nvidia/x86_64/latest/image_id"
        );
        for pinned in ["bottlerocket@1.46.0", "bottlerocket@v1.46.0"] {
            assert_eq!(
                names(pinned)[2],
                "/aws/service/bottlerocket/aws-k8s-1.33/arm64/1.46.0/image_id"
            );
        }
    }

    fn found(id: &str, name: &str, deprecated: bool, created: &str) -> FoundImage {
        FoundImage {
            image: Image {
                deprecated,
                ..Image::new(id, name)
            },
            architecture: Architecture::Amd64,
            created: created.to_owned(),
            serves: None,
        }
    }

    fn ids(images: &[Image]) -> Vec<&str> {
        images.iter().map(|image| image.id.as_str()).collect()
    }

    #[test]
    fn the_newest_image_that_is_not_deprecated_comes_first() {
        let images = by_architecture(vec![
            found("ami-old", "", false, "2026-01-01"),
            found("ami-deprecated", "", true, "2026-09-01"),
            found("ami-new", "", false, "2026-06-01"),
        ]);
        assert_eq!(
            ids(&images["amd64"]),
            ["ami-new", "ami-old", "ami-deprecated"]
        );
        assert_eq!(images["amd64"][0].serves, Accelerator::all());
    }

    #[test]
    fn a_newer_image_for_other_machines_takes_none_away() {
        let plain = "amazon-eks-node-al2023-x86_64-standard-1.33-v20250901";
        let nvidia = "amazon-eks-node-al2023-x86_64-nvidia-1.33-v20250915";
        let images = by_architecture(vec![
            found("ami-plain", plain, false, "2025-09-01"),
            found("ami-nvidia", nvidia, false, "2025-09-15"),
        ]);
        let serving = |accelerator| {
            let mut serving = images["amd64"].iter();
            serving
                .find(|image| image.serves.contains(&accelerator))
                .map(|image| image.id.as_str())
        };
        assert_eq!(serving(Accelerator::None), Some("ami-plain"));
        assert_eq!(serving(Accelerator::Nvidia), Some("ami-nvidia"));
        assert_eq!(serving(Accelerator::Other), None);
        // One kind alone is what the user wants everywhere.
        let alone = by_architecture(vec![found("ami-nvidia", nvidia, false, "2025-09-15")]);
        assert_eq!(alone["amd64"][0].serves, Accelerator::all());
    }

    #[test]
    fn a_status_says_which_types_an_image_is_for() {
        let text = |serves: &[Accelerator]| {
            let image = Image {
                serves: serves.iter().copied().collect(),
                ..Image::new("ami-1", "")
            };
            let all = requirements("amd64", &image);
            let texts: Vec<String> = all
                .iter()
                .map(|one| {
                    format!(
                        "{} {} {}",
                        one.key,
                        one.operator.as_str(),
                        one.values.join(",")
                    )
                })
                .collect();
            texts.join("; ")
        };
        assert_eq!(
            text(&[Accelerator::None, Accelerator::Neuron]),
            "kubernetes.io/arch In amd64; karpenter.k8s.aws/instance-gpu-count DoesNotExist "
        );
        assert!(text(&[Accelerator::Nvidia]).contains("instance-gpu-manufacturer In nvidia"));
        assert!(text(&[Accelerator::Neuron]).contains("instance-accelerator-count Exists"));
        assert!(text(&[Accelerator::None]).contains("instance-accelerator-count DoesNotExist"));
    }
}
