//! The `tonnage` binary: hands its arguments to [`tonnage::cli`] and exits with its code.

use std::process::ExitCode;

fn main() -> ExitCode {
    tonnage::cli::main()
}
