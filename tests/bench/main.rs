//! The benchmarks: `cargo xtask bench`, or `cargo xtask bench NAME…` for some of them. Each prints ratios of what it measured in
//! the same run, since machines are noisy. `LEASES` sets how many past leases `history` and `bounds` make (default 1,000,000).

mod bounds;
mod copy;
mod cycles;
#[cfg(feature = "kurrentdb")]
mod esdb;
mod history;
mod parts;
mod postgres;
#[cfg(feature = "kurrentdb")]
#[path = "../support/protocol/mod.rs"]
mod protocol;
#[cfg(feature = "kurrentdb")]
#[path = "../support/proxy.rs"]
#[expect(dead_code, reason = "the tests disturb it, the benchmarks do not")]
mod proxy;
mod store;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many past leases there shall be.
fn leases_wanted() -> u64 {
    std::env::var("LEASES").ok().and_then(|leases| leases.parse().ok()).unwrap_or(1_000_000)
}

fn main() -> ExitCode {
    let mut known = vec!["store", "postgres", "copy", "cycles", "history", "bounds"];
    if cfg!(feature = "kurrentdb") {
        known.push("esdb");
    }
    // Cargo hands `--bench` to a benchmark without a harness.
    let names: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        eprintln!("There is no benchmark \"{unknown}\"; there are {}.", known.join(", "));
        return ExitCode::from(2);
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        if wanted("store") {
            store::measure().await;
        }
        if wanted("postgres") {
            postgres::measure().await;
        }
        if wanted("copy") {
            copy::measure().await;
        }
        if wanted("cycles") {
            cycles::measure().await;
        }
        if wanted("history") {
            history::measure().await;
        }
        if wanted("bounds") {
            bounds::measure().await;
        }
        #[cfg(feature = "kurrentdb")]
        if wanted("esdb") {
            esdb::measure().await;
        }
    });
    ExitCode::SUCCESS
}
