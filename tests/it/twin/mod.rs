//! `tonnage simulate` is held to the embedded world: the same scenes, once with the real controllers and
//! once folded, buy the same machines and end with none.

mod scenes;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tonnage::api::{EC2NodeClass, NodePool};
use tonnage::cluster::manifests::Document;
use tonnage::cluster::observe;
use tonnage::model::node_class::NodeClass;
use tonnage::model::offering::OfferingKey;
use tonnage::plan::provision::ProvisionSettings;
use tonnage::settings::Mode;
use tonnage::sim::api_server::Resource;
use tonnage::sim::ec2::market::Weather;
use tonnage::sim::embedded::{ProcessOptions, default_settings};
use tonnage::sim::scene::node_class;
use tonnage::sim::{Embedded, Options, runtime};
use tonnage::simulate::input::schedule;
use tonnage::simulate::input::workloads::{self, Frame};
use tonnage::simulate::{Nobody, Outcome, Run, Scenario, Variant, run};

use crate::waiting::eventually;

/// Instance families that the scenes' region sells.
const FAMILIES: [&str; 5] = ["c5", "m5", "r5", "t3", "g4dn"];
/// The annotation by which the embedded kubelets know how long a pod runs.
const RUN_SECONDS: &str = "tonnage.test/run-seconds";
const BUDGET_MS: u64 = 2;
/// How long a scene may take until its fleet is zero, seconds.
const PATIENCE: u64 = 4 * 3_600;

/// NodePools, work that arrives at once, and a region.
struct Scene {
    name: &'static str,
    pools: Vec<Value>,
    furniture: Vec<Value>,
    work: Vec<Value>,
    weather: Weather,
    seed: u64,
}

type Machines = BTreeMap<OfferingKey, usize>;

/// What the scene's world looks like to a simulation.
struct Seen {
    begin: Timestamp,
    pools: Vec<NodePool>,
    classes: BTreeMap<String, Arc<NodeClass>>,
    machines: Machines,
    left: (usize, usize, usize),
}

fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The controllers look around first, so that a burst meets them awake.
async fn awake(world: &Embedded) {
    eventually("what nodes are made of is ready", 60, async || {
        let objects = [Resource::NodeClass, Resource::NodePool].map(|kind| world.api.all(kind));
        match objects.iter().flatten().find(|object| !is_ready(object)) {
            None => Ok(()),
            Some(object) => Err(object.to_string()),
        }
    })
    .await;
}

/// Everything ran, and nothing of it is left.
async fn over(world: &Embedded, scene: &Scene) {
    eventually("work and fleet have come and gone", PATIENCE, async || {
        let left = (
            world.api.count(Resource::Job) + world.api.count(Resource::Pod),
            world.ec2.alive().len(),
            world.api.count(Resource::NodeClaim),
        );
        if left == (0, 0, 0) && !world.ec2.machines().is_empty() {
            Ok(())
        } else {
            Err(format!(
                "{}: pods and jobs, machines, claims left: {left:?}",
                scene.name
            ))
        }
    })
    .await;
}

/// Plays a scene with the real controllers.
async fn embedded(scene: &Scene) -> Seen {
    let world = Embedded::begin(Options {
        weather: scene.weather.clone(),
        families: FAMILIES.to_vec(),
        ..Options::calm(scene.seed)
    });
    world.apply(node_class("default", "embedded", 20)).unwrap();
    for object in scene.pools.iter().chain(&scene.furniture) {
        world.apply(object.clone()).unwrap();
    }
    let settings = default_settings(Mode::Run, BUDGET_MS);
    let process = world.start(ProcessOptions::new(scene.seed, settings));
    awake(&world).await;
    let begin = world.now();
    let typed = |object: Value| serde_json::from_value::<EC2NodeClass>(object).unwrap();
    let classes = world
        .api
        .all(Resource::NodeClass)
        .into_iter()
        .map(|object| {
            let class = world.node_class(&typed(object)).unwrap();
            (class.name.clone(), Arc::new(class))
        });
    let classes = classes.collect();
    for object in &scene.work {
        world.apply(object.clone()).unwrap();
    }
    let count = |resource| world.api.count(resource);
    over(&world, scene).await;
    let mut machines = Machines::new();
    for machine in world.ec2.machines() {
        let shown = machine.shown(machine.running_at).unwrap();
        *machines.entry(shown.offering).or_default() += 1;
    }
    let pools = world.api.all(Resource::NodePool).into_iter();
    let seen = Seen {
        begin,
        pools: pools
            .map(|pool| serde_json::from_value(pool).unwrap())
            .collect(),
        classes,
        machines,
        left: (
            world.ec2.alive().len(),
            count(Resource::Node),
            count(Resource::NodeClaim),
        ),
    };
    process.stop().await;
    world.end().await;
    seen
}

