//! `tonnage explain offering`: a price, and what experience says beside it of capacity and memory.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::ExplainError;
use crate::cli::plan::scene::{Scene, SceneArgs};
use crate::cli::plan::{Output, PlanError, structured};
use crate::model::offering::{Offering, OfferingKey};
use crate::model::resources::MEMORY;
use crate::plan::launch::WHAT_TO_LOOK_AT;
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
    let memory = memory(&scene, &offering.key);
    let no_shows = no_shows(&scene, &offering.key);
    let text = match args.output {
        Output::Table => {
            let memory = memory.iter().map(Memory::sentence);
            let told = memory.chain(no_shows.iter().map(NoShows::sentence));
            sentence(offering) + &told.collect::<String>()
        }
        form => structured(&document(offering, &memory, &no_shows), form)?,
    };
    crate::cli::write_stdout(&text).map_err(PlanError::from)?;
    Ok(())
}

/// What a Node of the type has of memory when an EC2NodeClass makes it.
#[derive(Debug, PartialEq, Eq)]
struct Memory {
    class: String,
    mebibytes: i64,
    allocatable_mebibytes: i64,
    /// A Node has reported it; else it is what is taken to be left of what EC2 sells.
    is_measured: bool,
}

/// What each EC2NodeClass that can launch the offering makes of its memory.
fn memory(scene: &Scene, key: &OfferingKey) -> Vec<Memory> {
    let classes = scene.snapshot.node_classes.values();
    classes
        .filter_map(|class| {
            let of_type = class.catalogue.types.get(&key.instance_type)?;
            let measured = scene.measured.get(&class.name);
            Some(Memory {
                class: class.name.clone(),
                mebibytes: of_type.capacity.get(MEMORY) >> 20,
                allocatable_mebibytes: of_type.allocatable().get(MEMORY) >> 20,
                is_measured: measured.is_some_and(|types| types.contains(&*key.instance_type)),
            })
        })
        .collect()
}

impl Memory {
    fn sentence(&self) -> String {
        let source = if self.is_measured {
            "as a Node has reported"
        } else {
            "a guess until the first Node reports"
        };
        format!(
            "memory with EC2NodeClass {}: {} MiB, {source}; {} MiB of it for pods\n",
            self.class, self.mebibytes, self.allocatable_mebibytes
        )
    }

    fn document(&self) -> Value {
        json!({
            "ec2NodeClass": self.class,
            "mebibytes": self.mebibytes,
            "allocatableMebibytes": self.allocatable_mebibytes,
            "measured": self.is_measured,
        })
    }
}

/// Machines of the type that did not join when an EC2NodeClass made them.
#[derive(Debug, PartialEq, Eq)]
struct NoShows {
    class: String,
    in_a_row: u32,
    closed_until: Option<Timestamp>,
}

/// The EC2NodeClasses whose last machines of the type did not join.
fn no_shows(scene: &Scene, key: &OfferingKey) -> Vec<NoShows> {
    let classes = scene.snapshot.node_classes.values();
    classes
        .filter_map(|class| {
            let outlook = class.offering(key)?.outlook;
            (outlook.no_shows > 0).then(|| NoShows {
                class: class.name.clone(),
                in_a_row: outlook.no_shows,
                closed_until: outlook.closed_until,
            })
        })
        .collect()
}

impl NoShows {
    fn sentence(&self) -> String {
        let next = self.closed_until.map_or_else(
            || "one is tried at a time".to_owned(),
            |until| format!("left alone until {until:.0}"),
        );
        format!(
            "the last {} machines of the type that EC2NodeClass {} made did not join the cluster: {next}; look at \
             {WHAT_TO_LOOK_AT}\n",
            self.in_a_row, self.class
        )
    }

    fn document(&self) -> Value {
        json!({
            "ec2NodeClass": self.class,
            "inARow": self.in_a_row,
            "closedUntil": self.closed_until.map(|until| until.to_string()),
        })
    }
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
        (until, 0) if outlook.no_shows > 0 => until.map_or_else(
            || "tried with one machine at a time".to_owned(),
            |until| format!("left alone until {until:.0}"),
        ),
        (Some(until), _) if outlook.over_quota => format!(
            "left alone until {until:.0}, because a quota of the account is used up; raise it in Service Quotas"
        ),
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

fn document(offering: &Offering, memory: &[Memory], no_shows: &[NoShows]) -> Value {
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
        "overQuota": outlook.over_quota,
        "memory": memory.iter().map(Memory::document).collect::<Vec<_>>(),
        "machinesThatDidNotJoin": no_shows.iter().map(NoShows::document).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use super::*;
    use crate::cloud::builtin;
    use crate::plan::examples::world;

    #[test]
    fn machines_that_did_not_join_are_said_of_the_class_that_made_them() {
        let mut snapshot = world(0, &[], &[], &[]);
        let key: OfferingKey = "c5.xlarge/us-east-1a/spot".parse().unwrap();
        let class = Arc::make_mut(snapshot.node_classes.get_mut("default").unwrap());
        for offering in &mut Arc::make_mut(&mut class.catalogue).offerings {
            offering.outlook.no_shows = 3;
        }
        let offering = class.offering(&key).unwrap().clone();
        let scene = Scene {
            snapshot,
            price_region: String::new(),
            measured: BTreeMap::new(),
        };
        let told = no_shows(&scene, &key);
        let said = told[0].sentence();
        assert!(
            said.contains("the last 3 machines of the type that EC2NodeClass default made"),
            "{said}"
        );
        assert!(sentence(&offering).contains("one machine at a time"));
        assert_eq!(told[0].document()["inARow"], 3);
    }

    #[test]
    fn memory_is_said_to_be_reported_or_guessed() {
        let object = crate::sim::scene::node_class("default", "blue", 20);
        let object = serde_json::from_value(object).unwrap();
        let mut snapshot = world(0, &[], &[], &[]);
        let class = Arc::new(builtin::node_class_or_reason(&object));
        snapshot.node_classes = BTreeMap::from([(class.name.clone(), class)]);
        let of = |measured: &[&str], key: &str| {
            let types: BTreeSet<String> = measured.iter().map(|name| (*name).to_owned()).collect();
            let scene = Scene {
                snapshot: snapshot.clone(),
                price_region: String::new(),
                measured: BTreeMap::from([("default".to_owned(), types)]),
            };
            memory(&scene, &key.parse().unwrap())
        };
        let key = "c5.xlarge/us-east-1a/spot";
        let [guessed] = &of(&["c5.2xlarge"], key)[..] else {
            panic!("one class can launch it");
        };
        assert!(!guessed.is_measured);
        // 8192 MiB without 7.5 %.
        assert_eq!(guessed.mebibytes, 7_577);
        assert!(guessed.allocatable_mebibytes < guessed.mebibytes);
        assert!(guessed.sentence().contains("7577 MiB, a guess"));
        let [measured] = &of(&["c5.xlarge"], key)[..] else {
            panic!("one class can launch it");
        };
        assert!(measured.sentence().contains("as a Node has reported"));
        assert_eq!(measured.document()["measured"], true);
        assert_eq!(of(&[], "x0.none/us-east-1a/spot"), []);
    }
}
