//! What all loops share: the world, both sides of it, and what one loop has learned for the others.
//!
//! Looking and acting are different types. A [`Context`] can only look: it has [`Eyes`] for EC2 and
//! the mirror of the cluster. Only [`Acting`] can write, and in observe mode there is none, so a
//! write is not merely forbidden then but cannot be expressed.
//!
//! Each piece of shared knowledge has one writer and is replaced as a whole under a short lock;
//! nothing here is needed after a restart, because it is learned again. From one term of leadership to the
//! next it is not kept either, as another controller has acted meanwhile: what matters longer is read back from
//! where [`super::learned`] keeps it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::node_memory;
use super::run::StepError;
use crate::api::EC2NodeClass;
use crate::cloud::class::DELETING;
use crate::cloud::gather::Gather;
use crate::cloud::{Cloud, CloudError, InstanceQuery, Resolution};
use crate::cluster::apply::{ClaimStatusChange, Kubernetes};
use crate::cluster::events::{Event, EventKind, Recorder, Subject};
use crate::cluster::lease::Term;
use crate::cluster::{Kind, Mirror};
use crate::metrics::{Loop, Metrics, RemovalReason};
use crate::model::claim::Claim;
use crate::model::instance::Instance;
use crate::model::report::ProvisioningPlan;
use crate::model::snapshot::Snapshot;
use crate::plan::collect::{CollectMemory, Halt};
use crate::plan::condition::ConditionChange;
use crate::plan::empty::Planned;
use crate::plan::instances::InstanceView;
use crate::plan::launch::{LaunchMemory, offering_of};
use crate::settings::{Mode, Settings};

/// EC2, to look at and nothing else.
#[derive(Debug, Clone)]
pub struct Eyes(Arc<dyn Cloud>);

impl Eyes {
    /// Looks through an adapter.
    pub fn new(cloud: Arc<dyn Cloud>) -> Self {
        Self(cloud)
    }

    /// Resolves a node class.
    pub async fn resolve(&self, class: &EC2NodeClass) -> Result<Resolution, CloudError> {
        self.0.resolve(class).await
    }

    /// Lists instances.
    pub async fn instances(&self, query: &InstanceQuery) -> Result<Vec<Arc<Instance>>, CloudError> {
        let found = self.0.instances(query).await?;
        Ok(found.into_iter().map(Arc::new).collect())
    }
}

/// A context with hands: what may change the cluster and EC2.
#[derive(Debug)]
pub struct Acting {
    context: Arc<Context>,
    /// Writes to the API server.
    pub kubernetes: Kubernetes,
    /// Launches and tags at EC2.
    pub cloud: Arc<dyn Cloud>,
    /// Terminates at EC2, many at once.
    pub endings: Gather,
}

impl Acting {
    /// Asks the API server itself whether work is on a Node: a watch that is behind could hide a pod
    /// that came just before the Node was fenced. Fence it first, then a no stays true.
    ///
    /// # Errors
    /// [`StepError::Outdated`] names a pod that is there.
    pub async fn no_work_on(&self, node: &str) -> Result<(), StepError> {
        let pods = self.kubernetes.pods_on(node).await?;
        let busy = pods.iter().find(|pod| pod.is_work());
        busy.map_or(Ok(()), |pod| {
            let message = format!("Node {node} is not empty: pod {} is on it", pod.key);
            Err(StepError::Outdated(message))
        })
    }

    /// Asks for the deletion of a claim and counts it. That a Node is empty is known from the API server
    /// alone, so it holds only for the claim as it was seen.
    ///
    /// # Errors
    /// What the API server says against it; a claim that is gone is no error.
    pub async fn remove_claim(&self, claim: &Claim, why: RemovalReason) -> Result<(), StepError> {
        match why {
            RemovalReason::Empty => self.kubernetes.delete_unchanged_claim(claim).await?,
            _ => self.kubernetes.delete_claim(claim).await?,
        }
        let pool = claim.node_pool.as_deref().unwrap_or_default();
        let bought = offering_of(claim).map(|offering| offering.capacity_type);
        self.metrics.claim_disrupted(pool, why, bought);
        Ok(())
    }

