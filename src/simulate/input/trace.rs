//! The trace of a cluster's work: JSON Lines, one group of equal pods a line.
//!
//! Given a text; given back loads, or every line that cannot be understood, with what is wrong. A line
//! holds what scheduling reads of a pod and nothing else: there is no field for environment, arguments,
//! images or annotations. docs/simulate.md describes the fields.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};

use crate::api::labels;
use crate::cluster::intern::Interner;
use crate::cluster::observe;
use crate::model::pod::{DoNotDisrupt, Expression, NodeTerm, Owner};
use crate::simulate::workload::{Load, Origin, Run};

/// What the first line of a trace says it is.
pub const FORMAT: &str = "tonnage-trace/1";
/// Wrong lines that an error lists.
const MOST_PROBLEMS: usize = 10;

/// The first line of a trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// The first instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin: Option<Timestamp>,
    /// How long the trace is, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
}

/// A port on the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// 1 to 65535.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    #[serde(default = "tcp", skip_serializing_if = "is_tcp")]
    pub protocol: String,
}

/// Every other line: equal pods that arrive together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Line {
    /// When they arrive, seconds from the beginning.
    pub at_seconds: u32,
    /// How many.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u32,
    /// How many at a time: the next arrives when one has ended. Absent is all at once; 0 is none, as for a Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
    /// For how long each runs, seconds. Absent is to the end of the simulated time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_seconds: Option<u32>,
    /// At most so long, with `runSeconds` the least: each pod draws its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_seconds_most: Option<u32>,
    /// What they are called in reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Their namespace.
    #[serde(
        default = "default_namespace",
        skip_serializing_if = "is_default_namespace"
    )]
    pub namespace: String,
    /// Kind of their controller, which makes a new pod for one that is evicted. Absent is a bare pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_kind: Option<String>,
    /// They are not evicted before a machine is taken.
    #[serde(default, skip_serializing_if = "is_false")]
    pub do_not_disrupt: bool,
    /// Labels, as selectors of pods see them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What each requests in all, init containers, sidecars and overhead included.
    pub requests: BTreeMap<String, String>,
    /// `spec.nodeSelector`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// `spec.affinity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<core::Affinity>,
    /// `spec.tolerations`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<core::Toleration>,
    /// `spec.topologySpreadConstraints`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topology_spread_constraints: Vec<core::TopologySpreadConstraint>,
    /// `spec.priority`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// Ports on the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_ports: Vec<Port>,
    /// Zones in which the volumes of the pods are; absent is anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<String>,
}

const fn one() -> u32 {
    1
}

fn tcp() -> String {
    "TCP".to_owned()
}

fn default_namespace() -> String {
    "default".to_owned()
}

// serde hands values to these by reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_one(count: &u32) -> bool {
    *count == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(value: &i32) -> bool {
    *value == 0
}

fn is_tcp(protocol: &str) -> bool {
    protocol == "TCP"
}

fn is_default_namespace(namespace: &str) -> bool {
    namespace == "default"
}

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be read.
    #[error("the trace {path} cannot be read; check that it exists and is readable")]
    Unreadable {
        /// The file.
        path: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// Lines cannot be understood.
    #[error("the trace {path} has {count} lines that cannot be understood:\n{shown}")]
    Lines {
        /// The file.
        path: String,
        /// How many.
        count: usize,
        /// The first of them, each with its number and what is wrong.
        shown: String,
    },
}

/// A trace.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// What the first line says, if it is a header.
    pub header: Option<Header>,
    /// What arrives, in order of time.
    pub loads: Vec<Load>,
}

/// Reads a trace from a file; `-` is standard input.
///
/// # Errors
/// [`TraceError`] with every line that cannot be understood.
pub fn read(path: &Path) -> Result<Trace, TraceError> {
    let (shown, text) = if path.as_os_str() == "-" {
        ("standard input".to_owned(), io::read_to_string(io::stdin()))
    } else {
        (path.display().to_string(), fs::read_to_string(path))
    };
    match text {
        Ok(text) => parse(&shown, &text),
        Err(source) => Err(TraceError::Unreadable {
            path: shown,
            source,
        }),
    }
}

