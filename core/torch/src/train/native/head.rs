//! The output projection: log-probabilities of targets and their gradient, some rows of logits at a time.

use super::{
    pointwise::{log_sum, weighted_exp},
    pool::{Buffer, Pool},
    product::{Matrix, product},
    tree::{Target, Tree},
};
use crate::{
    error::Result,
    generate::{
        simd::{Floats, Level},
        tiles::Into,
    },
};

/// Logits held at a time: 16 MiB.
const CHUNK: usize = 1 << 22;

/// Logits that exist at a time for this many rows.
pub(crate) fn logits(rows: u64, vocabulary: u64) -> u64 {
    rows.min((CHUNK as u64 / vocabulary.max(1)).max(1)) * vocabulary
}

/// The projection of a micro-batch's active rows.
pub(crate) struct Head<'a> {
    pub level: Level,
    pub tree: &'a Tree,
    /// `[vocabulary, hidden]`.
    pub weight: &'a [f32],
    pub vocabulary: usize,
    pub hidden: usize,
    /// Hidden states of the active rows, `stride` floats apart.
    pub top: &'a [f32],
    pub stride: usize,
}

/// What the forward pass found.
pub(crate) struct LogProbs {
    /// Log-probability of every target.
    pub targets: Vec<f32>,
    /// ln Σ e^logit of every active row.
    sums: Vec<f32>,
    /// The logits, where all rows fit one chunk.
    logits: Option<Buffer>,
}

impl LogProbs {
    /// Takes the logits' memory back.
    pub fn release(self, pool: &mut Pool) -> Vec<f32> {
        if let Some(logits) = self.logits {
            pool.give(logits);
        }
        self.targets
    }
}

impl Head<'_> {
    fn chunk(&self) -> usize {
        (CHUNK / self.vocabulary.max(1)).max(1)
    }

    /// Starts and lengths of the chunks of rows.
    fn chunks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (rows, chunk) = (self.tree.active.len(), self.chunk());
        (0..rows).step_by(chunk).map(move |start| (start, chunk.min(rows - start)))
    }

    fn logits(&self, start: usize, rows: usize, out: &mut [f32], panel: &mut Floats) {
        let top = Matrix::new(&self.top[start * self.stride..], self.stride);
        let weight = Matrix::new(self.weight, self.hidden).t();
        let size = (rows, self.vocabulary, self.hidden);
        product(self.level, size, top, weight, out, self.vocabulary, Into::Set, panel);
    }

    /// Indices of the targets in the order of their rows.
    fn by_row(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.tree.targets.len()).collect();
        order.sort_by_key(|&target| self.tree.targets[target].row);
        order
    }

    fn target(&self, index: usize) -> Target {
        self.tree.targets[index]
    }

    /// Log-probabilities of all targets.
    pub fn forward(&self, pool: &mut Pool, panel: &mut Floats) -> Result<LogProbs> {
        let rows = self.tree.active.len();
        let mut found = LogProbs { targets: vec![0.0; self.tree.targets.len()], sums: vec![0.0; rows], logits: None };
        let mut logits = pool.take(rows.min(self.chunk()) * self.vocabulary)?;
        let order = self.by_row();
        let mut next = 0;
        for (start, count) in self.chunks() {
            self.logits(start, count, &mut logits, panel);
            next = self.measure(&logits, (start, count), &order, next, &mut found);
        }
        if rows <= self.chunk() {
            found.logits = Some(logits);
        } else {
            pool.give(logits);
        }
        Ok(found)
    }

    /// Log-probabilities of a chunk's targets, those from place `next` of `order` on; the place after them.
    fn measure(
        &self,
        logits: &[f32],
        (start, count): (usize, usize),
        order: &[usize],
        mut next: usize,
        found: &mut LogProbs,
    ) -> usize {
        for (row, logits) in logits.chunks_exact(self.vocabulary).take(count).enumerate() {
            let sum = log_sum(self.level, logits);
            found.sums[start + row] = sum;
            while let Some(&index) = order.get(next).filter(|&&index| self.target(index).row == start + row) {
                found.targets[index] = logits[self.target(index).token] - sum;
                next += 1;
            }
        }
        next
    }

    /// Gradients of `Σ coefficients[i] · log p(target i)`: of the hidden states into `out` (laid out as they are), of the
    /// weight added to `gradient`. With `found` from [`Head::forward`]; without, the log-probabilities are computed along
    /// the way. They are returned.
    pub fn backward(
        &self,
        found: Option<LogProbs>,
        coefficients: &[f32],
        out: &mut [f32],
        gradient: &mut [f32],
        pool: &mut Pool,
        panel: &mut Floats,
    ) -> Result<Vec<f32>> {
        let rows = self.tree.active.len();
        let measured = found.is_some();
        let mut found = found.unwrap_or_else(|| LogProbs {
            targets: vec![0.0; self.tree.targets.len()],
            sums: vec![0.0; rows],
            logits: None,
        });
        let order = self.by_row();
        let kept = found.logits.is_some();
        let mut logits = match found.logits.take() {
            Some(logits) => logits,
            None => pool.take(rows.min(self.chunk()) * self.vocabulary)?,
        };
        let (mut next, mut read) = (0, 0);
        for (start, count) in self.chunks() {
            if !kept {
                self.logits(start, count, &mut logits, panel);
            }
            if !measured {
                read = self.measure(&logits, (start, count), &order, read, &mut found);
            }
            // d/d logits = Σ coefficient · (one-hot − softmax) over the row's targets.
            for (row, logits) in logits.chunks_exact_mut(self.vocabulary).take(count).enumerate() {
                let first = next;
                let mut all = 0.0;
                while let Some(&index) = order.get(next).filter(|&&index| self.target(index).row == start + row) {
                    all += coefficients[index];
                    next += 1;
                }
                weighted_exp(self.level, logits, 1.0, found.sums[start + row], -all);
                for &index in &order[first..next] {
                    logits[self.target(index).token] += coefficients[index];
                }
            }
            let slopes = Matrix::new(&logits, self.vocabulary);
            let weight = Matrix::new(self.weight, self.hidden);
            let size = (count, self.hidden, self.vocabulary);
            product(self.level, size, slopes, weight, &mut out[start * self.stride..], self.stride, Into::Set, panel);
            let top = Matrix::new(&self.top[start * self.stride..], self.stride);
            let size = (self.vocabulary, self.hidden, count);
            product(self.level, size, slopes.t(), top, gradient, self.hidden, Into::Add, panel);
        }
        pool.give(logits);
        Ok(found.targets)
    }
}
