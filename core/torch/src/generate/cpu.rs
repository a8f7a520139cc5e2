//! The model on the CPU: own kernels on packed weights, in f32 or with weights and the inputs of products in bf16.
//! Everything between the products, keys and values included, is f32. libtorch's part is to load the weights.
//!
//! What a row gives depends on its text alone, to the last bit: see [`super::matmul`] and [`super::attention`].

use std::{sync::Arc, thread, time::Instant};

use tch::{Device, Kind, Tensor};

use super::{
    attention::{Heads, Row, attend},
    batch::Batch,
    elementwise::{rms_norm, rms_norm_in_place, rotate, swiglu},
    matmul::product,
    packed::{Packed, Pages, Source},
    sample::Drawer,
    schedule::{Backend, Wanted},
    simd::{Floats, Level, padded},
    slots::{Move, Placement},
    stats::Clock,
    tiles::{Into, PANEL},
};
use crate::{CausalLm, Precision, Result, TorchError, config::ModelConfig, rope::RopeTable};

/// Packed weights and shape of a model; workers share it.
pub(crate) struct CpuModel {
    precision: Precision,
    level: Level,
    heads: Heads,
    head_dim: usize,
    hidden: usize,
    inner: usize,
    epsilon: f32,
    vocabulary: usize,
    /// `None` when the output matrix is the embedding matrix: then `head` has them.
    embeddings: Option<Pages>,
    layers: Vec<Layer>,
    norm: Floats,
    head: Packed,
}

struct Layer {
    input_norm: Floats,
    qkv: Packed,
    qkv_bias: Option<Floats>,
    q_norm: Option<Floats>,
    k_norm: Option<Floats>,
    out: Packed,
    out_bias: Option<Floats>,
    post_norm: Floats,
    gate_up: Packed,
    gate_up_bias: Option<Floats>,
    down: Packed,
    down_bias: Option<Floats>,
    window: Option<usize>,
}

/// Keys in common from which rows attend together, and most rows that do: their scores stay in the second-level cache.
const TOGETHER: usize = 64;
const GROUP: usize = 16;

/// Length of what two paths begin with in common.
fn common(a: &[u32], b: &[u32]) -> usize {
    let blocks = a.chunks_exact(16).zip(b.chunks_exact(16)).take_while(|(a, b)| a == b).count() * 16;
    blocks + a[blocks..].iter().zip(&b[blocks..]).take_while(|(a, b)| a == b).count()
}

/// `count` real entries, then `None` up to `length`.
fn some(count: usize, length: usize) -> Vec<Option<usize>> {
    (0..length).map(|i| (i < count).then_some(i)).collect()
}

/// `count` heads of `real` floats, each padded to `width`; entry `i` of head `h` is `first + h · real + i`.
fn head_entries(first: usize, count: usize, real: usize, width: usize) -> Vec<Option<usize>> {
    (0..count * width).map(|i| (i % width < real).then_some(first + i / width * real + i % width)).collect()
}

/// `values` where an entry names one, 0 elsewhere, up to whole panels.
fn place(values: &[f32], entries: &[Option<usize>], length: usize) -> Floats {
    let mut out = Floats::zeros(length);
    for (out, entry) in out.iter_mut().zip(entries) {
        *out = entry.map_or(0.0, |entry| values[entry]);
    }
    out
}

fn floats(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(Vec::try_from(tensor.f_to_kind(Kind::Float)?.f_contiguous()?.f_view(-1)?)?)
}