/// Reads a trace from a text.
///
/// # Errors
/// [`TraceError`] with every line that cannot be understood.
pub fn parse(path: &str, text: &str) -> Result<Trace, TraceError> {
    let mut trace = Trace::default();
    let mut problems = Vec::new();
    // A long trace has few of them.
    let mut specs = Interner::default();
    let lines = text.lines().enumerate();
    for (index, line) in lines.filter(|(_index, line)| !line.trim().is_empty()) {
        let read = if index == 0 && line.contains("\"format\"") {
            header(line).map(|header| trace.header = Some(header))
        } else {
            serde_json::from_str::<Line>(line)
                .map_err(|error| error.to_string())
                .and_then(|line| load(&line, index + 1))
                .map(|mut load| {
                    specs.intern(&mut load.spec);
                    trace.loads.push(load);
                })
        };
        if let Err(problem) = read {
            problems.push(format!("  line {}: {problem}", index + 1));
        }
    }
    if !problems.is_empty() {
        let count = problems.len();
        problems.truncate(MOST_PROBLEMS);
        return Err(TraceError::Lines {
            path: path.to_owned(),
            count,
            shown: problems.join("\n"),
        });
    }
    trace.loads.sort_by_key(|load| load.at);
    Ok(trace)
}

fn header(line: &str) -> Result<Header, String> {
    let header: Header = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if header.format == FORMAT {
        Ok(header)
    } else {
        Err(format!(
            "format: `{}` is unknown; this version reads {FORMAT}",
            header.format
        ))
    }
}

/// The load of a line; `number` names it when the line does not.
pub(super) fn load(line: &Line, number: usize) -> Result<Load, String> {
    let run = match (line.run_seconds, line.run_seconds_most) {
        (None, None) => Run::ToTheEnd,
        (None, Some(_most)) => return Err("runSecondsMost: give runSeconds beside it".to_owned()),
        (Some(least), most) => {
            let most = most.unwrap_or(least);
            if most < least {
                return Err(format!(
                    "runSecondsMost: {most} is less than runSeconds {least}"
                ));
            }
            Run::Between(u64::from(least) * 1_000, u64::from(most) * 1_000)
        }
    };
    let mut spec = observe::pod::pod_spec(&line.namespace, "", &line.labels, &pod_spec(line), &[]);
    if let Some(problem) = &spec.problem {
        // The container is made here, so its name says nothing to whoever wrote the line.
        let field = problem.strip_prefix("main: ").unwrap_or(problem);
        return Err(format!("requests: {field}"));
    }
    if !line.zones.is_empty() {
        let mut constraints = spec.constraints.as_deref().cloned().unwrap_or_default();
        hold_to(&mut constraints.required_node_terms, &line.zones);
        spec.constraints = Some(Arc::new(constraints));
    }
    let name = line.name.clone();
    let name = name.unwrap_or_else(|| format!("line-{number}"));
    let owner = line.owner_kind.clone().map(|kind| Owner {
        api_version: String::new(),
        kind,
        name: name.clone(),
        uid: name.clone(),
    });
    Ok(Load {
        name,
        spec: Arc::new(spec),
        owner,
        do_not_disrupt: if line.do_not_disrupt {
            DoNotDisrupt::Always
        } else {
            DoNotDisrupt::No
        },
        at: i64::from(line.at_seconds) * 1_000,
        // A Job whose pods may run none at a time is suspended.
        count: if line.parallelism == Some(0) {
            0
        } else {
            line.count
        },
        parallel: line.parallelism.unwrap_or(0),
        run,
        origin: Origin::Line(number),
    })
}

/// The pod as the API would have it.
fn pod_spec(line: &Line) -> core::PodSpec {
    let requests = line.requests.iter();
    let requests = requests.map(|(name, amount)| (name.clone(), Quantity(amount.clone())));
    let ports = line.host_ports.iter().map(|port| core::ContainerPort {
        container_port: i32::from(port.port),
        host_port: Some(i32::from(port.port)),
        protocol: Some(port.protocol.clone()),
        ..core::ContainerPort::default()
    });
    let container = core::Container {
        name: "main".to_owned(),
        ports: Some(ports.collect()),
        resources: Some(core::ResourceRequirements {
            requests: Some(requests.collect()),
            ..core::ResourceRequirements::default()
        }),
        ..core::Container::default()
    };
    core::PodSpec {
        containers: vec![container],
        node_selector: Some(line.node_selector.clone()),
        affinity: line.affinity.clone(),
        tolerations: Some(line.tolerations.clone()),
        topology_spread_constraints: Some(line.topology_spread_constraints.clone()),
        priority: Some(line.priority),
        ..core::PodSpec::default()
    }
}

