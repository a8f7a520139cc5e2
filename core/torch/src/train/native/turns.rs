//! The gradient of a step, to which the workers add in the order of the micro-batches.
//!
//! Every tensor has a turn of its own. The worker of micro-batch 3 adds to a tensor as soon as that of micro-batch 2 has
//! done so, whatever else the two are doing, straight into the one gradient there is. So sums do not depend on the number
//! of threads, no worker keeps a gradient, and workers that start together wait for each other once.

use std::sync::{Condvar, Mutex, PoisonError};

use crate::train::parameters::{Flat, Layout};

/// A micro-batch's gradient of the embeddings, where these are the output matrix too.
pub(crate) struct Late {
    /// The token of each row.
    pub tokens: Vec<u32>,
    /// Gradient of each row's embedding, `[rows, hidden]`.
    pub rows: Vec<f32>,
}

struct State {
    /// For every tensor the micro-batch that adds next.
    next: Vec<usize>,
    /// The lowest micro-batch that failed.
    failed: usize,
    late: Vec<Option<Late>>,
}

/// See the module.
pub(crate) struct Turns<'a> {
    state: Mutex<State>,
    changed: Condvar,
    /// Start and length of every tensor.
    places: Vec<(*mut f32, usize)>,
    _gradient: std::marker::PhantomData<&'a mut Flat>,
}

// SAFETY: a tensor's floats are touched by the thread whose turn it is and by no other; see `add`.
unsafe impl Sync for Turns<'_> {}

/// Another micro-batch of the step failed, so this one's gradient is of no use.
pub(crate) struct Abandoned;

impl<'a> Turns<'a> {
    /// Turns of `batches` micro-batches on `gradient`, which is on the CPU and laid out by `layout`.
    pub fn new(gradient: &'a mut Flat, layout: &Layout, batches: usize) -> Self {
        let base: *mut f32 = gradient.all.data_ptr().cast();
        let places = layout
            .slots()
            .iter()
            // SAFETY: a slot lies within the flat memory.
            .map(|slot| (unsafe { base.add(slot.range().start) }, slot.range().len()))
            .collect::<Vec<_>>();
        let state =
            State { next: vec![0; places.len()], failed: usize::MAX, late: (0..batches).map(|_| None).collect() };
        Self { state: Mutex::new(state), changed: Condvar::new(), places, _gradient: std::marker::PhantomData }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of micro-batch `batch` on tensor `slot`, lets `add` add to its gradient and passes the turn on.
    /// Each micro-batch does this once for every tensor.
    pub fn add(&self, slot: usize, batch: usize, add: impl FnOnce(&mut [f32])) -> Result<(), Abandoned> {
        let mut state = self.lock();
        while state.next.get(slot).is_some_and(|next| *next != batch) && state.failed >= batch {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.failed < batch {
            return Err(Abandoned);
        }
        drop(state);
        let Some((pointer, length)) = self.places.get(slot) else { return Ok(()) };
        // SAFETY: the slot's floats are inside of the gradient that `self` borrows, and only the thread whose turn it is
        // gets here; the lock orders one turn after the other.
        add(unsafe { std::slice::from_raw_parts_mut(*pointer, *length) });
        if let Some(next) = self.lock().next.get_mut(slot) {
            *next += 1;
        }
        self.changed.notify_all();
        Ok(())
    }

    /// Keeps what is added when all micro-batches are done.
    pub fn later(&self, batch: usize, late: Late) {
        if let Some(place) = self.lock().late.get_mut(batch) {
            *place = Some(late);
        }
    }

    /// A promise that micro-batch `batch` takes all its turns.
    pub fn promise(&self, batch: usize) -> Promise<'_, 'a> {
        Promise { turns: self, batch, kept: false }
    }

    /// Adds what was kept, in the order of the micro-batches, to a tensor, given by its slot and the width of its rows.
    pub fn finish(self, late: Option<(usize, usize)>) {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Some(((pointer, length), width)) = late.and_then(|(slot, width)| Some((self.places.get(slot)?, width)))
        else {
            return;
        };
        // SAFETY: as in `add`; no worker is left.
        let gradient = unsafe { std::slice::from_raw_parts_mut(*pointer, *length) };
        for late in state.late.into_iter().flatten() {
            scatter(gradient, width, &late.tokens, &late.rows, width);
        }
    }
}

/// Dropped before it is kept, it wakes those who wait for a micro-batch that will not come.
pub(crate) struct Promise<'t, 'a> {
    turns: &'t Turns<'a>,
    batch: usize,
    kept: bool,
}

impl Promise<'_, '_> {
    /// All turns were taken.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Promise<'_, '_> {
    fn drop(&mut self) {
        if !self.kept {
            let mut state = self.turns.lock();
            state.failed = state.failed.min(self.batch);
            self.turns.changed.notify_all();
        }
    }
}

/// Adds row `i` of `rows` (`stride` floats apart) to row `tokens[i]` of `to`.
pub(crate) fn scatter(to: &mut [f32], width: usize, tokens: &[u32], rows: &[f32], stride: usize) {
    for (token, row) in tokens.iter().zip(rows.chunks(stride)) {
        let to = &mut to[*token as usize * width..][..width];
        to.iter_mut().zip(row).for_each(|(to, row)| *to += row);
    }
}
