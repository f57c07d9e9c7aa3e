//! Instance profiles of ours: how they are called, and whose they are.
//!
//! Given: cluster, region, node class and role. Given back: a name that follows from all four, and a
//! path that says the first three. So a class whose role changes gets another profile, the machines
//! of the old role keep theirs, and nobody has to remember which profile belongs to whom.

use super::token::hash_hex;

/// An instance profile that this cluster made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnProfile {
    /// Its name.
    pub name: String,
    /// Uid of the EC2NodeClass it was made for.
    pub class_uid: String,
}

/// Where a cluster is, as far as profiles care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Home<'call> {
    /// AWS region. Profiles are global: two clusters of one name may live in two regions.
    pub region: &'call str,
    /// Name of the cluster.
    pub cluster: &'call str,
}

impl Home<'_> {
    /// Path of everything that the cluster makes in IAM.
    pub fn path(self) -> String {
        format!("/tonnage/{}/{}/", self.region, self.cluster)
    }

    /// Path of what is made for one node class.
    pub fn path_of_class(self, class_uid: &str) -> String {
        format!("{}{class_uid}/", self.path())
    }

    /// The uid of the node class that a path belongs to, if it is one of this cluster's.
    pub fn class_of(self, path: &str) -> Option<String> {
        let uid = path.strip_prefix(&self.path())?.strip_suffix('/')?;
        (!uid.is_empty() && !uid.contains('/')).then(|| uid.to_owned())
    }

    /// Name of the profile of a role for a node class; at most 128 characters are allowed.
    pub fn name(self, class_uid: &str, role: &str) -> String {
        let content = format!("{}{}", self.path_of_class(class_uid), name_of_role(role));
        let hash: String = hash_hex(content.as_bytes()).chars().take(32).collect();
        format!("tonnage-{hash}")
    }
}

/// True when a name is one that [`Home::name`] may give.
pub fn is_own_name(name: &str) -> bool {
    let hash = name.strip_prefix("tonnage-").unwrap_or("");
    hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A role's name without its path.
pub fn name_of_role(role: &str) -> &str {
    role.rsplit('/').next().unwrap_or(role)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Home<'_> = Home {
        region: "us-east-1",
        cluster: "blue",
    };

    #[test]
    fn a_profile_is_named_by_cluster_region_class_and_role() {
        let name = HOME.name("uid", "node");
        assert_eq!(
            name,
            HOME.name("uid", "/teams/data/node"),
            "a path is no part of a role's name"
        );
        let elsewhere = Home {
            region: "us-west-2",
            ..HOME
        };
        for other in [
            HOME.name("uid", "other"),
            HOME.name("another", "node"),
            elsewhere.name("uid", "node"),
        ] {
            assert_ne!(other, name);
        }
        assert!(name.starts_with("tonnage-") && name.len() == 40, "{name}");
        assert!(is_own_name(&name));
        let headless: String = name.chars().skip(1).collect();
        let short: String = name.chars().take(39).collect();
        for given in ["tonnage-node", "node", "", &headless, &short] {
            assert!(!is_own_name(given), "{given}");
        }
    }

    #[test]
    fn a_path_says_whose_profile_it_is() {
        assert_eq!(
            HOME.class_of(&HOME.path_of_class("uid")).as_deref(),
            Some("uid")
        );
        for stranger in [
            "/",
            "/tonnage/us-east-1/blue/",
            "/tonnage/us-east-1/blue/a/b/",
            "/tonnage/us-east-1/blues/uid/",
            "/karpenter/us-east-1/blue/uid/",
        ] {
            assert_eq!(HOME.class_of(stranger), None, "{stranger}");
        }
    }
}
