//! The reference implementations that tests compare with: a Python environment with transformers, and servers to speak
//! with, in `.venv/`.
//!
//! Nothing of metareward needs it. Tests that cannot have it say so and pass.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Names the Python to tests.
pub const VARIABLE: &str = "METAREWARD_PYTHON";

/// What is installed, with all dependencies: Python's torch does not start without the whole of CUDA, which makes this
/// several gigabytes.
const PACKAGES: [&str; 16] = [
    "torch==2.11.0",
    "transformers==4.57.6",
    "tokenizers==0.22.2",
    // What loads exported runs, and trains on one.
    "datasets==5.0.1",
    "pandas==3.1.1",
    "pyarrow==26.0.1",
    "trl==0.29.1",
    // What `transformers serve` needs beside.
    "accelerate==1.15.0",
    "fastapi==0.165.0",
    "openai==2.54.0",
    "pydantic==2.14.3",
    "starlette==1.10.0",
    "uvicorn==0.54.0",
    // llama.cpp's server, and what writes a model for it.
    "gguf==0.19.0",
    "safetensors==0.8.0",
    "xllamacpp==2026.10.11549",
];

/// What must be there once they are installed.
const IMPORTS: &str = "import torch, transformers, accelerate, datasets, pandas, pyarrow, trl, \
                       fastapi, openai, uvicorn, gguf, safetensors, xllamacpp";

/// Tells tests that the packages were installed for them: what is missing then is an error, and no reason to skip.
pub const REQUIRED: &str = "METAREWARD_REFERENCES";

/// The Python that the user names for the tests.
pub fn named() -> Option<PathBuf> {
    env::var_os(VARIABLE).map(PathBuf::from)
}

/// The Python in `.venv` of the checkout with the reference implementations, which is made on the first call. `None` where
/// it cannot be made or does not work; the reason is said.
pub fn install(root: &Path, say: &mut dyn FnMut(&str)) -> Option<PathBuf> {
    let folder = root.join(".venv");
    let python = folder.join("bin/python");
    let list = PACKAGES.join("\n");
    let done = folder.join("references.txt");
    if fs::read_to_string(&done).is_ok_and(|found| found == list) {
        return Some(python);
    }
    say("installing torch, transformers and servers for the tests into .venv (2.7 GB to download)");
    let made = run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
        .and_then(|()| {
            let mut pip = Command::new(&python);
            pip.args(["-m", "pip", "install", "--quiet", "--no-cache-dir", "--disable-pip-version-check"]);
            run(pip.args(PACKAGES))
        })
        .and_then(|()| run(Command::new(&python).args(["-c", IMPORTS])))
        .and_then(|()| fs::write(&done, list).map_err(|error| error.to_string()));
    match made {
        Ok(()) => Some(python),
        Err(why) => {
            say(&format!("tests against transformers and servers of others will be skipped: {why}"));
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
