//! EC2 for as long as a term lasts.
//!
//! Given an adapter and a term; given back an adapter that reads as before, and changes something only
//! within the term: a call that is on its way when the term ends is dropped, and none is begun
//! afterwards. Nothing is decided here.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::api::node_class::EC2NodeClass;
use crate::cloud::profile::OwnProfile;
use crate::cloud::rehearsal::Rehearsal;
use crate::cloud::{Cloud, CloudError, InstanceQuery, Resolution};
use crate::cluster::lease::Term;
use crate::model::claim::Claim;
use crate::model::instance::Instance;
use crate::model::launch::{ErrorClass, LaunchOutcome, LaunchRecord, TemplateOverrides};
use crate::model::node_class::NodeClass;
use crate::model::offering::OfferingKey;

/// The code of a call that was refused or dropped because the term is over.
pub const NOT_LEADING: &str = "NotLeading";

/// An adapter within a term.
#[derive(Debug)]
pub struct Guarded {
    cloud: Arc<dyn Cloud>,
    term: Term,
}

impl Guarded {
    /// `cloud` as long as `term` lasts.
    pub fn new(cloud: Arc<dyn Cloud>, term: Term) -> Self {
        Self { cloud, term }
    }

    async fn within<T>(
        &self,
        operation: &'static str,
        call: BoxFuture<'_, Result<T, CloudError>>,
    ) -> Result<T, CloudError> {
        let outcome = self.term.within(call).await;
        // Whoever leads next repeats what is written down, so "it may or may not have taken effect"
        // is the right class.
        outcome.unwrap_or_else(|over| {
            Err(CloudError {
                operation,
                class: ErrorClass::Transient,
                code: NOT_LEADING.to_owned(),
                message: over.to_string(),
            })
        })
    }
}

impl Cloud for Guarded {
    fn resolve<'call>(
        &'call self,
        node_class: &'call EC2NodeClass,
    ) -> BoxFuture<'call, Result<Resolution, CloudError>> {
        self.cloud.resolve(node_class)
    }

    fn prepare<'call>(
        &'call self,
        node_class: &'call EC2NodeClass,
        resolved: &'call NodeClass,
        claim: &'call Claim,
        offerings: &'call [OfferingKey],
    ) -> BoxFuture<'call, Result<Vec<TemplateOverrides>, CloudError>> {
        let call = self.cloud.prepare(node_class, resolved, claim, offerings);
        Box::pin(self.within("CreateLaunchTemplate", call))
    }

    fn rehearse<'call>(
        &'call self,
        node_class: &'call EC2NodeClass,
        resolved: &'call NodeClass,
    ) -> BoxFuture<'call, Result<Rehearsal, CloudError>> {
        let call = self.cloud.rehearse(node_class, resolved);
        Box::pin(self.within("CreateFleet", call))
    }

    fn turn(&self) -> BoxFuture<'_, ()> {
        self.cloud.turn()
    }

    fn launch<'call>(
        &'call self,
        record: &'call LaunchRecord,
        claim: &'call Claim,
        node_class: &'call EC2NodeClass,
    ) -> BoxFuture<'call, Result<LaunchOutcome, CloudError>> {
        let call = self.cloud.launch(record, claim, node_class);
        Box::pin(self.within("CreateFleet", call))
    }

    fn instances<'call>(
        &'call self,
        query: &'call InstanceQuery,
    ) -> BoxFuture<'call, Result<Vec<Instance>, CloudError>> {
        self.cloud.instances(query)
    }

    fn terminate<'call>(
        &'call self,
        instance_ids: &'call [String],
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        Box::pin(self.within("TerminateInstances", self.cloud.terminate(instance_ids)))
    }

    fn tag<'call>(
        &'call self,
        instance_id: &'call str,
        tags: &'call BTreeMap<String, String>,
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        Box::pin(self.within("CreateTags", self.cloud.tag(instance_id, tags)))
    }

    fn keep_profile<'call>(
        &'call self,
        node_class: &'call EC2NodeClass,
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        let call = self.cloud.keep_profile(node_class);
        Box::pin(self.within("CreateInstanceProfile", call))
    }

    fn profile_of(&self, node_class: &EC2NodeClass) -> String {
        self.cloud.profile_of(node_class)
    }

    fn profiles(&self) -> BoxFuture<'_, Result<Vec<OwnProfile>, CloudError>> {
        self.cloud.profiles()
    }

    fn remove_profile<'call>(
        &'call self,
        name: &'call str,
    ) -> BoxFuture<'call, Result<bool, CloudError>> {
        Box::pin(self.within("DeleteInstanceProfile", self.cloud.remove_profile(name)))
    }

    fn release<'call>(
        &'call self,
        node_class: &'call str,
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        Box::pin(self.within("DeleteLaunchTemplate", self.cloud.release(node_class)))
    }

    fn templates(&self) -> BoxFuture<'_, Result<Vec<String>, CloudError>> {
        self.cloud.templates()
    }

    fn remove_template<'call>(
        &'call self,
        name: &'call str,
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        Box::pin(self.within("DeleteLaunchTemplate", self.cloud.remove_template(name)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::offering::CapacityType;
    use crate::sim::ec2::SimulatedCloud;
    use crate::sim::faults::Calm;
    use crate::sim::life::Life;
    use crate::sim::{Embedded, Options};

    #[tokio::test(start_paused = true)]
    async fn after_the_term_everything_can_be_seen_and_nothing_changed() {
        let world = Embedded::begin(Options::calm(1));
        let calm = Arc::new(Calm);
        let cloud = SimulatedCloud::new(&world.ec2, "a", "embedded", Life::new(), calm);
        let term = Term::without_lease();
        let guarded = Guarded::new(Arc::new(cloud), term.clone());
        let offering = OfferingKey::new("c5.large", "us-east-1a", CapacityType::OnDemand);
        let (kept, ended) = (
            world.ec2.stray("embedded", &offering),
            world.ec2.stray("embedded", &offering),
        );
        guarded.terminate(&[ended]).await.unwrap();
        term.end();
        let tags = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let class = crate::sim::scene::node_class("default", "embedded", 20);
        let class: EC2NodeClass = serde_json::from_value(class).unwrap();
        let refusals = [
            guarded
                .terminate(std::slice::from_ref(&kept))
                .await
                .unwrap_err(),
            guarded.tag(&kept, &tags).await.unwrap_err(),
            guarded.release("default").await.unwrap_err(),
            guarded.remove_template("a").await.unwrap_err(),
            guarded.remove_profile("a").await.unwrap_err(),
            guarded.keep_profile(&class).await.unwrap_err(),
        ];
        for refusal in refusals {
            assert_eq!(refusal.code, NOT_LEADING, "{refusal}");
        }
        assert!(world.ec2.machine(&kept).unwrap().ended.is_none());
        let seen = guarded.instances(&InstanceQuery::All).await.unwrap();
        let seen = seen.iter().find(|instance| instance.id == kept).unwrap();
        assert!(!seen.tags.contains_key("a"));
    }
}
