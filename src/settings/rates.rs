//! How many calls to EC2 are made at most.
//!
//! Given the flags, each a refill and a size; given back the same as values. The defaults are AWS's
//! for an account and region; who shares the account with other busy tools gives less.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use clap::Args;

use super::page;
use crate::plan::rate::Rate as LaunchRate;

/// The refill and the size of a token bucket, `5/50` in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come back per second.
    pub per_second: NonZeroU32,
    /// Tokens at most.
    pub burst: NonZeroU32,
}

/// A text that is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a rate: write tokens per second and tokens at most, both above zero, as in 5/50"
)]
pub struct RateError(String);

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.per_second, self.burst)
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let problem = || RateError(text.to_owned());
        let (per_second, burst) = text.split_once('/').ok_or_else(problem)?;
        let number = |part: &str| part.parse::<NonZeroU32>().ok().ok_or_else(problem);
        Ok(Self {
            per_second: number(per_second)?,
            burst: number(burst)?,
        })
    }
}

/// Flags of the token buckets of calls to EC2.
#[derive(Debug, Clone, Args)]
pub struct RateFlags {
    /// CreateFleet and changes of launch templates
    #[arg(
        id = "ec2-mutating-calls",
        long = "ec2-mutating-calls",
        env = "TONNAGE_EC2_MUTATING_CALLS",
        default_value = "5/50"
    )]
    pub mutating_calls: Rate,
    /// Instances that launches start
    #[arg(
        id = "ec2-instances-started",
        long = "ec2-instances-started",
        env = "TONNAGE_EC2_INSTANCES_STARTED",
        default_value = "2/1000"
    )]
    pub instances_started: Rate,
    /// TerminateInstances
    #[arg(
        id = "ec2-terminate-calls",
        long = "ec2-terminate-calls",
        env = "TONNAGE_EC2_TERMINATE_CALLS",
        default_value = "5/100"
    )]
    pub terminate_calls: Rate,
    /// Instances that calls end
    #[arg(
        id = "ec2-instances-ended",
        long = "ec2-instances-ended",
        env = "TONNAGE_EC2_INSTANCES_ENDED",
        default_value = "20/1000"
    )]
    pub instances_ended: Rate,
    /// CreateTags
    #[arg(
        id = "ec2-tag-calls",
        long = "ec2-tag-calls",
        env = "TONNAGE_EC2_TAG_CALLS",
        default_value = "10/100"
    )]
    pub tag_calls: Rate,
    /// Describe calls
    #[arg(
        id = "ec2-describe-calls",
        long = "ec2-describe-calls",
        env = "TONNAGE_EC2_DESCRIBE_CALLS",
        default_value = "20/100"
    )]
    pub describe_calls: Rate,
    /// All other calls: those to IAM, SSM, EKS and the price list
    #[arg(
        id = "ec2-other-calls",
        long = "ec2-other-calls",
        env = "TONNAGE_EC2_OTHER_CALLS",
        default_value = "10/50"
    )]
    pub other_calls: Rate,
}

impl RateFlags {
    /// How many instances EC2 starts for the account.
    pub fn launch_rate(&self) -> LaunchRate {
        LaunchRate {
            per_second: self.instances_started.per_second,
            burst: self.instances_started.burst,
        }
    }
}

/// The part of the reference page about these flags.
pub(super) fn markdown() -> String {
    page::table(PREAMBLE, RateFlags::augment_args)
}

const PREAMBLE: &str = "
# Calls to EC2

Calls wait for a token of their bucket, so that EC2 throttles none. The defaults are AWS's for an account and region: tokens
per second and tokens at most. Other tools of the account draw on the same buckets; where EC2 throttles all the same, calls of
that kind take up to eight times as many tokens until none was throttled for a while. That goes for reads of types, zones and
prices in the background too. Instances that launches start are counted before a launch is chosen, and once for each
launch however often its call is made: a NodeClaim that waits for them says `LaunchRate` in its condition `Launched` and is
not given up meanwhile, as under a ceiling.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_as_it_is_written_or_refused() {
        let rate: Rate = "5/50".parse().unwrap();
        assert_eq!(rate.to_string(), "5/50");
        for wrong in ["", "5", "0/5", "5/0", "5/-1", "a/b", "5/50/1"] {
            let error = wrong.parse::<Rate>().unwrap_err();
            assert!(error.to_string().contains("as in 5/50"), "{wrong}");
        }
    }
}
