//! `tonnage advise`: what requests cost, and what a small change would save.
//!
//! Given the same world as `tonnage plan`; given back advice for each workload whose pods wait, each
//! change verified by planning everything again with it.

use std::cmp::Ordering;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::plan::scene::SceneArgs;
use super::plan::{Output, PlanError, columns, settings, structured};
use crate::model::money::UsdPerHour;
use crate::model::quantity;
use crate::model::resources::Resources;
use crate::plan::advise::change::Change;
use crate::plan::advise::whole::Effect;
use crate::plan::advise::{Advice, MOST_EXAMINED, Report, Together, advise};

/// Print what the requests of waiting workloads cost, and which small changes would make the whole
/// plan cheaper or give pods a place. Every change was verified by planning for all pods again with
/// it; what the first changes of all workloads save together was verified the same way.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    scene: SceneArgs,
    /// How the advice is printed
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Advises and prints.
pub(super) fn run(args: &Args) -> Result<(), PlanError> {
    let scene = args.scene.read()?;
    let report = advise(&scene.snapshot, &settings(&args.scene));
    let text = match args.output {
        Output::Table => table(&report),
        form => structured(&document(&report, &scene.price_region), form)?,
    };
    super::write_stdout(&text)?;
    Ok(())
}

fn document(report: &Report, price_region: &str) -> Value {
    let workloads: Vec<Value> = report.workloads.iter().map(of_workload).collect();
    let invalid = report.invalid.iter();
    let invalid: Vec<Value> = invalid
        .map(|(workload, problem)| {
            json!({
                "namespace": workload.namespace,
                "kind": workload.kind,
                "name": workload.name,
                "pods": workload.pods,
                "problem": problem,
            })
        })
        .collect();
    json!({
        "schemaVersion": "1",
        "priceRegion": price_region,
        "usdPerHour": report.price.to_string(),
        "lowerBoundUsdPerHour": report.lower_bound.to_string(),
        "plans": report.plans,
        "workloads": workloads,
        "invalid": invalid,
        "together": report.together.as_ref().map(of_all),
    })
}

fn of_workload(advice: &Advice) -> Value {
    let changes: Vec<Value> = advice
        .changes
        .iter()
        .map(|confirmed| {
            let mut fields = of_effect(&confirmed.effect);
            let spark = confirmed.change.spark_executor_memory.map(in_mebibytes);
            fields.insert("requests".to_owned(), amounts(&confirmed.change.requests));
            fields.insert("sparkExecutorMemory".to_owned(), json!(spark));
            fields.insert("savesPercent".to_owned(), json!(confirmed.percent));
            fields.insert("podsPerNode".to_owned(), json!(confirmed.fits));
            Value::Object(fields)
        })
        .collect();
    let reason = (advice.left_out > 0).then_some(&advice.left_out_reason);
    json!({
        "namespace": advice.workload.namespace,
        "kind": advice.workload.kind,
        "name": advice.workload.name,
        "pods": advice.workload.pods,
        "leftOut": advice.left_out,
        "leftOutReason": reason,
        "requests": amounts(&advice.requests),
        "usdPerHour": advice.price.to_string(),
        "podsPerNode": advice.fits,
        "examined": advice.examined,
        "priceSetter": advice.price_setter,
        "changes": changes,
    })
}

fn of_effect(effect: &Effect) -> Map<String, Value> {
    Map::from_iter([
        ("planUsdPerHour".to_owned(), json!(effect.price.to_string())),
        (
            "savesUsdPerHour".to_owned(),
            json!(effect.saves.to_string()),
        ),
        ("placesPods".to_owned(), json!(effect.places)),
    ])
}

fn of_all(together: &Together) -> Value {
    let mut fields = together.effect.as_ref().map(of_effect).unwrap_or_default();
    fields.insert("changes".to_owned(), json!(together.changes));
    fields.insert("confirmed".to_owned(), json!(together.effect.is_some()));
    Value::Object(fields)
}

fn amounts(resources: &Resources) -> Value {
    resources
        .iter()
        .map(|(name, amount)| (name.to_owned(), json!(quantity::text(name, amount))))
        .collect::<Map<_, _>>()
        .into()
}

fn in_mebibytes(bytes: i64) -> String {
    format!("{}m", bytes >> 20)
}

const HEADS: [&str; 8] = [
    "WORKLOAD",
    "PODS",
    "USD/H",
    "EACH",
    "PRICE SET BY",
    "CHANGE",
    "PLAN THEN USD/H",
    "SAVES",
];

