//! The reference implementations that tests compare with: a Python environment with transformers, in `.venv/`.
//!
//! Nothing of metareward needs it. Tests that cannot have it say so and pass.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Names the Python to tests.
pub const VARIABLE: &str = "METAREWARD_PYTHON";

/// What is installed, with its dependencies.
const PACKAGES: [&str; 11] = [
    "transformers==4.57.6",
    "tokenizers==0.22.2",
    "safetensors",
    "numpy",
    "jinja2",
    "sympy",
    "networkx",
    "filelock",
    "fsspec",
    "typing_extensions",
    "setuptools",
];

/// What is installed without dependencies: on a CPU torch needs none of CUDA but these two.
const ALONE: [&str; 3] = ["torch==2.11.0", "nvidia-cuda-runtime==13.0.96", "nvidia-cuda-cupti==13.0.85"];

/// The Python with the reference implementations: the one that the user names, else `.venv` in the checkout, which is made
/// on the first call. `None` where it cannot be made; the reason is said.
pub fn python(root: &Path, say: &mut dyn FnMut(&str)) -> Option<PathBuf> {
    if let Some(named) = env::var_os(VARIABLE) {
        return Some(named.into());
    }
    let folder = root.join(".venv");
    let python = folder.join("bin/python");
    let list = [&PACKAGES[..], &ALONE[..]].concat().join("\n");
    let done = folder.join("references.txt");
    if fs::read_to_string(&done).is_ok_and(|found| found == list) {
        return Some(python);
    }
    say("installing the reference implementations for the tests into .venv");
    let steps: [&[&str]; 2] = [&PACKAGES, &ALONE];
    let made = run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder)).and_then(|()| {
        steps.iter().enumerate().try_for_each(|(place, packages)| {
            let mut pip = Command::new(&python);
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
            if place == 1 {
                pip.arg("--no-deps");
            }
            run(pip.args(*packages))
        })
    });
    let noted = made.and_then(|()| fs::write(&done, list).map_err(|error| error.to_string()));
    match noted {
        Ok(()) => Some(python),
        Err(why) => {
            say(&format!("tests against transformers itself will be skipped: {why}"));
            None
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().last().unwrap_or("a command failed without a word").to_owned())
}
