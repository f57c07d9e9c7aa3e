//! How many pods are simulated at most, however the work is given.
//!
//! Given the loads of manifests, of a trace and of a generator together; given back the first that is too much, with the
//! place where it is written. A number is written in no time, and the pods that it stands for fill every memory.

use jiff::SignedDuration;

use super::InputError;
use super::schedule::whole_milliseconds;
use crate::simulate::workload::{Load, Run};

/// The most pods at a time: each takes about 1.6 kB while it is there. Kubernetes is made for clusters of 150 000.
pub const MOST_AT_A_TIME: u64 = 500_000;
/// The most pods in all: each is remembered to the end. The busiest profile makes 1.4 million in its month.
pub const MOST_PODS: u64 = 5_000_000;

/// Pods so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Total(u64);

impl Total {
    /// Counts the pods of one more load.
    pub(super) fn add(&mut self, load: &Load) -> Result<(), InputError> {
        self.0 = self.0.saturating_add(u64::from(load.count));
        if self.0 <= MOST_PODS {
            return Ok(());
        }
        Err(InputError::TooManyPods {
            origin: load.origin.clone(),
            pods: self.0,
        })
    }

    /// True when there are more than are simulated.
    pub(super) const fn is_too_much(self) -> bool {
        self.0 > MOST_PODS
    }
}

/// Looks whether all that arrives within a time can be simulated.
///
/// # Errors
/// The first load in order of the list that makes too many pods in all, or in order of time at a time.
pub fn check(loads: &[Load], duration: SignedDuration) -> Result<(), InputError> {
    let end = whole_milliseconds(duration);
    let arriving = || loads.iter().filter(move |load| load.at < end);
    let mut total = Total::default();
    for load in arriving() {
        total.add(load)?;
    }
    let mut changes: Vec<(i64, i64, &Load)> = Vec::new();
    for load in arriving() {
        let pods = i64::from(load.first_wave());
        changes.push((load.at, pods, load));
        changes.push((gone(load, end), -pods, load));
    }
    // Those that leave at a moment make room for those that come then.
    changes.sort_by_key(|(at, change, _load)| (*at, *change));
    let mut there = 0_i64;
    for (at, change, load) in changes {
        there += change;
        let pods = u64::try_from(there).unwrap_or(0);
        if pods > MOST_AT_A_TIME {
            return Err(InputError::TooManyPodsAtATime {
                origin: load.origin.clone(),
                pods,
                after: SignedDuration::from_millis(at),
            });
        }
    }
    Ok(())
}

/// When the last pod of a load ends if none of them waits.
fn gone(load: &Load, end: i64) -> i64 {
    let until = match load.run {
        Run::ToTheEnd => end,
        Run::Between(_least, most) => {
            let waves = load.count.div_ceil(load.first_wave().max(1));
            let run = i64::try_from(most).unwrap_or(i64::MAX);
            load.at.saturating_add(run.saturating_mul(i64::from(waves)))
        }
    };
    until.max(load.at.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::manifests::read_text;
    use crate::simulate::input::generate::{self, Profile};
    use crate::simulate::input::trace;
    use crate::simulate::input::workloads::{self, Frame};

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn of_trace(lines: &[&str]) -> Result<(), String> {
        let lines = lines.iter();
        let text = lines.map(|line| format!("{{{line},\"requests\":{{\"cpu\":\"1\"}}}}\n"));
        let trace = trace::parse("a.jsonl", &text.collect::<String>());
        let trace = trace.map_err(|error| error.to_string())?;
        check(&trace.loads, DAY).map_err(|error| error.to_string())
    }

    fn of_manifests(text: &str) -> Result<(), String> {
        let frame = Frame {
            begin: jiff::Timestamp::UNIX_EPOCH,
            duration: DAY,
            run: Run::Between(60_000, 60_000),
        };
        let documents = read_text("a.yaml", text).map_err(|error| error.to_string())?;
        let work = workloads::read(&documents, &frame);
        let checked = work.and_then(|work| check(&work.loads, DAY));
        checked.map_err(|error| error.to_string())
    }

    #[test]
    fn a_line_or_the_sum_of_lines_that_is_too_much_is_named_with_its_field_and_the_bound() {
        let error = of_trace(&[
            "\"atSeconds\":0,\"runSeconds\":60",
            "\"atSeconds\":5,\"count\":4000000000,\"parallelism\":9,\"runSeconds\":60",
        ]);
        assert_eq!(
            error.unwrap_err(),
            "the trace, line 2: count: with it 4000000001 pods arrive in all; at most 5000000 are simulated: lower \
             it, or simulate a shorter --duration"
        );
        let error = of_trace(&[
            "\"atSeconds\":60,\"count\":300000,\"runSeconds\":60",
            "\"atSeconds\":0,\"count\":300000",
        ]);
        assert_eq!(
            error.unwrap_err(),
            "the trace, line 1: count: with it 600000 pods are there at a time, 1m after the beginning; at most 500000 \
             are simulated: lower it, or let fewer run at a time or later (parallelism, times of arrival)"
        );
    }

    #[test]
    fn work_that_is_spread_over_time_may_be_more() {
        let burst =
            |second: u32| format!("\"atSeconds\":{second},\"count\":300000,\"runSeconds\":60");
        let bursts = [0, 60, 600].map(burst);
        assert_eq!(of_trace(&bursts.each_ref().map(String::as_str)), Ok(()));
        let in_waves = "\"atSeconds\":0,\"count\":600000,\"parallelism\":100,\"runSeconds\":1";
        assert_eq!(of_trace(&[in_waves]), Ok(()));
        let late = "\"atSeconds\":86400,\"count\":4000000000";
        assert_eq!(of_trace(&[late]), Ok(()));
    }

    #[test]
    fn workloads_count_as_often_as_they_arrive() {
        let job = "{apiVersion: batch/v1, kind: Job, metadata: {name: j}, spec: {completions: 2000000000, \
                   parallelism: 4, template: {spec: {containers: [{name: c}]}}}}";
        let error = of_manifests(job).unwrap_err();
        assert!(
            error.starts_with("a.yaml: Job j: spec.completions: with it 2000000000 pods arrive"),
            "{error}"
        );
        let each_minute = "{apiVersion: batch/v1, kind: CronJob, metadata: {name: j}, spec: {schedule: '* * * * *', \
                           jobTemplate: {spec: {parallelism: 4000, template: {spec: {containers: [{name: c}]}}}}}}";
        let error = of_manifests(each_minute).unwrap_err();
        assert!(
            error.starts_with(
                "a.yaml: CronJob j: spec.jobTemplate.spec.parallelism: with it 5004000 pods"
            ),
            "{error}"
        );
    }

    #[test]
    fn a_generator_stops_when_it_makes_too_much() {
        let month = SignedDuration::from_hours(30 * 24);
        let loads = generate::loads(Profile::Evaluation, 1, 10_000, month);
        let error = check(&loads, month).unwrap_err().to_string();
        assert!(
            error.starts_with("the generated work: --scale: with it 500"),
            "{error}"
        );
        let pods: u64 = loads.iter().map(|load| u64::from(load.count)).sum();
        assert!(pods < MOST_PODS + 1_000, "{pods}");
    }
}
