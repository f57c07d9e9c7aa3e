//! The command line of `hack/sim`, which it shares with the test runner.
//!
//! Given words; given back what is to be run, or what is wrong with them. A word that nobody knows is refused, since what
//! would be run without it is not what was asked for. `cargo test` gives the flags and filters of Rust's own test runner to
//! every test of a call: they are let through, and mean nothing here.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use tonnage::sim::watchdog;

use crate::mutations::{self, Mutation};
use crate::shrink;
use crate::trial::HOUR;

/// Our flags, and what each of them takes.
const OURS: [(&str, &str); 10] = [
    ("--seeds", " N"),
    ("--start", " N"),
    ("--minutes", " N"),
    ("--jobs", " N"),
    ("--history", ""),
    ("--digest", ""),
    ("--log", " FILTER"),
    ("--hang-after", " SECONDS"),
    ("--without", " NUMBERS"),
    ("--mutation", " NAME"),
];
/// Flags of the test runner that take nothing, or their value after an equals sign.
const OF_THE_RUNNER: [&str; 17] = [
    "--bench",
    "--ensure-time",
    "--exact",
    "--exclude-should-panic",
    "--force-run-in-process",
    "--ignored",
    "--include-ignored",
    "--list",
    "--no-capture",
    "--nocapture",
    "--quiet",
    "--report-time",
    "--show-output",
    "--shuffle",
    "--test",
    "--verbose",
    "-q",
];
/// Flags of the test runner that take the next word.
const OF_THE_RUNNER_WITH_VALUE: [&str; 7] = [
    "--color",
    "--format",
    "--logfile",
    "--shuffle-seed",
    "--skip",
    "--test-threads",
    "-Z",
];

/// What is to be run.
#[derive(Debug, Clone)]
pub(crate) struct Args {
    /// `None` is a run of the test suite, which also looks whether the checks find what they should.
    pub(crate) seeds: Option<u64>,
    pub(crate) start: u64,
    /// How long each world lasts at least.
    pub(crate) seconds: u64,
    /// Worlds that are run at the same time.
    pub(crate) jobs: usize,
    pub(crate) history: bool,
    /// Say what the history comes to, and nothing else.
    pub(crate) digest: bool,
    pub(crate) log: Option<String>,
    /// Disturbances that are left out.
    pub(crate) without: BTreeSet<usize>,
    /// How long a world may stand still before it hangs.
    pub(crate) patience: Duration,
    /// Controllers that are broken in this way.
    pub(crate) mutation: Option<&'static Mutation>,
}

/// What is asked for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// To run something.
    Run(Args),
    /// Which flags there are.
    Help,
}

/// Reads the words of a command line, the program's name apart.
pub(crate) fn read(words: impl IntoIterator<Item = String>) -> Result<Asked, String> {
    let mut args = Args::suite();
    let (mut has_ours, mut filter) = (false, None);
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let (flag, glued) = match word.split_once('=') {
            Some((flag, value)) if flag.starts_with('-') => (flag, Some(value.to_owned())),
            _ => (word.as_str(), None),
        };
        if matches!(flag, "-h" | "--help") {
            return Ok(Asked::Help);
        }
        if OF_THE_RUNNER.contains(&flag) {
            continue;
        }
        if OF_THE_RUNNER_WITH_VALUE.contains(&flag) {
            if glued.is_none() {
                words.next();
            }
            continue;
        }
        if !flag.starts_with('-') {
            filter = Some(word);
            continue;
        }
        let Some((_flag, takes)) = OURS.iter().find(|(known, _takes)| *known == flag) else {
            return Err(unknown(flag));
        };
        let value = match glued {
            Some(_value) if takes.is_empty() => return Err(format!("{flag} takes no value")),
            None if takes.is_empty() => String::new(),
            glued => {
                let value = glued.or_else(|| words.next());
                value.ok_or_else(|| format!("a value is missing: {flag}{takes}"))?
            }
        };
        args.set(flag, &value)?;
        has_ours = true;
    }
    // Without our flags it is the test runner's filter; beside them it is a value too many.
    if let Some(word) = filter.filter(|_word| has_ours) {
        return Err(unknown(&word));
    }
    args.checked().map(Asked::Run)
}

