//! Workloads of manifests as loads: Pods, Deployments, ReplicaSets, StatefulSets, Jobs and CronJobs.
//!
//! Given documents; given back what arrives when. Templates become the pods that their controllers would
//! make, defaults and priorities included. All completions of a Job are made, as many at a time as its
//! parallelism says; the pods of services run to the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::InputError;
use super::furniture::{self, text};
use super::most::Total;
use super::schedule::{self, whole_milliseconds};
use crate::cluster::manifests::Document;
use crate::model::pod::{Pod, PodSpec};
use crate::model::workload::VolumeClaim;
use crate::simulate::workload::{Load, Origin, Run};

/// The work of documents.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// What arrives, in order of time.
    pub loads: Vec<Load>,
    /// Claims that pods bring along, by `namespace/name`.
    pub volume_claims: BTreeMap<String, Arc<VolumeClaim>>,
    /// Workloads that do not say how long their pods run.
    pub assumed: Vec<String>,
    /// Workloads of which something would arrive when no work arrives any more, or that never arrive within that time.
    pub late: Vec<String>,
    /// How many pods arrive.
    total: Total,
}

/// When work may arrive, and what is taken for granted.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// The first instant.
    pub begin: Timestamp,
    /// New work arrives for so long.
    pub duration: SignedDuration,
    /// How long pods of Jobs and bare Pods run when nothing says so.
    pub run: Run,
}

/// The work of documents.
///
/// # Errors
/// [`InputError`] names the document, the field and the remedy.
pub fn read(documents: &[Document], frame: &Frame) -> Result<Work, InputError> {
    let context: Vec<Document> = documents
        .iter()
        .filter(|document| {
            let kind = text(&document.object, "/kind");
            !furniture::is_workload(document)
                && !furniture::LEFT_OUT.contains(&kind.as_str())
                && kind != furniture::SETTINGS_KIND
                && kind != "EC2NodeClass"
        })
        .cloned()
        .collect();
    let mut work = Work::default();
    for document in documents.iter().filter(|one| furniture::is_workload(one)) {
        add(&mut work, &context, document, frame)?;
    }
    work.loads.sort_by_key(|load| load.at);
    Ok(work)
}

fn add(
    work: &mut Work,
    context: &[Document],
    document: &Document,
    frame: &Frame,
) -> Result<(), InputError> {
    let kind = text(&document.object, "/kind");
    let name = text(&document.object, "/metadata/name");
    let times = Times::read(document, &kind, frame)?;
    let run = times.run.unwrap_or_else(|| match kind.as_str() {
        "Pod" | "Job" | "CronJob" => {
            work.assumed.push(format!("{kind} {name}"));
            frame.run
        }
        _ => Run::ToTheEnd,
    });
    let object = as_made(document.object.clone(), &kind);
    let (count, parallel) = completions(&object);
    let origin = Origin::Workload {
        place: format!("{}: {kind} {name}", document.path).into(),
        field: counted_by(&kind, &object),
    };
    let end = whole_milliseconds(frame.duration);
    let mut scene = context.to_vec();
    scene.push(Document {
        path: document.path.clone(),
        object,
    });
    let snapshot = furniture::snapshot(scene)?;
    let mut kinds: BTreeMap<Arc<PodSpec>, (Pod, u32)> = BTreeMap::new();
    for pod in snapshot
        .pods
        .values()
        .filter(|pod| !pod.phase.is_terminal())
    {
        let entry = kinds
            .entry(Arc::clone(&pod.spec))
            .or_insert_with(|| (Pod::clone(pod), 0));
        entry.1 += 1;
    }
    let whole = kinds.len() == 1;
    let makes_pods = count != Some(0) && !kinds.is_empty();
    if makes_pods && (times.at.is_empty() || times.at.iter().any(|at| *at >= end)) {
        work.late.push(format!("{kind} {name}"));
    }
    for at in &times.at {
        for (spec, (pod, pods)) in &kinds {
            let (count, parallel) = count
                .filter(|_count| whole)
                .map_or((*pods, 0), |count| (count, parallel));
            let load = Load {
                name: name.clone(),
                spec: Arc::clone(spec),
                owner: pod.owner.clone(),
                do_not_disrupt: pod.do_not_disrupt,
                at: *at,
                count,
                parallel,
                run,
                origin: origin.clone(),
            };
            if load.at < end {
                work.total.add(&load)?;
            }
            work.loads.push(load);
        }
    }
    work.volume_claims.extend(snapshot.volume_claims);
    Ok(())
}

