//! The `tunnel64d` binary: everything is in the library, so that tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    tunnel64d::cli::main()
}