impl Args {
    /// A run of the test suite.
    fn suite() -> Self {
        Self {
            seeds: None,
            start: 1,
            seconds: HOUR,
            jobs: thread::available_parallelism().map_or(1, usize::from),
            history: false,
            digest: false,
            log: None,
            without: BTreeSet::new(),
            patience: watchdog::PATIENCE,
            mutation: None,
        }
    }

    fn set(&mut self, flag: &str, value: &str) -> Result<(), String> {
        let number = || {
            let wrong = |_error| format!("{flag} takes a number, not `{value}`");
            value.parse::<u64>().map_err(wrong)
        };
        match flag {
            "--seeds" => self.seeds = Some(number()?),
            "--start" => self.start = number()?,
            "--minutes" => self.seconds = number()?.saturating_mul(60),
            "--jobs" => self.jobs = usize::try_from(number()?).unwrap_or(1),
            "--history" => self.history = true,
            "--digest" => self.digest = true,
            "--log" => self.log = Some(value.to_owned()),
            "--hang-after" => self.patience = Duration::from_secs(number()?),
            "--without" => self.without = shrink::read(value)?,
            "--mutation" => self.mutation = Some(mutations::named(value)?),
            other => return Err(unknown(other)),
        }
        Ok(())
    }

    fn checked(self) -> Result<Self, String> {
        if self.seeds == Some(0) {
            return Err("--seeds 0 runs nothing: give a number from 1 on".to_owned());
        }
        let is_suite = self.seeds.is_none() && !self.digest;
        if is_suite && (self.seconds != HOUR || self.mutation.is_some() || !self.without.is_empty())
        {
            return Err("--minutes, --mutation and --without need --seeds".to_owned());
        }
        Ok(self)
    }
}

fn unknown(word: &str) -> String {
    let known = OURS.map(|(flag, takes)| format!("{flag}{takes}"));
    format!(
        "`{word}` is unknown; there are {}, which hack/sim --help explains",
        known.join(", ")
    )
}

/// Says which flags there are.
pub(crate) fn help(out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "Runs random worlds against the controllers; hack/sim --help says more."
    )?;
    for (flag, takes) in OURS {
        writeln!(out, "  {flag}{takes}")?;
    }
    Ok(())
}

/// Whether what cannot be meant is refused, and what `cargo test` gives to every test is not.
pub(crate) fn are_held_to() -> bool {
    let asked = |line: &str| read(line.split_whitespace().map(str::to_owned));
    let is_refused = [
        (
            "--seed 1000",
            "`--seed` is unknown; there are --seeds N, --start N",
        ),
        ("--Seeds=3", "`--Seeds` is unknown"),
        ("--seeds 0", "give a number from 1 on"),
        ("--seeds", "a value is missing: --seeds N"),
        (
            "--seeds --history",
            "--seeds takes a number, not `--history`",
        ),
        ("--seeds 3 5", "`5` is unknown"),
        ("--history=yes", "--history takes no value"),
        ("--minutes 5", "need --seeds"),
    ]
    .into_iter()
    .all(|(line, said)| asked(line).is_err_and(|error| error.contains(said)));
    let of_the_runner =
        "--nocapture --test-threads 1 --exact --skip faults:: --color=always -q scene::of";
    let is_suite = |line: &str| matches!(asked(line), Ok(Asked::Run(args)) if args.seeds.is_none());
    let is_read = matches!(
        asked("--seeds=3 --jobs=1 --nocapture"),
        Ok(Asked::Run(args)) if args.seeds == Some(3) && args.jobs == 1
    );
    let helps = matches!(asked("--seeds 3 --help"), Ok(Asked::Help));
    is_refused && is_suite("") && is_suite(of_the_runner) && is_read && helps
}