    /// Writes a condition onto a claim, if that says anything new.
    ///
    /// # Errors
    /// What the API server says against it.
    pub async fn report(&self, claim: &Claim, change: ConditionChange) -> Result<(), StepError> {
        let Some(change) = change.news_for(claim) else {
            return Ok(());
        };
        let change = ClaimStatusChange {
            conditions: vec![change.update()],
            ..ClaimStatusChange::default()
        };
        self.kubernetes.patch_claim_status(claim, &change).await?;
        Ok(())
    }

    /// Runs a task until the world stops or the term is over.
    pub async fn until_over(&self, task: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = self.world.stop().cancelled() => {}
            _over = self.term.within(task) => {}
        }
    }

    /// Gives a claim up: deletes it, so that its pods are planned again, and says why.
    ///
    /// # Errors
    /// As [`Self::remove_claim`].
    pub async fn give_up(
        &self,
        claim: &Claim,
        removal: RemovalReason,
        event: &'static str,
        message: String,
    ) -> Result<(), StepError> {
        self.remove_claim(claim, removal).await?;
        tracing::warn!(
            claim = claim.name,
            reason = removal.as_str(),
            "given up: {message}"
        );
        let subject = Subject::claim(&claim.name, &claim.uid);
        self.tell(subject, EventKind::Warning, (event, "GivingUp"), message);
        Ok(())
    }

    /// Terminates an instance once `ready` says that nothing stands against it. Its room under the
    /// ceiling is taken before anything is waited for, so that what ends at the same time cannot take
    /// it too, and is given back when the instance is not terminated.
    ///
    /// # Errors
    /// `full` when there is no room, else what `ready` or EC2 say against it.
    pub async fn end(
        &self,
        instance: &str,
        full: impl FnOnce(String) -> StepError,
        ready: impl Future<Output = Result<(), StepError>>,
    ) -> Result<(), StepError> {
        let now = self.now();
        let before = self
            .instances(|view| {
                // EC2 accepted it before and it was counted then.
                let again = view.terminated_at(instance).is_some();
                (!again)
                    .then(|| view.endings.try_spend(instance, 1, now))
                    .transpose()
            })
            .map_err(|reached| full(format!("terminations: {reached}")))?;
        let ended = async {
            ready.await?;
            self.endings.terminate(instance).await?;
            Ok(())
        }
        .await;
        if let (Err(_), Some(before)) = (&ended, before) {
            self.instances(|view| view.endings.give_back(instance, before));
        }
        ended
    }

    /// Hands for a context; `None` in observe mode.
    pub fn new(
        context: &Arc<Context>,
        kubernetes: Kubernetes,
        cloud: Arc<dyn Cloud>,
    ) -> Option<Arc<Self>> {
        (context.settings.mode == Mode::Run).then(|| {
            Arc::new(Self {
                context: Arc::clone(context),
                kubernetes,
                endings: Gather::new(Arc::clone(&cloud)),
                cloud,
            })
        })
    }
}

impl Deref for Acting {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.context
    }
}

/// What is known of these must be of one time before anything is bought, or goes because it is empty.
const MUST_AGREE: [Kind; 4] = [Kind::Pod, Kind::Node, Kind::NodeClaim, Kind::NodePool];
/// How long that is waited for at a time.
pub const AGREE_AGAIN: SignedDuration = SignedDuration::from_millis(250);

/// How long an API server that lists no claim is doubted while EC2 has machines, by who has just come to act: as long as an
/// empty list is by who knew better.
const NO_CLAIM_BELIEVED: Duration = Duration::from_mins(1);

/// How long what was kept is waited for before anything is collected without it.
const KEPT_READ_WITHIN: Duration = Duration::from_mins(5);

