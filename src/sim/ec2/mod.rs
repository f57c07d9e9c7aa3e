//! A simulated EC2 region: machines that boot, cost and go, markets that move, capacity that runs
//! out, client tokens and rate limits as EC2 keeps them.
//!
//! [`Ec2`] is the region itself, for everybody in the embedded world; [`SimulatedCloud`] is how one
//! controller process reaches it, under the `Cloud` trait; [`wire::Endpoint`] answers EC2's own
//! protocol, so that the adapter for the real EC2 reaches it too. Elastic Fabric Adapters are not
//! simulated.

pub mod account;
mod adapter;
pub mod bill;
mod calling;
pub mod calls;
pub mod choice;
mod fleet;
pub mod limits;
pub mod machine;
pub mod market;
mod placing;
mod profiles;
mod published;
mod queue;
pub mod refusal;
mod reservations;
mod storm;
pub mod template;
mod throttle;
mod way;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::sync::mpsc;

pub use adapter::SimulatedCloud;
use bill::Amount;
use machine::{EndCause, Machine};
use market::Markets;
use profiles::Profiles;
use queue::INTERRUPTION;
use refusal::Refusal;
use template::LaunchTemplate;
use throttle::Throttle;

use crate::cloud::buckets::BucketSizes;
use crate::cloud::reservations::Described;
use crate::model::instance::Instance;
use crate::model::money::UsdPerHour;
use crate::model::node_class::Subnet;
use crate::model::offering::{CapacityType, OfferingKey};
use crate::model::placement_group::PlacementGroup;
use crate::sim::history::History;
use crate::world::{Clock, RandomStream};

/// How long before it takes spot capacity back EC2 says so. Source: "Spot Instance interruption
/// notices" in the EC2 user guide: two minutes.
const NOTICE: SignedDuration = SignedDuration::from_mins(2);

/// Everything the region holds.
#[derive(Debug)]
pub(super) struct State {
    clock: Arc<dyn Clock>,
    history: History,
    random: RandomStream,
    reclaims: RandomStream,
    markets: Markets,
    throttle: Throttle,
    machines: BTreeMap<String, Machine>,
    templates: BTreeMap<String, Arc<LaunchTemplate>>,
    /// What was asked for and made under a client token.
    template_tokens: BTreeMap<String, (String, Arc<LaunchTemplate>)>,
    templates_made: u64,
    profiles: Profiles,
    /// The account's own SSM parameters.
    parameters: BTreeMap<String, String>,
    fleets: BTreeMap<String, fleet::Fleet>,
    fleets_made: u64,
    dry: Vec<(OfferingKey, Timestamp)>,
    limits: Vec<limits::Limit>,
    /// vCPUs of standard instances that the account may have.
    quotas: BTreeMap<CapacityType, u32>,
    storm: storm::Storm,
    /// A repeated launch is answered without its machines.
    bare_repeats: bool,
    /// Fleets that fell short because capacity did.
    short_fleets: u64,
    calls: BTreeMap<&'static str, calls::Tally>,
    barren: usize,
    barren_types: BTreeSet<String>,
    protected: BTreeSet<String>,
    reservations: BTreeMap<String, Described>,
    /// The account's placement groups by id.
    placement_groups: BTreeMap<String, PlacementGroup>,
    subnets: Vec<Subnet>,
    shown_after: Duration,
    hidden: BTreeSet<String>,
    number: u64,
    interruptions: usize,
    /// When the call was sent that is served now.
    sent: Option<Timestamp>,
    listeners: Vec<mpsc::UnboundedSender<String>>,
    queue: queue::Queue,
}

impl State {
    /// Machines that run or are about to.
    fn alive(&self) -> impl Iterator<Item = &Machine> {
        let now = self.clock.now();
        self.machines
            .values()
            .filter(move |machine| machine.is_alive(now))
    }

    /// A machine with what EC2 shows of it, if it shows it.
    fn seen(&self, id: &str) -> Option<(&Machine, Instance)> {
        (!self.hidden.contains(id)).then(|| self.known(id))?
    }

