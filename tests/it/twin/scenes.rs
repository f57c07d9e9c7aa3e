//! The scenes: bursts that arrive at once, each with something that a planner may do wrong.

use serde_json::{Value, json};
use tonnage::sim::ec2::market::Weather;
use tonnage::sim::scene::{Pool, Work};

use super::Scene;

const BOTH: &[&str] = &["spot", "on-demand"];
const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Prices move and nothing is scarce.
const MOVING: Weather = Weather {
    moving_prices: true,
    ..Weather::CALM
};

/// Every other spot pool is dry.
const DRY: Weather = Weather {
    moving_prices: true,
    dry_spot_per_mille: 500,
    dry_on_demand_per_mille: 0,
    reclaimed_per_mille: 0,
};

fn general() -> Pool<'static> {
    Pool {
        name: "general",
        node_class: "default",
        families: &["c5", "m5", "r5", "t3"],
        capacity_types: BOTH,
        taint: None,
        empty_seconds: 30,
        weight: None,
        most_nodes: None,
    }
}

fn job(name: &str, pods: u32, (cpu, memory): (&str, &str), seconds: u32) -> Value {
    work(name, pods, (cpu, memory), seconds).job()
}

fn work<'text>(
    name: &'text str,
    pods: u32,
    (cpu, memory): (&'text str, &'text str),
    seconds: u32,
) -> Work<'text> {
    Work {
        name,
        cpu,
        memory,
        gpus: 0,
        tolerates: None,
        role: None,
        pods,
        seconds: Some(seconds),
    }
}

/// A job whose pods have something more in their spec.
fn special(
    name: &str,
    pods: u32,
    size: (&str, &str),
    seconds: u32,
    field: &str,
    value: Value,
) -> Value {
    let mut object = job(name, pods, size, seconds);
    object["spec"]["template"]["spec"][field] = value;
    object
}

fn scene(name: &'static str, work: Vec<Value>) -> Scene {
    Scene {
        name,
        pools: vec![general().manifest()],
        furniture: Vec::new(),
        work,
        weather: Weather::CALM,
        seed: 7,
    }
}

fn apart(topology: &str, app: &str) -> Value {
    json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{
        "topologyKey": topology, "labelSelector": { "matchLabels": { "app": app } },
    }] } })
}

fn together(topology: &str, app: &str) -> Value {
    json!({ "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{
        "topologyKey": topology, "labelSelector": { "matchLabels": { "app": app } },
    }] } })
}

fn spread(topology: &str, app: &str) -> Value {
    json!([{
        "topologyKey": topology, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app": app } },
    }])
}

/// All of them.
pub(super) fn all() -> Vec<Scene> {
    let mut scenes = plain();
    scenes.extend(choosy());
    scenes.extend(pools());
    scenes.extend(markets());
    scenes
}

fn plain() -> Vec<Scene> {
    vec![
        scene("one pod", vec![job("one", 1, ("500m", "1Gi"), 120)]),
        scene("one large pod", vec![job("large", 1, ("30", "100Gi"), 300)]),
        scene("ten alike", vec![job("ten", 10, ("2", "4Gi"), 300)]),
        scene(
            "a hundred small",
            vec![job("many", 100, ("250m", "512Mi"), 240)],
        ),
        scene("much memory", vec![job("memory", 12, ("1", "14Gi"), 240)]),
        scene("little memory", vec![job("cpu", 14, ("3", "1Gi"), 240)]),
        scene(
            "three sizes",
            vec![
                job("small", 9, ("500m", "1Gi"), 200),
                job("middle", 7, ("2", "6Gi"), 300),
                job("big", 3, ("7", "12Gi"), 400),
            ],
        ),
        scene(
            "one ends long before the other",
            vec![
                job("first", 6, ("2", "4Gi"), 120),
                job("long", 2, ("1", "2Gi"), 1_500),
            ],
        ),
    ]
}

