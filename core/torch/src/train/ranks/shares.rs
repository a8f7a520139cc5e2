//! Which process keeps which range of the flat memory, where that is shared out.

use std::ops::Range;

use crate::train::adamw::ALIGN;

/// The flat memory in equal ranges, one per process, in the order of their ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    length: i64,
    each: i64,
    rank: usize,
    size: usize,
}

impl Shares {
    /// The shares of `length` elements among `size` processes, seen from process `rank`. Shares begin where an optimizer's
    /// range can.
    pub fn new(length: i64, rank: usize, size: usize) -> Self {
        let processes = size.max(1) as i64;
        let each = ((length + processes - 1) / processes + ALIGN - 1) / ALIGN * ALIGN;
        Self { length, each: each.max(ALIGN), rank, size }
    }

    /// The range of process `rank`; an empty one lies at the start.
    pub fn of(&self, rank: usize) -> Range<i64> {
        let start = self.each * rank as i64;
        if start >= self.length { 0..0 } else { start..(start + self.each).min(self.length) }
    }

    /// The range of this process.
    pub fn own(&self) -> Range<i64> {
        self.of(self.rank)
    }

    /// The pieces of `range` with the process that keeps each.
    pub fn pieces(&self, range: &Range<i64>) -> Vec<(usize, Range<i64>)> {
        (0..self.size)
            .filter_map(|rank| {
                let kept = self.of(rank);
                let piece = range.start.max(kept.start)..range.end.min(kept.end);
                (piece.start < piece.end).then_some((rank, piece))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_follow_each_other_and_pieces_cover_what_they_are_of(
            length in 1i64..100_000, size in 1usize..9, start in 0i64..100_000, more in 0i64..50_000,
        ) {
            let shares = Shares::new(length, 0, size);
            let mut at = 0;
            for rank in 0..size {
                let range = shares.of(rank);
                prop_assert_eq!(range.start % ALIGN, 0);
                if !range.is_empty() {
                    prop_assert_eq!(range.start, at);
                    at = range.end;
                }
            }
            prop_assert_eq!(at, length);
            let range = start.min(length)..(start + more).min(length);
            let pieces = shares.pieces(&range);
            let joined: Vec<i64> = pieces.iter().flat_map(|(_, piece)| piece.clone()).collect();
            prop_assert_eq!(joined, range.collect::<Vec<_>>());
            for (rank, piece) in &pieces {
                prop_assert!(shares.of(*rank).start <= piece.start && piece.end <= shares.of(*rank).end);
            }
        }
    }
}
