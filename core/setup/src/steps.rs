//! What `cargo quickstart` and `cargo selftest` run once libtorch is there.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::{Error, guests, references};

/// One cargo command.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// What it checks, as printed.
    pub name: &'static str,
    /// Arguments to cargo.
    pub cargo: &'static [&'static str],
}

/// All of `cargo selftest`, in order. The first failure ends it. The shortened quickstart, with a kill and a resume in
/// it, is a test of the crate `metareward-tests`, which starts the binary that the third step builds.
pub const SELFTEST: [Step; 4] = [
    Step { name: "format", cargo: &["fmt", "--all", "--check"] },
    Step { name: "lints", cargo: &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"] },
    Step { name: "binaries", cargo: &["build", "--workspace", "--bins"] },
    Step { name: "tests", cargo: &["test", "--workspace"] },
];

/// What `cargo quickstart` runs; arguments of the user's follow.
pub const QUICKSTART: Step = Step {
    name: "quickstart",
    cargo: &["run", "--release", "--package", "metareward", "--", "run", "experiments/quickstart"],
};

/// Runs the steps one after the other; `extra` arguments go to the last. `python` has the reference implementations; the
/// tools that build plugins in other languages must be there. Each starts with the time since the first one started, and
/// nothing is said after the last, so that the output ends with the test runner's own result.
///
/// # Errors
/// The first step that fails, with its exit code.
pub fn run(
    root: &Path,
    steps: &[Step],
    extra: &[String],
    python: Option<&Path>,
    say: &mut dyn FnMut(&str),
) -> Result<(), Error> {
    let start = Instant::now();
    for (place, step) in steps.iter().enumerate() {
        let commandline = format!("cargo {}", step.cargo.join(" "));
        say(&format!(
            "[{:>4} s] {} of {}, {}: {commandline}",
            start.elapsed().as_secs(),
            place + 1,
            steps.len(),
            step.name
        ));
        let mut command = cargo(root, step);
        command.envs(python.map(|python| (references::VARIABLE, python))).env(guests::VARIABLE, "required");
        // A Python of the user's own may lack what some tests want; the one that was made for them may not.
        if python.is_some_and(|python| python.starts_with(root)) {
            command.env(references::REQUIRED, "required");
        }
        if place + 1 == steps.len() {
            command.args(extra);
        }
        let status = command.status().map_err(|source| Error::Start { program: "cargo".into(), source })?;
        if !status.success() {
            return Err(Error::Failed { what: format!("{} (`{commandline}`)", step.name), code: status.code() });
        }
    }
    Ok(())
}

/// Becomes the step's process, so that Ctrl-C reaches the run alone and its exit code is ours. Returns only if that
/// fails.
pub fn become_step(root: &Path, step: &Step, extra: &[String]) -> Error {
    let mut command = cargo(root, step);
    command.args(extra);
    replace(command)
}

#[cfg(unix)]
fn replace(mut command: Command) -> Error {
    use std::os::unix::process::CommandExt;
    Error::Start { program: "cargo".into(), source: command.exec() }
}

#[cfg(not(unix))]
fn replace(mut command: Command) -> Error {
    match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(source) => Error::Start { program: "cargo".into(), source },
    }
}

/// The step's command. `cargo run` tells its child about the package it runs; a cargo inside it must not take that for
/// its own, or it would build everything again.
fn cargo(root: &Path, step: &Step) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(step.cargo).current_dir(root);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "CARGO" {
            command.env_remove(&name);
        }
    }
    command
}