    /// What EC2 knows of machines that a call names; refused if there is one that it does not know.
    fn known_all(&self, ids: &[&str]) -> Result<Vec<Instance>, Refusal> {
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for id in ids {
            match self.known(id) {
                Some((_machine, shown)) => known.push(shown),
                None => unknown.push(*id),
            }
        }
        if unknown.is_empty() {
            Ok(known)
        } else {
            Err(Refusal::no_instances(&unknown))
        }
    }

    /// A machine that EC2 knows of: neither too young nor forgotten.
    fn known(&self, id: &str) -> Option<(&Machine, Instance)> {
        let now = self.clock.now();
        let machine = self.machines.get(id)?;
        let mut shown = machine.shown(now)?;
        if machine.reservation().is_some_and(|id| self.is_over(id)) {
            shown.offering.capacity_type = CapacityType::OnDemand;
        }
        (now >= later(shown.launched, self.shown_after)).then_some((machine, shown))
    }

    /// Refuses to end machines of which one is protected.
    fn may_end<'ids>(&self, ids: impl IntoIterator<Item = &'ids str>) -> Result<(), Refusal> {
        match ids.into_iter().find(|id| self.protected.contains(*id)) {
            Some(kept) => Err(Refusal::new(
                "OperationNotPermitted",
                format!(
                    "The instance '{kept}' may not be terminated. Modify its 'disableApiTermination' instance attribute and try again."
                ),
            )),
            None => Ok(()),
        }
    }
}

impl State {
    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// Tells the embedded cluster that something happened to a machine.
    fn tell(&mut self, id: &str) {
        self.listeners
            .retain(|listener| listener.send(id.to_owned()).is_ok());
    }

    /// Ends a machine at a time; one that has ended already stays as it is.
    fn end(&mut self, id: &str, at: Timestamp, cause: EndCause) {
        let linger = Duration::from_millis(8_000 + self.random.below(12_000));
        let Some(machine) = self.machines.get_mut(id) else {
            return;
        };
        if machine.ended.is_some_and(|(known, _cause)| known <= at) {
            return;
        }
        machine.ended = Some((at, cause));
        machine.gone_at = Some(later(at, linger));
        let running = machine.billed(at);
        let cost = running.map_or_else(Amount::default, |period| {
            bill::machine(
                &self.markets,
                &machine.instance.offering,
                machine.fees,
                period,
            )
        });
        let mut fields = json!({
            "instance": id, "cause": cause.as_str(), "endsAt": at.to_string(), "usd": cost.to_string(),
        });
        if let Some(sent) = self.sent {
            fields["sent"] = json!(sent.to_string());
        }
        self.history.event("InstanceEnds", fields);
        self.tell(id);
    }
}

/// The region; clones share it.
#[derive(Debug, Clone)]
pub struct Ec2(Arc<Mutex<State>>);

impl Ec2 {
    /// A region without machines.
    pub fn new(
        clock: Arc<dyn Clock>,
        history: History,
        random: impl Fn(&str) -> RandomStream,
        markets: Markets,
    ) -> Self {
        Self(Arc::new(Mutex::new(State {
            clock,
            history,
            random: random("ec2/machines"),
            reclaims: random("ec2/reclaims"),
            markets,
            throttle: Throttle::new(BucketSizes::default()),
            machines: BTreeMap::new(),
            templates: BTreeMap::new(),
            template_tokens: BTreeMap::new(),
            templates_made: 0,
            profiles: Profiles::default(),
            parameters: BTreeMap::new(),
            fleets: BTreeMap::new(),
            fleets_made: 0,
            dry: Vec::new(),
            limits: Vec::new(),
            quotas: BTreeMap::new(),
            storm: storm::Storm::default(),
            bare_repeats: false,
            short_fleets: 0,
            calls: BTreeMap::new(),
            barren: 0,
            barren_types: BTreeSet::new(),
            protected: BTreeSet::new(),
            reservations: BTreeMap::new(),
            placement_groups: BTreeMap::new(),
            subnets: account::SUBNETS.clone(),
            shown_after: Duration::ZERO,
            hidden: BTreeSet::new(),
            number: 0,
            interruptions: 0,
            sent: None,
            listeners: Vec::new(),
            queue: queue::Queue::default(),
        })))
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ids of machines that something happens to from now on.
    pub fn listen(&self) -> mpsc::UnboundedReceiver<String> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.locked().listeners.push(sender);
        receiver
    }

