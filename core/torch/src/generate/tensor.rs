//! The model on libtorch tensors: GPUs, and bf16 anywhere.
//!
//! The same rows and slots as on the CPU, but a segment's slots lie together, so that attention reads them where they are
//! (see [`super::cascade`]), and tokens are drawn on the device (see [`super::draw`]): a pass sends one list of numbers
//! there and brings one back. Layers with a sliding window that is shorter than some text gather their keys instead.
//! libtorch's kernels round differently for batches of different shape, so here a row's result is the same only up to
//! rounding.

use tch::{Kind, Tensor};

use super::{
    batch::{Batch, Span},
    cascade::{Cascade, Upload},
    draw, flash,
    schedule::{Backend, Wanted},
    slots::{Move, Placement},
    stats::Clock,
};
use crate::{
    CausalLm, Result, TorchError,
    model::{Attention, attend},
};

/// Keys gathered at a time, in rows times positions: bounds the memory of a pass.
const GATHERED: usize = 1 << 17;

/// The model and its keys and values.
pub(crate) struct TensorWorker {
    model: CausalLm,
    capacity: usize,
    /// Per layer, [slots, kv heads, head_dim].
    keys: Vec<Tensor>,
    values: Vec<Tensor>,
    upload: Upload,
    /// Of the last pass, [outputs, V] in f32, on the device.
    logits: Option<Tensor>,
    /// Those of one output on the host, for samplers that reshape.
    row: Vec<f32>,
    vocabulary: usize,
    clock: Clock,
}

/// Rows that attend in one call.
struct Group {
    /// Rows of the batch, [n].
    rows: Tensor,
    /// How many texts, how many rows of each, how many positions.
    shape: (i64, i64, i64),
    /// Slots of the texts, [texts · positions].
    slots: Tensor,
    /// Per layer's window, what may be attended to: [texts, 1, rows, positions].
    masks: Vec<(Option<i64>, Tensor)>,
}

fn ids(values: impl Iterator<Item = u32>) -> Vec<i64> {
    values.map(i64::from).collect()
}

impl TensorWorker {
    /// A worker with room for `capacity` tokens, allocated at once.
    ///
    /// # Errors
    /// When the device has no memory for it.
    pub(crate) fn new(model: CausalLm, capacity: usize) -> Result<Self> {
        let config = model.config();
        let pool = || -> Result<Vec<Tensor>> {
            let shape = [capacity as i64, config.kv_heads, config.head_dim];
            let options = (model.precision().kind(), model.device());
            (0..config.layers).map(|_| Ok(Tensor::f_zeros(shape, options)?)).collect()
        };
        let (keys, values) = (pool()?, pool()?);
        let vocabulary = usize::try_from(config.vocabulary).unwrap_or(0);
        Ok(TensorWorker {
            capacity,
            keys,
            values,
            upload: Upload::default(),
            logits: None,
            row: Vec::new(),
            vocabulary,
            clock: Clock::default(),
            model,
        })
    }

    /// The batch's spans for layers with a window, put together so that each group attends in one call.
    fn groups(&self, batch: &Batch) -> Result<Vec<Group>> {
        let mut groups = Vec::new();
        let (singles, longer): (Vec<&Span>, Vec<&Span>) = batch.spans.iter().partition(|span| span.rows == 1);
        let mut singles = singles.as_slice();
        while !singles.is_empty() {
            let mut longest = 0;
            let fits = |(n, span): &(usize, &&Span)| {
                longest = longest.max(span.path_len);
                *n == 0 || (n + 1) * longest <= GATHERED
            };
            let count = singles.iter().enumerate().take_while(fits).count();
            let (now, later) = singles.split_at(count);
            groups.push(self.group(batch, now)?);
            singles = later;
        }
        for span in longer {
            groups.push(self.group(batch, &[span])?);
        }
        Ok(groups)
    }

    /// Spans with the same number of rows as one group.
    fn group(&self, batch: &Batch, spans: &[&Span]) -> Result<Group> {
        let device = self.model.device();
        let rows = spans.first().map_or(0, |span| span.rows);
        let longest = spans.iter().map(|span| span.path_len).max().unwrap_or(0);
        let mut slots = Vec::with_capacity(spans.len() * longest);
        for span in spans {
            slots.extend(ids(batch.paths[span.path..span.path + span.path_len].iter().copied()));
            slots.resize(slots.len() + longest - span.path_len, 0);
        }
        let mut windows: Vec<Option<i64>> = self.model.layers().iter().map(|layer| layer.window).collect();
        windows.sort_unstable();
        windows.dedup();
        let mut masks = Vec::new();
        for window in windows {
            let mut mask = Vec::with_capacity(spans.len() * rows * longest);
            for span in spans {
                for row in 0..rows {
                    let end = span.path_len - (rows - 1 - row);
                    let width = window.and_then(|window| usize::try_from(window).ok()).unwrap_or(end);
                    let from = end.saturating_sub(width);
                    mask.extend((0..longest).map(|j| (from..end).contains(&j)));
                }
            }
            let mask = Tensor::f_from_slice(&mask)?.f_view([spans.len() as i64, 1, rows as i64, longest as i64])?;
            masks.push((window, mask.f_to_device(device)?));
        }
        let all: Vec<i64> = spans.iter().flat_map(|s| s.first_row as i64..(s.first_row + s.rows) as i64).collect();
        Ok(Group {
            rows: Tensor::f_from_slice(&all)?.f_to_device(device)?,
            shape: (spans.len() as i64, rows as i64, longest as i64),
            slots: Tensor::f_from_slice(&slots)?.f_to_device(device)?,
            masks,
        })
    }

