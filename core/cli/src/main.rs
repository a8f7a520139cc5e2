//! The command line: reads arguments, puts engines, plugins and the loop together, and shows what happens.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod args;
mod commands;
mod engine;
mod experiment;
mod failure;
mod interrupt;
mod logging;
mod model;
mod progress;

use std::{panic, process::ExitCode};

use clap::Parser;

use args::{Cli, Command};
use failure::{Code, Failure};
use logging::Logs;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let logs = Logs::start();
    interrupt::install();
    // A panic is a mistake of ours and has an exit code of its own; the standard hook has said where it happened.
    let outcome = panic::catch_unwind(panic::AssertUnwindSafe(|| run(&cli, &logs))).unwrap_or_else(|_| {
        Err(Failure::new(Code::Bug, "metareward stopped because of a mistake in it")
            .hint("please report it with the lines above; a run's folder is intact and can be gone on with"))
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if cli.json {
                let value = serde_json::json!({
                    "error": failure.sentence, "hint": failure.hint, "exit_code": failure.code as u8,
                });
                println!("{value}");
            }
            logs.bars.suspend(|| eprintln!("{failure}"));
            ExitCode::from(failure.code as u8)
        }
    }
}

fn run(cli: &Cli, logs: &Logs) -> Result<(), Failure> {
    match &cli.command {
        Command::Run(args) => commands::run::run(args, cli.json, logs),
        Command::Plan(args) => commands::plan::run(args, cli.json),
        Command::Generate(args) => commands::generate::run(args, cli.json),
        Command::Logprobs(args) => commands::logprobs::run(args, cli.json),
        Command::SeedModel(args) => commands::seed_model::run(args, cli.json, logs),
        Command::Table(args) => commands::table::run(args, cli.json),
        Command::Doctor => commands::doctor::run(cli.json),
    }
}
