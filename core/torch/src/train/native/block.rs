//! One transformer block, forward and backward.

use super::{
    attention::{self, Asking, Gradients, Rows},
    pointwise::{add, norm, norm_back, rotate, swiglu, swiglu_back},
    pool::{Buffer, Pool},
    product::{Matrix, product},
    stride,
    tree::Tree,
    turns::{Abandoned, Turns},
    weights::{Layer, Linear, Model, Weight},
};
use crate::{
    error::Result,
    generate::{
        simd::{Floats, Level},
        tiles::Into,
    },
    train::worker::Failure,
};

/// One micro-batch on its way through the model.
pub(crate) struct Pass<'a> {
    pub model: &'a Model,
    pub level: Level,
    pub tree: &'a Tree,
    pub pool: &'a mut Pool,
    pub panel: &'a mut Floats,
    pub attention: &'a mut attention::Scratch,
}

/// What is kept of a block for the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Nothing: there is no way back.
    Nothing,
    /// The block's input.
    Inputs,
    /// Everything that is not cheap to compute again.
    All,
}

/// What was kept of a block.
pub(crate) struct Kept {
    /// The block's input, where there is a way back.
    x: Option<Buffer>,
    inside: Option<Inside>,
}

/// Between a block's input and its output. Rows of queries, `mixed`, `middle`, `gate` and `up` are those that ask.
struct Inside {
    q: Buffer,
    k: Buffer,
    v: Buffer,
    /// Queries and keys before their norms (Qwen 3).
    raw: Option<(Buffer, Buffer)>,
    mixed: Buffer,
    sums: Buffer,
    middle: Buffer,
    gate: Buffer,
    up: Buffer,
}

impl Inside {
    fn release(self, pool: &mut Pool) {
        let Inside { q, k, v, raw, mixed, sums, middle, gate, up } = self;
        for buffer in [q, k, v, mixed, sums, middle, gate, up] {
            pool.give(buffer);
        }
        if let Some((q, k)) = raw {
            pool.give(q);
            pool.give(k);
        }
    }
}

/// Widths and strides of a model's activations.
struct Widths {
    hidden: usize,
    queries: usize,
    keys: usize,
    inner: usize,
}

type Turn<'a> = (usize, &'a Turns<'a>);