    /// A machine.
    pub fn machine(&self, id: &str) -> Option<Machine> {
        self.locked().machines.get(id).cloned()
    }

    /// Every machine there ever was, in the order of launches.
    pub fn machines(&self) -> Vec<Machine> {
        self.locked().machines.values().cloned().collect()
    }

    /// Makes a placement group, or replaces the one of its id.
    pub fn place(&self, group: PlacementGroup) {
        let mut state = self.locked();
        state.placement_groups.insert(group.id.clone(), group);
    }

    /// The id of the placement group that a machine is in.
    pub fn placed_in(&self, id: &str) -> Option<String> {
        let state = self.locked();
        let template = state.machines.get(id)?.template.as_ref()?;
        template.data.placement_group.clone()
    }

    /// How many Elastic Fabric Adapters a machine has; `None` when there is no such machine.
    pub fn efa_devices(&self, id: &str) -> Option<i64> {
        self.locked().machines.get(id).map(Machine::efa_devices)
    }

    /// Machines that run or are about to.
    pub fn alive(&self) -> Vec<Machine> {
        self.locked().alive().cloned().collect()
    }

    /// What everything has cost so far.
    pub fn billed(&self) -> Amount {
        let state = self.locked();
        let now = state.clock.now();
        let costs = state.machines.values().filter_map(|machine| {
            let period = machine.billed(now)?;
            let offering = &machine.instance.offering;
            Some(bill::machine(
                &state.markets,
                offering,
                machine.fees,
                period,
            ))
        });
        costs.sum()
    }

    /// What the machines that run now cost per hour.
    pub fn rate(&self) -> UsdPerHour {
        let state = self.locked();
        let now = state.clock.now();
        state
            .alive()
            .map(|machine| {
                let price = state.markets.price(&machine.instance.offering, now);
                price.unwrap_or(UsdPerHour::ZERO) + machine.fees
            })
            .sum()
    }

    /// From now on a new machine is left out of answers to `DescribeInstances` for so long, as EC2,
    /// which is eventually consistent, may do.
    pub fn show_late(&self, after: Duration) {
        self.locked().shown_after = after;
    }

    /// From now on the answer to a repeated launch lists no machines: EC2 promises that it launches none twice, and
    /// no more.
    pub fn answer_repeats_barely(&self) {
        self.locked().bare_repeats = true;
    }

    /// From now on a machine is left out of answers to `DescribeInstances`, though EC2 knows of it.
    pub fn hide(&self, id: &str) {
        self.locked().hidden.insert(id.to_owned());
    }

    /// From now on it is shown again.
    pub fn reveal(&self, id: &str) {
        self.locked().hidden.remove(id);
    }

    /// The markets.
    pub fn markets(&self) -> Markets {
        self.locked().markets.clone()
    }

    /// How many spot machines EC2 took back.
    pub fn interruptions(&self) -> usize {
        self.locked().interruptions
    }

    /// Ends a machine, as somebody at the console would, or as a fault of its hardware.
    pub fn end(&self, id: &str, cause: EndCause) {
        let mut state = self.locked();
        let now = state.clock.now();
        state.end(id, now, cause);
    }

    /// Gives notice to a spot machine: it ends two minutes later.
    pub fn reclaim(&self, id: &str) {
        let mut state = self.locked();
        let now = state.clock.now();
        let Ok(until) = now.saturating_add(NOTICE) else {
            return;
        };
        state.interruptions += 1;
        state.queue.send(INTERRUPTION, id, now);
        state.history.event(
            "InterruptionNotice",
            json!({ "instance": id, "endsAt": until.to_string() }),
        );
        state.end(id, until, EndCause::Reclaimed);
    }

