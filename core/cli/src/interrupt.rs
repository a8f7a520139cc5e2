//! Ctrl-C: the first asks the work to stop at a safe place, the second ends the process.

use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);
static QUIET: AtomicBool = AtomicBool::new(false);

/// Installs the handler.
pub fn install() {
    let handler = || {
        if ASKED.swap(true, Ordering::SeqCst) {
            // The run store loses nothing at a hard stop either; the first Ctrl-C only makes it tidy.
            metareward_remote::kill_all();
            std::process::exit(crate::failure::Code::Interrupted as i32);
        }
        if !QUIET.load(Ordering::SeqCst) {
            eprintln!("\nstopping; what is done is kept (Ctrl-C again to stop at once)");
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        tracing::warn!("Ctrl-C ends the process at once: {error}");
    }
}

/// From now on Ctrl-C is answered without a word: another process of the group says it.
pub fn be_quiet() {
    QUIET.store(true, Ordering::SeqCst);
}

/// Whether Ctrl-C was pressed.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// Watches nothing but Ctrl-C: for commands that are over in a moment.
pub struct Quiet;

impl metareward_api::Watch for Quiet {
    fn progress(&self, _progress: metareward_api::Progress) {}

    fn step(&self, _metrics: &metareward_api::StepMetrics, _seconds: f64) {}

    fn stop(&self) -> bool {
        asked()
    }
}
