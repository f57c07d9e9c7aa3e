//! `tonnage advise`: what requests cost, and what a small change would save.
//!
//! Given the same world as `tonnage plan`; given back advice for each workload whose pods wait, each
//! change verified by planning again with it.

use serde_json::{Value, json};

use super::plan::scene::SceneArgs;
use super::plan::{Output, PlanError, columns, settings, structured};
use crate::model::money::UsdPerHour;
use crate::model::quantity;
use crate::plan::advise::{Advice, advise};

/// Print what the requests of waiting workloads cost, and which small changes would make them
/// cheaper. Every change was verified by planning again with it.
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
    let advice = advise(&scene.snapshot, &settings(&args.scene));
    let text = match args.output {
        Output::Table => table(&advice),
        form => {
            let workloads: Vec<Value> = advice.iter().map(document).collect();
            structured(
                &json!({
                    "schemaVersion": "1",
                    "priceRegion": scene.price_region,
                    "workloads": workloads,
                }),
                form,
            )?
        }
    };
    super::write_stdout(&text)?;
    Ok(())
}

fn document(advice: &Advice) -> Value {
    let requests: Value = advice
        .requests
        .iter()
        .map(|(name, amount)| (name.to_owned(), json!(quantity::text(name, amount))))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let changes: Vec<Value> = advice
        .changes
        .iter()
        .map(|confirmed| {
            let requests: serde_json::Map<String, Value> = confirmed
                .change
                .requests
                .iter()
                .map(|(name, amount)| (name.to_owned(), json!(quantity::text(name, amount))))
                .collect();
            json!({
                "requests": requests,
                "sparkExecutorMemory": confirmed
                    .change
                    .spark_executor_memory
                    .map(|bytes| format!("{}m", bytes >> 20)),
                "usdPerHour": confirmed.price.to_string(),
                "savesPercent": confirmed.percent,
                "podsPerNode": confirmed.fits,
            })
        })
        .collect();
    json!({
        "namespace": advice.workload.namespace,
        "kind": advice.workload.kind,
        "name": advice.workload.name,
        "pods": advice.workload.pods,
        "requests": requests,
        "usdPerHour": advice.price.to_string(),
        "lowerBoundUsdPerHour": advice.lower_bound.to_string(),
        "podsPerNode": advice.fits,
        "priceSetter": advice.price_setter,
        "changes": changes,
    })
}

fn table(advice: &[Advice]) -> String {
    if advice.is_empty() {
        return "no workload waits for nodes\n".to_owned();
    }
    let heads = [
        "WORKLOAD",
        "PODS",
        "USD/H",
        "EACH",
        "PRICE SET BY",
        "CHANGE",
        "USD/H THEN",
        "SAVES",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for advice in advice {
        let name = format!(
            "{}/{} {}",
            advice.workload.namespace, advice.workload.name, advice.workload.kind
        );
        let setter = advice
            .price_setter
            .clone()
            .unwrap_or_else(|| "-".to_owned());
        let mut head = vec![
            name,
            advice.workload.pods.to_string(),
            advice.price.to_string(),
            each(advice.price, advice.workload.pods),
            setter,
        ];
        if advice.changes.is_empty() {
            head.extend([
                "none that saves enough".to_owned(),
                String::new(),
                String::new(),
            ]);
            rows.push(head);
            continue;
        }
        for confirmed in &advice.changes {
            let spark = confirmed
                .change
                .spark_executor_memory
                .map_or_else(String::new, |bytes| {
                    format!(" (spark.executor.memory={}m)", bytes >> 20)
                });
            let mut row = head.clone();
            row.extend([
                format!("{}{spark}", confirmed.change.text()),
                confirmed.price.to_string(),
                format!("{} %", confirmed.percent),
            ]);
            rows.push(row);
            head = vec![String::new(); head.len()];
        }
    }
    columns(&rows)
}

fn each(price: UsdPerHour, pods: usize) -> String {
    let pods = i64::try_from(pods.max(1)).unwrap_or(i64::MAX);
    // To a hundredth of a cent: more digits would only look exact.
    UsdPerHour::from_micros(price.units() / pods / 10_000 / 100 * 100).to_string()
}
