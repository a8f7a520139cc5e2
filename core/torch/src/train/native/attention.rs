//! Attention over a prefix tree, forward and backward.
//!
//! The rows of a node attend to their ancestors' rows and to those before them in the node. Keys and values of a path
//! are gathered and packed once per node and key head; scores exist for [`BLOCK`] rows at a time and are computed again on
//! the way back. A row's result does not depend on how its path is divided into nodes.

use super::{
    pointwise::{dot, softmax, softmax_back, weighted_exp},
    product::{Matrix, Panels, product},
    tree::{Node, Tree},
};
use crate::generate::{
    simd::{Floats, Level},
    tiles::{Into, PANEL},
};

/// Query rows whose scores exist at a time.
const BLOCK: usize = 48;

/// Shape of the heads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    /// Query heads.
    pub queries: usize,
    /// Key heads.
    pub keys: usize,
    /// Floats per head.
    pub width: usize,
    /// Factor on the scores.
    pub scale: f32,
}

/// Memory of one worker's attention.
#[derive(Default)]
pub(crate) struct Scratch {
    keys: Floats,
    values: Floats,
    key_columns: Panels,
    value_columns: Panels,
    key_rows: Panels,
    value_rows: Panels,
    scores: Floats,
    slopes: Floats,
    panel: Floats,
    key_gradient: Floats,
    value_gradient: Floats,
}

/// Rows of queries, keys and values, and how far apart they lie. Queries are those of the rows in `of`.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// `[queries, heads · width]`.
    pub q: &'a [f32],
    /// `[rows, key heads · width]`.
    pub k: &'a [f32],
    /// As the keys.
    pub v: &'a [f32],
    /// Stride of the queries.
    pub q_stride: usize,
    /// Stride of keys and values.
    pub kv_stride: usize,
}

/// Which rows ask: all of them, or the active ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asking {
    /// Every row.
    All,
    /// The rows that predict a completion's token.
    Active,
}

impl Asking {
    /// Number of asking rows.
    pub fn count(self, tree: &Tree) -> usize {
        match self {
            Asking::All => tree.rows(),
            Asking::Active => tree.active.len(),
        }
    }

    /// The tree's row of an asking one.
    pub fn row(self, tree: &Tree, index: usize) -> usize {
        match self {
            Asking::All => index,
            Asking::Active => tree.active[index] as usize,
        }
    }

    fn of(self, node: &Node) -> std::ops::Range<usize> {
        match self {
            Asking::All => node.rows.clone(),
            Asking::Active => node.active.clone(),
        }
    }
}

/// A block of asking rows of a node, and the positions they look at.
struct Block {
    first: usize,
    count: usize,
    /// First position that any of them sees, at the start of a panel, and the one after the last.
    from: usize,
    to: usize,
}

/// The blocks of a node.
fn blocks(tree: &Tree, asking: Asking, node: &Node, window: usize) -> Vec<Block> {
    let range = asking.of(node);
    let mut all = Vec::new();
    let mut first = range.start;
    while first < range.end {
        let count = BLOCK.min(range.end - first);
        let position = |index: usize| tree.positions[asking.row(tree, index)] as usize;
        let from = (position(first) + 1).saturating_sub(window) / PANEL * PANEL;
        all.push(Block { first, count, from, to: position(first + count - 1) + 1 });
        first += count;
    }
    all
}

/// Copies one head of the rows of `path`.
fn gather(from: &[f32], stride: usize, at: usize, width: usize, path: &[u32], to: &mut Floats) {
    to.grow(path.len() * width);
    for (to, row) in to.chunks_exact_mut(width).zip(path) {
        to.copy_from_slice(&from[*row as usize * stride + at..][..width]);
    }
}

/// Attention of all asking rows into `out` `[queries, heads · width]`; `sums` `[queries, heads]` gets the logarithms of
/// the softmax's sums. `window` is the number of positions that a row sees, its own included.
#[allow(clippy::too_many_arguments)]
pub(crate) fn forward(
    level: Level,
    heads: Heads,
    tree: &Tree,
    asking: Asking,
    window: usize,
    rows: Rows<'_>,
    out: &mut [f32],
    sums: &mut [f32],
    scratch: &mut Scratch,
) {
    let group = heads.queries / heads.keys;
    let width = heads.width;
    for node in &tree.nodes {
        let blocks = blocks(tree, asking, node, window);
        let Some(last) = blocks.last() else { continue };
        let path = &tree.paths[node.path.clone()][..last.to];
        for kv in 0..heads.keys {
            gather(rows.k, rows.kv_stride, kv * width, width, path, &mut scratch.keys);
            gather(rows.v, rows.kv_stride, kv * width, width, path, &mut scratch.values);
            scratch.key_columns.pack(level, width, path.len(), Matrix::new(&scratch.keys, width).t());
            scratch.value_rows.pack(level, path.len(), width, Matrix::new(&scratch.values, width));
            for head in kv * group..(kv + 1) * group {
                for block in &blocks {
                    let stride = block.to - block.from;
                    scratch.scores.grow(block.count * stride);
                    let q = Matrix::new(&rows.q[block.first * rows.q_stride + head * width..], rows.q_stride);
                    let columns = (block.from, block.to);
                    scratch.key_columns.product(
                        level,
                        block.count,
                        (0, width),
                        columns,
                        q,
                        &mut scratch.scores,
                        stride,
                        Into::Set,
                    );
                    for (i, row) in scratch.scores.chunks_exact_mut(stride).take(block.count).enumerate() {
                        let (from, to) = seen(tree, asking, block, i, window);
                        sums[(block.first + i) * heads.queries + head] = softmax(level, row, from, to, heads.scale);
                    }
                    let weights = Matrix::new(&scratch.scores, stride);
                    let out = &mut out[block.first * rows.q_stride + head * width..];
                    scratch.value_rows.product(
                        level,
                        block.count,
                        (block.from, stride),
                        (0, width),
                        weights,
                        out,
                        rows.q_stride,
                        Into::Set,
                    );
                }
            }
        }
    }
}

