//! The micro-batches of a step, on one or several threads.
//!
//! Every thread computes whole micro-batches. Their gradients are added up in the order of the micro-batches, so the sum
//! is the same, bit for bit, however many threads there are.

use std::sync::{
    Condvar, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use metareward_api::EngineError;

use super::{
    native::Turns,
    parameters::Layout,
    ranks::{Batch, Sum},
    worker::{Failure, Objective, Sums, TensorWorker, Unit, Worker},
};

/// The threads of a training run and how many threads each may use inside an operation.
pub(crate) struct Team {
    workers: Vec<Worker>,
    intra_op: i32,
}

/// The gradient under way, and whose turn it is to add to it.
struct Turn<'a, 's> {
    sum: &'a mut Sum<'s>,
    next: usize,
    failed: bool,
}

impl Team {
    /// A team of `workers`, at least one.
    pub fn new(workers: Vec<Worker>, intra_op: i32) -> Self {
        Self { workers, intra_op }
    }

    /// Runs `job` for every index below `count` and returns the answers in order. Of several failures that of the lowest
    /// index is returned. `stop` is asked before every index.
    pub fn run<R: Send>(
        &mut self,
        count: usize,
        stop: &(dyn Fn() -> bool + Sync),
        job: impl Fn(&mut Worker, usize) -> std::result::Result<R, Failure> + Sync,
    ) -> std::result::Result<Vec<R>, Failure> {
        let next = AtomicUsize::new(0);
        let ended = AtomicBool::new(false);
        let answers: Mutex<Vec<Option<std::result::Result<R, Failure>>>> =
            Mutex::new((0..count).map(|_| None).collect());
        let work = |worker: &mut Worker| {
            while !ended.load(Ordering::SeqCst) {
                let index = next.fetch_add(1, Ordering::SeqCst);
                if index >= count {
                    break;
                }
                let answer = if stop() { Err(Failure::Engine(EngineError::Stopped)) } else { job(worker, index) };
                if answer.is_err() {
                    ended.store(true, Ordering::SeqCst);
                }
                if let Some(place) = answers.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
                    *place = Some(answer);
                }
            }
        };
        let intra_op = self.intra_op;
        if let Some((own, others)) = self.workers.split_first_mut() {
            let needed = count.saturating_sub(1).min(others.len());
            let others = &mut others[..needed];
            std::thread::scope(|scope| {
                let work = &work;
                for worker in others {
                    scope.spawn(move || {
                        set_own_threads(intra_op);
                        work(worker);
                    });
                }
                work(own);
            });
        }
        let answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Indices are handed out in order, so every index below a failure has an answer.
        answers.into_iter().flatten().collect()
    }

    /// The loss alone of a step's micro-batches, of weights that are shared out: `sum` puts them together.
    pub fn evaluate_shared(
        &mut self,
        micro_batches: &[Vec<&Unit>],
        objective: Objective<'_>,
        sum: &mut Sum<'_>,
    ) -> std::result::Result<Sums, Failure> {
        let mut total = Sums::default();
        let Some(worker) = self.workers.first() else { return Ok(total) };
        for (index, units) in micro_batches.iter().enumerate() {
            total.add(&tensors(worker)?.evaluate(units, objective, &mut Batch { sum, index })?);
        }
        Ok(total)
    }

    /// Whether the workers compute with our own kernels.
    pub fn native(&self) -> bool {
        matches!(self.workers.first(), Some(Worker::Native(_)))
    }

    /// Workers.
    pub fn size(&self) -> usize {
        self.workers.len()
    }

    /// Gives back the memory that workers hold between micro-batches.
    pub fn release(&mut self) {
        for worker in &mut self.workers {
            if let Worker::Native(worker) = worker {
                worker.release();
            }
        }
    }

    /// Adds the gradient of the mean loss of a step, laid out by `layout`, to `sum`, and returns the step's sums.
    pub fn gradients(
        &mut self,
        micro_batches: &[Vec<&Unit>],
        objective: Objective<'_>,
        layout: &Layout,
        sum: &mut Sum<'_>,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> std::result::Result<Sums, Failure> {
        if self.native() {
            return self.native_gradients(micro_batches, objective, layout, sum, stop);
        }
        let alone = self.workers.len() == 1;
        let turn = Mutex::new(Turn { sum, next: 0, failed: false });
        let changed = Condvar::new();
        let lock = || turn.lock().unwrap_or_else(PoisonError::into_inner);
        let stop_and_release = || {
            let stopped = stop();
            if stopped {
                lock().failed = true;
                changed.notify_all();
            }
            stopped
        };
        let sums = self.run(micro_batches.len(), &stop_and_release, |worker, index| {
            let units = &micro_batches[index];
            if alone {
                // No second copy of the gradient: every tensor is added as soon as it is there.
                let mut turn = lock();
                let turn = &mut *turn;
                tensors(worker)?.gradients(units, objective, &mut Batch { sum: turn.sum, index })
            } else {
                let mut all = Vec::new();
                let computed = tensors(worker).and_then(|worker| {
                    worker.gradients(units, objective, &mut |slot, found| {
                        all.push((slot, found));
                        Ok(())
                    })
                });
                let mut turn = lock();
                while turn.next != index && !turn.failed && computed.is_ok() {
                    turn = changed.wait(turn).unwrap_or_else(PoisonError::into_inner);
                }
                let mut added = Ok(());
                if computed.is_ok() && !turn.failed {
                    added = all.iter().try_for_each(|(slot, found)| turn.sum.add(index, *slot, found));
                }
                turn.next += 1;
                turn.failed |= computed.is_err() || added.is_err();
                changed.notify_all();
                added.map_err(Failure::from).and(computed)
            }
        })?;
        let mut total = Sums::default();
        sums.iter().for_each(|sums| total.add(sums));
        Ok(total)
    }
}

