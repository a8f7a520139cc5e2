//! In which order libtorch is looked for, and what is passed over.

use std::fs;

use crate::machine::Machine;
use metareward_setup::{Environment, Error, Layout, Origin, Wishes, locate, prepare, probe};

#[test]
fn the_order_is_libtorch_then_the_active_environment_then_the_path() {
    let machine = Machine::new();
    let given = machine.libtorch("given", 11);
    let venv = machine.libtorch("venv/site-packages/torch", 11);
    let path = machine.libtorch("path/site-packages/torch", 11);
    machine.python("venv/bin", Some(&venv), "");
    machine.python("bin", Some(&path), "");
    let mut environment = machine.environment();
    environment.virtual_env = Some(machine.path("venv"));
    environment.libtorch = Some(given.clone());
    let own = machine.root().join(".libtorch");
    let find =
        |environment: &Environment| locate(environment, &own, false).libtorch.map(|found| (found.origin, found.folder));

    assert_eq!(find(&environment), Some((Origin::Given, given)));
    environment.libtorch = None;
    assert_eq!(find(&environment), Some((Origin::Python, venv)));
    environment.virtual_env = None;
    assert_eq!(find(&environment), Some((Origin::Python, path)));
    machine.python("bin", None, "");
    assert_eq!(find(&environment), None);
}

#[test]
fn a_wrong_version_is_named_and_passed_over() {
    let machine = Machine::new();
    let wrong = machine.libtorch("given", 10);
    let older = machine.libtorch("venv/site-packages/torch", 9);
    let right = machine.libtorch("path/site-packages/torch", 11);
    machine.python("venv/bin", Some(&older), "");
    machine.python("bin", Some(&right), "");
    let mut environment = machine.environment();
    environment.virtual_env = Some(machine.path("venv"));
    environment.libtorch = Some(wrong.clone());
    let found = locate(&environment, &machine.root().join(".libtorch"), false);
    assert_eq!(found.libtorch.unwrap().folder, right);
    let reasons: Vec<_> = found.rejected.iter().map(|rejected| (&rejected.folder, rejected.why.as_str())).collect();
    assert_eq!(
        reasons,
        [(&wrong, "its version is 2.10.0, and 2.11 is needed"), (&older, "its version is 2.9.0, and 2.11 is needed"),]
    );
}

#[test]
fn an_incomplete_folder_is_passed_over() {
    let machine = Machine::new();
    let mut environment = machine.environment();
    let own = machine.root().join(".libtorch");
    let mut why = |folder| {
        environment.libtorch = Some(folder);
        locate(&environment, &own, false).rejected[0].why.clone()
    };
    assert_eq!(why(machine.path("nowhere")), "no such folder");
    fs::create_dir(machine.path("empty")).unwrap();
    assert!(why(machine.path("empty")).contains("no header that names a version"));
    let folder = machine.libtorch("headers", 11);
    fs::remove_file(folder.join("lib/libtorch_cpu.so")).unwrap();
    assert!(why(folder).ends_with("lib/libtorch_cpu.so is missing"));
}

#[test]
fn its_own_folder_is_no_find() {
    let machine = Machine::new();
    machine.libtorch("checkout/.libtorch/torch", 11);
    let own = machine.root().join(".libtorch");
    for own_path in [own.join("torch"), machine.root().join(".cargo/../.libtorch/torch")] {
        let environment = Environment { libtorch: Some(own_path), ..machine.environment() };
        assert_eq!(locate(&environment, &own, false), metareward_setup::Found::default());
    }
}

#[test]
fn the_layout_leaves_cuda_and_python_out() {
    let machine = Machine::new();
    let given = machine.libtorch("site-packages/torch", 11);
    fs::create_dir_all(machine.path("site-packages/nvidia/cu13/lib")).unwrap();
    let environment = Environment { libtorch: Some(given.clone()), ..machine.environment() };
    let mut said = Vec::new();
    prepare(&machine.root(), &environment, &Wishes::default(), &mut |line| said.push(line.to_string())).unwrap();

    let own = machine.root().join(".libtorch");
    let mut names: Vec<_> =
        fs::read_dir(own.join("torch/lib")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["libc10.so", "libgomp.so.1", "libtorch.so", "libtorch_cpu.so"]);
    assert_eq!(fs::read_to_string(own.join("torch/lib/libtorch.so")).unwrap(), "INPUT(libtorch_cpu.so)\n");
    assert_eq!(fs::read_to_string(own.join("torch/lib/libtorch_cpu.so")).unwrap(), "libtorch_cpu.so");
    assert_eq!(fs::canonicalize(own.join("torch/include")).unwrap(), fs::canonicalize(given.join("include")).unwrap());
    assert!(own.join("nvidia/cu13/lib").is_dir());
    assert!(!own.join("torch.new").exists());
    let settings = fs::read_to_string(own.join("cargo.toml")).unwrap();
    assert!(settings.contains("force = true") && settings.contains(own.join("torch").to_str().unwrap()), "{settings}");
    let found = fs::read_to_string(own.join("found.json")).unwrap();
    assert!(found.contains("\"version\": \"2.11.0\"") && found.contains("\"origin\": \"given\""), "{found}");
    assert_eq!(said.len(), 1, "{said:?}");
}