    /// Attention of all rows in a layer whose window matters: `q` [heads, rows, D] to [1, heads, rows, D].
    fn gathered(&self, index: usize, window: Option<i64>, q: &Tensor, groups: &[Group]) -> Result<Tensor> {
        let (heads, _, dim) = q.size3()?;
        let out = q.f_empty_like()?;
        for group in groups {
            let (texts, rows, positions) = group.shape;
            let gather = |pool: &Tensor| -> Result<Tensor> {
                let kv = pool.size3()?.1;
                Ok(pool.f_index_select(0, &group.slots)?.f_view([texts, positions, kv, dim])?.f_transpose(1, 2)?)
            };
            let q = q.f_index_select(1, &group.rows)?.f_view([heads, texts, rows, dim])?.f_transpose(0, 1)?;
            let Some((_, mask)) = group.masks.iter().find(|(w, _)| *w == window) else { continue };
            let mixed = attend(&q, &gather(&self.keys[index])?, &gather(&self.values[index])?, Attention::Mask(mask))?;
            let mixed = mixed.f_transpose(0, 1)?.f_reshape([heads, texts * rows, dim])?;
            let _ = out.shallow_clone().f_index_copy_(1, &group.rows, &mixed)?;
        }
        Ok(out.f_unsqueeze(0)?)
    }
}

impl Backend for TensorWorker {
    fn capacity(&self) -> usize {
        self.capacity
    }

    fn placement(&self) -> Placement {
        Placement::Together
    }

    fn forward(&mut self, batch: &Batch) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let config = std::sync::Arc::clone(self.model.config());
        let device = self.model.device();
        let flash = flash::available(device, self.model.precision().kind(), config.head_dim);
        let cascade = Cascade::new(batch);
        // One list of numbers for everything that the device must know of the batch.
        let mut upload = std::mem::take(&mut self.upload);
        let mut add = |values: &[u32]| upload.add(values.iter().map(|value| i64::from(*value)));
        let (tokens, slots, positions, outputs) =
            (add(&batch.tokens), add(&batch.slots), add(&batch.positions), add(&batch.outputs));
        let places = cascade.upload(&mut upload, if flash { config.heads / config.kv_heads } else { 1 });
        let sent = upload.send(device)?;
        self.upload = upload;
        let cascade = cascade.on_device(&places, &sent, flash)?;
        let slots = sent.get(&slots)?;
        let rope = self.model.rope(&sent.get(&positions)?)?;
        let longest = batch.spans.iter().map(|span| span.path_len as i64).max().unwrap_or(0);
        let matters = |window: Option<i64>| window.is_some_and(|window| window < longest);
        let groups = if self.model.layers().iter().any(|layer| matters(layer.window)) {
            self.groups(batch)?
        } else {
            Vec::new()
        };
        let mut hidden = self.model.embed(&sent.get(&tokens)?.f_unsqueeze(0)?)?;
        for (index, layer) in self.model.layers().iter().enumerate() {
            let (q, k, v) = layer.queries_keys_values(&hidden, &rope)?;
            for (pool, new) in [(&self.keys[index], k), (&self.values[index], v)] {
                let new = new.f_squeeze_dim(0)?.f_transpose(0, 1)?;
                let _ = pool.shallow_clone().f_index_copy_(0, &slots, &new)?;
            }
            let q = q.f_squeeze_dim(0)?;
            let mixed = if matters(layer.window) {
                self.gathered(index, layer.window, &q, &groups)?
            } else {
                let mixed = cascade.attend(&q.f_transpose(0, 1)?, &self.keys[index], &self.values[index])?;
                mixed.f_transpose(0, 1)?.f_unsqueeze(0)?
            };
            hidden = layer.after_attention(&hidden, &mixed)?;
        }
        self.logits = None;
        if !batch.outputs.is_empty() {
            let wanted = hidden.f_squeeze_dim(0)?.f_index_select(0, &sent.get(&outputs)?)?;
            let logits = self.model.final_norm(&wanted)?.f_linear(self.model.lm_head()?, None::<&Tensor>)?;
            self.logits = Some(logits.f_to_kind(Kind::Float)?);
        }
        Ok(())
    }

    fn draw(&mut self, wanted: &[Wanted<'_>], tokens: &mut Vec<u32>) -> Result<()> {
        match &self.logits {
            Some(logits) => draw::draw(logits, wanted, tokens),
            None => Ok(()),
        }
    }

    fn logits(&mut self, output: usize) -> Result<&[f32]> {
        let logits = self.logits.as_ref().ok_or_else(|| TorchError::Machine("there are no logits".to_owned()))?;
        let row = logits.f_narrow(0, output as i64, 1)?.f_to_device(tch::Device::Cpu)?.f_contiguous()?;
        self.row.resize(self.vocabulary, 0.0);
        row.f_copy_data(&mut self.row, self.vocabulary)?;
        Ok(&self.row)
    }

    fn relocate(&mut self, moves: &[Move]) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for pool in self.keys.iter().chain(&self.values) {
            for Move { from, to, len } in moves {
                // A copy, because the two may overlap.
                let kept = pool.f_narrow(0, *from as i64, *len as i64)?.f_mul_scalar(1)?;
                pool.f_narrow(0, *to as i64, *len as i64)?.f_copy_(&kept)?;
            }
        }
        Ok(())
    }

    fn clock(&mut self) -> &mut Clock {
        &mut self.clock
    }
}