impl CpuModel {
    /// Packs the weights of `model`, with `threads`.
    ///
    /// # Errors
    /// When libtorch does not give a tensor's numbers, and when there is no memory for them.
    pub(crate) fn new(model: &CausalLm, threads: usize) -> Result<Self> {
        let (config, dtype) = (model.config(), model.precision());
        let size = |n: i64| usize::try_from(n).map_err(|error| TorchError::Machine(error.to_string()));
        let (hidden, intermediate, head_dim) =
            (size(config.hidden)?, size(config.intermediate)?, size(config.head_dim)?);
        let (queries, keys, vocabulary) = (size(config.heads)?, size(config.kv_heads)?, size(config.vocabulary)?);
        let (width, inner) = (padded(head_dim), padded(intermediate));
        let mut qkv = head_entries(0, queries, head_dim, width);
        qkv.extend(head_entries(queries * head_dim, keys, head_dim, width));
        qkv.extend(head_entries((queries + keys) * head_dim, keys, head_dim, width));
        let mut gate_up = some(intermediate, inner);
        gate_up.extend(gate_up.clone().into_iter().map(|i| i.map(|i| i + intermediate)));
        let (plain, heads_in) = (some(hidden, hidden), head_entries(0, queries, head_dim, width));
        let stride = hidden.next_multiple_of(PANEL);
        let vector = |tensor: &Tensor, length: usize| -> Result<Floats> {
            let values = floats(tensor)?;
            Ok(place(&values, &some(values.len(), length), length))
        };
        let bias = |parts: &[&Option<Tensor>], entries: &[Option<usize>]| -> Result<Option<Floats>> {
            let mut all = Vec::new();
            for part in parts.iter().filter_map(|part| part.as_ref()) {
                all.extend(floats(part)?);
            }
            let length = entries.len().next_multiple_of(PANEL);
            Ok((!all.is_empty()).then(|| place(&all, entries, length)))
        };
        let packed = |parts: &[&Tensor], width: usize, rows: &[Option<usize>], columns: &[Option<usize>]| {
            Packed::new(dtype, &Source::new(parts)?, width, rows, columns, threads)
        };
        let mut layers = Vec::with_capacity(model.layers().len());
        for layer in model.layers() {
            layers.push(Layer {
                input_norm: vector(&layer.input_norm, stride)?,
                qkv: packed(&[&layer.q.weight, &layer.k.weight, &layer.v.weight], hidden, &qkv, &plain)?,
                qkv_bias: bias(&[&layer.q.bias, &layer.k.bias, &layer.v.bias], &qkv)?,
                q_norm: layer.q_norm.as_ref().map(|w| vector(w, width)).transpose()?,
                k_norm: layer.k_norm.as_ref().map(|w| vector(w, width)).transpose()?,
                out: packed(&[&layer.o.weight], queries * head_dim, &plain, &heads_in)?,
                out_bias: bias(&[&layer.o.bias], &plain)?,
                post_norm: vector(&layer.post_norm, stride)?,
                gate_up: packed(&[&layer.gate.weight, &layer.up.weight], hidden, &gate_up, &plain)?,
                gate_up_bias: bias(&[&layer.gate.bias, &layer.up.bias], &gate_up)?,
                down: packed(&[&layer.down.weight], intermediate, &plain, &some(intermediate, inner))?,
                down_bias: bias(&[&layer.down.bias], &plain)?,
                window: layer.window.map(size).transpose()?,
            });
        }
        let tensor = |name: &str| {
            let found = model.weights().tensors().get(name);
            found.ok_or_else(|| TorchError::Input(format!("tensor {name} is missing")))
        };
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
        Ok(CpuModel {
            precision: dtype,
            level: Level::detect(),
            heads: Heads { queries, keys, width, scale: (1.0 / (head_dim as f64).sqrt()) as f32 },
            head_dim,
            hidden,
            inner,
            epsilon: config.norm_eps as f32,
            vocabulary,
            embeddings: match config.tied {
                true => None,
                false => Some(Source::new(&[tensor("model.embed_tokens.weight")?])?.floats()?),
            },
            layers,
            norm: vector(tensor("model.norm.weight")?, stride)?,
            head: packed(&[model.lm_head()?], hidden, &some(vocabulary, vocabulary), &plain)?,
        })
    }

    /// Number format of the weights and of what they are multiplied with.
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// Bytes of keys and values per token.
    pub(crate) fn bytes_per_slot(&self) -> u64 {
        (2 * self.layers.len() * self.heads.keys * self.heads.width * size_of::<f32>()) as u64
    }
}

