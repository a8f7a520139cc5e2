//! `metareward bench pool`: servers from a distribution file, and the schedule that a run drives its servers with.

use std::{fs, time::Duration};

use metareward_remote::{
    ScheduleOptions,
    simulate::{Behaviour, Coordinator, Rung, Simulation, limit, simulate},
};
use serde_json::json;

use super::memory;
use crate::{
    args::BenchPoolArgs,
    failure::{Code, Failure},
};

/// Servers are kept busy when they are at least this busy.
const BUSY: f64 = 0.95;

/// Simulates, and prints how busy the servers were, tails, memory and what the coordinator took.
///
/// # Errors
/// When the file cannot be read or means nothing.
pub fn run(args: &BenchPoolArgs, json: bool) -> Result<(), Failure> {
    let path = args.distribution.display();
    let wrong = |message: String| Failure::new(Code::Input, format!("{path}: {message}"));
    let text = fs::read_to_string(&args.distribution).map_err(|error| wrong(error.to_string()))?;
    let behaviour: Behaviour = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let handling = Duration::try_from_secs_f64(args.handling / 1e6).map_err(|error| {
        Failure::new(Code::Input, format!("--handling {}: {error}", args.handling)).hint("give microseconds, 0 or more")
    })?;
    let simulation = Simulation {
        behaviour,
        servers: args.servers,
        options: ScheduleOptions { in_flight: args.places, ..ScheduleOptions::default() },
        requests: args.requests,
        group: args.group,
        seed: args.seed,
        coordinator: Coordinator::Measured(handling),
    };
    let mut taken = Vec::new();
    let outcome =
        simulate(&simulation, &mut |_| taken.push(memory("VmRSS"))).map_err(|error| wrong(error.to_string()))?;
    let early = taken.get(taken.len() / 10).copied().unwrap_or_default();
    let late = taken.last().copied().unwrap_or_default();
    if json {
        println!("{}", json!({ "outcome": outcome, "memory_after_a_tenth": early, "memory_at_the_end": late }));
    } else {
        let faults =
            outcome.faults.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ");
        println!(
            "{} servers with {} places: {:.1} % busy while there were requests, {:.1} % in all",
            args.servers,
            args.places,
            100.0 * outcome.busy,
            100.0 * outcome.busy_in_all
        );
        println!(
            "{} requests answered and {} given up in {:.0} s of theirs, {:.0} a second; {} tries; faults: {faults}; {} deaths",
            outcome.answered,
            outcome.failed,
            outcome.seconds,
            outcome.requests_per_second(),
            outcome.sent,
            outcome.deaths
        );
        let latency = outcome.latency;
        println!(
            "an answer takes {:.2} s in the median, {:.2} s at 90 %, {:.2} s at 99 %, {:.2} s at most",
            latency.p50, latency.p90, latency.p99, latency.most
        );
        println!(
            "coordinator: {:.3} of one core, {:.1} µs of decisions a request; {} requests held at most",
            outcome.cores(),
            1e6 * outcome.deciding_seconds / outcome.sent.max(1) as f64,
            outcome.most_held
        );
        println!(
            "memory: {:.1} MB after a tenth of the requests, {:.1} MB at the end",
            early as f64 / 1e6,
            late as f64 / 1e6
        );
    }
    let Some(most) = args.limit else { return Ok(()) };
    let mut tell = |rung: &Rung| {
        let outcome = &rung.outcome;
        if json {
            println!("{}", json!({ "servers": rung.servers, "outcome": outcome }));
        } else {
            println!(
                "{:>7} servers: {:5.1} % busy, {:>8.0} requests a second, {:.3} of one core",
                rung.servers,
                100.0 * outcome.busy,
                outcome.requests_per_second(),
                outcome.cores()
            );
        }
    };
    limit(&simulation, 50, BUSY, most, &mut tell).map_err(|error| wrong(error.to_string()))?;
    Ok(())
}
