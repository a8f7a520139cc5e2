//! The model up to the output projection, forward and backward, in segments.
//!
//! A segment is a run of layers with a graph of its own. Without activation checkpointing the whole trunk is one
//! segment whose graph is kept. With it every layer is a segment: the forward pass keeps only the layers' inputs, and the
//! backward pass runs each layer again, last first, and takes its gradient.

use std::{collections::BTreeMap, ops::Range};

use tch::{Kind, Tensor, no_grad, with_grad};

use super::{batch::Padded, parameters::Layout};
use crate::{
    error::Result,
    model::{Attention, CausalLm, window_mask},
    rope::Rope,
};

/// A model whose trained tensors are leaves of autograd, and how its layers are divided.
pub(crate) struct Trunk {
    model: CausalLm,
    leaves: Vec<Tensor>,
    segments: Vec<Segment>,
}

struct Segment {
    layers: Range<usize>,
    /// Indices of the leaves that the segment reads.
    leaves: Vec<usize>,
}

/// What the backward pass needs of a forward pass.
pub(crate) struct Tape {
    context: Context,
    steps: Vec<TapeStep>,
}

struct TapeStep {
    /// The segment's input; a leaf of its graph. Token ids for the first segment.
    input: Tensor,
    /// Its output with the graph, where that is kept.
    output: Option<Tensor>,
}

/// What all layers of a pass share.
struct Context {
    rope: Rope,
    masks: BTreeMap<i64, Tensor>,
    length: i64,
    rows: Tensor,
}

/// What goes along with a pass through the model.
pub(crate) trait Along {
    /// The weights of this segment are needed now; after the last segment's number comes the output projection's.
    fn need(&mut self, _segment: usize) -> Result<()> {
        Ok(())
    }

    /// They are not needed any more.
    fn spare(&mut self, _segment: usize) -> Result<()> {
        Ok(())
    }

    /// The gradient of a leaf.
    fn take(&mut self, slot: usize, found: Tensor) -> Result<()>;
}

/// Gradients alone: all weights are there all the time.
impl<F: FnMut(usize, Tensor) -> Result<()>> Along for F {
    fn take(&mut self, slot: usize, found: Tensor) -> Result<()> {
        self(slot, found)
    }
}

/// Nothing goes along.
pub(crate) struct Nobody;

impl Along for Nobody {
    fn take(&mut self, _: usize, _: Tensor) -> Result<()> {
        Ok(())
    }
}

impl Trunk {
    /// `leaves` are the trained tensors in the order of `layout`, already in place in `model`.
    pub fn new(model: CausalLm, layout: &Layout, leaves: Vec<Tensor>, checkpointing: bool) -> Self {
        let layers = model.layers().len();
        let size = if checkpointing { 1 } else { layers.max(1) };
        let starts = (0..layers.max(1)).step_by(size);
        let ranges: Vec<Range<usize>> = starts.map(|start| start..(start + size).min(layers)).collect();
        let last = ranges.len() - 1;
        let segments = ranges
            .into_iter()
            .enumerate()
            .map(|(index, layers)| Segment {
                leaves: (0..layout.slots().len())
                    .filter(|&slot| match place(&layout.slots()[slot].name) {
                        Place::Embedding => index == 0,
                        Place::Layer(layer) => layers.contains(&layer),
                        Place::Norm => index == last,
                        Place::Head => false,
                    })
                    .collect(),
                layers,
            })
            .collect();
        Self { model, leaves, segments }
    }

    /// The model.
    pub fn model(&self) -> &CausalLm {
        &self.model
    }

    /// Number of segments.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Hidden states `[N, hidden]` after the final norm at the batch's rows, without a graph.
    pub fn forward(&self, batch: &Padded, along: &mut dyn Along) -> Result<Tensor> {
        no_grad(|| {
            let context = self.context(batch)?;
            let mut hidden = batch.tokens.shallow_clone();
            for index in 0..self.segments.len() {
                along.need(index)?;
                hidden = self.run(index, &hidden, &context)?;
                along.spare(index)?;
            }
            Ok(hidden)
        })
    }