impl Pass<'_> {
    fn widths(&self) -> Widths {
        let heads = self.model.heads;
        Widths {
            hidden: self.model.hidden,
            queries: heads.queries * heads.width,
            keys: heads.keys * heads.width,
            inner: self.model.inner,
        }
    }

    /// `out = x Wᵀ + b`, or that added to `out`.
    fn linear(
        &mut self,
        linear: &Linear,
        rows: usize,
        (inputs, outputs): (usize, usize),
        x: &[f32],
        out: &mut [f32],
        into: Into,
    ) {
        let weight = Matrix::new(linear.weight.get(), inputs).t();
        let (from, to) = (stride(inputs), stride(outputs));
        product(self.level, (rows, outputs, inputs), Matrix::new(x, from), weight, out, to, into, self.panel);
        if let Some(bias) = &linear.bias {
            for row in out.chunks_exact_mut(to).take(rows) {
                add(self.level, &mut row[..outputs], bias.get());
            }
        }
    }

    /// Norm of every row of `x`.
    fn norms(&mut self, weight: &Weight, x: &[f32]) -> Result<Buffer> {
        let mut normal = self.pool.take(x.len())?;
        let stride = stride(self.model.hidden);
        for (x, y) in x.chunks_exact(stride).zip(normal.chunks_exact_mut(stride)) {
            norm(self.level, x, weight.get(), self.model.epsilon, y);
        }
        Ok(normal)
    }

    /// Copies of the asking rows.
    fn select(&mut self, x: &[f32], asking: Asking, stride: usize) -> Result<Buffer> {
        let rows = asking.count(self.tree);
        let mut out = self.pool.take(rows * stride)?;
        for (index, out) in out.chunks_exact_mut(stride).enumerate() {
            out.copy_from_slice(&x[asking.row(self.tree, index) * stride..][..stride]);
        }
        Ok(out)
    }

    /// The block's output for the rows that ask, from its input for all rows.
    pub fn block(&mut self, index: usize, x: Buffer, asking: Asking, keep: Keep) -> Result<(Buffer, Kept)> {
        let model = self.model;
        let layer = &model.layers[index];
        let inside = self.inside(layer, &x, asking)?;
        let out = self.feed_forward(layer, asking, &inside)?;
        let mut kept = Kept { x: None, inside: None };
        if keep == Keep::Nothing {
            self.pool.give(x);
        } else {
            kept.x = Some(x);
        }
        if keep == Keep::All {
            kept.inside = Some(inside);
        } else {
            inside.release(self.pool);
        }
        Ok((out, kept))
    }

    /// Everything up to gate and up.
    fn inside(&mut self, layer: &Layer, x: &[f32], asking: Asking) -> Result<Inside> {
        let Widths { hidden, queries, keys, inner } = self.widths();
        let (rows, asked) = (self.tree.rows(), asking.count(self.tree));
        let normal = self.norms(&layer.input_norm, x)?;
        let mut k = self.pool.take(rows * stride(keys))?;
        let mut v = self.pool.take(rows * stride(keys))?;
        self.linear(&layer.k, rows, (hidden, keys), &normal, &mut k, Into::Set);
        self.linear(&layer.v, rows, (hidden, keys), &normal, &mut v, Into::Set);
        let mut q = self.pool.take(asked * stride(queries))?;
        if asking == Asking::All {
            self.linear(&layer.q, asked, (hidden, queries), &normal, &mut q, Into::Set);
        } else {
            let some = self.select(&normal, asking, stride(hidden))?;
            self.linear(&layer.q, asked, (hidden, queries), &some, &mut q, Into::Set);
            self.pool.give(some);
        }
        self.pool.give(normal);
        let raw = match (&layer.q_norm, &layer.k_norm) {
            (None, None) => None,
            _ => Some((self.copy(&q)?, self.copy(&k)?)),
        };
        self.positions(&mut q, queries, layer.q_norm.as_ref(), asking);
        self.positions(&mut k, keys, layer.k_norm.as_ref(), Asking::All);
        let mut mixed = self.pool.take(asked * stride(queries))?;
        let mut sums = self.pool.take(asked * self.model.heads.queries)?;
        let rows_in = Rows { q: &q, k: &k, v: &v, q_stride: stride(queries), kv_stride: stride(keys) };
        attention::forward(
            self.level,
            self.model.heads,
            self.tree,
            asking,
            layer.window,
            rows_in,
            &mut mixed,
            &mut sums,
            self.attention,
        );
        let mut middle = self.select(x, asking, stride(hidden))?;
        self.linear(&layer.o, asked, (queries, hidden), &mixed, &mut middle, Into::Add);
        let normal = self.norms(&layer.post_norm, &middle)?;
        let mut gate = self.pool.take(asked * stride(inner))?;
        let mut up = self.pool.take(asked * stride(inner))?;
        self.linear(&layer.gate, asked, (hidden, inner), &normal, &mut gate, Into::Set);
        self.linear(&layer.up, asked, (hidden, inner), &normal, &mut up, Into::Set);
        self.pool.give(normal);
        Ok(Inside { q, k, v, raw, mixed, sums, middle, gate, up })
    }

    fn copy(&mut self, x: &[f32]) -> Result<Buffer> {
        let mut copy = self.pool.take(x.len())?;
        copy.copy_from_slice(x);
        Ok(copy)
    }

    /// Norms of the heads, where there are any, and rotary positions.
    fn positions(&mut self, heads: &mut [f32], width: usize, weight: Option<&Weight>, asking: Asking) {
        let head_width = self.model.heads.width;
        let mut copy = vec![0.0; head_width];
        for (index, row) in heads.chunks_exact_mut(stride(width)).enumerate().take(asking.count(self.tree)) {
            let turn = self.model.turn(self.tree.positions[asking.row(self.tree, index)]);
            for head in row[..width].chunks_exact_mut(head_width) {
                if let Some(weight) = weight {
                    copy.copy_from_slice(head);
                    norm(self.level, &copy, weight.get(), self.model.epsilon, head);
                }
                rotate(head, turn, head_width / 2, false);
            }
        }
    }

    /// The output from what is inside.
    fn feed_forward(&mut self, layer: &Layer, asking: Asking, inside: &Inside) -> Result<Buffer> {
        let Widths { hidden, inner, .. } = self.widths();
        let asked = asking.count(self.tree);
        let step = stride(inner);
        let mut act = self.pool.take(asked * step)?;
        let rows = inside.gate.chunks_exact(step).zip(inside.up.chunks_exact(step));
        for ((gate, up), act) in rows.zip(act.chunks_exact_mut(step)) {
            swiglu(self.level, gate, up, &mut act[..inner]);
        }
        let mut out = self.copy(&inside.middle)?;
        self.linear(&layer.down, asked, (inner, hidden), &act, &mut out, Into::Add);
        self.pool.give(act);
        Ok(out)
    }

    /// Adds the gradients of a linear layer's tensors, `slope` being that of its output and `x` its input.
    fn linear_gradient(
        &mut self,
        linear: &Linear,
        rows: usize,
        (inputs, outputs): (usize, usize),
        slope: &[f32],
        x: &[f32],
        (batch, turns): Turn<'_>,
    ) -> std::result::Result<(), Abandoned> {
        let (level, from, to) = (self.level, stride(inputs), stride(outputs));
        let panel = &mut *self.panel;
        turns.add(linear.weight.slot, batch, |gradient| {
            let (slope, x) = (Matrix::new(slope, to).t(), Matrix::new(x, from));
            product(level, (outputs, inputs, rows), slope, x, gradient, inputs, Into::Add, panel);
        })?;
        if let Some(bias) = &linear.bias {
            let mut sum = vec![0.0; outputs];
            for row in slope.chunks_exact(to).take(rows) {
                add(level, &mut sum, row);
            }
            turns.add(bias.slot, batch, |gradient| add(level, gradient, &sum))?;
        }
        Ok(())
    }

    /// `out = slope W`, or that added to `out`: the gradient of a linear layer's input.
    fn linear_back(
        &mut self,
        linear: &Linear,
        rows: usize,
        (inputs, outputs): (usize, usize),
        slope: &[f32],
        out: &mut [f32],
        into: Into,
    ) {
        let weight = Matrix::new(linear.weight.get(), inputs);
        let slope = Matrix::new(slope, stride(outputs));
        product(self.level, (rows, inputs, outputs), slope, weight, out, stride(inputs), into, self.panel);
    }

    /// Gradient of a norm over the hidden width: `slope` becomes that of `x`, plus `more`.
    fn norms_back(
        &mut self,
        weight: &Weight,
        x: &[f32],
        slope: &mut Buffer,
        more: Option<&[f32]>,
        (batch, turns): Turn<'_>,
    ) -> std::result::Result<(), Failure> {
        let step = stride(self.model.hidden);
        let hidden = self.model.hidden;
        let (mut sum, mut copy, mut normal) = (vec![0.0; hidden], vec![0.0; hidden], vec![0.0; hidden]);
        for (index, (x, slope)) in x.chunks_exact(step).zip(slope.chunks_exact_mut(step)).enumerate() {
            let scale = norm(self.level, x, weight.get(), self.model.epsilon, &mut normal);
            copy.copy_from_slice(&slope[..hidden]);
            let more = more.map(|more| &more[index * step..][..hidden]);
            norm_back(self.level, &copy, x, weight.get(), scale, more, slope, &mut sum);
        }
        turns.add(weight.slot, batch, |gradient| add(self.level, gradient, &sum))?;
        Ok(())
    }

    /// Gradient of [`Pass::positions`], in place; `raw` are the heads before their norm.
    fn positions_back(
        &mut self,
        heads: &mut [f32],
        width: usize,
        norm_weight: Option<(&Weight, &[f32])>,
        asking: Asking,
        (batch, turns): Turn<'_>,
    ) -> std::result::Result<(), Abandoned> {
        let head_width = self.model.heads.width;
        let (mut copy, mut normal, mut sum) = (vec![0.0; head_width], vec![0.0; head_width], vec![0.0; head_width]);
        for (index, row) in heads.chunks_exact_mut(stride(width)).enumerate().take(asking.count(self.tree)) {
            let turn = self.model.turn(self.tree.positions[asking.row(self.tree, index)]);
            for (h, head) in row[..width].chunks_exact_mut(head_width).enumerate() {
                rotate(head, turn, head_width / 2, true);
                if let Some((weight, raw)) = norm_weight {
                    let raw = &raw[index * stride(width) + h * head_width..][..head_width];
                    let scale = norm(self.level, raw, weight.get(), self.model.epsilon, &mut normal);
                    copy.copy_from_slice(head);
                    norm_back(self.level, &copy, raw, weight.get(), scale, None, head, &mut sum);
                }
            }
        }
        if let Some((weight, _)) = norm_weight {
            turns.add(weight.slot, batch, |gradient| add(self.level, gradient, &sum))?;
        }
        Ok(())
    }

    /// The gradient of the block's input for all rows, from that of its output for the rows that ask; the gradients of
    /// its tensors are added.
    pub fn block_back(
        &mut self,
        index: usize,
        slope: Buffer,
        asking: Asking,
        kept: Kept,
        turn: Turn<'_>,
    ) -> std::result::Result<Buffer, Failure> {
        let model = self.model;
        let layer = &model.layers[index];
        let Widths { hidden, queries, keys, inner } = self.widths();
        let (rows, asked) = (self.tree.rows(), asking.count(self.tree));
        let x = match kept.x {
            Some(x) => x,
            None => self.pool.zeros(rows * stride(hidden))?,
        };
        let inside = match kept.inside {
            Some(inside) => inside,
            None => self.inside(layer, &x, asking)?,
        };
        let Inside { q, k, v, raw, mixed, sums, middle, mut gate, mut up } = inside;

        // The feed-forward part.
        let step = stride(inner);
        let mut act = self.pool.take(asked * step)?;
        self.linear_back(&layer.down, asked, (inner, hidden), &slope, &mut act, Into::Set);
        let rows_of = gate.chunks_exact_mut(step).zip(up.chunks_exact_mut(step));
        for ((gate, up), act) in rows_of.zip(act.chunks_exact_mut(step)) {
            swiglu_back(self.level, &mut act[..inner], gate, up);
        }
        self.linear_gradient(&layer.down, asked, (inner, hidden), &slope, &act, turn)?;
        self.pool.give(act);
        let normal = self.norms(&layer.post_norm, &middle)?;
        self.linear_gradient(&layer.gate, asked, (hidden, inner), &gate, &normal, turn)?;
        self.linear_gradient(&layer.up, asked, (hidden, inner), &up, &normal, turn)?;
        let mut inner_slope = normal;
        self.linear_back(&layer.gate, asked, (hidden, inner), &gate, &mut inner_slope, Into::Set);
        self.linear_back(&layer.up, asked, (hidden, inner), &up, &mut inner_slope, Into::Add);
        self.pool.give(gate);
        self.pool.give(up);
        self.norms_back(&layer.post_norm, &middle, &mut inner_slope, Some(&slope), turn)?;
        self.pool.give(middle);
        self.pool.give(slope);
        let middle_slope = inner_slope;

        // Attention.
        self.linear_gradient(&layer.o, asked, (queries, hidden), &middle_slope, &mixed, turn)?;
        let mut mixed_slope = self.pool.take(asked * stride(queries))?;
        self.linear_back(&layer.o, asked, (queries, hidden), &middle_slope, &mut mixed_slope, Into::Set);
        let mut q_slope = self.pool.take(asked * stride(queries))?;
        let mut k_slope = self.pool.zeros(rows * stride(keys))?;
        let mut v_slope = self.pool.zeros(rows * stride(keys))?;
        let rows_in = Rows { q: &q, k: &k, v: &v, q_stride: stride(queries), kv_stride: stride(keys) };
        attention::backward(
            self.level,
            self.model.heads,
            self.tree,
            asking,
            layer.window,
            rows_in,
            &mixed,
            &sums,
            &mixed_slope,
            &mut Gradients { q: &mut q_slope, k: &mut k_slope, v: &mut v_slope },
            self.attention,
        );
        for buffer in [q, k, v, mixed, sums, mixed_slope] {
            self.pool.give(buffer);
        }
        let q_norm = layer.q_norm.as_ref().zip(raw.as_ref().map(|(q, _)| &**q));
        self.positions_back(&mut q_slope, queries, q_norm, asking, turn)?;
        let k_norm = layer.k_norm.as_ref().zip(raw.as_ref().map(|(_, k)| &**k));
        self.positions_back(&mut k_slope, keys, k_norm, Asking::All, turn)?;
        if let Some((q, k)) = raw {
            self.pool.give(q);
            self.pool.give(k);
        }

        // Queries, keys and values.
        let normal = self.norms(&layer.input_norm, &x)?;
        self.linear_gradient(&layer.k, rows, (hidden, keys), &k_slope, &normal, turn)?;
        self.linear_gradient(&layer.v, rows, (hidden, keys), &v_slope, &normal, turn)?;
        let mut out = self.pool.take(rows * stride(hidden))?;
        self.linear_back(&layer.k, rows, (hidden, keys), &k_slope, &mut out, Into::Set);
        self.linear_back(&layer.v, rows, (hidden, keys), &v_slope, &mut out, Into::Add);
        let residual = if asking == Asking::All {
            self.linear_gradient(&layer.q, asked, (hidden, queries), &q_slope, &normal, turn)?;
            self.linear_back(&layer.q, asked, (hidden, queries), &q_slope, &mut out, Into::Add);
            middle_slope
        } else {
            let some = self.select(&normal, asking, stride(hidden))?;
            self.linear_gradient(&layer.q, asked, (hidden, queries), &q_slope, &some, turn)?;
            let mut part = some;
            self.linear_back(&layer.q, asked, (hidden, queries), &q_slope, &mut part, Into::Set);
            self.spread(&part, &mut out, asking);
            self.pool.give(part);
            let mut all = self.pool.zeros(rows * stride(hidden))?;
            self.spread(&middle_slope, &mut all, asking);
            self.pool.give(middle_slope);
            all
        };
        for buffer in [normal, q_slope, k_slope, v_slope] {
            self.pool.give(buffer);
        }
        self.norms_back(&layer.input_norm, &x, &mut out, Some(&residual), turn)?;
        self.pool.give(residual);
        self.pool.give(x);
        Ok(out)
    }

    /// Adds the asking rows of `part` to where they stand among all rows.
    fn spread(&self, part: &[f32], to: &mut [f32], asking: Asking) {
        let step = stride(self.model.hidden);
        for (index, part) in part.chunks_exact(step).enumerate() {
            let row = asking.row(self.tree, index);
            add(self.level, &mut to[row * step..][..self.model.hidden], part);
        }
    }
}
