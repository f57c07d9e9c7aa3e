//! The outcome as one structured document, whose form is stable.

use serde_json::{Value, json};

use crate::model::money::UsdPerHour;
use crate::simulate::{Moment, Outcome, Scenario};

/// A decimal of US dollars.
fn usd(units: i64) -> String {
    UsdPerHour::from_units(units).to_string()
}

/// The document.
pub(super) fn render(scenario: &Scenario, outcomes: &[Outcome]) -> Value {
    json!({
        "schemaVersion": "1",
        "begin": scenario.begin.to_string(),
        "durationSeconds": scenario.duration.as_secs(),
        "seed": scenario.seed,
        "priceRegion": crate::cloud::facts::BUILT_IN_REGION,
        "variants": outcomes.iter().map(outcome).collect::<Vec<_>>(),
    })
}

fn outcome(outcome: &Outcome) -> Value {
    let figures = &outcome.figures;
    let never: Vec<Value> = outcome
        .never_placed
        .iter()
        .map(|group| {
            let reasons: Vec<&str> = group.reasons.iter().map(|reason| reason.as_str()).collect();
            json!({"workload": group.load, "otherWorkloads": group.other_loads, "pods": group.pods, "reasons": reasons, "message": group.message})
        })
        .collect();
    let bought: Vec<Value> = outcome
        .bought
        .iter()
        .map(|kind| {
            json!({
                "nodePool": kind.node_pool,
                "instanceType": &*kind.offering.instance_type,
                "zone": &*kind.offering.zone,
                "capacityType": kind.offering.capacity_type.as_str(),
                "nodes": kind.count,
                "seconds": kind.seconds,
                "usd": usd(kind.usd),
            })
        })
        .collect();
    json!({
        "name": outcome.variant,
        "usdTotal": usd(figures.usd_total),
        "usdOnDemand": usd(figures.usd_on_demand),
        "usdSpot": usd(figures.usd_spot),
        "usdFees": usd(figures.usd_fees),
        "usdLowerBound": usd(figures.usd_lower_bound),
        "aboveLowerBoundPercent": figures.above_per_mille().map(|share| {
            let sign = if share < 0 { "-" } else { "" };
            format!("{sign}{}.{}", share.abs() / 10, share.abs() % 10)
        }),
        "pods": figures.pods,
        "podsCompleted": figures.completed,
        "waitingSeconds": {
            "p50": figures.waiting_seconds.p50,
            "p95": figures.waiting_seconds.p95,
            "p99": figures.waiting_seconds.p99,
            "max": figures.waiting_seconds.most,
        },
        "interruptions": figures.interruptions,
        "evictions": figures.evictions,
        "podsLost": figures.lost_pods,
        "lostPodSeconds": figures.lost_pod_seconds,
        "nodesBought": figures.nodes_bought,
        "nodesMost": figures.most_nodes,
        "instancesLeft": figures.instances_left,
        "instanceSeconds": figures.instance_seconds,
        "spotInstanceSeconds": figures.spot_seconds,
        "cpuUtilisationPerMille": figures.cpu_per_mille,
        "memoryUtilisationPerMille": figures.memory_per_mille,
        "planningRounds": figures.rounds,
        "claimsGivenUp": figures.given_up,
        "virtualSeconds": figures.virtual_seconds,
        "neverPlaced": never,
        "bought": bought,
        "course": {
            "stepSeconds": outcome.course.step_seconds,
            "steps": outcome.course.moments.iter().map(moment).collect::<Vec<_>>(),
        },
    })
}

/// Means over a step; counts in thousandths.
fn moment(moment: &Moment) -> Value {
    json!({
        "waitingPerMille": moment.waiting,
        "runningPerMille": moment.running,
        "onDemandNodesPerMille": moment.on_demand,
        "spotNodesPerMille": moment.spot,
        "usd": usd(moment.usd),
        "usdLowerBound": usd(moment.usd_bound),
    })
}