/// What all loops share.
pub struct Context {
    /// Time, randomness, tasks.
    pub world: crate::world::World,
    /// How long all this lasts.
    pub term: Term,
    /// What the API server holds.
    pub mirror: Mirror,
    /// EC2, to look at.
    pub eyes: Eyes,
    /// Events for users.
    pub recorder: Recorder,
    /// Figures for users.
    pub metrics: Arc<Metrics>,
    /// What the controller was started with.
    pub settings: Settings,
    plans: Option<Arc<dyn PlanListener>>,
    classes: Mutex<BTreeMap<String, Arc<Resolution>>>,
    launches: Mutex<LaunchMemory>,
    instances: Mutex<InstanceView>,
    sights: Mutex<CollectMemory>,
    began: Instant,
    kept_soon: Notify,
    is_kept_read: AtomicBool,
    asked: Mutex<BTreeSet<String>>,
    halt: Mutex<Option<Halt>>,
    planned: Mutex<Option<Arc<Planned>>>,
    wakers: BTreeMap<Loop, Arc<Notify>>,
}

/// Sees every plan by which something is bought.
pub trait PlanListener: fmt::Debug + Send + Sync {
    /// A plan was made of a snapshot.
    fn planned(&self, snapshot: &Snapshot, plan: &ProvisioningPlan);
}

/// What a [`Context`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// Time, randomness, tasks.
    pub world: crate::world::World,
    /// How long all this lasts.
    pub term: Term,
    /// What the API server holds.
    pub mirror: Mirror,
    /// EC2, to look at.
    pub eyes: Eyes,
    /// Events for users.
    pub recorder: Recorder,
    /// Figures for users.
    pub metrics: Arc<Metrics>,
    /// Who wants to see plans.
    pub plans: Option<Arc<dyn PlanListener>>,
    /// What the controller was started with.
    pub settings: Settings,
}

impl fmt::Debug for Context {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Context")
            .field("eyes", &self.eyes)
            .finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    /// Nothing is known yet.
    pub fn new(parts: Parts) -> Self {
        let launches = LaunchMemory::new(parts.world.now())
            .with_ceiling(parts.settings.launches_per_minute)
            .with_rate(parts.settings.launch_rate);
        let instances =
            InstanceView::default().with_ceiling(parts.settings.terminations_per_minute);
        let sights = CollectMemory::default().with_names(parts.settings.instance_names.are_told());
        Self {
            world: parts.world,
            term: parts.term,
            mirror: parts.mirror,
            eyes: parts.eyes,
            recorder: parts.recorder,
            metrics: parts.metrics,
            settings: parts.settings,
            plans: parts.plans,
            classes: Mutex::default(),
            launches: Mutex::new(launches),
            instances: Mutex::new(instances),
            sights: Mutex::new(sights),
            began: Instant::now(),
            kept_soon: Notify::new(),
            is_kept_read: AtomicBool::new(false),
            asked: Mutex::default(),
            halt: Mutex::default(),
            planned: Mutex::default(),
            wakers: Loop::ALL
                .iter()
                .copied()
                .map(|name| (name, Arc::new(Notify::new())))
                .collect(),
        }
    }

    /// True while pods may be known before their claims, which would be bought for once more, or Nodes before the pods
    /// that come to them.
    pub fn must_wait(&self) -> bool {
        self.mirror.may_be_behind(&MUST_AGREE)
    }

    /// True while the claims that EC2's machines were bought for may only be missing from the list: who has just come to act
    /// knows of none. What EC2 has not answered yet counts as machines; who only observes buys nothing, and waits for nothing.
    pub fn doubts_that_no_claim_is_there(&self) -> bool {
        let is_over = self.began.elapsed() >= NO_CLAIM_BELIEVED;
        if is_over || self.settings.mode == Mode::Observe || !self.mirror.view().claims.is_empty() {
            return false;
        }
        let is_running = |instance: &Arc<Instance>| !instance.state.is_ending();
        self.sights(|memory| {
            let listed = memory.listed_instances();
            listed.is_none_or(|instances| instances.iter().any(is_running))
        })
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.world.now()
    }

