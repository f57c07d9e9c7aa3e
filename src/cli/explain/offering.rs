//! `tonnage explain offering`: a price, and what experience says beside it.

use serde_json::{Value, json};

use super::ExplainError;
use crate::cli::plan::scene::SceneArgs;
use crate::cli::plan::{Output, PlanError, structured};
use crate::model::offering::{Offering, OfferingKey};
use crate::plan::provision::risk;

#[derive(Debug, clap::Args)]
pub(super) struct OfferingArgs {
    /// The offering, as TYPE/ZONE/CAPACITY-TYPE
    #[arg(value_name = "TYPE/ZONE/CAPACITY-TYPE")]
    offering: OfferingKey,
    #[command(flatten)]
    scene: SceneArgs,
    /// How the answer is printed
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// The risk weight that NodePools have unless they say otherwise, in thousandths.
const DEFAULT_WEIGHT: u32 = 500;

/// Explains and prints.
pub(super) fn run(args: &OfferingArgs) -> Result<(), ExplainError> {
    let scene = args.scene.read().map_err(PlanError::from)?;
    let mut offered = scene
        .snapshot
        .node_classes
        .values()
        .flat_map(|class| &class.catalogue.offerings);
    let Some(offering) = offered.find(|offering| offering.key == args.offering) else {
        return Err(ExplainError::NoSuchOffering(args.offering.clone()));
    };
    let text = match args.output {
        Output::Table => sentence(offering),
        form => structured(&document(offering), form)?,
    };
    crate::cli::write_stdout(&text).map_err(PlanError::from)?;
    Ok(())
}

/// Millionths as a percentage with one decimal.
fn percent(millionths: u32) -> String {
    let tenths = millionths / 1_000;
    format!("{}.{} %", tenths / 10, tenths % 10)
}

fn sentence(offering: &Offering) -> String {
    let outlook = offering.outlook;
    let weighed = offering.total_price() + risk::surcharge(offering, DEFAULT_WEIGHT);
    let belief = match (outlook.closed_until, outlook.shortage) {
        (Some(until), 0) => format!(
            "left alone until {until:.0}, because EC2 refused what the EC2NodeClass asks for"
        ),
        (None, 0) => "nothing speaks against its capacity".to_owned(),
        (None, shortage) if outlook.refusals == 0 => format!(
            "believed short to {}, because EC2 refused its like",
            percent(shortage)
        ),
        (None, shortage) => format!(
            "believed short to {} after {} refusals in a row, and tried again",
            percent(shortage),
            outlook.refusals
        ),
        (Some(until), shortage) => format!(
            "believed short to {} after {} refusals in a row, left alone until {until:.0}",
            percent(shortage),
            outlook.refusals
        ),
    };
    let taken = match outlook.interruptions {
        0 => String::new(),
        rate => format!(
            "; {} of its machines are taken back in an hour",
            percent(rate)
        ),
    };
    format!(
        "{}: {} USD per hour, compared at {weighed}; {belief}{taken}\n",
        offering.key,
        offering.total_price()
    )
}

fn document(offering: &Offering) -> Value {
    let outlook = offering.outlook;
    json!({
        "schemaVersion": "1",
        "offering": offering.key.to_string(),
        "usdPerHour": offering.price.to_string(),
        "feesUsdPerHour": offering.fees.to_string(),
        "riskUsdPerHour": risk::surcharge(offering, DEFAULT_WEIGHT).to_string(),
        "interruptionMillionthsPerHour": outlook.interruptions,
        "available": offering.available,
        "shortageMillionths": outlook.shortage,
        "refusals": outlook.refusals,
        "closedUntil": outlook.closed_until.map(|until| until.to_string()),
    })
}
