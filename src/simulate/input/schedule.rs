//! When workloads of manifests arrive and how long their pods run: annotations beside the manifest.
//!
//! | annotation of the workload | value | default |
//! |---|---|---|
//! | `tonnage.dev/simulate-at` | durations from the beginning, comma-separated: `0s, 2h30m` | `0s` |
//! | `tonnage.dev/simulate-schedule` | five cron fields in UTC, or a macro; instead of the above | a CronJob's own schedule |
//! | `tonnage.dev/simulate-run` | how long each pod runs: `10m`, or at least and at most: `5m..20m` | what the caller says for Jobs and Pods; services run to the end |

use jiff::{SignedDuration, Timestamp};

use crate::plan::cron;
use crate::simulate::workload::Run;

/// When a workload arrives.
pub const AT: &str = "tonnage.dev/simulate-at";
/// A cron schedule of arrivals.
pub const SCHEDULE: &str = "tonnage.dev/simulate-schedule";
/// How long each pod runs.
pub const RUN: &str = "tonnage.dev/simulate-run";

/// Arrivals in milliseconds from the beginning.
///
/// # Errors
/// What is wrong with the text.
pub fn arrivals(text: &str) -> Result<Vec<i64>, String> {
    let each = text
        .split(',')
        .map(|part| duration(part).map(whole_milliseconds));
    each.collect()
}

/// The hits of a cron schedule within a time, in milliseconds from its beginning.
///
/// # Errors
/// What is wrong with the text.
pub fn hits(text: &str, begin: Timestamp, within: SignedDuration) -> Result<Vec<i64>, String> {
    let schedule = cron::Schedule::parse(text).ok_or_else(|| {
        format!("`{text}` is no schedule: give five cron fields in UTC, as in `0 2 * * *`, or a macro such as @daily")
    })?;
    let minute = SignedDuration::from_mins(1);
    let first = begin.as_second().div_euclid(60);
    let minutes = within.as_mins();
    let hits = (0..=minutes).filter_map(|number| {
        let at = Timestamp::from_second((first + number) * 60).ok()?;
        let after = at.duration_since(begin);
        let counts = !after.is_negative() && after < within && schedule.hit_within(minute, at);
        counts.then(|| whole_milliseconds(after))
    });
    Ok(hits.collect())
}

/// How long pods run.
///
/// # Errors
/// What is wrong with the text.
pub fn run(text: &str) -> Result<Run, String> {
    let (least, most) = text.split_once("..").unwrap_or((text, text));
    let (least, most) = (duration(least)?, duration(most)?);
    if most < least {
        return Err(format!(
            "`{text}` ends before it begins: write the shorter time first, as in 5m..20m"
        ));
    }
    let positive = |time| whole_milliseconds(time).unsigned_abs();
    Ok(Run::Between(positive(least), positive(most)))
}

/// A time in milliseconds, or the most that there are.
pub fn whole_milliseconds(time: SignedDuration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// A duration that is not negative.
///
/// # Errors
/// What is wrong with the text.
pub fn duration(text: &str) -> Result<SignedDuration, String> {
    let text = text.trim();
    text.parse::<SignedDuration>()
        .ok()
        .filter(|time| !time.is_negative())
        .ok_or_else(|| format!("`{text}` is no duration: write it as 90s, 10m, 1h30m or 2d"))
        .or_else(|problem| days(text).ok_or(problem))
}

/// Whole days, which are 24 hours here.
fn days(text: &str) -> Option<SignedDuration> {
    let days: i64 = text.strip_suffix('d')?.parse().ok()?;
    (days >= 0).then(|| SignedDuration::from_hours(days.saturating_mul(24).min(24 * 36_500)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(arrivals("0s, 2h30m"), Ok(vec![0, 9_000_000]));
        assert_eq!(run("10m"), Ok(Run::Between(600_000, 600_000)));
        assert_eq!(run("5m..20m"), Ok(Run::Between(300_000, 1_200_000)));
        assert_eq!(duration("30d").unwrap().as_hours(), 720);
        for wrong in ["soon", "-5m", "", "5"] {
            let problem = arrivals(wrong).unwrap_err();
            assert!(problem.contains("write it as 90s"), "{wrong}: {problem}");
        }
        assert!(run("20m..5m").unwrap_err().contains("shorter time first"));
    }

    #[test]
    fn a_schedule_hits_within_the_time_and_not_at_its_end() {
        let begin: Timestamp = "2027-01-04T00:00:00Z".parse().unwrap();
        let day = SignedDuration::from_hours(24);
        let hours = hits("30 */12 * * *", begin, day).unwrap();
        assert_eq!(hours, [30 * 60_000, (12 * 60 + 30) * 60_000]);
        assert_eq!(hits("@daily", begin, day).unwrap(), [0]);
        let late = begin + SignedDuration::from_secs(30);
        assert_eq!(hits("@daily", late, day).unwrap(), [86_370_000]);
        assert!(
            hits("0 25 * * *", begin, day)
                .unwrap_err()
                .contains("five cron fields")
        );
    }
}