fn table(report: &Report) -> String {
    if report.workloads.is_empty() {
        return format!("no workload waits for nodes\n{}", invalid(report));
    }
    let mut rows = vec![HEADS.map(str::to_owned).to_vec()];
    for advice in &report.workloads {
        rows.extend(rows_of(advice));
    }
    let mut text = columns(&rows);
    let _infallible = writeln!(
        text,
        "the plan costs {} USD per hour as things are; each change by itself was verified by planning everything again",
        report.price
    );
    if let Some(together) = &report.together {
        text.push_str(&all_at_once(together));
    }
    for advice in report.workloads.iter().filter(|advice| advice.left_out > 0) {
        let _infallible = writeln!(
            text,
            "{}/{}: no place for {} of {} pods: {}",
            advice.workload.namespace,
            advice.workload.name,
            advice.left_out,
            advice.workload.pods,
            advice.left_out_reason
        );
    }
    if report.workloads.iter().any(|advice| !advice.examined) {
        let _infallible = writeln!(
            text,
            "only the {MOST_EXAMINED} dearest workloads were looked at"
        );
    }
    text.push_str(&invalid(report));
    text
}

/// A line for each workload that can have no place as it is written.
fn invalid(report: &Report) -> String {
    let lines = report.invalid.iter().map(|(workload, problem)| {
        format!(
            "{}/{} {}, pods {}: no advice, since none can have a place as it is written: {problem}\n",
            workload.namespace, workload.name, workload.kind, workload.pods
        )
    });
    lines.collect()
}

fn all_at_once(together: &Together) -> String {
    let count = together.changes;
    match &together.effect {
        Some(effect) => format!(
            "the first changes of {count} workloads together: {} USD per hour, {}\n",
            effect.price,
            gain(effect, None)
        ),
        None => format!(
            "the first changes of {count} workloads together leave out pods that have a place now: make one of them, and ask again\n"
        ),
    }
}

fn rows_of(advice: &Advice) -> Vec<Vec<String>> {
    let name = format!(
        "{}/{} {}",
        advice.workload.namespace, advice.workload.name, advice.workload.kind
    );
    let placed = advice.workload.pods.saturating_sub(advice.left_out);
    let mut head = vec![
        name,
        advice.workload.pods.to_string(),
        advice.price.to_string(),
        each(advice.price, placed),
        advice
            .price_setter
            .clone()
            .unwrap_or_else(|| "-".to_owned()),
    ];
    if advice.changes.is_empty() {
        let why = if advice.examined {
            "none that a plan of everything confirms"
        } else {
            "not looked at"
        };
        head.push(why.to_owned());
        return vec![head];
    }
    let mut rows = Vec::new();
    for confirmed in &advice.changes {
        let mut row = head.clone();
        row.extend([
            written(&confirmed.change),
            confirmed.effect.price.to_string(),
            gain(&confirmed.effect, confirmed.percent),
        ]);
        rows.push(row);
        head = vec![String::new(); head.len()];
    }
    rows
}

fn written(change: &Change) -> String {
    let spark = change
        .spark_executor_memory
        .map_or_else(String::new, |bytes| {
            format!(" (spark.executor.memory={})", in_mebibytes(bytes))
        });
    format!("{}{spark}", change.text())
}

/// What a change brings: pods with a place, and dollars saved, or paid for them.
fn gain(effect: &Effect, percent: Option<i64>) -> String {
    let percent = percent.map_or_else(String::new, |percent| format!(" ({percent} %)"));
    let price = match effect.saves.cmp(&UsdPerHour::ZERO) {
        Ordering::Less => format!("{} more", UsdPerHour::ZERO - effect.saves),
        Ordering::Equal => "nothing more".to_owned(),
        Ordering::Greater => format!("{} less", effect.saves),
    };
    match effect.places {
        0 => format!("{price}{percent}"),
        1 => format!("1 more pod has a place for {price}"),
        places => format!("{places} more pods have a place for {price}"),
    }
}

fn each(price: UsdPerHour, pods: usize) -> String {
    let pods = i64::try_from(pods.max(1)).unwrap_or(i64::MAX);
    // To a hundredth of a cent: more digits would only look exact.
    UsdPerHour::from_micros(price.units() / pods / 10_000 / 100 * 100).to_string()
}