    /// The same, and what [`Trunk::backward`] needs.
    pub fn forward_taped(&self, batch: &Padded, along: &mut dyn Along) -> Result<(Tensor, Tape)> {
        let context = self.context(batch)?;
        let mut steps = Vec::new();
        let mut input = batch.tokens.shallow_clone();
        let keep = self.segments.len() == 1;
        for index in 0..self.segments.len() {
            along.need(index)?;
            let output = if keep {
                with_grad(|| self.run(index, &input, &context))?
            } else {
                no_grad(|| self.run(index, &input, &context))?
            };
            along.spare(index)?;
            let next = output.f_detach()?;
            steps.push(TapeStep { input, output: keep.then_some(output) });
            input = next;
        }
        Ok((input, Tape { context, steps }))
    }

    /// Gives `along` the gradient of every leaf that the trunk reads, `gradient` being that of the hidden states.
    pub fn backward(&self, tape: Tape, gradient: Tensor, along: &mut dyn Along) -> Result<()> {
        let Tape { context, mut steps } = tape;
        let mut gradient = gradient;
        for (index, segment) in self.segments.iter().enumerate().rev() {
            let Some(step) = steps.pop() else { break };
            along.need(index)?;
            let (input, output) = match step.output {
                Some(output) => (step.input, output),
                None => {
                    let input = if index == 0 { step.input } else { step.input.f_set_requires_grad(true)? };
                    let output = with_grad(|| self.run(index, &input, &context))?;
                    (input, output)
                }
            };
            let mut inputs: Vec<&Tensor> = segment.leaves.iter().map(|&leaf| &self.leaves[leaf]).collect();
            if index > 0 {
                inputs.push(&input);
            }
            if inputs.is_empty() || !output.requires_grad() {
                break;
            }
            // The gradient of this scalar with respect to `output` is `gradient`, exactly.
            let scalar = with_grad(|| output.f_mul(&gradient)?.f_sum(output.kind()))?;
            drop(output);
            let mut found = Tensor::f_run_backward(&[scalar], &inputs, false, false)?;
            if index > 0 {
                match found.pop() {
                    Some(next) => gradient = next,
                    None => break,
                }
            }
            along.spare(index)?;
            for (&leaf, found) in segment.leaves.iter().zip(found) {
                if found.defined() {
                    along.take(leaf, found)?;
                }
            }
        }
        Ok(())
    }

    fn context(&self, batch: &Padded) -> Result<Context> {
        let device = self.model.device();
        let length = batch.tokens.size2()?.1;
        let rope = self.model.rope(&Tensor::f_arange(length, (Kind::Int64, device))?)?;
        let mut masks = BTreeMap::new();
        for window in self.model.layers().iter().filter_map(|layer| layer.window) {
            if window < length && !masks.contains_key(&window) {
                masks.insert(window, window_mask(length, window, device)?);
            }
        }
        Ok(Context { rope, masks, length, rows: batch.rows.shallow_clone() })
    }

    fn run(&self, index: usize, input: &Tensor, context: &Context) -> Result<Tensor> {
        let mut hidden = if index == 0 { self.model.embed(input)? } else { input.shallow_clone() };
        for layer in self.segments[index].layers.clone() {
            let window = self.model.layers()[layer].window.filter(|window| *window < context.length);
            let attention = match window.and_then(|window| context.masks.get(&window)) {
                Some(mask) => Attention::Mask(mask),
                None => Attention::Causal,
            };
            hidden = self.model.layer_forward(layer, &hidden, &context.rope, attention)?;
        }
        if index + 1 == self.segments.len() {
            // Only the rows that predict a completion's tokens go further.
            let width = self.model.config().hidden;
            hidden = hidden.f_reshape([-1, width])?.f_index_select(0, &context.rows)?;
            hidden = self.model.final_norm(&hidden)?;
        }
        Ok(hidden)
    }
}

/// Which part of the model a tensor belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The embeddings.
    Embedding,
    /// A layer.
    Layer(usize),
    /// The final norm.
    Norm,
    /// The output projection.
    Head,
}

/// The part of the model that the tensor called `name` belongs to.
pub(crate) fn place(name: &str) -> Place {
    let layer = name
        .strip_prefix("model.layers.")
        .and_then(|rest| rest.split_once('.'))
        .and_then(|(layer, _)| layer.parse().ok());
    match (layer, name) {
        (Some(layer), _) => Place::Layer(layer),
        (None, "model.embed_tokens.weight") => Place::Embedding,
        (None, "model.norm.weight") => Place::Norm,
        (None, _) => Place::Head,
    }
}
