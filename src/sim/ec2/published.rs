//! The images that AWS publishes for EKS, and the SSM parameters that hold their ids.
//!
//! One release of each family, for each architecture and accelerator, under every Kubernetes version
//! that there may be. Sources: "Retrieve recommended Amazon Linux AMI IDs" and "Retrieve recommended
//! Bottlerocket AMI IDs" in the EKS user guide.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

/// The account that AWS publishes them from.
pub(super) const PUBLISHER: &str = "602401143452";
/// Minor versions of Kubernetes 1.
const VERSIONS: RangeInclusive<u32> = 28..=40;
/// The release of Amazon Linux.
const DAY: &str = "v20250915";
/// The release of Bottlerocket.
const NUMBER: &str = "1.46.0";

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) id: String,
    pub(super) name: String,
    /// In EC2's words.
    pub(super) architecture: &'static str,
}

/// What is published.
#[derive(Debug, Default)]
struct Shelf {
    images: Vec<Published>,
    /// Image ids by name of the parameter.
    parameters: BTreeMap<String, String>,
}

impl Shelf {
    fn put(&mut self, name: String, architecture: &'static str, folder: &str, releases: [&str; 2]) {
        // Far from the ids of anything that the account makes.
        let id = format!("ami-0e{:015x}", self.images.len() + 1);
        for release in releases {
            let parameter = format!("{folder}/{release}/image_id");
            self.parameters.insert(parameter, id.clone());
        }
        self.images.push(Published {
            id,
            name,
            architecture,
        });
    }

    fn filled() -> Self {
        let mut shelf = Self::default();
        for minor in VERSIONS {
            for (architecture, accelerators) in [
                ("x86_64", ["standard", "nvidia", "neuron"].as_slice()),
                ("arm64", ["standard", "nvidia"].as_slice()),
            ] {
                for accelerator in accelerators {
                    let kind = format!("{architecture}-{accelerator}-1.{minor}");
                    let name = format!("amazon-eks-node-al2023-{kind}-{DAY}");
                    let folder = format!(
                        "/aws/service/eks/optimized-ami/1.{minor}/amazon-linux-2023/{architecture}/{accelerator}"
                    );
                    let pinned = name.clone();
                    let releases = ["recommended", pinned.as_str()];
                    shelf.put(name, architecture, &folder, releases);
                }
                for variant in ["", "-nvidia"] {
                    let kind = format!("aws-k8s-1.{minor}{variant}");
                    let name = format!("bottlerocket-{kind}-{architecture}-v{NUMBER}-0a1b2c3d");
                    let folder = format!("/aws/service/bottlerocket/{kind}/{architecture}");
                    shelf.put(name, architecture, &folder, ["latest", NUMBER]);
                }
            }
        }
        shelf
    }
}

static SHELF: LazyLock<Shelf> = LazyLock::new(Shelf::filled);

/// All of them.
pub(super) fn images() -> &'static [Published] {
    &SHELF.images
}

/// The value of a parameter, if AWS publishes it.
pub(super) fn parameter(name: &str) -> Option<&'static str> {
    SHELF.parameters.get(name).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_parameter_holds_an_image_of_its_architecture() {
        let ids: BTreeSet<&str> = images().iter().map(|image| image.id.as_str()).collect();
        assert_eq!(ids.len(), images().len());
        assert_eq!(SHELF.parameters.len(), 2 * images().len());
        for (name, id) in &SHELF.parameters {
            let image = images().iter().find(|image| image.id == *id).unwrap();
            assert!(name.contains(image.architecture), "{name}: {}", image.name);
        }
        let folder = "/aws/service/eks/optimized-ami/1.33/amazon-linux-2023/x86_64";
        assert!(parameter(&format!("{folder}/standard/recommended/image_id")).is_some());
        assert_eq!(
            parameter(&format!("{folder}/gaudi/recommended/image_id")),
            None
        );
    }
}
