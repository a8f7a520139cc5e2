//! A report of a run holds what the run recorded.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use metareward_report::{Options, report};
use metareward_runtime::RunReader;

#[test]
fn made() {
    let Ok(runs) = std::env::var("REPORT_RUNS") else { return };
    let readers: Vec<RunReader> = runs.split(':').map(|r| RunReader::open(Path::new(r)).unwrap()).collect();
    let started = std::time::Instant::now();
    let written = report(&readers, Path::new("/tmp/report.html"), &Options::default()).unwrap();
    println!("{written:?} {:?}", started.elapsed());
}