/// Node terms that also hold to zones.
fn hold_to(terms: &mut Vec<NodeTerm>, zones: &[String]) {
    let zone = Expression {
        key: labels::ZONE.to_owned(),
        operator: "In".to_owned(),
        values: zones.to_vec(),
    };
    if terms.is_empty() {
        terms.push(NodeTerm::default());
    }
    for term in terms {
        term.expressions.push(zone.clone());
    }
}

/// How long a trace is: what its header says, or up to its last arrival and an hour more.
pub fn duration(trace: &Trace) -> SignedDuration {
    let said = trace.header.as_ref().and_then(|header| header.seconds);
    let last = trace.loads.iter().map(|load| load.at).max().unwrap_or(0);
    said.map_or_else(
        || SignedDuration::from_millis(last) + SignedDuration::from_hours(1),
        |seconds| SignedDuration::from_secs(i64::from(seconds)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_pods_and_a_line_again() {
        let text = format!(
            "{{\"format\":\"{FORMAT}\",\"seconds\":7200}}\n\
             {{\"atSeconds\":60,\"count\":8,\"runSeconds\":600,\"name\":\"exec\",\"ownerKind\":\"Job\",\
             \"requests\":{{\"cpu\":\"2\",\"memory\":\"4Gi\"}},\"zones\":[\"us-east-1a\"],\
             \"hostPorts\":[{{\"port\":9000}}]}}\n\n"
        );
        let trace = parse("a.jsonl", &text).unwrap();
        assert_eq!(duration(&trace), SignedDuration::from_hours(2));
        let load = &trace.loads[0];
        assert_eq!((load.at, load.count, load.parallel), (60_000, 8, 0));
        assert_eq!(load.run, Run::Between(600_000, 600_000));
        assert_eq!(load.spec.requests.get("cpu"), 2_000);
        let constraints = load.spec.constraints.as_ref().unwrap();
        assert_eq!(constraints.host_ports[0].port, 9_000);
        let zone = &constraints.required_node_terms[0].expressions[0];
        assert_eq!(zone.values, ["us-east-1a"]);
        let second = text.lines().nth(1).unwrap();
        let line: Line = serde_json::from_str(second).unwrap();
        assert_eq!(serde_json::to_string(&line).unwrap().len(), second.len());
    }

    #[test]
    fn parallelism_means_what_it_means_for_a_job() {
        let counts = ["", "\"parallelism\":0,", "\"parallelism\":2,"].map(|parallelism| {
            let line = format!(
                "{{\"atSeconds\":0,\"count\":8,{parallelism}\"requests\":{{\"cpu\":\"1\"}}}}"
            );
            let load = parse("a.jsonl", &line).unwrap().loads[0].clone();
            (load.count, load.first_wave())
        });
        assert_eq!(counts, [(8, 8), (0, 0), (8, 2)]);
    }

    #[test]
    fn every_wrong_line_is_named_with_its_field() {
        let text = "{\"atSeconds\":0}\n{\"atSeconds\":0,\"requests\":{\"cpu\":\"lots\"}}\n\
                    {\"atSeconds\":0,\"requests\":{},\"env\":{}}\n\
                    {\"atSeconds\":0,\"requests\":{},\"runSeconds\":9,\"runSecondsMost\":3}\n";
        let error = parse("b.jsonl", text).unwrap_err().to_string();
        for said in [
            "b.jsonl has 4 lines",
            "line 1: missing field `requests`",
            "line 2: requests: cpu: `lots`",
            "line 3: unknown field `env`",
            "line 4: runSecondsMost: 3 is less than runSeconds 9",
        ] {
            assert!(error.contains(said), "{said}: {error}");
        }
    }

    #[test]
    fn a_format_of_the_future_is_refused() {
        let error = parse("c.jsonl", "{\"format\":\"tonnage-trace/9\"}").unwrap_err();
        assert!(error.to_string().contains("this version reads"), "{error}");
    }
}
