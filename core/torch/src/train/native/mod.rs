//! Training in f32 on the CPU with kernels of our own.
//!
//! libtorch's products reach less than half of what these processors can do, its autograd keeps more than is needed, and
//! neither knows that sequences share what they begin with. Here a micro-batch is a prefix tree (`tree`), a block's
//! forward and backward pass are written out (`block`), and the workers add to one gradient in turns (`turns`). What it
//! computes is what the libtorch path computes; tests hold the two against each other tensor by tensor.

mod attention;
mod block;
mod elements;
mod head;
mod pointwise;
mod pool;
mod product;
mod tree;
mod turns;
mod update;
mod weights;

use metareward_api::EngineError;

use self::{
    attention::Asking,
    block::{Keep, Kept, Pass},
    head::Head,
    pointwise::{norm, norm_back},
    pool::{Buffer, Pool},
    turns::{Abandoned, Late, scatter},
    weights::{Model, Weight},
};
pub(crate) use self::{
    elements::{Elements, Moments, Slopes, Weights},
    head::logits,
    tree::{LARGEST, Tree, micro_batches, wanted},
    turns::Turns,
    update::{Update, elements_of, gradient_norm, update},
};
use super::{
    batch::Sequence,
    parameters::Layout,
    worker::{Failure, Objective, Sums, Unit, preference, sft_sums},
};
use crate::{
    error::{Result, TorchError},
    generate::simd::{Floats, Level},
    model::CausalLm,
};

/// A worker of one thread: the weights, which all workers read, and memory of its own.
pub(crate) struct NativeWorker {
    model: Model,
    level: Level,
    checkpointing: bool,
    pool: Pool,
    panel: Floats,
    attention: attention::Scratch,
}

impl From<Abandoned> for Failure {
    /// The failure of another micro-batch, with a lower index, is the one that is reported.
    fn from(_: Abandoned) -> Self {
        Failure::Engine(EngineError::Stopped)
    }
}

/// Rows of activations lie this far apart: whole vectors, and not a power of two, which would put all of a column into
/// the same few places of the cache.
fn stride(width: usize) -> usize {
    let stride = width.next_multiple_of(16);
    if stride.is_multiple_of(256) { stride + 16 } else { stride }
}

impl NativeWorker {
    /// A worker on `model`, of which the tensors in `layout` are trained. With `checkpointing` only the inputs of the
    /// blocks are kept, and the rest is computed again on the way back. Activations take at most `limit` bytes, where it is
    /// not 0.
    ///
    /// # Errors
    /// When a tensor is missing.
    pub fn new(model: &CausalLm, layout: &Layout, checkpointing: bool, limit: u64) -> Result<Self> {
        Ok(Self {
            model: Model::new(model, layout)?,
            level: Level::detect(),
            checkpointing,
            pool: Pool::new(limit),
            panel: Floats::default(),
            attention: attention::Scratch::default(),
        })
    }

    /// Log-probability of every unit's sequences, in order, without a gradient.
    ///
    /// # Errors
    /// [`TorchError::Memory`]; [`TorchError::Input`] when a token is not one of the model's.
    pub fn log_probs(&mut self, units: &[&Unit]) -> Result<Vec<f64>> {
        let tree = self.tree(units)?;
        let (mut pass, _) = self.pass(&tree);
        let (top, _) = pass.forward(Keep::Nothing)?;
        let normal = pass.normal(&top)?;
        let found = head(pass.model, pass.level, &tree, &normal).forward(pass.pool, pass.panel)?;
        let found = found.release(pass.pool);
        pass.pool.give(top);
        pass.pool.give(normal);
        Ok(sums(&tree, &found))
    }

