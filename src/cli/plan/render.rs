//! A plan as a table and as one structured document.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::model::money::UsdPerHour;
use crate::model::pod::PodKey;
use crate::model::quantity;
use crate::model::report::{
    BoundCases, BoundCertificate, OfferingPrice, PlannedNode, PricedWish, ProvisioningPlan,
    Unschedulable,
};

fn names(pods: &[PodKey]) -> Vec<String> {
    pods.iter().map(ToString::to_string).collect()
}

/// The plan as one document, whose form is stable, without the time that it took.
pub(in crate::cli) fn document(plan: &ProvisioningPlan, price_region: &str) -> Value {
    let nodes: Vec<Value> = plan.new_nodes.iter().map(node).collect();
    let existing: Vec<Value> = plan
        .existing
        .iter()
        .map(|(node, pods)| json!({"node": node, "pods": names(pods)}))
        .collect();
    let in_flight: Vec<Value> = plan
        .in_flight
        .iter()
        .map(|(claim, pods)| json!({"nodeClaim": claim, "pods": names(pods)}))
        .collect();
    let unschedulable: Vec<Value> = plan
        .unschedulable
        .iter()
        .map(|(pod, why)| json!({"pod": pod.to_string(), "reasons": reasons(why)}))
        .collect();
    let mut document = json!({
        "schemaVersion": "1",
        "truncated": plan.truncated,
        "nodes": nodes,
        "existing": existing,
        "inFlight": in_flight,
        "unschedulable": unschedulable,
        "usdPerHour": plan.price.to_string(),
        "lowerBoundUsdPerHour": plan.lower_bound.to_string(),
        "priceRegion": price_region,
        "certificate": certificate(plan),
    });
    if !plan.wishes.is_empty() {
        document["wishes"] = plan.wishes.iter().map(wish).collect();
    }
    document
}

/// A wish that has a price, as a value.
pub(in crate::cli) fn wish(wish: &PricedWish) -> Value {
    json!({
        "pods": names(&wish.pods),
        "wish": wish.wish,
        "kept": wish.kept,
        "usdPerHour": wish.price.to_string(),
    })
}

fn node(node: &PlannedNode) -> Value {
    let first = node.offerings.first();
    json!({
        "nodePool": node.node_pool,
        "instanceType": first.map(|key| key.instance_type.to_string()),
        "zone": first.map(|key| key.zone.to_string()),
        "capacityType": first.map(|key| key.capacity_type.as_str()),
        "usdPerHour": node.price.to_string(),
        "feesUsdPerHour": node.fees.to_string(),
        "riskUsdPerHour": node.risk.to_string(),
        "alternatives": node.offerings.len().saturating_sub(1),
        "pods": names(&node.pods),
    })
}

/// Reasons as values.
pub(in crate::cli) fn reasons(why: &Unschedulable) -> Vec<Value> {
    why.reasons
        .iter()
        .map(|reason| {
            json!({
                "nodePool": reason.node_pool,
                "reason": reason.reason.as_str(),
                "detail": reason.detail,
                "nearestMiss": reason.nearest_miss,
            })
        })
        .collect()
}

fn certificate(plan: &ProvisioningPlan) -> Value {
    let certificate = &plan.certificate;
    let classes: Vec<Value> = certificate
        .class_prices
        .iter()
        .map(|class| {
            let requests: BTreeMap<&str, String> = class
                .requests
                .iter()
                .map(|(name, amount)| (name, quantity::text(name, amount)))
                .collect();
            json!({
                "pods": class.pods,
                "example": class.example.as_ref().map(ToString::to_string),
                "requests": requests,
                "usdPerHour": class.price.to_string(),
            })
        })
        .collect();
    let mut value = json!({
        "classPrices": classes,
        "offeringPrices": offering_prices(certificate, &certificate.offering_prices),
    });
    if let (Some(fields), false) = (value.as_object_mut(), certificate.by_cases.is_empty()) {
        let by_cases: Vec<Value> = certificate
            .by_cases
            .iter()
            .map(|proof| {
                json!({
                    "firstClass": proof.first_class,
                    "cases": cases(certificate, &proof.cases),
                })
            })
            .collect();
        fields.insert("byCases".to_owned(), Value::from(by_cases));
    }
    value
}

fn cases(certificate: &BoundCertificate, proof: &BoundCases) -> Value {
    match proof {
        BoundCases::Proven(prices) => json!({
            "classPrices": amounts(&prices.class_prices),
            "offeringPrices": offering_prices(certificate, &prices.offering_prices),
            "charges": amounts(&prices.charges),
        }),
        BoundCases::Split {
            offerings,
            most,
            fewer,
            more,
        } => {
            let offerings: Vec<Value> = offerings
                .iter()
                .map(|(pool, key)| json!({"nodePool": pool, "offering": key.to_string()}))
                .collect();
            json!({
                "offerings": offerings,
                "atMost": most,
                "fewer": cases(certificate, fewer),
                "more": cases(certificate, more),
            })
        }
    }
}

