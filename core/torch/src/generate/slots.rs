//! Who holds which slots of the key and value pool.

/// A run of a text whose keys and values are kept together; the text goes on from its parent.
#[derive(Debug, Default)]
struct Segment {
    parent: Option<usize>,
    slots: Vec<u32>,
    /// Whether it is part of a prompt, not of an answer.
    prompt: bool,
    /// Segments, rows and walks that need it.
    holders: usize,
}

/// The segments of a worker. A segment's slots are free again when nothing needs it or what hangs below it.
#[derive(Debug)]
pub(crate) struct Segments {
    segments: Vec<Segment>,
    spare: Vec<usize>,
    free: Vec<u32>,
    fresh: u32,
    used: usize,
    prompts: usize,
    peak: usize,
}

impl Segments {
    /// All slots are free.
    pub(crate) fn new() -> Self {
        Segments { segments: Vec::new(), spare: Vec::new(), free: Vec::new(), fresh: 0, used: 0, prompts: 0, peak: 0 }
    }

    /// A new, empty segment of a prompt or an answer with one holder, below `parent`.
    pub(crate) fn open(&mut self, parent: Option<usize>, prompt: bool) -> usize {
        if let Some(parent) = parent {
            self.hold(parent);
        }
        let id = self.spare.pop().unwrap_or_else(|| {
            self.segments.push(Segment::default());
            self.segments.len() - 1
        });
        let segment = &mut self.segments[id];
        (segment.parent, segment.prompt, segment.holders) = (parent, prompt, 1);
        id
    }

    /// One more holder.
    pub(crate) fn hold(&mut self, id: usize) {
        self.segments[id].holders += 1;
    }

    /// A slot for the next token of the segment.
    pub(crate) fn push(&mut self, id: usize) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.fresh += 1;
            self.fresh - 1
        });
        self.segments[id].slots.push(slot);
        self.used += 1;
        self.prompts += usize::from(self.segments[id].prompt);
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
            self.used -= segment.slots.len();
            self.prompts -= if segment.prompt { segment.slots.len() } else { 0 };
            // The lowest slot on top, so that the pool stays dense.
            self.free.extend(segment.slots.drain(..).rev());
            at = segment.parent.take();
            self.spare.push(id);
        }
    }

    /// Slots that prompts hold.
    pub(crate) fn prompts(&self) -> usize {
        self.prompts
    }

    /// Most slots that were ever in use.
    pub(crate) fn peak(&self) -> usize {
        self.peak
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_lives_as_long_as_its_last_child() {
        let mut s = Segments::new();
        let root = s.open(None, true);
        assert_eq!((s.push(root), s.push(root)), (0, 1));
        let (a, b) = (s.open(Some(root), false), s.open(Some(root), false));
        assert_eq!((s.push(a), s.push(b)), (2, 3));
        s.release(root);
        assert_eq!((s.used, s.prompts()), (4, 2));
        s.release(a);
        assert_eq!((s.used, s.prompts()), (3, 2));
        let c = s.open(None, false);
        assert_eq!(s.push(c), 2, "the slot of a is used again");
        s.release(b);
        assert_eq!((s.used, s.prompts(), s.peak()), (1, 0, 4));
    }
}
