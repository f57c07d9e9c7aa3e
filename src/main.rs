//! The `tonnage` binary: hands its arguments to [`tonnage::cli`] and exits with its code.

use std::process::ExitCode;

/// Plans and the embedded world are many small strings and maps: a third of their time was the C library's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tonnage::cli::main()
}
