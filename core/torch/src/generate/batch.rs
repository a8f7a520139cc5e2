//! What one pass through the model computes.

use super::slots::Part;

/// Some tokens, each a row of its own: prompts being read and answers being written, mixed.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Token of every row.
    pub(crate) tokens: Vec<u32>,
    /// Its place in its text, from 0.
    pub(crate) positions: Vec<u32>,
    /// Where its keys and values go.
    pub(crate) slots: Vec<u32>,
    /// Neighbouring rows that follow each other in one text.
    pub(crate) spans: Vec<Span>,
    /// Slots of the spans' texts, one after the other.
    pub(crate) paths: Vec<u32>,
    /// Runs of slots of the spans' texts, one text after the other, where slots lie together.
    pub(crate) parts: Vec<Part>,
    /// Rows whose next token is wanted, ascending.
    pub(crate) outputs: Vec<u32>,
}

/// Rows `first_row .. first_row + rows`, the last tokens of a text of which `path_len` tokens are computed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) first_row: usize,
    pub(crate) rows: usize,
    /// Where in [`Batch::paths`] the slots of the text begin: one per position, the span's own rows included.
    pub(crate) path: usize,
    pub(crate) path_len: usize,
    /// Where in [`Batch::parts`] the runs of the text begin, and how many there are.
    pub(crate) first_part: usize,
    pub(crate) parts: usize,
}

impl Batch {
    /// Makes it empty.
    pub(crate) fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.slots.clear();
        self.spans.clear();
        self.paths.clear();
        self.parts.clear();
        self.outputs.clear();
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Adds `tokens`, the last of the text whose slots are `path` and whose runs of slots are `parts`; `output` asks for
    /// what comes after the last of them.
    pub(crate) fn push(&mut self, tokens: &[u32], path: &[u32], parts: &[Part], output: bool) {
        let before = path.len() - tokens.len();
        self.spans.push(Span {
            first_row: self.rows(),
            rows: tokens.len(),
            path: self.paths.len(),
            path_len: path.len(),
            first_part: self.parts.len(),
            parts: parts.len(),
        });
        self.parts.extend_from_slice(parts);
        self.tokens.extend_from_slice(tokens);
        self.positions.extend(before as u32..path.len() as u32);
        self.slots.extend_from_slice(&path[before..]);
        self.paths.extend_from_slice(path);
        if output {
            self.outputs.push(self.rows() as u32 - 1);
        }
    }

    /// Slots of the positions that `row` of `span` sees: the text up to itself, the last `window` of it.
    pub(crate) fn seen(&self, span: &Span, row: usize, window: Option<usize>) -> &[u32] {
        let len = span.path_len - (span.first_row + span.rows - 1 - row);
        let from = window.map_or(0, |window| len.saturating_sub(window));
        &self.paths[span.path + from..span.path + len]
    }
}
