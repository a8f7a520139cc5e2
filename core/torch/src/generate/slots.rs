//! Who holds which slots of the key and value pool.
//!
//! A slot is the place of one token's keys and values. Room is reserved before it is used: for a run of a prompt when it
//! is begun, for an answer when its draw is let in, as long as it may become. So what is let in never has to be thrown out.

use std::collections::BTreeMap;

/// Where the slots of a segment lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Wherever a slot is free, the lowest ones first: for kernels that find every key by its slot.
    Anywhere,
    /// One after the other: for kernels that read a segment as one block of memory.
    Together,
}

/// Slots set aside for a segment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    start: usize,
    size: usize,
}

/// A run of a text whose keys and values are kept together; the text goes on from its parent.
#[derive(Debug, Default)]
struct Segment {
    parent: Option<usize>,
    /// Tokens of the parent that come before it.
    above: usize,
    room: Room,
    /// Its slots, where they can lie anywhere.
    slots: Vec<u32>,
    len: usize,
    /// Segments, rows and walks that need it.
    holders: usize,
}

/// Neighbouring slots that a text runs through: all or the first part of a segment's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Part {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

/// Slots `from .. from + len` that go to `to ..`; the two may overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) len: usize,
}

/// The segments of a worker. A segment's slots are free again when nothing needs it or what hangs below it.
#[derive(Debug)]
pub(crate) struct Segments {
    placement: Placement,
    capacity: usize,
    reserved: usize,
    segments: Vec<Segment>,
    spare: Vec<usize>,
    /// Where slots lie together: free runs, by their first slot.
    gaps: BTreeMap<usize, usize>,
    /// Where they lie anywhere: slots that were used and are free, and the first that was never used.
    free: Vec<u32>,
    fresh: u32,
    used: usize,
    peak: usize,
}

impl Segments {
    /// `capacity` slots, all free.
    pub(crate) fn new(placement: Placement, capacity: usize) -> Self {
        Segments {
            placement,
            capacity,
            reserved: 0,
            segments: Vec::new(),
            spare: Vec::new(),
            gaps: BTreeMap::from([(0, capacity)]),
            free: Vec::new(),
            fresh: 0,
            used: 0,
            peak: 0,
        }
    }

    /// Sets slots aside: a prompt's from below, an answer's from above, so that neither cuts up what the other needs.
    /// `None` when there is no room now.
    pub(crate) fn reserve(&mut self, size: usize, prompt: bool) -> Option<Room> {
        if self.reserved + size > self.capacity {
            return None;
        }
        let mut start = 0;
        if self.placement == Placement::Together {
            let fits = |(_, length): &(&usize, &usize)| **length >= size;
            let gap = if prompt { self.gaps.iter().find(fits) } else { self.gaps.iter().rev().find(fits) };
            let (from, length) = gap.map(|(from, length)| (*from, *length))?;
            self.gaps.remove(&from);
            start = if prompt { from } else { from + length - size };
            let rest = if prompt { from + size } else { from };
            if length > size {
                self.gaps.insert(rest, length - size);
            }
        }
        self.reserved += size;
        Some(Room { start, size })
    }

    /// Frees slots that were set aside.
    pub(crate) fn give_back(&mut self, room: Room) {
        self.reserved -= room.size;
        if self.placement == Placement::Anywhere || room.size == 0 {
            return;
        }
        let Room { mut start, mut size } = room;
        if let Some(after) = self.gaps.remove(&(start + size)) {
            size += after;
        }
        if let Some((before, length)) = self.gaps.range(..start).next_back().map(|(b, l)| (*b, *l))
            && before + length == start
        {
            (start, size) = (before, size + length);
        }
        self.gaps.insert(start, size);
    }

    /// A new, empty segment with one holder, below what `parent` holds now.
    pub(crate) fn open(&mut self, parent: Option<usize>, room: Room) -> usize {
        let above = parent.map_or(0, |parent| self.segments[parent].len);
        if let Some(parent) = parent {
            self.hold(parent);
        }
        let id = self.spare.pop().unwrap_or_else(|| {
            self.segments.push(Segment::default());
            self.segments.len() - 1
        });
        let segment = &mut self.segments[id];
        (segment.parent, segment.above, segment.room, segment.len, segment.holders) = (parent, above, room, 0, 1);
        id
    }

    /// One more holder.
    pub(crate) fn hold(&mut self, id: usize) {
        self.segments[id].holders += 1;
    }

    /// A slot for the next token of the segment.
    pub(crate) fn push(&mut self, id: usize) -> u32 {
        let segment = &mut self.segments[id];
        debug_assert!(segment.len < segment.room.size, "more tokens than room was set aside for");
        let slot = match self.placement {
            Placement::Together => (segment.room.start + segment.len) as u32,
            Placement::Anywhere => {
                let slot = self.free.pop().unwrap_or_else(|| {
                    self.fresh += 1;
                    self.fresh - 1
                });
                segment.slots.push(slot);
                slot
            }
        };
        segment.len += 1;
        self.used += 1;
        self.peak = self.peak.max(self.used);
        slot
    }

    /// One holder fewer.
    pub(crate) fn release(&mut self, id: usize) {
        let mut at = Some(id);
        while let Some(id) = at {
            let segment = &mut self.segments[id];
            segment.holders -= 1;
            if segment.holders > 0 {
                break;
            }
            self.used -= segment.len;
            // The lowest slot on top, so that the pool stays dense.
            self.free.extend(segment.slots.drain(..).rev());
            at = segment.parent.take();
            let room = std::mem::take(&mut segment.room);
            self.give_back(room);
            self.spare.push(id);
        }
    }

