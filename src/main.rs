//! The program `diskwright`; what it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    diskwright::cli::main()
}
