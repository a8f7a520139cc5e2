//! The sequences of a micro-batch as a prefix tree: what several begin with is computed once.
//!
//! Chosen and rejected share their prompt, the judge's conversations share their rubric, and completions often begin
//! alike. A token's hidden state depends on what is before it alone, so one row serves all sequences through it, and its
//! gradient is the sum of theirs.

use std::ops::Range;

use crate::train::batch::Sequence;

/// A run of rows that all sequences through it have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Its rows.
    pub rows: Range<usize>,
    /// Where the list of its ancestors' rows and its own, from position 0 on, lies in [`Tree::paths`].
    pub path: Range<usize>,
    /// Its rows' places among the active ones.
    pub active: Range<usize>,
}

/// A completion's token: which active row predicts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Index among the active rows.
    pub row: usize,
    /// The token.
    pub token: usize,
    /// Its sequence.
    pub sequence: usize,
}

/// Rows of a micro-batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    /// The token of each row.
    pub tokens: Vec<u32>,
    /// Its position.
    pub positions: Vec<u32>,
    /// Runs of rows, in the order of the rows.
    pub nodes: Vec<Node>,
    /// See [`Node::path`].
    pub paths: Vec<u32>,
    /// Rows that predict a token of a completion, ascending.
    pub active: Vec<u32>,
    /// What they predict, sequence by sequence, each in the order of its tokens.
    pub targets: Vec<Target>,
}

