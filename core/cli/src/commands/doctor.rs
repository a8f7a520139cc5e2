//! `metareward doctor`: what was found on this machine and, for what is missing, what to do.

use std::path::Path;

use metareward_setup::{Environment, gibibytes, probe};
use metareward_torch::libtorch_info;
use serde_json::json;

use crate::failure::Failure;

/// Prints the findings, then the advice.
///
/// # Errors
/// None: what is missing is said, not failed on.
pub fn run(json: bool) -> Result<(), Failure> {
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
        });
        println!("{value}");
        return Ok(());
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
    if report.advice.is_empty() {
        println!("\nnothing is missing");
    } else {
        println!("\nto do:");
        for advice in &report.advice {
            println!("  - {advice}");
        }
    }
    Ok(())
}
