//! The flat gradient in parts, in the order in which the backward pass finishes them.

use std::ops::Range;

use crate::train::{
    parameters::Layout,
    trunk::{Place, place},
};

/// Tensors whose gradients travel together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Their slots in the layout.
    pub slots: Vec<usize>,
    /// Where they lie in the flat memory; neighbours are one range.
    pub ranges: Vec<Range<i64>>,
}

/// The part of these slots.
pub(crate) fn of_slots(layout: &Layout, slots: Vec<usize>) -> Part {
    Part::new(layout, slots)
}

impl Part {
    fn new(layout: &Layout, mut slots: Vec<usize>) -> Self {
        slots.sort_unstable();
        let mut ranges: Vec<Range<i64>> = Vec::new();
        let mut last = None;
        for &slot in &slots {
            let found = layout.slots()[slot].range();
            let (start, end) = (found.start as i64, found.end as i64);
            match ranges.last_mut() {
                // The gap between neighbours, for alignment, holds zeros.
                Some(range) if last == slot.checked_sub(1) => range.end = end,
                _ => ranges.push(start..end),
            }
            last = Some(slot);
        }
        Self { slots, ranges }
    }

    /// Elements of all ranges.
    pub fn length(&self) -> i64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }
}

/// The parts of `layout`: the output projection, the final norm, the layers from the last to the first, the embeddings.
/// What comes one after the other is one part up to `least` elements, and never more than that by more than one layer.
pub(crate) fn parts(layout: &Layout, least: i64) -> Vec<Part> {
    let order = |slot: &usize| match place(&layout.slots()[*slot].name) {
        Place::Head => (0, 0),
        Place::Norm => (1, 0),
        Place::Layer(layer) => (2, usize::MAX - layer),
        Place::Embedding => (3, 0),
    };
    let mut slots: Vec<usize> = (0..layout.slots().len()).collect();
    slots.sort_by_key(|slot| (order(slot), *slot));
    let mut parts = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut filled = 0;
    for group in slots.chunk_by(|a, b| order(a) == order(b)) {
        open.extend(group);
        filled += group.iter().map(|&slot| layout.slots()[slot].range().len() as i64).sum::<i64>();
        if filled >= least {
            parts.push(Part::new(layout, std::mem::take(&mut open)));
            filled = 0;
        }
    }
    if !open.is_empty() {
        parts.push(Part::new(layout, open));
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout(layers: usize, width: i64, tied: bool) -> Layout {
        let mut shapes = vec![("model.embed_tokens.weight".to_owned(), vec![7, width])];
        for layer in 0..layers {
            shapes.push((format!("model.layers.{layer}.input_layernorm.weight"), vec![width]));
            shapes.push((format!("model.layers.{layer}.self_attn.q_proj.weight"), vec![width, width]));
            shapes.push((format!("model.layers.{layer}.mlp.up_proj.weight"), vec![3, width]));
        }
        shapes.push(("model.norm.weight".to_owned(), vec![width]));
        if !tied {
            shapes.push(("lm_head.weight".to_owned(), vec![7, width]));
        }
        Layout::new(shapes)
    }

    proptest! {
        #[test]
        fn every_element_is_in_one_part_and_later_layers_come_first(
            layers in 1usize..5, width in 1i64..40, tied in any::<bool>(), least in 1i64..5000,
        ) {
            let layout = layout(layers, width, tied);
            let parts = parts(&layout, least);
            let mut seen: Vec<usize> = parts.iter().flat_map(|part| part.slots.clone()).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..layout.slots().len()).collect::<Vec<_>>());
            let mut covered = vec![0; layout.length() as usize];
            for range in parts.iter().flat_map(|part| &part.ranges) {
                (range.start..range.end).for_each(|at| covered[at as usize] += 1);
            }
            prop_assert!(covered.iter().all(|count| *count <= 1));
            for slot in layout.slots() {
                prop_assert!(slot.range().all(|at| covered[at] == 1));
            }
            for part in &parts[..parts.len() - 1] {
                prop_assert!(part.length() >= least);
            }
            let layer_of = |slot: &usize| match place(&layout.slots()[*slot].name) {
                Place::Layer(layer) => Some(layer),
                _ => None,
            };
            let order: Vec<usize> = parts
                .iter()
                .flat_map(|part| {
                    let mut found: Vec<usize> = part.slots.iter().filter_map(layer_of).collect();
                    found.sort_unstable_by(|a, b| b.cmp(a));
                    found.dedup();
                    found
                })
                .collect();
            prop_assert!(order.windows(2).all(|two| two[0] > two[1]), "{:?}", order);
        }
    }
}