    /// The runs of slots from the first token of a text to the last of segment `id`, where slots lie together; else none.
    pub(crate) fn parts(&self, id: usize, parts: &mut Vec<Part>) {
        parts.clear();
        if self.placement == Placement::Anywhere {
            return;
        }
        let (mut at, mut len) = (Some(id), self.segments[id].len);
        while let Some(id) = at {
            let segment = &self.segments[id];
            if len > 0 {
                parts.push(Part { start: segment.room.start as u32, len: len as u32 });
            }
            (at, len) = (segment.parent, segment.above);
        }
        parts.reverse();
    }

    /// Moves the segments of `way`, which must be the only ones, to the beginning of the pool, so that what is free lies
    /// together. Says what has to be copied, in this order; nothing where slots lie anywhere.
    pub(crate) fn compact(&mut self, way: &[usize]) -> Vec<Move> {
        if self.placement == Placement::Anywhere {
            return Vec::new();
        }
        let mut ids = way.to_vec();
        ids.sort_by_key(|id| self.segments[*id].room.start);
        let (mut at, mut moves) = (0, Vec::new());
        for id in ids {
            let segment = &mut self.segments[id];
            if segment.room.start != at {
                moves.push(Move { from: segment.room.start, to: at, len: segment.len });
                segment.room.start = at;
            }
            at += segment.room.size;
        }
        self.gaps = if at < self.capacity { BTreeMap::from([(at, self.capacity - at)]) } else { BTreeMap::new() };
        moves
    }

    /// Most slots that were ever in use.
    pub(crate) fn peak(&self) -> usize {
        self.peak
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_parent_lives_as_long_as_its_last_child() {
        let mut s = Segments::new(Placement::Anywhere, 10);
        let room = |s: &mut Segments, size| s.reserve(size, true).unwrap();
        let first = room(&mut s, 2);
        let root = s.open(None, first);
        assert_eq!((s.push(root), s.push(root)), (0, 1));
        let (one, other) = (room(&mut s, 3), room(&mut s, 3));
        let (a, b) = (s.open(Some(root), one), s.open(Some(root), other));
        assert_eq!((s.push(a), s.push(b)), (2, 3));
        s.release(root);
        assert_eq!((s.used, s.reserved), (4, 8));
        assert_eq!(s.reserve(3, false), None);
        s.release(a);
        assert_eq!((s.used, s.reserved), (3, 5));
        let third = room(&mut s, 5);
        let c = s.open(None, third);
        assert_eq!(s.push(c), 2, "the slot of a is used again");
        s.release(b);
        assert_eq!((s.used, s.reserved, s.peak()), (1, 5, 4));
    }

    #[test]
    fn a_text_runs_through_what_its_parents_held_when_it_began() {
        let mut s = Segments::new(Placement::Together, 100);
        let room = s.reserve(4, true).unwrap();
        let root = s.open(None, room);
        (0..4).for_each(|_| _ = s.push(root));
        let room = s.reserve(10, false).unwrap();
        let a = s.open(Some(root), room);
        assert_eq!((s.push(a), s.push(a)), (90, 91));
        let room = s.reserve(10, false).unwrap();
        let b = s.open(Some(a), room);
        assert_eq!((s.push(a), s.push(b)), (92, 80));
        let mut parts = Vec::new();
        s.parts(b, &mut parts);
        let part = |start, len| Part { start, len };
        assert_eq!(parts, [part(0, 4), part(90, 2), part(80, 1)]);
        s.parts(a, &mut parts);
        assert_eq!(parts, [part(0, 4), part(90, 3)]);
    }

    proptest! {
        #[test]
        fn rooms_never_overlap_and_all_comes_back(steps in proptest::collection::vec((1usize..20, any::<bool>(), 0usize..8), 1..80)) {
            let mut s = Segments::new(Placement::Together, 100);
            let mut rooms: Vec<Room> = Vec::new();
            for (size, prompt, back) in steps {
                if back < rooms.len() {
                    let room = rooms.swap_remove(back);
                    s.give_back(room);
                }
                if let Some(room) = s.reserve(size, prompt) {
                    prop_assert!(room.start + room.size <= 100);
                    for other in &rooms {
                        prop_assert!(room.start + room.size <= other.start || other.start + other.size <= room.start);
                    }
                    rooms.push(room);
                }
                let gaps: usize = s.gaps.values().sum();
                let held: usize = rooms.iter().map(|room| room.size).sum();
                prop_assert_eq!((gaps, s.reserved), (100 - held, held));
            }
            for room in rooms {
                s.give_back(room);
            }
            prop_assert_eq!(s.gaps, BTreeMap::from([(0, 100)]));
        }

        #[test]
        fn compaction_puts_all_that_is_free_together(sizes in proptest::collection::vec((1usize..9, any::<bool>()), 1..9)) {
            let mut s = Segments::new(Placement::Together, 100);
            let rooms: Vec<(Room, bool)> = sizes.iter().map(|(n, keep)| (s.reserve(*n, true).unwrap(), *keep)).collect();
            let mut way: Vec<usize> = Vec::new();
            let mut memory = vec![None; 100];
            for (room, keep) in rooms {
                if keep {
                    let id = s.open(way.last().copied(), room);
                    memory[s.push(id) as usize] = Some(id);
                    way.push(id);
                } else {
                    s.give_back(room);
                }
            }
            for Move { from, to, len } in s.compact(&way) {
                memory.copy_within(from..from + len, to);
            }
            for id in &way {
                prop_assert_eq!(memory[s.segments[*id].room.start], Some(*id));
            }
            let held: usize = way.iter().map(|id| s.segments[*id].room.size).sum();
            prop_assert!(s.reserve(100 - held, false).is_some());
        }
    }
}