#[test]
fn a_second_time_changes_nothing_and_asks_nobody() {
    let machine = Machine::new();
    let python = machine.libtorch("site-packages/torch", 11);
    machine.python("bin", Some(&python), "");
    let environment = machine.environment();
    let first = prepare(&machine.root(), &environment, &Wishes::default(), &mut |_| {}).unwrap();
    let own = machine.root().join(".libtorch");
    let times = || {
        let files = ["torch", "torch/lib", "cargo.toml", "found.json"];
        files.map(|name| fs::symlink_metadata(own.join(name)).unwrap().modified().unwrap())
    };
    let before = times();
    // Without a Python there is nobody to ask.
    fs::remove_file(machine.path("bin/python3")).unwrap();
    fs::remove_file(machine.path("bin/python")).unwrap();
    let mut said = Vec::new();
    let second =
        prepare(&machine.root(), &environment, &Wishes::default(), &mut |line| said.push(line.to_string())).unwrap();
    assert_eq!(times(), before);
    assert_eq!(said, Vec::<String>::new());
    assert_eq!((second.origin, second.version), (Origin::Python, first.version));
}

#[test]
fn a_libtorch_that_went_away_is_looked_for_again() {
    let machine = Machine::new();
    let old = machine.libtorch("old", 11);
    let environment = Environment { libtorch: Some(old.clone()), ..machine.environment() };
    prepare(&machine.root(), &environment, &Wishes::default(), &mut |_| {}).unwrap();
    fs::remove_dir_all(&old).unwrap();
    let layout = Layout::new(&machine.root());
    assert!(layout.current().is_err());
    let new = machine.libtorch("new", 11);
    let environment = Environment { libtorch: Some(new.clone()), ..machine.environment() };
    let mut said = Vec::new();
    prepare(&machine.root(), &environment, &Wishes::default(), &mut |line| said.push(line.to_string())).unwrap();
    assert_eq!(layout.current().unwrap().folder, fs::canonicalize(new).unwrap());
    assert!(said[0].starts_with("the libtorch in .libtorch cannot be used"), "{said:?}");
}

#[test]
fn one_that_is_asked_for_is_taken_or_refused() {
    let machine = Machine::new();
    let environment = Environment { libtorch: Some(machine.libtorch("given", 11)), ..machine.environment() };
    prepare(&machine.root(), &environment, &Wishes::default(), &mut |_| {}).unwrap();
    let other = machine.libtorch("other", 11);
    let wishes = Wishes { libtorch: Some(other.clone()), ..Wishes::default() };
    assert_eq!(prepare(&machine.root(), &environment, &wishes, &mut |_| {}).unwrap().folder, other);
    let wishes = Wishes { libtorch: Some(machine.libtorch("wrong", 13)), ..Wishes::default() };
    let error = prepare(&machine.root(), &environment, &wishes, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("its version is 2.13.0"), "{error}");
    assert_eq!(error.exit_code(), 2);
    assert_eq!(Layout::new(&machine.root()).current().unwrap().folder, fs::canonicalize(other).unwrap());
}

#[test]
fn without_pip_the_error_says_what_to_install() {
    let machine = Machine::new();
    let error = prepare(&machine.root(), &machine.environment(), &Wishes::default(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::NoPip { .. } | Error::NoWheels { .. }), "{error}");
    assert_eq!(error.exit_code(), 4);
    if cfg!(target_arch = "x86_64") {
        let text = error.to_string();
        assert!(text.contains("python3 and python are not on PATH") && text.contains("python3-pip"), "{text}");
        machine.python("bin", None, "");
        let error = prepare(&machine.root(), &machine.environment(), &Wishes::default(), &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("No module named pip"), "{error}");
    }
}

#[test]
fn the_report_says_what_is_missing_and_what_to_do() {
    let machine = Machine::new();
    let report = probe(Some(&machine.root()), &machine.environment());
    assert_eq!(report.libtorch, None);
    assert!(!report.set_up && report.threads >= 1);
    assert!(report.advice.iter().any(|line| line.contains("run `cargo setup`")), "{:?}", report.advice);

    let environment = Environment { libtorch: Some(machine.libtorch("given", 11)), ..machine.environment() };
    let report = probe(Some(&machine.root()), &environment);
    assert!(report.libtorch.is_some() && !report.set_up);
    prepare(&machine.root(), &environment, &Wishes::default(), &mut |_| {}).unwrap();
    let report = probe(Some(&machine.root()), &environment);
    assert!(report.libtorch.is_some() && report.set_up);
    let wrong = Environment { libtorch: Some(machine.libtorch("wrong", 10)), ..machine.environment() };
    let report = probe(None, &wrong);
    assert!(report.libtorch.is_none() && report.rejected[0].why.contains("2.10.0"));
    assert!(report.advice[0].contains("export LIBTORCH"), "{:?}", report.advice);
}
