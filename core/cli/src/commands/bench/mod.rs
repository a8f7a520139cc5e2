//! `metareward bench`: measurements for planning.

mod engine;
mod pool;
mod training;

use crate::{
    args::{BenchArgs, BenchCommand},
    failure::Failure,
};

/// Measures what was asked for.
///
/// # Errors
/// Whatever ends the measurement.
pub fn run(args: &BenchArgs, json: bool) -> Result<(), Failure> {
    match &args.command {
        BenchCommand::Engine(args) => engine::run(args, json),
        BenchCommand::Pool(args) => pool::run(args, json),
    }
}

/// A line of `/proc/self/status`, in bytes: `VmHWM`, the most memory taken so far, or `VmRSS`, taken now. 0 where there is none.
fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    let number = found.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}