    /// What the region does by itself each minute: it takes spot capacity back, by chance and where a
    /// pool has shrunk below what runs in it, and ends the machines of capacity blocks that are nearly over.
    pub fn pass_minute(&self) {
        let taken: Vec<String> = {
            let state = self.locked();
            let now = state.clock.now();
            let rate = state.markets.weather().reclaimed_per_mille;
            let running = state.machines.values().filter(|machine| {
                machine.instance.offering.capacity_type == CapacityType::Spot
                    && machine.ended.is_none()
                    && now >= machine.running_at
            });
            running
                .filter(|_machine| state.reclaims.below(60_000) < rate)
                .map(|machine| machine.instance.id.clone())
                .collect()
        };
        for id in taken {
            self.reclaim(&id);
        }
        let over = self.locked().ending_with_blocks();
        for id in over {
            self.end(&id, EndCause::Reclaimed);
        }
    }

    /// Lets a pool run dry for a while.
    pub fn dry(&self, offering: &OfferingKey, minutes: i64) {
        let mut state = self.locked();
        let now = state.clock.now();
        if let Ok(until) = now.checked_add(SignedDuration::from_mins(minutes)) {
            state.dry.retain(|(_offering, until)| now < *until);
            state.dry.push((offering.clone(), until));
        }
    }

    /// The next so many machines never get as far as a kubelet.
    pub fn make_barren(&self, count: usize) {
        self.locked().barren += count;
    }

    /// Whether machines of a type that are launched from now on get as far as a kubelet.
    pub fn set_barren(&self, instance_type: &str, is_barren: bool) {
        let types = &mut self.locked().barren_types;
        if is_barren {
            types.insert(instance_type.to_owned());
        } else {
            types.remove(instance_type);
        }
    }

    /// From now on nobody may terminate this machine.
    pub fn protect(&self, id: &str) {
        self.locked().protected.insert(id.to_owned());
    }

    /// Sets an SSM parameter of the account's own.
    pub fn set_parameter(&self, name: &str, value: &str) {
        let mut state = self.locked();
        state.parameters.insert(name.to_owned(), value.to_owned());
    }

    /// Takes a tag off a machine, as people do.
    pub fn untag(&self, id: &str, key: &str) {
        if let Some(machine) = self.locked().machines.get_mut(id) {
            machine.instance.tags.remove(key);
        }
    }

    /// Starts a machine with a cluster's tags that no claim asked for.
    pub fn stray(&self, cluster: &str, offering: &OfferingKey) -> String {
        self.locked().stray(cluster, offering)
    }
}

impl State {
    fn stray(&mut self, cluster: &str, offering: &OfferingKey) -> String {
        let now = self.clock.now();
        let number = self.next_number();
        let id = format!("i-{number:017x}");
        let tags = [
            (crate::cloud::tags::CLUSTER, cluster),
            (crate::cloud::tags::BATCH, "stray"),
        ];
        let machine = Machine {
            instance: Instance {
                id: id.clone(),
                offering: offering.clone(),
                state: crate::model::instance::InstanceState::Pending,
                launched: now,
                image_id: "ami-amd64".to_owned(),
                partition: None,
                subnet_id: "subnet-a".to_owned(),
                private_dns_name: format!(
                    "ip-10-255-{}-{}.ec2.internal",
                    number / 250,
                    number % 250
                ),
                tags: tags
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
                ending: None,
            },
            user_data: String::new(),
            context: None,
            template: None,
            fees: UsdPerHour::ZERO,
            running_at: now,
            boot: Duration::ZERO,
            never_joins: true,
            ended: None,
            gone_at: None,
        };
        self.history.event(
            "InstanceLaunched",
            json!({ "instance": id, "offering": offering.to_string(), "nodePool": null }),
        );
        self.machines.insert(id.clone(), machine);
        self.tell(&id);
        id
    }
}

/// A time so much later.
fn later(at: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by)
        .ok()
        .and_then(|by| at.checked_add(by).ok())
        .unwrap_or(at)
}