    /// What wakes a loop beside changes in the cluster.
    pub fn waker(&self, name: Loop) -> Arc<Notify> {
        self.wakers.get(&name).map(Arc::clone).unwrap_or_default()
    }

    /// Wakes a loop: something it decides from has changed.
    pub fn wake(&self, name: Loop) {
        if let Some(waker) = self.wakers.get(&name) {
            waker.notify_one();
        }
    }

    /// What is known of a node class.
    pub fn class(&self, name: &str) -> Option<Arc<Resolution>> {
        locked(&self.classes).get(name).cloned()
    }

    /// True once every EC2NodeClass was looked at: before that none may be called missing.
    pub fn classes_known(&self) -> bool {
        let classes = locked(&self.classes);
        let view = self.mirror.view();
        view.node_classes.iter().all(|(name, observed)| {
            observed.object.metadata.deletion_timestamp.is_some() || classes.contains_key(name)
        })
    }

    /// The node classes that are known.
    pub fn class_names(&self) -> Vec<String> {
        locked(&self.classes).keys().cloned().collect()
    }

    /// Learns what a node class resolves to, and what Nodes say of it beside; `None` forgets it.
    pub fn set_class(&self, name: &str, resolution: Option<Arc<Resolution>>) {
        let resolution = resolution.map(|found| self.as_known(name, found));
        self.change_classes(|classes| match resolution {
            Some(found) => classes.insert(name.to_owned(), Arc::clone(&found)) != Some(found),
            None => classes.remove(name).is_some(),
        });
    }

    /// Puts what is known by now beside what a node class resolves to: what Nodes say, and whether it is being
    /// deleted. What was learned of the class or forgotten meanwhile stays.
    pub fn renew_class(&self, name: &str) {
        let Some(known) = self.class(name) else {
            return;
        };
        let found = self.as_known(name, Arc::clone(&known));
        self.change_classes(|classes| {
            let current = classes.get_mut(name);
            let current = current.filter(|current| Arc::ptr_eq(current, &known));
            current.is_some_and(|current| {
                *current = Arc::clone(&found);
                known != found
            })
        });
    }

    /// What a class resolves to, with what is known here beside: what Nodes say of it, and whether it is going.
    fn as_known(&self, name: &str, found: Arc<Resolution>) -> Arc<Resolution> {
        let observed = self.mirror.view().node_classes.get(name).cloned();
        let Some(observed) = observed else {
            return found;
        };
        let found = node_memory::applied(self, &observed.object, found);
        let is_leaving = observed.object.metadata.deletion_timestamp.is_some();
        if !is_leaving || !found.class.ready {
            return found;
        }
        let mut leaving = Resolution::clone(&found);
        leaving.class.ready = false;
        DELETING.clone_into(&mut leaving.class.not_ready);
        Arc::new(leaving)
    }

    /// Wakes who decides from node classes if the change is one.
    fn change_classes(&self, change: impl FnOnce(&mut BTreeMap<String, Arc<Resolution>>) -> bool) {
        let changed = change(&mut locked(&self.classes));
        if changed {
            for name in [
                Loop::Provisioning,
                Loop::Launch,
                Loop::NodePools,
                Loop::Notices,
            ] {
                self.wake(name);
            }
        }
    }

    /// What is remembered of launches, to read or to change in one go.
    pub fn launches<T>(&self, with: impl FnOnce(&mut LaunchMemory) -> T) -> T {
        with(&mut locked(&self.launches))
    }

    /// What complete lists have shown, to read or to change in one go.
    pub fn sights<T>(&self, with: impl FnOnce(&mut CollectMemory) -> T) -> T {
        with(&mut locked(&self.sights))
    }

