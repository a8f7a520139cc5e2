//! Wheels: fetched whole or not at all, even when set-up is killed meanwhile. pip is a shell script here, and the wheels are
//! a few bytes; the binary, the unpacking and the kill are real.
#![cfg(target_arch = "x86_64")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::machine::{Machine, real_python};
use metareward_setup::{Layout, Origin};

/// Copies what pip would download: the torch wheel when asked for torch, the others when asked for nvidia's.
const PIP: &str = "case \"$*\" in *torch==*) cp \"$WHEELS\"/torch* \"$dest\" ;; *) cp \"$WHEELS\"/nvidia* \"$dest\" ;; esac; \
                   echo \"$*\" >> \"$WHEELS/asked\"";

/// A machine with wheels to be had; `None` where there is no Python to pack and unpack them, or too little disk: set-up
/// asks for what real wheels take, as it must.
fn machine() -> Option<Machine> {
    let Some(python) = real_python() else {
        println!("no python3 here: nothing tested");
        return None;
    };
    let machine = Machine::new();
    machine.python("bin", None, "exit 1");
    let refused = setup(&machine, &[]);
    if said(&refused).contains("not enough disk space") {
        println!("too little disk here, only that was tested: {}", said(&refused));
        return None;
    }
    machine.libtorch("stage/torch", 11);
    let metadata = "Name: torch\nRequires-Dist: nvidia-cudnn-cu13==9; platform_system == \"Linux\"\n\n";
    fs::create_dir_all(machine.path("stage/torch-2.11.0.dist-info")).unwrap();
    fs::write(machine.path("stage/torch-2.11.0.dist-info/METADATA"), metadata).unwrap();
    fs::create_dir_all(machine.path("other/nvidia/cu13/lib")).unwrap();
    fs::write(machine.path("other/nvidia/cu13/lib/libcudart.so.13"), "cudart").unwrap();
    fs::create_dir_all(machine.path("wheels")).unwrap();
    for (folder, wheel) in [("stage", "torch-2.11.0-cp312.whl"), ("other", "nvidia_cuda_runtime-13.whl")] {
        let pack = "import shutil, sys; shutil.make_archive(sys.argv[1], 'zip', sys.argv[2])";
        let base = machine.path("wheels").join("packed");
        let status = Command::new(&python).args(["-c", pack]).arg(&base).arg(machine.path(folder)).status();
        assert!(status.unwrap().success());
        fs::rename(base.with_extension("zip"), machine.path("wheels").join(wheel)).unwrap();
    }
    machine.python("bin", None, PIP);
    Some(machine)
}

fn command(machine: &Machine, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_metareward-setup"));
    command.args(arguments).env_clear().env("PATH", machine.path("bin")).env("WHEELS", machine.path("wheels"));
    command.env("CARGO_MANIFEST_DIR", machine.root().join("core/setup"));
    command
}