/// Number of tokens that two begin with.
fn common(a: &[i64], b: &[i64]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// What the model reads of a sequence: nothing comes after its last token.
fn read(sequence: &Sequence) -> &[i64] {
    &sequence.tokens[..sequence.tokens.len().saturating_sub(1)]
}

impl Tree {
    /// The tree of `sequences`.
    pub fn new(sequences: &[&Sequence]) -> Self {
        let mut tree = Self::default();
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_by(|&a, &b| read(sequences[a]).cmp(read(sequences[b])).then(a.cmp(&b)));
        let texts: Vec<&[i64]> = order.iter().map(|&index| read(sequences[index])).collect();
        // Rows of the path to the text that was added last.
        let mut path: Vec<u32> = Vec::new();
        let mut rows_of: Vec<Vec<u32>> = vec![Vec::new(); sequences.len()];
        for (i, text) in texts.iter().enumerate() {
            let mut start = if i == 0 { 0 } else { common(texts[i - 1], text) };
            path.truncate(start);
            // The text's own part is cut where later texts leave it.
            let mut cuts: Vec<usize> = Vec::new();
            let mut shared = text.len();
            for later in texts.get(i + 1..).unwrap_or_default() {
                shared = shared.min(common(text, later));
                if shared <= start {
                    break;
                }
                cuts.push(shared);
            }
            cuts.push(text.len());
            cuts.sort_unstable();
            for end in cuts {
                if end <= start {
                    continue;
                }
                let first = tree.tokens.len();
                for (position, token) in text.iter().enumerate().take(end).skip(start) {
                    path.push(tree.tokens.len() as u32);
                    tree.tokens.push(*token as u32);
                    tree.positions.push(position as u32);
                }
                let from = tree.paths.len();
                tree.paths.extend_from_slice(&path);
                tree.nodes.push(Node { rows: first..tree.tokens.len(), path: from..tree.paths.len(), active: 0..0 });
                start = end;
            }
            rows_of[order[i]].clone_from(&path);
        }
        let predicting =
            |index: usize| (sequences[index].prompt..sequences[index].tokens.len()).map(move |next| (index, next));
        let row = |index: usize, next: usize| rows_of[index][next - 1];
        tree.active = (0..sequences.len()).flat_map(predicting).map(|(index, next)| row(index, next)).collect();
        tree.active.sort_unstable();
        tree.active.dedup();
        tree.targets = (0..sequences.len())
            .flat_map(predicting)
            .map(|(index, next)| Target {
                row: tree.active.partition_point(|active| *active < row(index, next)),
                token: sequences[index].tokens[next] as usize,
                sequence: index,
            })
            .collect();
        for node in &mut tree.nodes {
            let place = |row: usize| tree.active.partition_point(|active| (*active as usize) < row);
            node.active = place(node.rows.start)..place(node.rows.end);
        }
        tree
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }
}

/// Units, each with its sequences, in micro-batches of at most `limit` rows, and of no more than `LARGEST`.
///
/// Units that begin alike come together. The number of micro-batches is the smallest that the limit allows, but there
/// are up to `PARALLEL`, so that all cores have work, as long as each has `ENOUGH` rows; they are made as equal as
/// that number allows. A unit over the limit stands alone. The result depends on nothing but the arguments.
pub(crate) fn micro_batches(units: &[Vec<&Sequence>], limit: usize) -> Vec<Vec<usize>> {
    let limit = limit.min(LARGEST);
    let mut order: Vec<usize> = (0..units.len()).collect();
    let first = |unit: usize| units[unit].first().map(|sequence| read(sequence)).unwrap_or_default();
    order.sort_by(|&a, &b| first(a).cmp(first(b)).then(a.cmp(&b)));
    let alone: Vec<usize> = order.iter().map(|&unit| new_rows(None, &units[unit])).collect();
    let after: Vec<usize> = order
        .iter()
        .enumerate()
        .map(|(i, &unit)| new_rows(i.checked_sub(1).map(|before| units[order[before]].as_slice()), &units[unit]))
        .collect();
    let fill = |limit: usize| {
        let mut ends = Vec::new();
        let mut rows = 0;
        for (i, (alone, after)) in alone.iter().zip(&after).enumerate() {
            if i > 0 && rows + after > limit {
                ends.push(i);
                rows = *alone;
            } else {
                rows += if i == 0 { alone } else { after };
            }
        }
        ends
    };
    let total: usize = after.iter().sum();
    let wanted = (fill(limit).len() + 1).max(wanted(total as u64) as usize);
    let (mut low, mut high) = (0, limit);
    while low < high {
        let middle = low + (high - low) / 2;
        if fill(middle).len() + 1 > wanted {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let mut start = 0;
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for end in fill(high).into_iter().chain([order.len()]) {
        if end > start {
            batches.push(order[start..end].to_vec());
        }
        start = end;
    }
    batches
}

/// Rows above which a micro-batch takes more memory and is no faster.
pub(crate) const LARGEST: usize = 2048;

/// Micro-batches that a step is cut into for the sake of cores, at most. No more, whatever the machine has: results would
/// depend on it; and every cut computes a shared prefix once more and adds up the gradient once more. Large steps occupy more
/// cores all the same: they have a micro-batch for every [`LARGEST`] rows.
const PARALLEL: usize = 8;

/// Rows below which a micro-batch is not cut for the sake of cores.
const ENOUGH: usize = 256;

/// Micro-batches that a step of `rows` rows is cut into for the sake of cores.
pub(crate) fn wanted(rows: u64) -> u64 {
    (rows / ENOUGH as u64).min(PARALLEL as u64)
}

/// Rows that `unit` adds to a tree whose last unit is `before`.
fn new_rows(before: Option<&[&Sequence]>, unit: &[&Sequence]) -> usize {
    let mut known: Vec<&[i64]> = before.unwrap_or_default().iter().map(|sequence| read(sequence)).collect();
    let mut rows = 0;
    for sequence in unit {
        let text = read(sequence);
        rows += text.len() - known.iter().map(|known| common(known, text)).max().unwrap_or(0);
        known.push(text);
    }
    rows
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn sequence(prompt: &[i64], completion: &[i64]) -> Sequence {
        Sequence::new(prompt, completion, 1000, "r").unwrap()
    }

    fn sequences() -> impl Strategy<Value = Vec<Sequence>> {
        let text = |most| prop::collection::vec(0i64..3, 1..most);
        prop::collection::vec((text(7), text(5)).prop_map(|(p, c)| sequence(&p, &c)), 1..8)
    }

    proptest! {
        #[test]
        fn every_prefix_is_one_row_and_every_path_leads_to_it(all in sequences()) {
            let all: Vec<&Sequence> = all.iter().collect();
            let tree = Tree::new(&all);
            let prefixes: BTreeSet<&[i64]> =
                all.iter().flat_map(|s| (1..s.tokens.len()).map(|end| &s.tokens[..end])).collect();
            prop_assert_eq!(tree.rows(), prefixes.len());
            let mut seen = BTreeSet::new();
            let mut next = 0;
            for node in &tree.nodes {
                prop_assert_eq!(node.rows.start, next);
                prop_assert!(!node.rows.is_empty());
                next = node.rows.end;
                let path = &tree.paths[node.path.clone()];
                let text: Vec<i64> = path.iter().map(|row| i64::from(tree.tokens[*row as usize])).collect();
                for (position, row) in path.iter().enumerate() {
                    prop_assert_eq!(tree.positions[*row as usize] as usize, position);
                }
                let own: Vec<u32> = node.rows.clone().map(|row| row as u32).collect();
                prop_assert!(path.ends_with(&own));
                for row in node.rows.clone() {
                    let prefix = text[..=tree.positions[row] as usize].to_vec();
                    prop_assert!(prefixes.contains(prefix.as_slice()) && seen.insert(prefix));
                }
                let active: Vec<u32> =
                    tree.active.iter().copied().filter(|row| node.rows.contains(&(*row as usize))).collect();
                prop_assert_eq!(&tree.active[node.active.clone()], &active[..]);
            }
            let mut targets = tree.targets.iter();
            for (index, sequence) in all.iter().enumerate() {
                for next in sequence.prompt..sequence.tokens.len() {
                    let target = targets.next().unwrap();
                    prop_assert_eq!((target.sequence, target.token), (index, sequence.tokens[next] as usize));
                    let row = tree.active[target.row] as usize;
                    let node = tree.nodes.iter().find(|node| node.rows.contains(&row)).unwrap();
                    let path = &tree.paths[node.path.clone()][..next];
                    let text: Vec<i64> = path.iter().map(|row| i64::from(tree.tokens[*row as usize])).collect();
                    prop_assert_eq!(text.as_slice(), &sequence.tokens[..next]);
                    prop_assert_eq!(*path.last().unwrap() as usize, row);
                }
            }
            prop_assert!(targets.next().is_none());
        }

        #[test]
        fn every_unit_is_in_one_micro_batch_within_the_limit(all in sequences(), limit in 1usize..60) {
            let units: Vec<Vec<&Sequence>> = all.chunks(2).map(|pair| pair.iter().collect()).collect();
            let batches = micro_batches(&units, limit);
            let mut seen: Vec<usize> = batches.concat();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..units.len()).collect::<Vec<_>>());
            for batch in &batches {
                let sequences: Vec<&Sequence> = batch.iter().flat_map(|&unit| units[unit].clone()).collect();
                prop_assert!(batch.len() == 1 || Tree::new(&sequences).rows() <= limit);
            }
        }
    }

    #[test]
    fn a_step_is_cut_so_that_cores_have_work() {
        let all: Vec<Sequence> = (0..64).map(|i| sequence(&[i; 20], &[1; 21])).collect();
        let units: Vec<Vec<&Sequence>> = all.chunks(2).map(|pair| pair.iter().collect()).collect();
        assert_eq!(micro_batches(&units, 100_000).len(), PARALLEL);
        assert_eq!(micro_batches(&units[..1], 100_000).len(), 1);
        assert!(micro_batches(&units, 100).len() > 20);
    }
}