    /// Loss of `units` within a step; their gradient is added to that of the step, which `turns` holds, as micro-batch
    /// `batch`.
    ///
    /// # Errors
    /// As [`NativeWorker::log_probs`], and what `units` make of the loss.
    pub fn gradients(
        &mut self,
        units: &[&Unit],
        objective: Objective<'_>,
        batch: usize,
        turns: &Turns<'_>,
    ) -> std::result::Result<Sums, Failure> {
        let tree = self.tree(units)?;
        let (mut pass, checkpointing) = self.pass(&tree);
        let (top, kept) = pass.forward(if checkpointing { Keep::Inputs } else { Keep::All })?;
        let normal = pass.normal(&top)?;
        let mut slope = pass.pool.take(normal.len())?;
        let sums = pass.loss(units, objective, (batch, turns), &normal, &mut slope)?;
        pass.pool.give(normal);
        pass.backward(top, slope, kept, (batch, turns))?;
        Ok(sums)
    }

    /// Slot and row width of the embeddings, where these are the output matrix too.
    pub fn late(&self) -> Option<(usize, usize)> {
        self.model.head.is_none().then_some((self.model.embeddings.slot, self.model.hidden))
    }

    /// Gives back what memory is held between micro-batches.
    pub fn release(&mut self) {
        self.pool.clear();
    }

    fn pass<'a>(&'a mut self, tree: &'a Tree) -> (Pass<'a>, bool) {
        let Self { model, level, checkpointing, pool, panel, attention } = self;
        (Pass { model, level: *level, tree, pool, panel, attention }, *checkpointing)
    }

    fn tree(&mut self, units: &[&Unit]) -> Result<Tree> {
        let sequences: Vec<&Sequence> = units.iter().flat_map(|unit| &unit.sequences).collect();
        let tree = Tree::new(&sequences);
        self.model.reach(tree.positions.iter().max().map_or(0, |last| *last as usize + 1))?;
        let vocabulary = self.model.vocabulary;
        let targets = tree.targets.iter().map(|target| target.token);
        if tree.tokens.iter().map(|token| *token as usize).chain(targets).any(|token| token >= vocabulary) {
            return Err(TorchError::Input(format!(
                "a token is outside of the model's vocabulary of {vocabulary}: tokenizer and model do not belong together"
            )));
        }
        Ok(tree)
    }
}

fn head<'a>(model: &'a Model, level: Level, tree: &'a Tree, top: &'a [f32]) -> Head<'a> {
    let (vocabulary, hidden) = (model.vocabulary, model.hidden);
    Head { level, tree, weight: model.output().get(), vocabulary, hidden, top, stride: stride(hidden) }
}

/// Sums of the targets' values, one per sequence, in f64.
fn sums(tree: &Tree, values: &[f32]) -> Vec<f64> {
    let mut sums = vec![0.0; tree.targets.last().map_or(0, |target| target.sequence + 1)];
    for (target, value) in tree.targets.iter().zip(values) {
        sums[target.sequence] += f64::from(*value);
    }
    sums
}