/// The work with what a simulation reads: how long its pods run.
fn documents(scene: &Scene) -> Vec<Document> {
    let work = scene.work.iter().map(|object| {
        let mut object = object.clone();
        let template = &object["spec"]["template"]["metadata"]["annotations"];
        let seconds = template[RUN_SECONDS].as_str().unwrap().to_owned();
        object["metadata"]["annotations"] = json!({ schedule::RUN: format!("{seconds}s") });
        object
    });
    let all = work.chain(scene.furniture.iter().cloned());
    all.map(|object| Document {
        path: scene.name.to_owned(),
        object,
    })
    .collect()
}

/// Plays a scene folded, with the same NodePools, classes and prices.
fn folded(scene: &Scene, seen: &Seen) -> Outcome {
    let frame = Frame {
        begin: seen.begin,
        duration: SignedDuration::from_hours(1),
        run: Run::Between(0, 0),
    };
    let work = workloads::read(&documents(scene), &frame).unwrap();
    let daemon_sets = scene.furniture.iter().filter_map(|object| {
        let set = serde_json::from_value(object.clone()).ok()?;
        let set = observe::workload::daemon_set(&set);
        Some((format!("{}/{}", set.namespace, set.name), Arc::new(set)))
    });
    let pools = seen.pools.iter().map(|object| {
        let pool = observe::node_pool::node_pool(object);
        (pool.name.clone(), Arc::new(pool))
    });
    let variant = Variant {
        name: scene.name.to_owned(),
        node_pools: pools.collect(),
        node_classes: seen.classes.clone(),
        daemon_sets: daemon_sets.collect(),
        namespaces: BTreeMap::new(),
        volume_claims: BTreeMap::new(),
        settings: ProvisionSettings::default().with_budget_ms(BUDGET_MS),
    };
    let scenario = Scenario {
        begin: seen.begin,
        duration: frame.duration,
        seed: scene.seed,
        weather: scene.weather.clone(),
        loads: work.loads,
    };
    run(&scenario, &variant, 1, &Nobody).unwrap()
}

#[test]
fn the_folded_world_buys_what_the_embedded_world_buys_and_both_end_with_nothing() {
    let scenes = scenes::all();
    assert_eq!(scenes.len(), 20);
    let mut differences = Vec::new();
    for scene in &scenes {
        let seen = runtime::run(embedded(scene)).unwrap();
        let outcome = folded(scene, &seen);
        let mut machines = Machines::new();
        for kind in &outcome.bought {
            *machines.entry(kind.offering.clone()).or_default() += kind.count;
        }
        let text = |machines: &Machines| {
            let kinds = machines
                .iter()
                .map(|(key, count)| format!("{count} x {key}"));
            kinds.collect::<Vec<_>>().join(", ")
        };
        if machines != seen.machines {
            differences.push(format!(
                "{}: embedded {}; folded {}",
                scene.name,
                text(&seen.machines),
                text(&machines)
            ));
        }
        if seen.left != (0, 0, 0) || outcome.figures.instances_left != 0 {
            let left = outcome.figures.instances_left;
            differences.push(format!("{}: left {:?} and {left}", scene.name, seen.left));
        }
        if seen.machines.is_empty() || !outcome.never_placed.is_empty() {
            differences.push(format!("{}: {:?}", scene.name, outcome.never_placed));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
