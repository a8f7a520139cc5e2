//! Random numbers by counting: the n-th number of a stream depends on the stream's name and on n only.

/// What is drawn: each has its own puzzles, from its own random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Prompt,
    Demonstration,
    Judge,
    Meta,
}

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Draws {
    key: u64,
    counter: u64,
}

/// SplitMix64's step between two states.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64's finalizer (Steele, Lea and Flood 2014).
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Draws {
    /// The stream of item `index` under `seed`.
    pub(crate) fn new(seed: u64, stream: Stream, index: u64) -> Self {
        let kind = (stream as u64).wrapping_add(1).wrapping_mul(STEP);
        let key = mix(mix(mix(seed.wrapping_add(STEP)) ^ kind).wrapping_add(index.wrapping_mul(STEP)));
        Self { key, counter: 0 }
    }

    fn next(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        mix(self.key.wrapping_add(self.counter.wrapping_mul(STEP)))
    }

    /// A number in `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// `true` with this probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// An index below `n`; 0 when `n` is 0. (Multiply and shift: the bias is below n / 2^64.)
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// One of the items; `None` when there are none.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }
}