impl Pass<'_> {
    /// The final norm of the active rows.
    fn normal(&mut self, top: &Buffer) -> Result<Buffer> {
        let stride = stride(self.model.hidden);
        let mut normal = self.pool.take(top.len())?;
        for (x, y) in top.chunks_exact(stride).zip(normal.chunks_exact_mut(stride)) {
            norm(self.level, x, self.model.norm.get(), self.model.epsilon, y);
        }
        Ok(normal)
    }

    /// All blocks: the last one's output at the active rows, and what the way back needs.
    fn forward(&mut self, keep: Keep) -> Result<(Buffer, Vec<Kept>)> {
        let (hidden, stride) = (self.model.hidden, stride(self.model.hidden));
        let layers = self.model.layers.len();
        let mut x = self.pool.take(self.tree.rows() * stride)?;
        for (x, token) in x.chunks_exact_mut(stride).zip(&self.tree.tokens) {
            x[..hidden].copy_from_slice(&self.model.embeddings.get()[*token as usize * hidden..][..hidden]);
        }
        let mut kept = Vec::with_capacity(layers);
        for index in 0..layers {
            let asking = self.asking(index);
            let (next, block) = self.block(index, x, asking, keep)?;
            kept.push(block);
            x = next;
        }
        Ok((x, kept))
    }

    /// Nobody asks the last block for more than what predicts a completion's token.
    fn asking(&self, layer: usize) -> Asking {
        if layer + 1 == self.model.layers.len() { Asking::Active } else { Asking::All }
    }

    /// The loss, and its gradient by the hidden states after the final norm into `slope`; that of the output matrix is
    /// added.
    fn loss(
        &mut self,
        units: &[&Unit],
        objective: Objective<'_>,
        (batch, turns): (usize, &Turns<'_>),
        normal: &[f32],
        slope: &mut [f32],
    ) -> std::result::Result<Sums, Failure> {
        let tree = self.tree;
        let head = head(self.model, self.level, tree, normal);
        let slot = self.model.output().slot;
        let (pool, panel) = (&mut *self.pool, &mut *self.panel);
        let mut backward = |found, coefficients: &[f32], pool: &mut Pool, panel: &mut Floats| {
            let mut result = Ok(Vec::new());
            turns.add(slot, batch, |gradient| {
                result = head.backward(found, coefficients, slope, gradient, pool, panel);
            })?;
            Ok::<_, Failure>(result?)
        };
        match objective {
            Objective::Sft { tokens } => {
                let coefficients = vec![(-1.0 / tokens as f64) as f32; tree.targets.len()];
                let found = backward(None, &coefficients, pool, panel)?;
                sft_sums(units, &sums(tree, &found))
            }
            Objective::Preference { pairs, optimizer } => {
                let found = head.forward(pool, panel)?;
                let (sums, loss) = preference(units, &sums(tree, &found.targets), optimizer)?;
                let value = |sequence: usize| {
                    let side = if sequence.is_multiple_of(2) { &loss.chosen_gradient } else { &loss.rejected_gradient };
                    (side[sequence / 2] / pairs as f64) as f32
                };
                let coefficients: Vec<f32> = tree.targets.iter().map(|target| value(target.sequence)).collect();
                backward(Some(found), &coefficients, pool, panel)?;
                Ok(sums)
            }
        }
    }

    /// All blocks backwards, from the gradient after the final norm to the embeddings.
    fn backward(
        &mut self,
        top: Buffer,
        slope: Buffer,
        kept: Vec<Kept>,
        (batch, turns): (usize, &Turns<'_>),
    ) -> std::result::Result<(), Failure> {
        let (hidden, stride) = (self.model.hidden, stride(self.model.hidden));
        let mut x = self.pool.take(top.len())?;
        let (mut normal, mut weight) = (vec![0.0; hidden], vec![0.0; hidden]);
        for ((top, slope), x) in
            top.chunks_exact(stride).zip(slope.chunks_exact(stride)).zip(x.chunks_exact_mut(stride))
        {
            let scale = norm(self.level, top, self.model.norm.get(), self.model.epsilon, &mut normal);
            norm_back(self.level, slope, top, self.model.norm.get(), scale, None, x, &mut weight);
        }
        turns.add(self.model.norm.slot, batch, |gradient| pointwise::add(self.level, gradient, &weight))?;
        self.pool.give(top);
        self.pool.give(slope);
        for (index, kept) in kept.into_iter().enumerate().rev() {
            let asking = self.asking(index);
            x = self.block_back(index, x, asking, kept, (batch, turns))?;
        }
        let Weight { slot, .. } = self.model.embeddings;
        if self.model.head.is_some() {
            turns.add(slot, batch, |gradient| scatter(gradient, hidden, &self.tree.tokens, &x, stride))?;
        } else {
            let rows = x.chunks_exact(stride).flat_map(|row| &row[..hidden]).copied().collect();
            turns.later(batch, Late { tokens: self.tree.tokens.clone(), rows });
        }
        self.pool.give(x);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