    /// What an earlier process or term kept was read, or nothing is kept.
    pub fn kept_is_read(&self) {
        self.is_kept_read.store(true, Ordering::Relaxed);
        self.wake(Loop::Orphans);
    }

    /// True while what the brake holds, and a person was told, may be kept and not read yet.
    pub fn kept_is_unread(&self) -> bool {
        !self.is_kept_read.load(Ordering::Relaxed) && self.began.elapsed() < KEPT_READ_WITHIN
    }

    /// Something was learned that should be kept now.
    pub fn keep_soon(&self) {
        self.kept_soon.notify_one();
    }

    /// Waits until something should be kept, at most so long.
    pub async fn until_kept(&self, at_most: Duration) {
        tokio::time::timeout(at_most, self.kept_soon.notified())
            .await
            .ok();
    }

    /// Says in figures what experience says about offerings.
    pub fn tell_outlook(&self) {
        let now = self.now();
        self.launches(|memory| {
            self.metrics.set_shortages(memory.shortages.current(now));
            self.metrics.set_hazards(memory.hazards.current(now));
        });
    }

    /// What is known of instances, to read or to change in one go.
    pub fn instances<T>(&self, with: impl FnOnce(&mut InstanceView) -> T) -> T {
        with(&mut locked(&self.instances))
    }

    /// Asks for a look at instances; the loops are woken when EC2 has answered.
    pub fn look_at(&self, ids: BTreeSet<String>) {
        if !ids.is_empty() {
            locked(&self.asked).extend(ids);
            self.wake(Loop::Instances);
        }
    }

    /// Takes what was asked for.
    pub fn take_asked(&self) -> BTreeSet<String> {
        std::mem::take(&mut *locked(&self.asked))
    }

    /// Remembers what the latest plan put pods onto, so that nothing is let go while a pod is about
    /// to come to it.
    pub fn set_planned(&self, planned: Planned) {
        let first = locked(&self.planned).replace(Arc::new(planned)).is_none();
        self.wake(Loop::Emptiness);
        if first {
            self.wake(Loop::Registration);
        }
    }

    /// Shows a plan by which something is bought to whoever wants to see it.
    pub fn show_plan(&self, snapshot: &Snapshot, plan: &ProvisioningPlan) {
        if let Some(plans) = &self.plans {
            plans.planned(snapshot, plan);
        }
    }

    /// What the latest plan put pods onto.
    pub fn planned(&self) -> Option<Arc<Planned>> {
        locked(&self.planned).clone()
    }

    /// Learns whether the brake of collection holds; true when that is news.
    pub fn set_halt(&self, halt: Option<Halt>) -> bool {
        let mut known = locked(&self.halt);
        let news = *known != halt;
        *known = halt;
        news
    }

    /// Set while the brake of collection holds.
    pub fn halt(&self) -> Option<Halt> {
        locked(&self.halt).clone()
    }

    /// Everything known now, for a decision that buys: what fell short lately is not available, and
    /// what was interrupted is known.
    pub fn snapshot_with_outlook(&self) -> Snapshot {
        let mut snapshot = self.snapshot();
        self.launches(|memory| memory.mark(&mut snapshot));
        snapshot
    }

    /// Everything known now, for a decision that does not buy: marking catalogues copies them.
    pub fn snapshot(&self) -> Snapshot {
        let classes = locked(&self.classes)
            .iter()
            .map(|(name, resolution)| (name.clone(), Arc::new(resolution.class.clone())))
            .collect();
        self.mirror.view().snapshot(self.now(), classes)
    }

    /// Tells users what happened to an object.
    pub fn tell(
        &self,
        subject: Subject,
        kind: EventKind,
        (reason, action): (&'static str, &'static str),
        message: impl Into<String>,
    ) {
        self.recorder.publish(Event {
            subject,
            kind,
            reason,
            action,
            message: message.into(),
        });
    }
}
