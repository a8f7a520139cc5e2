//! The prefix tree over the prompts of a call.
//!
//! A node is a run of tokens that the same prompts share; nodes come in the order of a walk that goes down first, so what
//! must be kept at any time is the way from the root to the current node and what rows still read.

use std::ops::Range;

/// One node: tokens `start .. end` of prompt `prompt`, which all prompts below share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// The node before it on the way from the root.
    pub(crate) parent: Option<usize>,
    /// A prompt that runs through it.
    pub(crate) prompt: usize,
    /// Its tokens in that prompt.
    pub(crate) tokens: Range<usize>,
    /// Entries of the order that end here: equal prompts.
    pub(crate) ends: Range<usize>,
}

/// Length of what two texts begin with in common.
fn common(a: &[u32], b: &[u32], from: usize) -> usize {
    from + a[from..].iter().zip(&b[from..]).take_while(|(a, b)| a == b).count()
}

/// The nodes over the prompts that `order` names, which must be sorted by their tokens; none may be empty.
pub(crate) fn nodes(prompts: &[Vec<u32>], order: &[usize]) -> Vec<Node> {
    let mut nodes = Vec::new();
    // Ranges of `order` that share `depth` tokens and the next one, the last one first.
    let mut open: Vec<(Range<usize>, usize, Option<usize>)> = Vec::new();
    branch(prompts, order, 0..order.len(), 0, None, &mut open);
    while let Some((range, depth, parent)) = open.pop() {
        let (first, last) = (order[range.start], order[range.end - 1]);
        // Sorted: what the first and the last share, all share.
        let end = common(&prompts[first], &prompts[last], depth);
        let ending = order[range.clone()].iter().take_while(|p| prompts[**p].len() == end).count();
        let ends = range.start..range.start + ending;
        nodes.push(Node { parent, prompt: first, tokens: depth..end, ends: ends.clone() });
        branch(prompts, order, ends.end..range.end, end, Some(nodes.len() - 1), &mut open);
    }
    nodes
}

/// Splits `range` by the token at `depth` and opens the parts.
fn branch(
    prompts: &[Vec<u32>],
    order: &[usize],
    range: Range<usize>,
    depth: usize,
    parent: Option<usize>,
    open: &mut Vec<(Range<usize>, usize, Option<usize>)>,
) {
    let mut end = range.end;
    while end > range.start {
        let token = prompts[order[end - 1]][depth];
        let same = order[range.start..end].iter().rev().take_while(|p| prompts[**p][depth] == token).count();
        open.push((end - same..end, depth, parent));
        end -= same;
    }
}

/// Cuts a sorted order into about `count` pieces of similar work, where neighbours have little in common, so that pieces
/// can go to different workers and little is computed twice.
pub(crate) fn pieces(
    prompts: &[Vec<u32>],
    order: &[usize],
    work: impl Fn(usize) -> u64,
    count: usize,
) -> Vec<Range<usize>> {
    let total: u64 = order.iter().map(|p| work(*p)).sum();
    let goal = (total / count.max(1) as u64).max(1);
    let (mut pieces, mut start, mut sum) = (Vec::new(), 0, 0);
    // The best place to cut since the piece became half as large as it should be.
    let mut best: Option<(usize, usize)> = None;
    let mut i = 0;
    while i < order.len() {
        if sum >= goal / 2 && i > start {
            let shared = common(&prompts[order[i - 1]], &prompts[order[i]], 0);
            if best.is_none_or(|(least, _)| shared <= least) {
                best = Some((shared, i));
            }
        }
        if let Some((_, cut)) = best
            && sum >= goal
        {
            pieces.push(start..cut);
            (start, i, sum, best) = (cut, cut, 0, None);
        }
        sum += work(order[i]);
        i += 1;
    }
    if start < order.len() {
        pieces.push(start..order.len());
    }
    pieces
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn sorted(prompts: &[Vec<u32>]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..prompts.len()).collect();
        order.sort_by(|a, b| prompts[*a].cmp(&prompts[*b]).then(a.cmp(b)));
        order
    }

    proptest! {
        #[test]
        fn every_prefix_has_one_place_and_every_prompt_one_end(
            prompts in proptest::collection::vec(proptest::collection::vec(0u32..3, 1..9), 0..30),
        ) {
            let order = sorted(&prompts);
            let nodes = nodes(&prompts, &order);
            let prefixes: BTreeSet<&[u32]> = prompts.iter().flat_map(|p| (1..=p.len()).map(|n| &p[..n])).collect();
            prop_assert_eq!(nodes.iter().map(|n| n.tokens.len()).sum::<usize>(), prefixes.len());
            let mut ended = BTreeSet::new();
            for (i, node) in nodes.iter().enumerate() {
                prop_assert!(!node.tokens.is_empty());
                prop_assert!(node.parent.is_none_or(|p| p < i && nodes[p].tokens.end == node.tokens.start));
                // The way down spells the prompts that end here.
                let mut text = prompts[node.prompt][node.tokens.clone()].to_vec();
                let mut at = node.parent;
                while let Some(p) = at {
                    let mut before = prompts[nodes[p].prompt][nodes[p].tokens.clone()].to_vec();
                    before.append(&mut text);
                    text = before;
                    at = nodes[p].parent;
                }
                for e in node.ends.clone() {
                    prop_assert_eq!(&prompts[order[e]], &text);
                    prop_assert!(ended.insert(order[e]));
                }
                // Down first: the parent is on the way to the node before.
                if let (Some(parent), true) = (node.parent, i > 0) {
                    let mut at = Some(i - 1);
                    while at.is_some_and(|a| a != parent) {
                        at = at.and_then(|a| nodes[a].parent);
                    }
                    prop_assert_eq!(at, Some(parent));
                }
            }
            prop_assert_eq!(ended.len(), prompts.len());
        }

        #[test]
        fn pieces_cover_the_order(
            prompts in proptest::collection::vec(proptest::collection::vec(0u32..3, 1..9), 1..40), count in 1usize..9,
        ) {
            let order = sorted(&prompts);
            let pieces = pieces(&prompts, &order, |p| prompts[p].len() as u64, count);
            let mut at = 0;
            for piece in &pieces {
                prop_assert_eq!(piece.start, at);
                prop_assert!(piece.end > at);
                at = piece.end;
            }
            prop_assert_eq!(at, order.len());
            prop_assert!(pieces.len() <= 2 * count + 1);
        }
    }
}