fn offering_prices(certificate: &BoundCertificate, prices: &[OfferingPrice]) -> Vec<Value> {
    prices
        .iter()
        .map(|offering| {
            let prices: BTreeMap<&str, String> = certificate
                .dimensions
                .iter()
                .map(String::as_str)
                .zip(amounts(&offering.prices))
                .collect();
            json!({
                "nodePool": offering.node_pool,
                "offering": offering.offering.to_string(),
                "usdPerHour": prices,
            })
        })
        .collect()
}

fn amounts(prices: &[UsdPerHour]) -> Vec<String> {
    prices.iter().map(ToString::to_string).collect()
}

/// The plan as text for people.
pub(super) fn table(plan: &ProvisioningPlan, price_region: &str) -> String {
    let mut text = String::new();
    if !plan.new_nodes.is_empty() {
        text.push_str(&columns(&node_rows(plan)));
    }
    let bought: usize = plan.new_nodes.iter().map(|node| node.pods.len()).sum();
    let _infallible = writeln!(
        text,
        "{} nodes for {bought} pods: {} USD per hour; no fleet for them costs less than {}{}",
        plan.new_nodes.len(),
        plan.price,
        plan.lower_bound,
        above(plan.price, plan.lower_bound),
    );
    if !plan.new_nodes.is_empty() && !price_region.is_empty() {
        let _infallible = writeln!(text, "prices are those of {price_region}");
    }
    for (node, pods) in &plan.existing {
        let _infallible = writeln!(text, "{} pods fit on node {node}", pods.len());
    }
    for (claim, pods) in &plan.in_flight {
        let _infallible = writeln!(
            text,
            "{} pods fit on what is on its way for NodeClaim {claim}",
            pods.len()
        );
    }
    for wish in &plan.wishes {
        let _infallible = writeln!(text, "{}", wish.sentence());
    }
    if plan.truncated {
        text.push_str("the search ended early by the wall clock; the plan is valid\n");
    }
    left_out(plan, &mut text);
    text
}

/// How far a price is above a bound, in percent with one decimal.
fn above(price: UsdPerHour, bound: UsdPerHour) -> String {
    if bound.units() <= 0 {
        return String::new();
    }
    let permille =
        (i128::from(price.units()) - i128::from(bound.units())) * 1000 / i128::from(bound.units());
    format!(" ({}.{} % above)", permille / 10, permille % 10)
}

type Row = Vec<String>;

fn node_rows(plan: &ProvisioningPlan) -> Vec<Row> {
    let mut counts: BTreeMap<Row, usize> = BTreeMap::new();
    for node in &plan.new_nodes {
        let first = node.offerings.first();
        let row = vec![
            node.node_pool.clone(),
            first.map_or_else(String::new, |key| key.instance_type.to_string()),
            first.map_or_else(String::new, |key| key.zone.to_string()),
            first.map_or_else(String::new, |key| key.capacity_type.to_string()),
            node.price.to_string(),
            node.fees.to_string(),
            node.pods.len().to_string(),
            node.offerings.len().saturating_sub(1).to_string(),
        ];
        *counts.entry(row).or_default() += 1;
    }
    let heads = [
        "NODES",
        "NODEPOOL",
        "TYPE",
        "ZONE",
        "CAPACITY",
        "USD/H",
        "FEES",
        "PODS",
        "ALTERNATIVES",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for (row, count) in counts {
        let mut whole = vec![count.to_string()];
        whole.extend(row);
        rows.push(whole);
    }
    rows
}

/// Rows with each column as wide as its widest cell.
pub(in crate::cli) fn columns(rows: &[Row]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _infallible = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Pods that were left out, those with the same reasons together.
fn left_out(plan: &ProvisioningPlan, text: &mut String) {
    let mut grouped: Vec<(&Unschedulable, Vec<&PodKey>)> = Vec::new();
    for (pod, why) in &plan.unschedulable {
        match grouped.iter_mut().find(|(known, _)| *known == why) {
            Some((_, pods)) => pods.push(pod),
            None => grouped.push((why, vec![pod])),
        }
    }
    for (why, pods) in grouped {
        let first = pods.first().map_or_else(String::new, ToString::to_string);
        let others = match pods.len() {
            0 | 1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let _infallible = writeln!(text, "left out: {first}{others}");
        text.push_str(&sentences(why));
    }
}

/// One line for each reason.
pub(in crate::cli) fn sentences(why: &Unschedulable) -> String {
    let mut text = String::new();
    for reason in &why.reasons {
        let pool = if reason.node_pool.is_empty() {
            String::new()
        } else {
            format!("NodePool {}: ", reason.node_pool)
        };
        let _infallible = writeln!(
            text,
            "  {pool}{}: {}",
            reason.reason.as_str(),
            reason.detail
        );
        if let Some(miss) = &reason.nearest_miss {
            let _infallible = writeln!(text, "    closest: {miss}");
        }
    }
    text
}
