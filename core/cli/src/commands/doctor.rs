//! `metareward doctor`: what was found on this machine and, for what is missing, what to do. Started as several processes,
//! also what was found of the group.

use std::{path::Path, time::Duration};

use metareward_setup::{Environment, gibibytes, probe};
use metareward_torch::{
    DeviceChoice, Group, TorchError,
    group::{GroupFound, Member, Patience},
    libtorch_info,
};
use serde_json::json;

use crate::failure::{Code, Failure};

/// How long the processes of a group wait for each other.
const PATIENCE: Duration = Duration::from_secs(60);

/// Prints the findings, then the advice. Of several processes only the first one prints.
///
/// # Errors
/// Of one process none: what is missing is said, not failed on. Of several, when they do not all find each other.
pub fn run(json: bool) -> Result<(), Failure> {
    let group = match Member::of_process() {
        Ok(None) => None,
        Ok(Some(member)) => match look(member).map_err(failed)? {
            Some(found) => Some(found),
            None => return Ok(()),
        },
        Err(error) => return Err(failed(error)),
    };
    let here = std::env::current_dir().unwrap_or_else(|_| ".".into());
    // A checkout is told by the file that its set-up reads.
    let checkout = here.ancestors().find(|folder| folder.join("core/setup/Cargo.toml").is_file());
    let report = probe(checkout, &Environment::of_process());
    let torch = libtorch_info();
    let folder = torch.folder.as_deref().map(Path::display).map(|folder| folder.to_string());
    if json {
        let targets: serde_json::Map<String, serde_json::Value> =
            report.wasm_targets.iter().map(|(target, there)| ((*target).to_owned(), json!(there))).collect();
        let value = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "system": report.system,
            "glibc": report.glibc.map(|(major, minor)| format!("{major}.{minor}")),
            "libtorch": { "version": torch.version, "folder": folder },
            "cuda": torch.cuda.to_string(),
            "threads": report.threads,
            "free_disk_bytes": report.free_disk,
            "wasm_targets": targets,
            "advice": report.advice,
            "group": group.as_ref().map(|group| json!({
                "processes": group.processes,
                "all_reduce_bytes": group.bytes,
                "all_reduce_seconds": group.seconds,
                "bytes_per_second": group.bandwidth(),
                "faults": group.faults,
            })),
        });
        println!("{value}");
        return sound(group.as_ref());
    }
    let unknown = || "unknown".to_owned();
    let line = |name: &str, value: String| println!("{name:<14} {value}");
    line("metareward", env!("CARGO_PKG_VERSION").to_owned());
    line("system", report.system.clone());
    line("glibc", report.glibc.map_or_else(unknown, |(major, minor)| format!("{major}.{minor}")));
    line("libtorch", format!("{} in {}", torch.version, folder.unwrap_or_else(unknown)));
    line("cuda", torch.cuda.to_string());
    line("threads", report.threads.to_string());
    line(
        "free disk",
        report.free_disk.map_or_else(unknown, |bytes| format!("{} in {}", gibibytes(bytes), here.display())),
    );
    for (target, there) in &report.wasm_targets {
        line(target, if *there { "installed".to_owned() } else { "not installed".to_owned() });
    }
    for rejected in &report.rejected {
        line("passed over", format!("{}: {}", rejected.folder.display(), rejected.why));
    }
    if let Some(group) = &group {
        line("group", format!("{} processes", group.processes.len()));
        for process in &group.processes {
            let threads = process.threads;
            let visible = process.visible.as_ref().map(|visible| format!(" of CUDA_VISIBLE_DEVICES={visible}"));
            println!(
                "{:<14} {} on {}: {}{}, {threads} thread{}",
                "",
                process.rank,
                process.host,
                process.device,
                visible.unwrap_or_default(),
                if threads == 1 { "" } else { "s" },
            );
        }
        line(
            "all-reduce",
            format!(
                "{} MB in {:.3} s, {:.2} GB/s each way",
                group.bytes / 1_000_000,
                group.seconds,
                group.bandwidth() / 1e9
            ),
        );
    }
    if report.advice.is_empty() {
        println!("\nnothing is missing");
    } else {
        println!("\nto do:");
        for advice in &report.advice {
            println!("  - {advice}");
        }
    }
    sound(group.as_ref())
}

/// Meets the other processes; what was found, at the first one.
fn look(member: Member) -> Result<Option<GroupFound>, TorchError> {
    let device = DeviceChoice::Auto.resolve_for(member.local_rank)?;
    Group::join(member, device, Patience { join: PATIENCE, tensors: PATIENCE, bytes: PATIENCE })?.look()
}

fn failed(error: TorchError) -> Failure {
    Failure::new(Code::Machine, error)
}

/// A group with faults is printed and fails.
fn sound(group: Option<&GroupFound>) -> Result<(), Failure> {
    match group.map_or(&[][..], |group| &group.faults) {
        [] => Ok(()),
        faults => Err(Failure::new(Code::Machine, faults.join("; "))),
    }
}
