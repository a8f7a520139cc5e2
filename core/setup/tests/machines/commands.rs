//! Which cargo commands `cargo quickstart` and `cargo selftest` come down to. cargo is a shell script here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use metareward_setup::steps::SELFTEST;

use crate::machine::Machine;

/// Runs the binary with a cargo that writes down its arguments and then does `then`.
fn run(machine: &Machine, then: &str, arguments: &[&str]) -> (Output, Vec<String>) {
    let log = machine.path("log");
    let _ = fs::remove_file(&log);
    let cargo = machine.path("cargo");
    let script =
        format!("#!/bin/sh\necho \"$PWD: $*\" >> '{}'\n[ -z \"$CARGO_PKG_NAME\" ] || exit 9\n{then}\n", log.display());
    fs::write(&cargo, script).unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_metareward-setup"));
    command.args(arguments).env_clear().env("PATH", machine.path("bin")).env("CARGO", &cargo);
    command.env("CARGO_PKG_NAME", "metareward-setup").env("CARGO_MANIFEST_DIR", machine.root().join("core/setup"));
    let output = command.env("LIBTORCH", machine.libtorch("given", 11)).output().unwrap();
    let log = fs::read_to_string(log).unwrap_or_default();
    let root = format!("{}: ", fs::canonicalize(machine.root()).unwrap().display());
    (output, log.lines().map(|line| line.strip_prefix(&root).expect("starts in the checkout").to_string()).collect())
}

#[test]
fn quickstart_passes_arguments_and_exit_code_on() {
    let machine = Machine::new();
    let (output, log) = run(&machine, "exit 3", &["quickstart", "--set", "seed=2"]);
    assert_eq!(log, ["run --release --package metareward -- run experiments/quickstart --set seed=2"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(machine.root().join(".libtorch/torch/include").exists(), "set-up comes first");
}

#[test]
fn selftest_runs_every_step_and_names_it() {
    let machine = Machine::new();
    let (output, log) = run(&machine, "exit 0", &["selftest", "--jobs", "1"]);
    let mut expected: Vec<String> = SELFTEST.iter().map(|step| step.cargo.join(" ")).collect();
    expected.last_mut().unwrap().push_str(" --jobs 1");
    assert_eq!(log, expected);
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    for step in SELFTEST {
        assert!(said.contains(&format!(", {}: cargo {}", step.name, step.cargo[0])), "{said}");
    }
}

#[test]
fn the_first_failure_ends_the_selftest() {
    let machine = Machine::new();
    let (output, log) = run(&machine, "case \"$1\" in clippy) exit 101 ;; esac", &["selftest"]);
    assert_eq!(log.len(), 2);
    assert_eq!(output.status.code(), Some(101));
    assert!(String::from_utf8(output.stderr).unwrap().contains("error: lints (`cargo clippy"));
}