impl Drop for CpuModel {
    /// Gives the memory back with two threads: for 1 GB one takes 0.1 s, which every change of the model and every end of a
    /// process would wait for.
    fn drop(&mut self) {
        let mut layers = std::mem::take(&mut self.layers);
        let others = layers.split_off(layers.len() / 2);
        thread::scope(|scope| {
            // Where no thread can be started the layers go with the closure, here.
            let _ = thread::Builder::new().spawn_scoped(scope, move || drop(others));
            drop(layers);
        });
    }
}

/// Cosines and sines of the positions 0 .. `length` as [`rotate`] reads them: [length, head_dim].
///
/// # Errors
/// When libtorch refuses.
pub(crate) fn turns(rope: &RopeTable, config: &ModelConfig, length: usize) -> Result<Vec<f32>> {
    let (length, options) = (i64::try_from(length).unwrap_or(i64::MAX), (Kind::Float, Device::Cpu));
    let positions = Tensor::f_arange(length, (Kind::Int64, Device::Cpu))?;
    // A head that is 1 in its first half and 0 in its second turns into cosines and sines.
    let one = Tensor::f_ones([1, 1, length, config.head_dim / 2], options)?;
    let head = Tensor::f_cat(&[&one, &one.f_zeros_like()?], -1)?;
    floats(&rope.at(&positions, Kind::Float)?.apply(&head)?)
}

/// One worker's share: its keys and values, and the activations of a pass.
pub(crate) struct CpuWorker {
    model: Arc<CpuModel>,
    turns: Arc<Vec<f32>>,
    capacity: usize,
    /// Per layer, [slots, kv heads · width]; as many slots as were ever used.
    keys: Vec<Floats>,
    values: Vec<Floats>,
    x: Floats,
    normal: Floats,
    qkv: Floats,
    mixed: Floats,
    inner: Floats,
    logits: Floats,
    scores: Vec<f32>,
    head: Vec<f32>,
    /// Inputs of a product in bf16.
    rounded: Floats,
    drawer: Drawer,
    clock: Clock,
}

impl CpuWorker {
    /// A worker with room for `capacity` tokens. `turns` must reach as far as the longest text.
    pub(crate) fn new(model: Arc<CpuModel>, turns: Arc<Vec<f32>>, capacity: usize) -> Self {
        let layers = model.layers.len();
        CpuWorker {
            turns,
            capacity,
            keys: vec![Floats::default(); layers],
            values: vec![Floats::default(); layers],
            x: Floats::default(),
            normal: Floats::default(),
            qkv: Floats::default(),
            mixed: Floats::default(),
            inner: Floats::default(),
            logits: Floats::default(),
            scores: Vec::new(),
            head: Vec::new(),
            rounded: Floats::default(),
            drawer: Drawer::default(),
            clock: Clock::default(),
            model,
        }
    }

    /// The same worker for another call, with the memory that it has.
    pub(crate) fn again(self, turns: Arc<Vec<f32>>, capacity: usize) -> Self {
        CpuWorker { turns, capacity, ..self }
    }

    /// Room for the slots of this batch, doubling up to the capacity.
    ///
    /// # Errors
    /// When there is no memory for it. The worker is then of no use but to be dropped.
    fn reserve(&mut self, batch: &Batch) -> Result<()> {
        let row = self.model.heads.keys * self.model.heads.width;
        let needed = batch.slots.iter().max().map_or(0, |slot| *slot as usize + 1);
        let have = self.keys.first().map_or(0, |keys| keys.len() / row);
        if needed > have {
            let slots = needed.max((2 * have).min(self.capacity)).max(256.min(self.capacity));
            for pool in self.keys.iter_mut().chain(&mut self.values) {
                if !pool.try_grow(slots * row) {
                    let bytes = (slots * row * size_of::<f32>()) as u64;
                    let message =
                        format!("out of memory: {bytes} bytes for keys or values of a layer ({slots} tokens)");
                    return Err(TorchError::Memory(message));
                }
            }
        }
        Ok(())
    }
}

