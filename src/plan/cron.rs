//! Cron schedules of disruption budgets: five fields or a macro, in UTC.
//!
//! Given the text of a schedule, it tells whether a hit lies within a duration before now. Fields
//! take `*`, numbers, names of months and days, ranges, lists and steps, as in Kubernetes' CronJobs;
//! with both day fields restricted a day counts when either matches.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A parsed schedule: one bit for each value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    any_day: bool,
    any_weekday: bool,
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    /// Reads a schedule; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let text = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let mut fields = text.split_whitespace();
        let (minute, hour, day) = (fields.next()?, fields.next()?, fields.next()?);
        let (month, weekday) = (fields.next()?, fields.next()?);
        if fields.next().is_some() {
            return None;
        }
        let weekdays = field(weekday, 0, 7, &WEEKDAYS)?;
        Some(Self {
            minutes: field(minute, 0, 59, &[])?,
            hours: field(hour, 0, 23, &[])?,
            days: field(day, 1, 31, &[])?,
            months: field(month, 1, 12, &MONTHS)?,
            // Seven is Sunday as well.
            weekdays: (weekdays | (weekdays >> 7)) & 0x7f,
            any_day: is_any(day),
            any_weekday: is_any(weekday),
        })
    }

    /// True when the schedule hits after `now - duration` and not after `now`.
    pub fn hit_within(&self, duration: SignedDuration, now: Timestamp) -> bool {
        let last = now.as_second().div_euclid(60);
        let first = now
            .saturating_sub(duration)
            .unwrap_or(Timestamp::MIN)
            .as_second()
            .div_euclid(60)
            .saturating_add(1);
        let mut minute = first.max(last - 366 * 24 * 60);
        while minute <= last {
            let Ok(time) = Timestamp::from_second(minute * 60) else {
                return false;
            };
            let time = time.to_zoned(TimeZone::UTC).datetime();
            if !self.hits_date(time.date()) {
                // On to the next midnight.
                minute +=
                    i64::from(24 * 60 - i32::from(time.hour()) * 60 - i32::from(time.minute()));
            } else if has(self.hours, i64::from(time.hour()))
                && has(self.minutes, i64::from(time.minute()))
            {
                return true;
            } else {
                minute += 1;
            }
        }
        false
    }

    fn hits_date(&self, date: jiff::civil::Date) -> bool {
        let day = has(self.days, i64::from(date.day()));
        let weekday = has(
            self.weekdays,
            i64::from(date.weekday().to_sunday_zero_offset()),
        );
        let either = if self.any_day || self.any_weekday {
            day && weekday
        } else {
            day || weekday
        };
        has(self.months, i64::from(date.month())) && either
    }
}

fn has(bits: u64, value: i64) -> bool {
    u32::try_from(value)
        .ok()
        .and_then(|value| bits.checked_shr(value))
        .is_some_and(|rest| rest & 1 == 1)
}

fn is_any(field: &str) -> bool {
    field.starts_with('*') || field == "?"
}

/// The bits of one field; names count from `least`.
fn field(text: &str, least: u32, most: u32, names: &[&str]) -> Option<u64> {
    let value = |text: &str| -> Option<u32> {
        let lower = text.to_ascii_lowercase();
        let named = names.iter().position(|name| *name == lower);
        let value = match named {
            Some(position) => u32::try_from(position).ok()? + least,
            None => text.parse().ok()?,
        };
        (least..=most).contains(&value).then_some(value)
    };
    let mut bits = 0_u64;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<u32>().ok().filter(|step| *step > 0)?),
            None => (part, 1),
        };
        let (first, last) = if range == "*" || range == "?" {
            (least, most)
        } else if let Some((first, last)) = range.split_once('-') {
            (value(first)?, value(last)?)
        } else if part.contains('/') {
            (value(range)?, most)
        } else {
            (value(range)?, value(range)?)
        };
        if first > last {
            return None;
        }
        let mut at = first;
        while at <= last {
            bits |= 1 << at;
            at += step;
        }
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(schedule: &str, hours: i64, now: &str) -> bool {
        let schedule = Schedule::parse(schedule).unwrap();
        schedule.hit_within(SignedDuration::from_hours(hours), now.parse().unwrap())
    }

    #[test]
    fn office_hours_hold_on_weekdays_only() {
        // 2026-11-25 is a Wednesday.
        let office = "0 9 * * mon-fri";
        assert!(!active(office, 8, "2026-11-25T08:59:59Z"));
        assert!(active(office, 8, "2026-11-25T09:00:00Z"));
        assert!(active(office, 8, "2026-11-25T16:59:59Z"));
        assert!(!active(office, 8, "2026-11-25T17:00:00Z"));
        assert!(!active(office, 8, "2026-11-28T12:00:00Z"));
    }

    #[test]
    fn macros_steps_lists_and_either_day_field() {
        assert!(active("@monthly", 1, "2026-12-01T00:30:00Z"));
        assert!(active("*/15 8-10 * * *", 1, "2026-11-25T08:50:00Z"));
        assert!(active("0 0 1,25 * 7", 1, "2026-11-25T00:10:00Z"));
        assert!(active("0 0 1,25 * 7", 1, "2026-11-29T00:10:00Z"), "Sunday");
        assert!(!active("0 0 1,25 * 7", 1, "2026-11-30T00:10:00Z"));
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "5-1 * * * *",
            "* * * * mon/0",
            "a b c d e",
            "* * * * * *",
        ] {
            assert_eq!(Schedule::parse(text), None, "{text}");
        }
    }
}
