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
mod plugins;
mod progress;
mod ranks;
mod servers;

use std::{panic, process::ExitCode};

use clap::Parser;

use args::{Cli, Command};
use failure::{Code, Failure};
use logging::Logs;

fn main() -> ExitCode {
    leave_with_the_reader();
    let cli = Cli::parse();
    let logs = Logs::start();
    // These have nothing to keep or to tidy: Ctrl-C ends them at once.
    if !matches!(cli.command, Command::Plugin(_) | Command::Rate(_) | Command::Eval(_)) {
        interrupt::install();
    }
    // A panic is a mistake of ours and has an exit code of its own; the standard hook has said where it happened.
    let outcome = panic::catch_unwind(panic::AssertUnwindSafe(|| run(&cli, &logs))).unwrap_or_else(|_| {
        Err(Failure::new(Code::Bug, "metareward stopped because of a mistake in it")
            .hint("please report it with the lines above; a run's folder is intact and can be gone on with"))
    });
    match outcome {
        Ok(code) => code,
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

/// A reader of standard output that goes away, as `head` does, ends the process as a shell expects it; it is no mistake.
fn leave_with_the_reader() {
    const SIGPIPE: i32 = 13;
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let gone = |text: &str| text.starts_with("failed printing to stdout") && text.contains("Broken pipe");
        if info.payload_as_str().is_some_and(gone) {
            std::process::exit(128 + SIGPIPE);
        }
        usual(info);
    }));
}

fn run(cli: &Cli, logs: &Logs) -> Result<ExitCode, Failure> {
    match &cli.command {
        // A broken law is an answer, not an error: it has been printed.
        Command::Plugin(args) if !commands::plugin::run(args, cli.json)? => return Ok(ExitCode::from(Code::Run as u8)),
        Command::Plugin(_) => Ok(()),
        Command::Rate(args) => commands::rate::run(args, cli.json),
        Command::Eval(args) => commands::eval::run(args, cli.json),
        Command::Run(args) => commands::run::run(args, cli.json, logs),
        Command::Sweep(args) => commands::sweep::run(args, cli.json, logs),
        Command::Plan(args) => commands::plan::run(args, cli.json),
        Command::Bench(args) => commands::bench::run(args, cli.json),
        Command::Generate(args) => commands::generate::run(args, cli.json),
        Command::Logprobs(args) => commands::logprobs::run(args, cli.json),
        Command::Tokens(args) => commands::tokens::run(args, cli.json),
        Command::SeedModel(args) => commands::seed_model::run(args, cli.json, logs),
        Command::Table(args) => commands::table::run(args, cli.json),
        Command::Report(args) => commands::report::run(args, cli.json),
        Command::Export(args) => commands::export::run(args, cli.json),
        Command::Compare(args) => commands::compare::run(args, cli.json),
        Command::Doctor => commands::doctor::run(cli.json),
    }
    .map(|()| ExitCode::SUCCESS)
}
