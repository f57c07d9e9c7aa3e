//! `tonnage plan`: what the controller would buy now, for manifests or for a cluster.
//!
//! Given manifests, or a cluster to read, and optionally a catalog file; given back the plan on
//! standard output. It plans with the controller's own planner and writes nothing anywhere.

pub(super) mod catalog;
mod render;
pub(super) mod scene;

pub(super) use render::{columns, document, reasons, sentences, wish};

use std::io;
use std::time::Instant;

use clap::ValueEnum;

use crate::model::report::ProvisioningPlan;
use crate::plan::check;
use crate::plan::provision::buy::Proof;
use crate::plan::provision::{ContestedPods, ProvisionSettings, provision_proven};
use scene::{Scene, SceneArgs, SceneError};

/// Print what would be bought for pods that wait, why, at what price, and how far that is from the
/// proven lower bound.
///
/// Without manifests the cluster of the kubeconfig is read; nothing is written. In manifests, pods of
/// Deployments, ReplicaSets, StatefulSets and Jobs that do not exist yet are taken as waiting:
///
///   tonnage plan
///   tonnage plan -f manifests/
///   kubectl get pods,nodes,nodepools,ec2nodeclasses -A -o yaml | tonnage plan -f -
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    #[command(flatten)]
    scene: SceneArgs,
    /// How the plan is printed
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Hold the plan against every constraint, and its lower bound against the proof, before it is printed
    #[arg(long, hide = true)]
    check: bool,
}

/// Forms of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Text for people.
    Table,
    /// One JSON object.
    Json,
    /// One YAML document.
    Yaml,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlanError {
    /// The world could not be read.
    #[error(transparent)]
    Scene(#[from] SceneError),
    /// The plan could not be put into the form of output.
    #[error("the plan cannot be written as {form}: {problem}")]
    Form {
        /// The form.
        form: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The independent checker finds fault with the plan.
    #[error(
        "the plan breaks a rule that all plans must keep: {0}. This is a fault of Tonnage and not of what was given: \
         please report it together with the manifests"
    )]
    Fault(String),
    /// Standard output is gone.
    #[error("standard output cannot be written to")]
    Write(#[from] io::Error),
}

/// Plans and prints.
pub(super) fn run(args: &Args) -> Result<(), PlanError> {
    let scene = args.scene.read()?;
    let (plan, proofs, elapsed) = proven(&scene, &args.scene);
    if args.check {
        let wrong = check::faults(&scene.snapshot, &plan, &proofs);
        if let Some(first) = wrong.into_iter().next() {
            return Err(PlanError::Fault(first));
        }
    }
    let text = match args.output {
        Output::Table => render::table(&plan, &scene.price_region),
        form => {
            let mut document = document(&plan, &scene.price_region);
            document["elapsedMs"] = elapsed.into();
            structured(&document, form)?
        }
    };
    super::write_stdout(&text)?;
    Ok(())
}

/// The planner's settings that the arguments ask for.
pub(super) fn settings(args: &SceneArgs) -> ProvisionSettings {
    ProvisionSettings {
        contested_pods: if args.takes_contested_pods() {
            ContestedPods::Take
        } else {
            ContestedPods::Leave
        },
        default_spread: args.default_spread(),
        preference_premium: args.preference_premium(),
        ..ProvisionSettings::default()
    }
    .with_budget_ms(args.budget_ms())
}

/// The plan of a scene and the milliseconds that planning took.
pub(super) fn planned(scene: &Scene, args: &SceneArgs) -> (ProvisioningPlan, u64) {
    let (plan, _proofs, elapsed) = proven(scene, args);
    (plan, elapsed)
}

/// The same with the proofs of the plan's lower bound.
fn proven(scene: &Scene, args: &SceneArgs) -> (ProvisioningPlan, Vec<Proof>, u64) {
    let settings = settings(args);
    let began = Instant::now();
    let (plan, proofs) = provision_proven(&scene.snapshot, &settings, &|| false);
    let elapsed = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    (plan, proofs, elapsed)
}

/// A value as JSON or YAML.
pub(super) fn structured(value: &serde_json::Value, form: Output) -> Result<String, PlanError> {
    let failed = |form, problem: String| PlanError::Form { form, problem };
    match form {
        Output::Yaml => {
            serde_saphyr::to_string(value).map_err(|error| failed("YAML", error.to_string()))
        }
        Output::Json | Output::Table => serde_json::to_string_pretty(value)
            .map(|text| text + "\n")
            .map_err(|error| failed("JSON", error.to_string())),
    }
}