impl Backend for CpuWorker {
    fn capacity(&self) -> usize {
        self.capacity
    }

    fn forward(&mut self, batch: &Batch) -> Result<()> {
        self.reserve(batch)?;
        let model = Arc::clone(&self.model);
        let (level, heads) = (model.level, model.heads);
        let rows = batch.rows();
        let stride = model.norm.len();
        self.x.grow(rows * stride);
        self.normal.grow(rows * stride);
        for (x, token) in self.x.chunks_exact_mut(stride).zip(&batch.tokens) {
            let token = (*token as usize).min(model.vocabulary - 1);
            let x = &mut x[..model.hidden];
            match &model.embeddings {
                None => model.head.row(token, x),
                Some(embeddings) => x.copy_from_slice(&embeddings[token * model.hidden..][..model.hidden]),
            }
        }
        let outputs = batch.outputs.len();
        for (index, layer) in model.layers.iter().enumerate() {
            let last = index + 1 == model.layers.len();
            self.keys_and_values(batch, layer, index);
            // Nobody asks for more of a prompt's inner tokens than their keys and values.
            let active = if last { outputs } else { rows };
            if active == 0 {
                continue;
            }
            self.attention(batch, layer, index, last);
            let start = Instant::now();
            let bias = layer.out_bias.as_deref();
            let width = heads.queries * heads.width;
            product(
                level,
                active,
                &self.mixed,
                width,
                &layer.out,
                bias,
                &mut self.x,
                stride,
                Into::Add,
                &mut self.rounded,
            );
            self.clock.products += start.elapsed();
            self.feed_forward(layer, active);
        }
        if outputs > 0 {
            self.normalise(&model.norm, outputs);
            let start = Instant::now();
            let width = model.head.outputs();
            self.logits.grow(outputs * width);
            product(
                level,
                outputs,
                &self.normal,
                stride,
                &model.head,
                None,
                &mut self.logits,
                width,
                Into::Set,
                &mut self.rounded,
            );
            self.clock.products += start.elapsed();
        }
        Ok(())
    }

    fn placement(&self) -> Placement {
        Placement::Anywhere
    }

    fn draw(&mut self, wanted: &[Wanted<'_>], tokens: &mut Vec<u32>) -> Result<()> {
        let (width, vocabulary) = (self.model.head.outputs(), self.model.vocabulary);
        let logits = |output: usize| &self.logits[output * width..][..vocabulary];
        self.drawer.draw(self.model.level, logits, wanted, tokens)
    }

    fn logits(&mut self, output: usize) -> Result<&[f32]> {
        Ok(&self.logits[output * self.model.head.outputs()..][..self.model.vocabulary])
    }

    fn relocate(&mut self, _: &[Move]) -> Result<()> {
        // Nothing has to lie together here.
        Ok(())
    }

    fn clock(&mut self) -> &mut Clock {
        &mut self.clock
    }
}

impl CpuWorker {
    fn normalise(&mut self, weight: &[f32], rows: usize) {
        let stride = weight.len();
        let (level, hidden, epsilon) = (self.model.level, self.model.hidden, self.model.epsilon);
        for (x, y) in self.x.chunks_exact(stride).zip(self.normal.chunks_exact_mut(stride)).take(rows) {
            rms_norm(level, x, weight, hidden, epsilon, y);
        }
    }