fn setup(machine: &Machine, arguments: &[&str]) -> Output {
    command(machine, &[&["setup"], arguments].concat()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_cpu_subset_is_fetched_once() {
    let Some(machine) = machine() else { return };
    let output = setup(&machine, &[]);
    assert!(output.status.success(), "{}", said(&output));
    let own = machine.root().join(".libtorch");
    assert_eq!(names(&own.join("wheels/torch/lib")), ["libc10.so", "libgomp.so.1", "libtorch_cpu.so"]);
    assert_eq!(fs::read_link(own.join("torch/include")).unwrap(), Path::new("../wheels/torch/include"));
    assert_eq!(fs::read_to_string(own.join("nvidia/cu13/lib/libcudart.so.13")).unwrap(), "cudart");
    assert!(!own.join("partial").exists());
    assert_eq!(Layout::new(&machine.root()).current().unwrap().origin, Origin::Wheels);

    let asked = || fs::read_to_string(machine.path("wheels/asked")).unwrap();
    assert_eq!(asked().lines().count(), 2);
    assert!(asked().contains("torch==2.11.0") && asked().contains("nvidia-cuda-cupti==13.0.85"));
    assert!(setup(&machine, &[]).status.success());
    assert_eq!(asked().lines().count(), 2, "nothing is fetched twice");
    // Without the links, the wheels are still good.
    fs::remove_dir_all(own.join("torch")).unwrap();
    assert!(setup(&machine, &[]).status.success());
    assert_eq!(asked().lines().count(), 2, "whole wheels are used again");
    // A checkout that is moved keeps working.
    fs::rename(machine.root(), machine.path("moved")).unwrap();
    assert!(Layout::new(&machine.path("moved")).current().is_ok());
}

#[test]
fn all_of_cuda_is_what_the_wheel_requires() {
    let Some(machine) = machine() else { return };
    let output = setup(&machine, &["--cuda"]);
    // The test needs 11 GiB free, which a small machine may not have; then the error must say so.
    if said(&output).contains("not enough disk space") {
        println!("too little disk: only the message was tested");
        return;
    }
    assert!(output.status.success(), "{}", said(&output));
    let asked = fs::read_to_string(machine.path("wheels/asked")).unwrap();
    assert!(asked.lines().last().unwrap().ends_with("nvidia-cudnn-cu13==9"), "{asked}");
    assert!(machine.root().join(".libtorch/wheels/torch/lib/libtorch_cuda.so").is_file());
    assert!(!machine.root().join(".libtorch/torch/lib/libtorch_cuda.so").exists());
    let found = fs::read_to_string(machine.root().join(".libtorch/found.json")).unwrap();
    assert!(found.contains("libtorch_cuda.so"), "{found}");
}

#[test]
fn a_set_up_that_is_killed_leaves_nothing_half_done() {
    let Some(machine) = machine() else { return };
    // Killed in the first download and in the second.
    let own = machine.root().join(".libtorch");
    for stage in ["torch", "nvidia"] {
        let marker = machine.path(stage).with_extension("reached");
        let stop = format!("touch '{}'; sleep 5", marker.display());
        let pip = match stage {
            "torch" => format!("cp \"$WHEELS\"/torch* \"$dest\"; {stop}"),
            _ => format!("case \"$*\" in *torch==*) cp \"$WHEELS\"/torch* \"$dest\" ;; *) {stop} ;; esac"),
        };
        machine.python("bin", None, &pip);
        let mut child = command(&machine, &["setup"]).spawn().unwrap();
        let start = Instant::now();
        while !marker.exists() {
            assert!(start.elapsed() < Duration::from_secs(60), "pip was never asked for {stage}");
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(own.join("partial").is_dir());
        assert!(!own.join("wheels").exists() && !own.join("torch").exists() && !own.join("cargo.toml").exists());
    }
    machine.python("bin", None, PIP);
    let output = setup(&machine, &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(names(&own), ["cargo.toml", "found.json", "lock", "nvidia", "torch", "wheels"]);
}

#[test]
fn a_failed_download_says_why_and_can_be_tried_again() {
    let Some(machine) = machine() else { return };
    machine.python("bin", None, "echo \"connection broken by 'NewConnectionError'\" >&2; exit 1");
    let output = setup(&machine, &[]);
    assert_eq!(output.status.code(), Some(4));
    assert!(said(&output).contains("could not reach its package registry"), "{}", said(&output));
    assert!(!machine.root().join(".libtorch/partial").exists());
    machine.python("bin", None, PIP);
    assert!(setup(&machine, &[]).status.success());
}

#[test]
fn arguments_are_checked_before_anything_is_done() {
    let machine = Machine::new();
    for arguments in [&["setup", "--cud"][..], &["setup", "--libtorch"], &["quickstrat"], &[]] {
        let output = command(&machine, arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said(&output).contains("cargo quickstart"), "{arguments:?} shows the usage");
    }
    assert!(!machine.root().join(".libtorch").exists());
}
