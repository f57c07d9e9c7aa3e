//! What is said about the work beside its outcome: what was taken for granted, and what is left out.
//!
//! Given what was read; given back a line for each thing that whoever gave it may not expect. Nothing is decided here.

use jiff::SignedDuration;

use crate::cluster::manifests::{Document, first_few};
use crate::simulate::Load;
use crate::simulate::input::schedule;
use crate::simulate::input::trace::Trace;
use crate::simulate::input::workloads::Work;

/// Workloads that a note names; of more it says how many.
const NAMED: usize = 5;

/// Every note. `duration` is how long work arrives, `run_for` how long pods run that do not say so.
pub(super) fn all(
    documents: &[Document],
    work: &Work,
    trace: &Trace,
    (duration, run_for): (SignedDuration, SignedDuration),
) -> Vec<String> {
    let notes = [
        assumed(&work.assumed, run_for),
        nodes(documents),
        late(&work.late, duration),
        late_lines(&trace.loads, duration),
        none(&trace.loads),
    ];
    notes.into_iter().flatten().collect()
}

fn assumed(assumed: &[String], run_for: SignedDuration) -> Option<String> {
    let first = assumed.first()?;
    Some(format!(
        "note: {} workloads do not say how long their pods run ({first} is the first): {run_for:#} is taken \
         (--run-for, or the annotation {})\n",
        assumed.len(),
        schedule::RUN
    ))
}

fn nodes(documents: &[Document]) -> Option<String> {
    let nodes = documents
        .iter()
        .filter(|document| document.object["kind"] == "Node");
    match nodes.count() {
        0 => None,
        count => Some(format!(
            "note: {count} Nodes are left out: a simulation begins without machines\n"
        )),
    }
}

fn late(late: &[String], duration: SignedDuration) -> Option<String> {
    late.first()?;
    let names = first_few(late, NAMED);
    Some(format!(
        "note: what arrives after the simulated {duration:#} is left out, of {names}: give a longer --duration\n"
    ))
}

fn late_lines(loads: &[Load], duration: SignedDuration) -> Option<String> {
    let is_late =
        move |load: &&Load| load.count > 0 && SignedDuration::from_millis(load.at) >= duration;
    let late = || loads.iter().filter(is_late);
    let first = &late().next()?.name;
    let pods: u64 = late().map(|load| u64::from(load.count)).sum();
    Some(format!(
        "note: {pods} pods of the trace arrive after the simulated {duration:#} and are left out ({first} is the \
         first): give a longer --duration\n"
    ))
}

fn none(loads: &[Load]) -> Option<String> {
    let none = || loads.iter().filter(|load| load.count == 0);
    let first = &none().next()?.name;
    Some(format!(
        "note: {} lines of the trace make no pods ({first} is the first): their count or parallelism is 0\n",
        none().count()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::manifests::read_text;
    use crate::simulate::Run;
    use crate::simulate::input::trace;
    use crate::simulate::input::workloads::{self, Frame};

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn deployment(name: &str, annotation: &str) -> String {
        format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}, annotations: {{{annotation}}}}}, \
             spec: {{selector: {{}}, template: {{spec: {{containers: [{{name: c}}]}}}}}}}}\n---\n"
        )
    }

    fn said(manifests: &[String], lines: &str) -> Vec<String> {
        let frame = Frame {
            begin: jiff::Timestamp::UNIX_EPOCH,
            duration: DAY,
            run: Run::Between(1, 1),
        };
        let documents = read_text("a.yaml", &manifests.concat()).unwrap();
        let work = workloads::read(&documents, &frame).unwrap();
        let trace = trace::parse("a.jsonl", lines).unwrap();
        all(&documents, &work, &trace, (DAY, DAY))
    }

    #[test]
    fn work_that_arrives_too_late_is_named_with_the_flag_that_lets_it_arrive() {
        let manifests = [
            deployment("late", "tonnage.dev/simulate-at: 48h"),
            deployment("both", "tonnage.dev/simulate-at: '1h, 24h'"),
            deployment("never", "tonnage.dev/simulate-schedule: '0 0 2 * *'"),
            deployment("soon", "tonnage.dev/simulate-at: 23h"),
        ];
        assert_eq!(
            said(&manifests, ""),
            [
                "note: what arrives after the simulated 24h is left out, of Deployment late, Deployment both, \
                 Deployment never: give a longer --duration\n"
            ]
        );
        let many: Vec<String> = (0..7)
            .map(|number| deployment(&format!("n{number}"), "tonnage.dev/simulate-at: 48h"))
            .collect();
        let said = said(&many, "").concat();
        assert!(said.contains("Deployment n4 and 2 more: give"), "{said}");
    }

    #[test]
    fn lines_of_a_trace_that_make_no_pods_in_time_are_counted() {
        let lines = "{\"atSeconds\":86400,\"count\":7,\"requests\":{\"cpu\":\"1\"}}\n\
                     {\"atSeconds\":90000,\"count\":5,\"requests\":{\"cpu\":\"1\"}}\n\
                     {\"atSeconds\":0,\"parallelism\":0,\"requests\":{\"cpu\":\"1\"}}\n";
        assert_eq!(
            said(&[], lines),
            [
                "note: 12 pods of the trace arrive after the simulated 24h and are left out (line-1 is the first): \
                 give a longer --duration\n",
                "note: 1 lines of the trace make no pods (line-3 is the first): their count or parallelism is 0\n",
            ]
        );
    }
}
