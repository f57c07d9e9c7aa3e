//! The smallest set of disturbances that still fails, found by leaving out more and more of them.
//!
//! Delta debugging: parts are left out, halves first and then smaller ones, as long as what remains
//! fails. The set that is found is the smallest only in that none of its parts can be left out alone.

use std::collections::BTreeSet;
use std::io;

/// The most runs that one failure is worth.
const RUNS: usize = 150;

/// What shrinking came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shrunk {
    /// The numbers of the disturbances that remain.
    pub(crate) kept: BTreeSet<usize>,
    /// How often the world was run for it.
    pub(crate) runs: usize,
    /// Nothing more could be left out; otherwise the runs were used up.
    pub(crate) smallest: bool,
}

/// Shrinks the disturbances below `count` but those that are left out already, which together fail.
/// `fails` runs the world without those of a set.
pub(crate) fn shrink(
    count: usize,
    without: &BTreeSet<usize>,
    mut fails: impl FnMut(&BTreeSet<usize>) -> io::Result<bool>,
) -> io::Result<Shrunk> {
    let all = (0..count).filter(|number| !without.contains(number));
    let mut kept: Vec<usize> = all.collect();
    let mut parts = 2;
    let mut runs = 0;
    while !kept.is_empty() {
        let size = kept.len().div_ceil(parts);
        let mut smaller = None;
        for start in (0..kept.len()).step_by(size) {
            if runs == RUNS {
                let kept = kept.into_iter().collect();
                return Ok(Shrunk {
                    kept,
                    runs,
                    smallest: false,
                });
            }
            runs += 1;
            let rest: Vec<usize> = kept
                .iter()
                .enumerate()
                .filter(|(position, _number)| !(start..start + size).contains(position))
                .map(|(_position, number)| *number)
                .collect();
            let left_out = (0..count).filter(|number| rest.binary_search(number).is_err());
            if fails(&left_out.collect())? {
                smaller = Some(rest);
                break;
            }
        }
        match smaller {
            Some(rest) => {
                kept = rest;
                parts = parts.saturating_sub(1).max(2);
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(kept.len()),
        }
    }
    Ok(Shrunk {
        kept: kept.into_iter().collect(),
        runs,
        smallest: true,
    })
}

/// A set of numbers in a few words: `0-16,18-202,204`.
pub(crate) fn write(numbers: &BTreeSet<usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_first, last)) if *last + 1 == *number => *last = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    let words = ranges.into_iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    words.collect::<Vec<_>>().join(",")
}

/// Reads what [`write`] wrote.
pub(crate) fn read(text: &str) -> Result<BTreeSet<usize>, String> {
    let wrong = || format!("--without takes numbers and ranges as in `0-16,18`, not `{text}`");
    let number = |word: &str| word.parse::<usize>().map_err(|_error| wrong());
    let mut numbers = BTreeSet::new();
    for range in text.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        numbers.extend(number(first)?..=number(last)?);
    }
    Ok(numbers)
}

/// Whether shrinking finds what it must: two disturbances of many that fail only together.
pub(crate) fn finds_a_pair() -> io::Result<bool> {
    let pair = BTreeSet::from([17, 203]);
    let shrunk = shrink(260, &BTreeSet::new(), |without| {
        Ok(pair.is_disjoint(without))
    })?;
    let words = write(&shrunk.kept);
    Ok(shrunk.smallest && shrunk.kept == pair && words == "17,203" && read("17,203") == Ok(pair))
}