    /// Queries, keys and values of all rows; keys and values go to their slots.
    fn keys_and_values(&mut self, batch: &Batch, layer: &Layer, index: usize) {
        let model = Arc::clone(&self.model);
        let (level, heads) = (model.level, model.heads);
        let rows = batch.rows();
        self.normalise(&layer.input_norm, rows);
        let start = Instant::now();
        let width = layer.qkv.outputs();
        self.qkv.grow(rows * width);
        let (bias, stride) = (layer.qkv_bias.as_deref(), layer.input_norm.len());
        product(
            level,
            rows,
            &self.normal,
            stride,
            &layer.qkv,
            bias,
            &mut self.qkv,
            width,
            Into::Set,
            &mut self.rounded,
        );
        self.clock.products += start.elapsed();
        let (queries, kept) = (heads.queries * heads.width, heads.keys * heads.width);
        let half = model.head_dim / 2;
        for (r, row) in self.qkv.chunks_exact_mut(width).take(rows).enumerate() {
            let position = batch.positions[r] as usize;
            let turn = &self.turns[position * 2 * half..][..2 * half];
            for (h, head) in row[..queries + kept].chunks_exact_mut(heads.width).enumerate() {
                let norm = if h < heads.queries { &layer.q_norm } else { &layer.k_norm };
                if let Some(weight) = norm {
                    rms_norm_in_place(level, head, weight, model.head_dim, model.epsilon, &mut self.head);
                }
                rotate(head, turn, half);
            }
            let slot = batch.slots[r] as usize * kept;
            self.keys[index][slot..slot + kept].copy_from_slice(&row[queries..queries + kept]);
            self.values[index][slot..slot + kept].copy_from_slice(&row[queries + kept..queries + 2 * kept]);
        }
    }

    /// Attention of all rows, or, in the last layer, of the rows whose next token is wanted; these move to the front.
    fn attention(&mut self, batch: &Batch, layer: &Layer, index: usize, last: bool) {
        let start = Instant::now();
        let (level, heads) = (self.model.level, self.model.heads);
        let (width, stride) = (layer.qkv.outputs(), layer.input_norm.len());
        let queries = heads.queries * heads.width;
        self.mixed.grow(batch.rows() * queries);
        let (keys, values) = (&self.keys[index], &self.values[index]);
        let mut group: Vec<Row<'_>> = Vec::new();
        let mut shared = 0;
        let mut done = 0;
        for span in &batch.spans {
            for row in span.first_row..span.first_row + span.rows {
                let to = if last {
                    if batch.outputs.get(done).is_none_or(|output| *output as usize != row) {
                        continue;
                    }
                    self.x.copy_within(row * stride..(row + 1) * stride, done * stride);
                    done
                } else {
                    row
                };
                done += 1;
                let path = batch.seen(span, row, layer.window);
                let same = match group.last() {
                    None => 0,
                    Some(before) if group.len() == 1 => common(before.path, path),
                    Some(before) => shared.min(common(before.path, path)),
                };
                if !group.is_empty() && (same < TOGETHER || group.len() == GROUP) {
                    let (scores, mixed) = (&mut self.scores, &mut self.mixed);
                    attend(level, heads, &self.qkv, keys, values, &group, shared, scores, mixed);
                    group.clear();
                }
                shared = if group.is_empty() { 0 } else { same };
                group.push(Row { q: row * width, out: to * queries, path });
            }
        }
        if !group.is_empty() {
            attend(level, heads, &self.qkv, keys, values, &group, shared, &mut self.scores, &mut self.mixed);
        }
        self.clock.attention += start.elapsed();
    }