/// Places within the block's columns that its row `i` sees.
fn seen(tree: &Tree, asking: Asking, block: &Block, i: usize, window: usize) -> (usize, usize) {
    let end = tree.positions[asking.row(tree, block.first + i)] as usize + 1;
    (end.saturating_sub(window).max(block.from) - block.from, end - block.from)
}

/// What [`backward`] writes: gradients of queries (overwritten), keys and values (added to), laid out as [`Rows`].
pub(crate) struct Gradients<'a> {
    /// Of the queries.
    pub q: &'a mut [f32],
    /// Of the keys.
    pub k: &'a mut [f32],
    /// Of the values.
    pub v: &'a mut [f32],
}

/// Gradients of [`forward`], from that of its output. `out` and `sums` are what it wrote.
#[allow(clippy::too_many_arguments)]
pub(crate) fn backward(
    level: Level,
    heads: Heads,
    tree: &Tree,
    asking: Asking,
    window: usize,
    rows: Rows<'_>,
    out: &[f32],
    sums: &[f32],
    gradient: &[f32],
    to: &mut Gradients<'_>,
    scratch: &mut Scratch,
) {
    let group = heads.queries / heads.keys;
    let width = heads.width;
    for node in &tree.nodes {
        let blocks = blocks(tree, asking, node, window);
        let Some(last) = blocks.last() else { continue };
        let path = &tree.paths[node.path.clone()][..last.to];
        let length = path.len() * width;
        for kv in 0..heads.keys {
            gather(rows.k, rows.kv_stride, kv * width, width, path, &mut scratch.keys);
            gather(rows.v, rows.kv_stride, kv * width, width, path, &mut scratch.values);
            scratch.key_columns.pack(level, width, path.len(), Matrix::new(&scratch.keys, width).t());
            scratch.value_columns.pack(level, width, path.len(), Matrix::new(&scratch.values, width).t());
            scratch.key_rows.pack(level, path.len(), width, Matrix::new(&scratch.keys, width));
            scratch.key_gradient.grow(length);
            scratch.value_gradient.grow(length);
            scratch.key_gradient[..length].fill(0.0);
            scratch.value_gradient[..length].fill(0.0);
            for head in kv * group..(kv + 1) * group {
                for block in &blocks {
                    let (count, stride) = (block.count, block.to - block.from);
                    let at = block.first * rows.q_stride + head * width;
                    let columns = (block.from, block.to);
                    let q = Matrix::new(&rows.q[at..], rows.q_stride);
                    let slope = Matrix::new(&gradient[at..], rows.q_stride);
                    scratch.scores.grow(count * stride);
                    scratch.slopes.grow(count * stride);
                    let (keys, values) = (&scratch.key_columns, &scratch.value_columns);
                    keys.product(level, count, (0, width), columns, q, &mut scratch.scores, stride, Into::Set);
                    values.product(level, count, (0, width), columns, slope, &mut scratch.slopes, stride, Into::Set);
                    let pairs = scratch.scores.chunks_exact_mut(stride).zip(scratch.slopes.chunks_exact_mut(stride));
                    for (i, (scores, slopes)) in pairs.take(count).enumerate() {
                        let (from, to) = seen(tree, asking, block, i, window);
                        let sum = sums[(block.first + i) * heads.queries + head];
                        scores[..from].fill(0.0);
                        scores[to..].fill(0.0);
                        weighted_exp(level, &mut scores[from..to], heads.scale, sum, 1.0);
                        let row = at + i * rows.q_stride;
                        let mean = dot(level, &gradient[row..row + width], &out[row..]);
                        softmax_back(level, scores, slopes, mean, heads.scale);
                    }
                    let slopes = Matrix::new(&scratch.slopes, stride);
                    let part = (block.from, stride);
                    let q_to = &mut to.q[at..];
                    scratch.key_rows.product(level, count, part, (0, width), slopes, q_to, rows.q_stride, Into::Set);
                    let size = (stride, width, count);
                    let place = block.from * width;
                    let weights = Matrix::new(&scratch.scores, stride).t();
                    let panel = &mut scratch.panel;
                    let values_to = &mut scratch.value_gradient[place..length];
                    product(level, size, weights, slope, values_to, width, Into::Add, panel);
                    let keys_to = &mut scratch.key_gradient[place..length];
                    product(level, size, slopes.t(), q, keys_to, width, Into::Add, panel);
                }
            }
            for (to, found) in [(&mut *to.k, &scratch.key_gradient), (&mut *to.v, &scratch.value_gradient)] {
                for (found, row) in found.chunks_exact(width).zip(path) {
                    let to = &mut to[*row as usize * rows.kv_stride + kv * width..][..width];
                    to.iter_mut().zip(found).for_each(|(to, found)| *to += found);
                }
            }
        }
    }
}