fn choosy() -> Vec<Scene> {
    let zone = json!({ ZONE: "us-east-1b" });
    let on_demand = json!({ "karpenter.sh/capacity-type": "on-demand" });
    vec![
        scene(
            "one zone",
            vec![special("zone", 5, ("2", "4Gi"), 200, "nodeSelector", zone)],
        ),
        scene(
            "on-demand alone",
            vec![special(
                "kept",
                5,
                ("2", "4Gi"),
                200,
                "nodeSelector",
                on_demand,
            )],
        ),
        scene(
            "apart on nodes",
            vec![special(
                "apart",
                4,
                ("1", "2Gi"),
                200,
                "affinity",
                apart(HOSTNAME, "apart"),
            )],
        ),
        scene(
            "together in a zone",
            vec![special(
                "near",
                6,
                ("2", "4Gi"),
                200,
                "affinity",
                together(ZONE, "near"),
            )],
        ),
        scene(
            "spread over zones",
            vec![special(
                "wide",
                6,
                ("1", "2Gi"),
                200,
                "topologySpreadConstraints",
                spread(ZONE, "wide"),
            )],
        ),
    ]
}

/// What an agent on every node asks for.
fn agent() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": { "name": "agent", "namespace": "kube-system" },
        "spec": {
            "selector": { "matchLabels": { "app": "agent" } },
            "template": {
                "metadata": { "labels": { "app": "agent" } },
                "spec": { "containers": [{
                    "name": "main", "image": "example.invalid/agent:1",
                    "resources": { "requests": { "cpu": "600m", "memory": "700Mi" } },
                }] },
            },
        },
    })
}

fn pools() -> Vec<Scene> {
    let gpu = Pool {
        name: "gpu",
        families: &["g4dn"],
        taint: Some(("nvidia.com/gpu", "true")),
        ..general()
    };
    let heavy = Pool {
        name: "heavy",
        families: &["m5"],
        weight: Some(10),
        ..general()
    };
    vec![
        Scene {
            pools: vec![general().manifest(), gpu.manifest()],
            ..scene(
                "training beside small work",
                vec![
                    Work {
                        gpus: 1,
                        tolerates: Some("nvidia.com/gpu"),
                        ..work("train", 2, ("3", "12Gi"), 600)
                    }
                    .job(),
                    job("small", 5, ("1", "2Gi"), 200),
                ],
            )
        },
        Scene {
            pools: vec![general().manifest(), heavy.manifest()],
            ..scene(
                "a pool that comes first",
                vec![job("work", 8, ("2", "7Gi"), 200)],
            )
        },
        Scene {
            furniture: vec![agent()],
            ..scene(
                "agents on every node",
                vec![job("work", 9, ("1", "2Gi"), 200)],
            )
        },
    ]
}

fn markets() -> Vec<Scene> {
    let executors = |role, name, pods| {
        Work {
            role: Some(role),
            ..work(name, pods, ("2", "4Gi"), 400)
        }
        .job()
    };
    vec![
        Scene {
            weather: MOVING,
            seed: 11,
            ..scene("moving prices", vec![job("work", 16, ("2", "6Gi"), 300)])
        },
        Scene {
            weather: MOVING,
            seed: 12,
            ..scene(
                "a driver and its executors",
                vec![
                    executors("driver", "driver", 1),
                    executors("executor", "executor", 12),
                ],
            )
        },
        Scene {
            weather: DRY,
            seed: 13,
            ..scene("dry spot pools", vec![job("work", 10, ("2", "4Gi"), 300)])
        },
        Scene {
            pools: vec![
                Pool {
                    capacity_types: &["on-demand"],
                    empty_seconds: 5,
                    ..general()
                }
                .manifest(),
            ],
            weather: MOVING,
            seed: 14,
            ..scene(
                "an on-demand pool",
                vec![
                    job("one", 5, ("4", "8Gi"), 300),
                    job("two", 20, ("500m", "2Gi"), 120),
                ],
            )
        },
    ]
}