impl Team {
    fn native_gradients(
        &mut self,
        micro_batches: &[Vec<&Unit>],
        objective: Objective<'_>,
        layout: &Layout,
        sum: &mut Sum<'_>,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> std::result::Result<Sums, Failure> {
        let bug = |message: &str| Failure::Engine(EngineError::Machine(format!("{message}: this is a bug")));
        let gradient = sum.whole().ok_or_else(|| bug("our own kernels need the whole gradient"))?;
        let late = match self.workers.first() {
            Some(Worker::Native(worker)) => worker.late(),
            _ => None,
        };
        let turns = Turns::new(gradient, layout, micro_batches.len());
        let sums = self.run(micro_batches.len(), &|| false, |worker, index| {
            // Whatever ends this micro-batch early, a panic too, must not leave the others waiting for it.
            let mut promise = turns.promise(index);
            if stop() {
                return Err(Failure::Engine(EngineError::Stopped));
            }
            let Worker::Native(worker) = worker else {
                return Err(Failure::Engine(EngineError::Machine(
                    "workers are of two kinds: this is a bug".to_owned(),
                )));
            };
            let sums = worker.gradients(&micro_batches[index], objective, index, &turns)?;
            promise.keep();
            Ok(sums)
        })?;
        turns.finish(late);
        let mut total = Sums::default();
        sums.iter().for_each(|sums| total.add(sums));
        Ok(total)
    }
}

fn tensors(worker: &Worker) -> std::result::Result<&TensorWorker, Failure> {
    match worker {
        Worker::Tensors(worker) => Ok(worker),
        Worker::Native(_) => {
            Err(Failure::Engine(EngineError::Machine("workers are of two kinds: this is a bug".to_owned())))
        }
    }
}

/// Sets the threads that operations of the calling thread use, and returns what they were.
///
/// A thread's first parallel operation takes over the number that was set last anywhere in the process, unless the thread
/// was asked for its number before. So it is asked first: sums depend on the number in their last bits.
pub(crate) fn set_own_threads(threads: i32) -> i32 {
    let before = tch::get_num_threads();
    tch::set_num_threads(threads);
    before
}
