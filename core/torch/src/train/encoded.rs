//! Records that are trained on in several epochs, encoded once.

use std::collections::BTreeMap;

use metareward_api::{EngineError, TrainData};

use super::{encode::Encoder, worker::Unit};

/// Bytes of encoded records that are kept at most.
const LIMIT: usize = 64 << 20;

/// The encoder of a run, and what it has encoded.
pub(crate) struct Encoded {
    encoder: Encoder,
    kept: BTreeMap<u32, Unit>,
    bytes: usize,
    /// Whether records come again.
    again: bool,
}

impl Encoded {
    /// Keeps what it encodes when `epochs` are more than one.
    pub fn new(encoder: Encoder, epochs: usize) -> Self {
        Self { encoder, kept: BTreeMap::new(), bytes: 0, again: epochs > 1 }
    }

    /// The records at `indices`, encoded, on several threads where there are many new ones.
    ///
    /// # Errors
    /// The first record's, in their order, that cannot be used.
    pub fn records(&mut self, data: TrainData<'_>, indices: &[u32], threads: usize) -> Result<Vec<Unit>, EngineError> {
        let new: Vec<u32> = indices.iter().copied().filter(|index| !self.kept.contains_key(index)).collect();
        let each = new.len().div_ceil(threads.max(1)).max(8);
        let encoder = &self.encoder;
        let encode = |indices: &[u32]| -> Result<Vec<Unit>, EngineError> {
            indices.iter().map(|&index| encoder.record(data, index)).collect()
        };
        let parts: Vec<Result<Vec<Unit>, EngineError>> = std::thread::scope(|scope| {
            let mut chunks = new.chunks(each);
            let own = chunks.next();
            let others: Vec<_> = chunks.map(|chunk| scope.spawn(move || encode(chunk))).collect();
            let panicked = || EngineError::Machine("a thread that encodes records panicked: this is a bug".to_owned());
            let first = own.map(encode);
            let others = others.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(panicked())));
            first.into_iter().chain(others).collect()
        });
        let mut fresh = BTreeMap::new();
        for (chunk, part) in new.chunks(each).zip(parts) {
            fresh.extend(chunk.iter().copied().zip(part?));
        }
        let missing = || EngineError::Machine("a record was not encoded: this is a bug".to_owned());
        let units = indices
            .iter()
            .map(|index| self.kept.get(index).or_else(|| fresh.get(index)).cloned().ok_or_else(missing))
            .collect();
        for (index, unit) in fresh {
            let bytes = size_of::<Unit>() + unit.sequences.iter().map(|s| 8 * s.tokens.len() + 64).sum::<usize>();
            if self.again && self.bytes + bytes <= LIMIT {
                self.bytes += bytes;
                self.kept.insert(index, unit);
            }
        }
        units
    }
}
