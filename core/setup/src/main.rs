//! `cargo setup`, `cargo quickstart` and `cargo selftest`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use metareward_setup::{Environment, Error, Wishes, add_wasm_targets, guests, prepare, references, steps};

const USAGE: &str = "\
cargo setup [--cuda] [--libtorch DIR]   find libtorch 2.11 or fetch it, add the wasm targets, and install into .tools
                                        what builds plugins in Python and JavaScript (for tests)
cargo quickstart [ARGUMENTS]            set up, then `metareward run experiments/quickstart ARGUMENTS`
cargo selftest [--references] [ARGUMENTS]
                                        set up, then format, lints and all tests; ARGUMENTS go to `cargo test`

--cuda          fetch all of CUDA (2.7 GB) unless a libtorch with CUDA is there
--libtorch DIR  use this libtorch, whatever else is there
--references    also compare with Python's transformers itself and speak with servers of others, installed into .venv
                (2.7 GB); without it those tests run where METAREWARD_PYTHON names a Python that has what they
                need, and say so and pass where it does not";

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

/// What set-up says goes to standard error, with its name before it.
fn say(line: &str) {
    eprintln!("setup: {line}");
}

fn run(mut arguments: Vec<String>) -> Result<(), Error> {
    if arguments.is_empty() {
        return Err(Error::Usage(format!("what is to be done?\n{USAGE}")));
    }
    let command = arguments.remove(0);
    let wishes = match command.as_str() {
        "setup" => wishes(&arguments)?,
        "quickstart" | "selftest" => Some(Wishes::default()),
        other => return Err(Error::Usage(format!("no command `{other}`\n{USAGE}"))),
    };
    let Some(wishes) = wishes else {
        println!("{USAGE}");
        return Ok(());
    };
    let root = root();
    let environment = Environment::of_process();
    let libtorch = prepare(&root, &environment, &wishes, &mut say)?;
    add_wasm_targets(&root, &mut say);
    if command != "quickstart" {
        guests::Tools::of(&root).install(&environment, &mut say);
    }
    match command.as_str() {
        "quickstart" => Err(steps::become_step(&root, &steps::QUICKSTART, &arguments)),
        "selftest" => {
            let wanted = arguments.iter().position(|argument| argument == "--references");
            let python = match wanted {
                Some(place) => {
                    arguments.remove(place);
                    references::install(&root, &mut say)
                }
                None => references::named(),
            };
            steps::run(&root, &steps::SELFTEST, &arguments, python.as_deref(), &mut say)
        }
        _ => {
            say(&format!("libtorch {} is ready: {}", libtorch.version, libtorch.folder.display()));
            Ok(())
        }
    }
}

/// The wishes of `cargo setup`; `None` if only the usage is asked for.
fn wishes(arguments: &[String]) -> Result<Option<Wishes>, Error> {
    let mut wishes = Wishes::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--cuda" => wishes.cuda = true,
            "--libtorch" => match arguments.next() {
                Some(folder) => wishes.libtorch = Some(PathBuf::from(folder)),
                None => return Err(Error::Usage(format!("--libtorch needs a folder\n{USAGE}"))),
            },
            "--help" | "-h" => return Ok(None),
            other => return Err(Error::Usage(format!("no argument `{other}`\n{USAGE}"))),
        }
    }
    Ok(Some(wishes))
}

/// The checkout: two folders above this crate's. cargo says where that is; a binary started by hand knows where it was
/// built.
fn root() -> PathBuf {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest.ancestors().nth(2).map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}
