//! Work that all ranks do at the same time, and the rounds beside it: a few times a second every rank says how it is
//! doing, and rank 0 says whether to go on. So progress is the whole group's, a stop is agreed, a failure on one rank ends
//! the others' work, and a rank that is gone is noticed at once.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use metareward_api::{EngineError, Progress, StepMetrics, Watch};

use crate::{
    Exchange, RanksError,
    error::on_rank,
    message::{Status, Verdict, broadcast, gather},
};

/// Time between two rounds, as between two looks at a call's progress.
const ROUND: Duration = Duration::from_millis(200);

/// What the ranks' work is to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Shares that know nothing of each other. Every rank ends its own, whatever becomes of the others'.
    Shares,
    /// One computation whose steps wait for each other. Where one rank fails, the others wait for it in vain: all end.
    Lockstep,
}

/// One rank's work as the rounds see it, and the rounds as the work sees them.
struct Pulse<'a> {
    outside: &'a dyn Watch,
    work: Work,
    leads: bool,
    status: Mutex<Status>,
    changed: Condvar,
    stop: AtomicBool,
}

impl Pulse<'_> {
    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, failed: Option<EngineError>) {
        let mut status = self.status();
        status.finished = true;
        status.failed = failed;
        self.changed.notify_all();
    }

    /// The status when the work is done, or when it is time for a round.
    fn wait(&self) -> Status {
        let status = self.status();
        let waited = self.changed.wait_timeout_while(status, ROUND, |status| !status.finished);
        let (status, _) = waited.unwrap_or_else(PoisonError::into_inner);
        Status { stop: self.outside.stop(), ..status.clone() }
    }
}

impl Watch for Pulse<'_> {
    fn progress(&self, progress: Progress) {
        match self.work {
            Work::Shares => self.status().progress = progress,
            // Rank 0's steps are everyone's.
            Work::Lockstep if self.leads => self.outside.progress(progress),
            Work::Lockstep => {}
        }
    }

    fn step(&self, metrics: &StepMetrics, seconds: f64) {
        if self.leads {
            self.outside.step(metrics, seconds);
        }
    }

    fn stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Marks the work as failed when it panics, so that the rounds end and the panic is seen.
struct Panicked<'a, 'w>(&'a Pulse<'w>);

impl Drop for Panicked<'_, '_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.finish(Some(EngineError::Machine("it stopped because of a mistake in metareward".to_owned())));
        }
    }
}

/// How work that all ranks did ended.
pub(crate) struct Ended<T> {
    /// What came of this rank's work.
    pub outcome: Result<T, EngineError>,
    /// At rank 0: the first rank that failed, with its error.
    pub failed: Option<EngineError>,
    /// Some rank was asked to stop, perhaps when all had finished already.
    pub stop: bool,
}

/// Does this rank's `work` beside the rounds. `outside` sees the whole group's progress on rank 0, and says on every rank
/// whether to stop.
///
/// # Errors
/// When another rank is gone; this one's work was then stopped.
pub(crate) fn beside<T>(
    exchange: &dyn Exchange,
    kind: Work,
    outside: &dyn Watch,
    work: impl FnOnce(&dyn Watch) -> Result<T, EngineError>,
) -> Result<Ended<T>, RanksError> {
    let pulse = Pulse {
        outside,
        work: kind,
        leads: exchange.rank() == 0,
        status: Mutex::default(),
        changed: Condvar::new(),
        // One that was stopped before it began does not begin.
        stop: AtomicBool::new(false),
    };
    thread::scope(|scope| {
        let rounds = scope.spawn(|| {
            let outcome = rounds(exchange, &pulse);
            if outcome.is_err() {
                pulse.stop.store(true, Ordering::Relaxed);
            }
            outcome
        });
        let outcome = {
            let _panicked = Panicked(&pulse);
            work(&pulse)
        };
        pulse.finish(outcome.as_ref().err().filter(|error| **error != EngineError::Stopped).cloned());
        let (failed, stop) =
            rounds.join().map_err(|_| RanksError::Lost("the rounds panicked: this is a bug".to_owned()))??;
        Ok(Ended { outcome, failed, stop })
    })
}

/// Rounds until all are finished. Returns, at rank 0, the first rank's failure; and whether one was asked to stop.
fn rounds(exchange: &dyn Exchange, pulse: &Pulse<'_>) -> Result<(Option<EngineError>, bool), RanksError> {
    let mut asked = false;
    loop {
        let all = gather(exchange, &pulse.wait())?;
        let failed = all.as_ref().and_then(|all| {
            all.iter().enumerate().find_map(|(rank, status)| Some(on_rank(rank, status.failed.clone()?)))
        });
        let verdict = all.map(|all| {
            asked |= all.iter().any(|status| status.stop);
            let stop = asked || failed.is_some();
            let finished = all.iter().all(|status| status.finished);
            if pulse.work == Work::Shares {
                let sum = |count: fn(&Progress) -> u64| all.iter().map(|status| count(&status.progress)).sum();
                let (done, total, tokens) = (sum(|it| it.done), sum(|it| it.total), sum(|it| it.tokens));
                pulse.outside.progress(Progress { done, total, tokens });
            }
            Verdict { stop, over: finished || (failed.is_some() && pulse.work == Work::Lockstep) }
        });
        let verdict = broadcast(exchange, verdict.as_ref())?;
        if verdict.stop {
            pulse.stop.store(true, Ordering::Relaxed);
        }
        if verdict.over {
            return Ok((failed, asked));
        }
    }
}
