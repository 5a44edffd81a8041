//! The `lease-ledger` program: reads the command line, and exits as it says.

use std::process::ExitCode;

use clap::Parser;
use lease_ledger::cli::{Cli, run};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(run(cli));
            // A read of standard input that never ends must not keep the program.
            runtime.shutdown_background();
            ExitCode::from(code)
        }
        Err(error) => {
            eprintln!("lease-ledger: the runtime cannot be started ({error}).");
            ExitCode::FAILURE
        }
    }
}