/// When a workload arrives and how long its pods run.
struct Times {
    at: Vec<i64>,
    run: Option<Run>,
}

impl Times {
    fn read(document: &Document, kind: &str, frame: &Frame) -> Result<Self, InputError> {
        let annotation = |key: &str| {
            let annotations = document.object.pointer("/metadata/annotations")?;
            annotations.get(key)?.as_str()
        };
        let wrong = |field: &str, problem: String| InputError::Workload {
            path: document.path.clone(),
            kind: kind.to_owned(),
            name: text(&document.object, "/metadata/name"),
            field: field.to_owned(),
            problem,
        };
        let own = text(&document.object, "/spec/schedule");
        let cron = match annotation(schedule::SCHEDULE) {
            Some(text) => Some((schedule::SCHEDULE, text)),
            None if kind == "CronJob" => Some(("spec.schedule", own.as_str())),
            None => None,
        };
        let at = match (cron, annotation(schedule::AT)) {
            (_, Some(text)) => {
                schedule::arrivals(text).map_err(|problem| wrong(schedule::AT, problem))?
            }
            (Some((field, text)), None) => schedule::hits(text, frame.begin, frame.duration)
                .map_err(|problem| wrong(field, problem))?,
            (None, None) => vec![0],
        };
        let run = annotation(schedule::RUN)
            .map(|text| schedule::run(text).map_err(|problem| wrong(schedule::RUN, problem)))
            .transpose()?;
        Ok(Self { at, run })
    }
}

/// The object whose pods are made: of a CronJob, each of its Jobs.
fn as_made(mut object: Value, kind: &str) -> Value {
    if kind == "CronJob" {
        let spec = object.pointer("/spec/jobTemplate/spec").cloned();
        object = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": object.pointer("/metadata/name"),
                "namespace": object.pointer("/metadata/namespace"),
            },
            "spec": spec.unwrap_or_default(),
        });
    }
    // What became of it elsewhere does not matter here.
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if kind == "Pod"
        && let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
    {
        spec.remove("nodeName");
    }
    object
}

/// How many pods a Job makes in all, and at a time; `None` for other kinds.
fn completions(object: &Value) -> (Option<u32>, u32) {
    if text(object, "/kind") != "Job" {
        return (None, 0);
    }
    let number = |pointer: &str| {
        let number = object.pointer(pointer).and_then(Value::as_u64);
        number.map(|number| u32::try_from(number).unwrap_or(u32::MAX))
    };
    let parallel = number("/spec/parallelism").unwrap_or(1);
    let suspended = object.pointer("/spec/suspend") == Some(&Value::Bool(true));
    if parallel == 0 || suspended {
        return (Some(0), 0);
    }
    let wanted = number("/spec/completions").unwrap_or(parallel);
    (Some(wanted), parallel)
}

/// The field that says how many pods a workload makes; `object` is what makes them.
fn counted_by(kind: &str, object: &Value) -> &'static str {
    let has_completions = object.pointer("/spec/completions").is_some();
    match (kind, has_completions) {
        ("Job", true) => "spec.completions",
        ("Job", false) => "spec.parallelism",
        ("CronJob", true) => "spec.jobTemplate.spec.completions",
        ("CronJob", false) => "spec.jobTemplate.spec.parallelism",
        ("Pod", _) => "metadata.annotations",
        _ => "spec.replicas",
    }
}