    fn feed_forward(&mut self, layer: &Layer, rows: usize) {
        let model = Arc::clone(&self.model);
        self.normalise(&layer.post_norm, rows);
        let start = Instant::now();
        let (width, stride) = (layer.gate_up.outputs(), layer.post_norm.len());
        self.inner.grow(rows * width);
        let bias = layer.gate_up_bias.as_deref();
        product(
            model.level,
            rows,
            &self.normal,
            stride,
            &layer.gate_up,
            bias,
            &mut self.inner,
            width,
            Into::Set,
            &mut self.rounded,
        );
        self.clock.products += start.elapsed();
        // The gate's place is free once it is used.
        let mut act = [0.0; 64];
        for row in self.inner.chunks_exact_mut(width).take(rows) {
            let (gate, up) = row.split_at_mut(model.inner);
            for (gate, up) in gate.chunks_mut(64).zip(up.chunks(64)) {
                let act = &mut act[..gate.len()];
                swiglu(model.level, gate, &up[..gate.len()], act);
                gate.copy_from_slice(act);
            }
        }
        let start = Instant::now();
        let bias = layer.down_bias.as_deref();
        product(
            model.level,
            rows,
            &self.inner,
            width,
            &layer.down,
            bias,
            &mut self.x,
            stride,
            Into::Add,
            &mut self.rounded,
        );
        self.clock.products += start.elapsed();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::generate::{slots::Part, tensor::TensorWorker};

    const MODELS: [&str; 5] =
        ["llama-tied-llama3rope", "llama-untied", "mistral-window", "qwen2-biases", "qwen3-norms"];
    const LENGTH: usize = 70;

    /// Logits after every token of a text that is computed `step` tokens at a time.
    fn logits(worker: &mut dyn Backend, tokens: &[u32], step: usize) -> Vec<f32> {
        let together = worker.placement() == Placement::Together;
        // Anywhere in the pool, where that is allowed.
        let slots: Vec<u32> = (0..LENGTH as u32).map(|i| if together { i + 3 } else { i * 37 % 97 }).collect();
        let mut all = Vec::new();
        for start in (0..LENGTH).step_by(step) {
            let end = (start + step).min(LENGTH);
            let mut batch = Batch::default();
            // Three runs of one text.
            let cuts = [0, 5, 40, LENGTH];
            let run =
                |cut: &[usize]| Part { start: cut[0] as u32 + 3, len: (cut[1].min(end) - cut[0].min(end)) as u32 };
            let mut parts: Vec<Part> = cuts.windows(2).map(run).filter(|part| part.len > 0).collect();
            // What is computed now lies in the last one.
            while parts.last().is_some_and(|part| (part.len as usize) < end - start) {
                let last = parts.pop().unwrap();
                parts.last_mut().unwrap().len += last.len;
            }
            batch.push(&tokens[start..end], &slots[..end], &parts, false);
            batch.outputs = (0..(end - start) as u32).collect();
            worker.forward(&batch).unwrap();
            for output in 0..end - start {
                all.extend_from_slice(worker.logits(output).unwrap());
            }
        }
        all
    }

    #[test]
    fn logits_are_the_reference_passes_and_the_same_bits_in_any_piece() {
        for name in MODELS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models").join(name);
            let model = CausalLm::load(&folder, Device::Cpu, Precision::F32).unwrap();
            let tokens: Vec<u32> = (0..LENGTH as u32).map(|i| 6 + i * i % 120).collect();
            let ids: Vec<i64> = tokens.iter().map(|t| i64::from(*t)).collect();
            let reference = tch::no_grad(|| model.logits(&Tensor::from_slice(&ids).unsqueeze(0)).unwrap());
            let reference = floats(&reference).unwrap();

            let rope = RopeTable::new(model.config(), Device::Cpu).unwrap();
            let table = Arc::new(turns(&rope, model.config(), LENGTH).unwrap());
            let packed = Arc::new(CpuModel::new(&model, 2).unwrap());
            let new = || CpuWorker::new(Arc::clone(&packed), Arc::clone(&table), 100);
            let whole = logits(&mut new(), &tokens, LENGTH);
            let tensors = logits(&mut TensorWorker::new(model, 100).unwrap(), &tokens, 9);
            for (what, ours) in [("own kernels", &whole), ("tensors", &tensors)] {
                let largest = ours.iter().zip(&reference).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                println!("{name}: {what} differ from the reference pass by at most {largest:e}");
                assert!(ours.len() == reference.len() && largest <= 1e-4, "{name}, {what}: {largest}");
            }
            for step in [1, 7, 16, 33] {
                let pieces = logits(&mut new(), &tokens, step);
                assert!(whole.iter().zip(&pieces).all(|(a, b)| a.to_bits() == b.to_bits()), "{name}, {step} at a time");
            }
        }
    }
}
