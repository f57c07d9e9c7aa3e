//! The account's instance profiles, as IAM keeps them.
//!
//! Whatever profile a user names is there, with a role of the same name, and so is every role, but for
//! names that the account [lacks](super::Ec2::lack). Profiles under names that controllers give are there
//! once they were made, and until they are deleted.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::account::ACCOUNT;
use super::refusal::Refusal;
use super::template::Tags;
use super::{Ec2, State};
use crate::cloud::profile;

/// An instance profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Profile {
    /// Its path, with a slash at both ends.
    pub(super) path: String,
    /// The role in it; there is room for one.
    pub(super) role: Option<String>,
    /// Its tags.
    pub(super) tags: Tags,
    /// When it was made.
    pub(super) made: Timestamp,
}

/// All of them, by name.
#[derive(Debug, Default)]
pub(super) struct Profiles {
    made: BTreeMap<String, Profile>,
    deleted: BTreeSet<String>,
    lacking: BTreeSet<String>,
}

/// The ARN of an instance profile. A path begins and ends with a slash.
pub(super) fn arn(path: &str, name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:instance-profile{path}{name}")
}

/// IAM knows of no such thing.
pub(super) fn absent(what: &str, name: &str) -> Refusal {
    Refusal {
        status: 404,
        ..Refusal::new("NoSuchEntity", format!("{what} {name} cannot be found."))
    }
}

fn conflict(code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal {
        status: 409,
        ..Refusal::new(code, message)
    }
}

impl Profiles {
    /// A profile, if it is there.
    pub(super) fn get(&self, name: &str) -> Option<Profile> {
        if let Some(made) = self.made.get(name) {
            return Some(made.clone());
        }
        let is_there = !profile::is_own_name(name)
            && !self.deleted.contains(name)
            && !self.lacking.contains(name);
        is_there.then(|| Profile {
            path: "/".to_owned(),
            role: Some(name.to_owned()),
            tags: Tags::new(),
            made: Timestamp::UNIX_EPOCH,
        })
    }

    /// Those that were made, by name.
    pub(super) const fn made(&self) -> &BTreeMap<String, Profile> {
        &self.made
    }

    /// Keeps a new one.
    pub(super) fn create(&mut self, name: &str, profile: Profile) -> Result<(), Refusal> {
        if self.get(name).is_some() {
            let message = format!("Instance Profile {name} already exists.");
            return Err(conflict("EntityAlreadyExists", message));
        }
        self.made.insert(name.to_owned(), profile);
        Ok(())
    }

    /// Puts a role into one that has none.
    pub(super) fn add_role(&mut self, name: &str, role: &str) -> Result<(), Refusal> {
        let mut profile = self.known(name)?;
        if self.lacking.contains(role) {
            return Err(absent("The role with name", role));
        }
        if profile.role.is_some() {
            let message = "Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1";
            return Err(conflict("LimitExceeded", message));
        }
        profile.role = Some(role.to_owned());
        self.made.insert(name.to_owned(), profile);
        Ok(())
    }

    /// Takes its role out of one.
    pub(super) fn remove_role(&mut self, name: &str, role: &str) -> Result<(), Refusal> {
        let mut profile = self.known(name)?;
        if profile.role.as_deref() != Some(role) {
            return Err(absent("The role with name", role));
        }
        profile.role = None;
        self.made.insert(name.to_owned(), profile);
        Ok(())
    }

    /// Deletes one that has no role.
    pub(super) fn delete(&mut self, name: &str) -> Result<(), Refusal> {
        if self.known(name)?.role.is_some() {
            let message = "Cannot delete entity, must remove roles from instance profile first.";
            return Err(conflict("DeleteConflict", message));
        }
        self.made.remove(name);
        self.deleted.insert(name.to_owned());
        Ok(())
    }

    /// A profile, which must be there.
    pub(super) fn known(&self, name: &str) -> Result<Profile, Refusal> {
        self.get(name)
            .ok_or_else(|| absent("Instance Profile", name))
    }
}

impl State {
    /// True when machines that are not gone have a profile.
    pub(super) fn is_profile_used(&self, name: &str) -> bool {
        self.alive().any(|machine| {
            let template = machine.template.as_ref();
            template.is_some_and(|template| template.data.instance_profile == name)
        })
    }
}

impl Ec2 {
    /// Names of the instance profiles that were made.
    pub fn profiles(&self) -> Vec<String> {
        self.locked().profiles.made.keys().cloned().collect()
    }

    /// ARN of an instance profile, if it is there.
    pub fn profile_arn(&self, name: &str) -> Option<String> {
        let profile = self.locked().profiles.get(name)?;
        Some(arn(&profile.path, name))
    }

    /// From now on the account has neither a role nor a profile of these names.
    pub fn lack(&self, names: &[&str]) {
        let names = names.iter().map(|name| (*name).to_owned());
        self.locked().profiles.lacking.extend(names);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "tonnage-0123456789abcdef0123456789abcdef";

    fn empty() -> Profile {
        Profile {
            path: "/tonnage/us-east-1/blue/uid/".to_owned(),
            role: None,
            tags: Tags::new(),
            made: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_a_user_names_is_there_and_what_a_controller_names_must_be_made() {
        let mut profiles = Profiles::default();
        profiles.lacking.insert("absent".to_owned());
        assert_eq!(
            profiles.get("nodes").unwrap().role.as_deref(),
            Some("nodes")
        );
        assert_eq!(profiles.get("absent"), None);
        assert_eq!(profiles.get(OURS), None);
        profiles.create(OURS, empty()).unwrap();
        assert_eq!(profiles.get(OURS), Some(empty()));
        let again = profiles.create(OURS, empty()).unwrap_err();
        assert_eq!((again.code, again.status), ("EntityAlreadyExists", 409));
    }

    #[test]
    fn a_profile_has_one_role_and_goes_without_any() {
        let mut profiles = Profiles::default();
        profiles.lacking.insert("absent".to_owned());
        let code = |outcome: Result<(), Refusal>| outcome.unwrap_err().code;
        assert_eq!(code(profiles.add_role(OURS, "nodes")), "NoSuchEntity");
        profiles.create(OURS, empty()).unwrap();
        assert_eq!(code(profiles.add_role(OURS, "absent")), "NoSuchEntity");
        profiles.add_role(OURS, "nodes").unwrap();
        assert_eq!(code(profiles.add_role(OURS, "others")), "LimitExceeded");
        assert_eq!(code(profiles.delete(OURS)), "DeleteConflict");
        assert_eq!(code(profiles.remove_role(OURS, "others")), "NoSuchEntity");
        profiles.remove_role(OURS, "nodes").unwrap();
        for name in [OURS, "nodes"] {
            profiles.remove_role(name, "nodes").ok();
            profiles.delete(name).unwrap();
            assert_eq!(code(profiles.delete(name)), "NoSuchEntity");
        }
        profiles.create("nodes", empty()).unwrap();
        profiles.add_role("nodes", "nodes").unwrap();
    }
}
