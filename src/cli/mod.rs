//! The command line: one file per subcommand.
//!
//! Given the process's arguments and environment, it runs one subcommand and gives back the exit
//! code: 0 for success, 1 for a failure of the command, 2 for a command line that cannot be
//! understood. What a subcommand produces goes to standard output, everything said about it to
//! standard error. No subcommand decides anything of its own here; each calls the library.

mod advise;
mod bench_ec2;
mod bench_packing;
mod bench_schedule;
mod controller;
mod crds;
mod demo;
mod explain;
mod memory;
mod plan;
mod record;
mod sim;
mod simulate;
mod stop;
mod unknown_types;
mod writable;

use std::error::Error;
use std::io::{self, Write};
use std::process::{self, ExitCode};
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::sim::watchdog;

/// A Kubernetes node provisioner for EC2: the cheapest fitting instances for pending pods, and
/// nothing when the queue is empty.
#[derive(Debug, Parser)]
#[command(
    name = "tonnage",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Advise(Box<advise::Args>),
    BenchEc2(bench_ec2::Args),
    BenchPacking(bench_packing::Args),
    BenchSchedule(bench_schedule::Args),
    Controller(Box<controller::Args>),
    Crds(crds::Args),
    Demo(demo::Args),
    Explain(Box<explain::Args>),
    Plan(Box<plan::Args>),
    Record(record::Args),
    Sim(sim::Args),
    Simulate(Box<simulate::Args>),
}

/// What a subcommand gives back: nothing, or the failure to print before exiting with 1.
type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// Runs the command line and returns the exit code: 0 on success, 1 when the command failed, 2
/// when the arguments are wrong.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let outcome = match cli.command {
        Command::Advise(args) => advise::run(&args).map_err(Into::into),
        Command::BenchEc2(args) => bench_ec2::run(&args).map_err(Into::into),
        Command::BenchPacking(args) => bench_packing::run(&args).map_err(Into::into),
        Command::BenchSchedule(args) => bench_schedule::run(&args).map_err(Into::into),
        Command::Controller(args) => controller::run(&args).map_err(Into::into),
        Command::Crds(args) => crds::run(&args).map_err(Into::into),
        Command::Demo(args) => demo::run(&args).map_err(Into::into),
        Command::Explain(args) => explain::run(&args).map_err(Into::into),
        Command::Plan(args) => plan::run(&args).map_err(Into::into),
        Command::Record(args) => record::run(&args).map_err(Into::into),
        Command::Sim(args) => sim::run(&args).map_err(Into::into),
        Command::Simulate(args) => simulate::run(&args).map_err(Into::into),
    };
    conclude(outcome, &mut io::stderr().lock())
}

/// Prints help, version or a usage error where it belongs; clap knows the stream and the code.
fn usage(error: &clap::Error) -> ExitCode {
    // A closed stream leaves nobody to tell; the exit code still says it.
    error.print().ok();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Turns an outcome into an exit code and prints a failure with its causes on `stderr`.
fn conclude(outcome: Outcome, stderr: &mut impl Write) -> ExitCode {
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    let mut message = format!("error: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        message.push_str("\n  because: ");
        message.push_str(&cause.to_string());
        source = cause.source();
    }
    // Standard error may be closed; the exit code still says it.
    writeln!(stderr, "{message}").ok();
    ExitCode::FAILURE
}

/// From now on a world of this process that gets no further for so long ends the command with an error.
#[expect(
    clippy::exit,
    reason = "a world that never yields cannot be told to end"
)]
fn end_when_hanging(patience: Duration) {
    watchdog::watch(patience, |hang| {
        write_stderr(&format!("error: {hang}\n"));
        process::exit(1);
    });
}

/// Writes a command's result to standard output. A reader that went away (`tonnage crds | head`)
/// has what it wanted, so a broken pipe is a success.
fn write_stdout(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Says something about a command's work; standard error may be closed.
fn write_stderr(text: &str) {
    io::stderr().lock().write_all(text.as_bytes()).ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_unknown_subcommand_is_a_usage_error() {
        let error = Cli::try_parse_from(["tonnage", "nonsense"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn a_failure_is_printed_with_its_causes_and_exits_with_1() {
        let cause = io::Error::other("the disk is full");
        let outcome: Outcome = Err(crds::CrdsError::Write {
            path: "out/x.yaml".into(),
            source: cause,
        }
        .into());
        let mut stderr = Vec::new();
        let code = conclude(outcome, &mut stderr);
        assert_eq!(code, ExitCode::FAILURE);
        let text = String::from_utf8(stderr).unwrap();
        assert!(text.contains("out/x.yaml"), "{text}");
        assert!(text.contains("because: the disk is full"), "{text}");
    }
}
