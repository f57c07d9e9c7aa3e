//! `tonnage sim`: parts of the embedded world, for others to talk to.

mod ec2;

use clap::Subcommand;

/// Serve parts of the embedded world: the simulated EC2
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    Ec2(ec2::Args),
}

/// Serves until it is told to stop.
pub(super) fn run(args: &Args) -> Result<(), ec2::SimError> {
    match &args.part {
        Part::Ec2(args) => ec2::run(args),
    }
}
