//! Attention over texts whose keys lie in runs of slots that several rows share.
//!
//! Every run is read once for all rows that see it: their queries go together, and what the runs of a row's text gave is
//! merged by the log-sum-exp of its scores. No run is padded to the length of another. On a GPU in 16 bits
//! it is variable-length FlashAttention, in place on the pool: a sequence is a place to start and a number of keys.
//! Elsewhere it is a loop over the runs, for tests and for f32.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::{batch::Batch, flash, slots::Part};
use crate::Result;

/// Whole numbers that a pass needs on the device, sent in one copy.
#[derive(Debug, Default)]
pub(crate) struct Upload {
    values: Vec<i64>,
}

impl Upload {
    /// Adds numbers and says where they are.
    pub(crate) fn add(&mut self, values: impl IntoIterator<Item = i64>) -> Range<i64> {
        let start = self.values.len() as i64;
        self.values.extend(values);
        start..self.values.len() as i64
    }

    /// Sends all of them; the next pass begins anew in the same memory.
    pub(crate) fn send(&mut self, device: tch::Device) -> Result<Sent> {
        let sent = Tensor::f_from_slice(&self.values)?.f_to_device(device)?;
        self.values.clear();
        Ok(Sent(sent))
    }
}

/// The numbers on the device, i64.
pub(crate) struct Sent(Tensor);

impl Sent {
    pub(crate) fn get(&self, range: &Range<i64>) -> Result<Tensor> {
        Ok(self.0.f_narrow(0, range.start, range.end - range.start)?)
    }
}

/// Queries of some rows against runs of slots; `parts[i]` is seen by entries `starts[i] .. starts[i + 1]`.
#[derive(Debug, Default)]
pub(crate) struct Sequences {
    rows: Vec<i64>,
    starts: Vec<i64>,
    parts: Vec<Part>,
}

impl Sequences {
    fn open(&mut self, part: Part) {
        self.starts.push(self.rows.len() as i64);
        self.parts.push(part);
    }
}

/// What attends to what in a pass.
#[derive(Debug)]
pub(crate) struct Cascade {
    /// Runs that their rows see in full.
    full: Sequences,
    /// Runs that end with the rows themselves, which see what is before them.
    causal: Sequences,
    /// Per row of the batch, its entries in `full` and then `causal`; `depth` of them, -1 where there are fewer.
    merge: Vec<i64>,
    depth: usize,
}

impl Cascade {
    /// Sorts out the runs of a batch.
    pub(crate) fn new(batch: &Batch) -> Self {
        let mut entries: Vec<(Part, usize)> = Vec::new();
        let mut causal = Sequences::default();
        for span in &batch.spans {
            let parts = &batch.parts[span.first_part..span.first_part + span.parts];
            let rows = span.first_row..span.first_row + span.rows;
            let Some((last, above)) = parts.split_last() else { continue };
            entries.extend(above.iter().flat_map(|part| rows.clone().map(|row| (*part, row))));
            if span.rows == 1 {
                entries.push((*last, span.first_row));
            } else {
                causal.open(*last);
                causal.rows.extend(rows.map(|row| row as i64));
            }
        }
        entries.sort_unstable();
        let mut full = Sequences::default();
        for (part, row) in &entries {
            if full.parts.last() != Some(part) {
                full.open(*part);
            }
            full.rows.push(*row as i64);
        }
        for sequences in [&mut full, &mut causal] {
            sequences.starts.push(sequences.rows.len() as i64);
        }
        let mut of_row: Vec<Vec<i64>> = vec![Vec::new(); batch.rows()];
        for (entry, row) in (0..).zip(full.rows.iter().chain(&causal.rows)) {
            if let Some(of_row) = of_row.get_mut(*row as usize) {
                of_row.push(entry);
            }
        }
        let depth = of_row.iter().map(Vec::len).max().unwrap_or(0);
        let padded = |entries: Vec<i64>| {
            let missing = depth - entries.len();
            entries.into_iter().chain(std::iter::repeat_n(-1, missing))
        };
        Cascade { full, causal, merge: of_row.into_iter().flat_map(padded).collect(), depth }
    }

    /// Keys that are read, each run once.
    #[cfg(test)]
    pub(crate) fn keys_read(&self) -> usize {
        self.full.parts.iter().chain(&self.causal.parts).map(|part| part.len as usize).sum()
    }

    /// Adds what the device needs of it.
    pub(crate) fn upload(&self, upload: &mut Upload, grouped: i64) -> Places {
        let mut place = |sequences: &Sequences, factor: i64| SequencePlaces {
            rows: upload.add(sequences.rows.iter().copied()),
            starts: upload.add(sequences.starts.iter().map(|start| start * factor)),
            // One more entry than there are sequences.
            keys: upload.add(sequences.parts.iter().map(|part| i64::from(part.start)).chain([0])),
            lengths: upload.add(sequences.parts.iter().map(|part| i64::from(part.len))),
        };
        let (full, causal) = (place(&self.full, grouped), place(&self.causal, 1));
        Places { full, causal, merge: upload.add(self.merge.iter().copied()) }
    }

    /// Makes it ready for the layers of the pass.
    pub(crate) fn on_device(self, places: &Places, sent: &Sent, flash: bool) -> Result<OnDevice> {
        let part = |sequences: Sequences, places: &SequencePlaces| -> Result<Option<DeviceSequences>> {
            if sequences.parts.is_empty() {
                return Ok(None);
            }
            let int = |range: &Range<i64>| -> Result<Tensor> {
                if flash { Ok(sent.get(range)?.f_to_kind(Kind::Int)?) } else { sent.get(range) }
            };
            let queries = sequences.starts.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0);
            Ok(Some(DeviceSequences {
                rows: sent.get(&places.rows)?,
                starts: int(&places.starts)?,
                keys: int(&places.keys)?,
                lengths: int(&places.lengths)?,
                most_queries: queries,
                most_keys: sequences.parts.iter().map(|part| i64::from(part.len)).max().unwrap_or(0),
                host: sequences,
            }))
        };
        let merge = sent.get(&places.merge)?;
        let missing = if self.merge.contains(&-1) {
            let rows = (self.merge.len() / self.depth.max(1)) as i64;
            Some(merge.f_lt(0)?.f_view([rows, self.depth as i64, 1])?)
        } else {
            None
        };
        Ok(OnDevice {
            full: part(self.full, &places.full)?,
            causal: part(self.causal, &places.causal)?,
            merge: merge.f_clamp_min(0)?,
            missing,
            depth: self.depth as i64,
            flash,
        })
    }
}

/// Where the parts of a [`Cascade`] are among the numbers sent.
pub(crate) struct Places {
    full: SequencePlaces,
    causal: SequencePlaces,
    merge: Range<i64>,
}

struct SequencePlaces {
    rows: Range<i64>,
    starts: Range<i64>,
    keys: Range<i64>,
    lengths: Range<i64>,
}

struct DeviceSequences {
    rows: Tensor,
    starts: Tensor,
    keys: Tensor,
    lengths: Tensor,
    most_queries: i64,
    most_keys: i64,
    host: Sequences,
}

/// A [`Cascade`] with its numbers on the device.
pub(crate) struct OnDevice {
    full: Option<DeviceSequences>,
    causal: Option<DeviceSequences>,
    merge: Tensor,
    /// [rows, depth, 1]: entries that are not there.
    missing: Option<Tensor>,
    depth: i64,
    flash: bool,
}

impl OnDevice {
    /// Attention of all rows in one layer: `q` [rows, heads, D] over pools [slots, kv heads, D]. [rows, heads, D].
    ///
    /// # Errors
    /// When libtorch refuses.
    pub(crate) fn attend(&self, q: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Tensor> {
        let (rows, heads, dim) = q.size3()?;
        let scale = 1.0 / (dim as f64).sqrt();
        let (mut outs, mut sums) = (Vec::new(), Vec::new());
        for (sequences, causal) in [(&self.full, false), (&self.causal, true)] {
            let Some(sequences) = sequences else { continue };
            let q = q.f_index_select(0, &sequences.rows)?;
            let (out, sum) = if self.flash {
                flash_attend(&q, keys, values, sequences, causal, scale)?
            } else {
                plain_attend(&q, keys, values, &sequences.host, causal, scale)?
            };
            outs.push(out);
            sums.push(sum);
        }
        let join = |mut parts: Vec<Tensor>| -> Result<Tensor> {
            match (parts.pop(), parts.is_empty()) {
                (Some(only), true) => Ok(only),
                (Some(last), false) => {
                    parts.push(last);
                    Ok(Tensor::f_cat(&parts, 0)?)
                }
                (None, _) => Ok(q.f_zeros_like()?),
            }
        };
        let out = join(outs)?.f_index_select(0, &self.merge)?;
        if self.depth <= 1 {
            return Ok(out);
        }
        let mut sums = join(sums)?.f_index_select(0, &self.merge)?.f_view([rows, self.depth, heads])?;
        if let Some(missing) = &self.missing {
            sums = sums.f_masked_fill(missing, f64::NEG_INFINITY)?;
        }
        let weights = sums.f_softmax(1, Kind::Float)?.f_unsqueeze(-1)?;
        let out = out.f_view([rows, self.depth, heads, dim])?.f_to_kind(Kind::Float)?.f_mul(&weights)?;
        Ok(out.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?.f_to_kind(q.kind())?)
    }
}

/// Output [entries, heads, D] and log-sum-exp [entries, heads] of one kind of sequences, by FlashAttention.
fn flash_attend(
    q: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    sequences: &DeviceSequences,
    causal: bool,
    scale: f64,
) -> Result<(Tensor, Tensor)> {
    let (entries, heads, dim) = q.size3()?;
    let kv = keys.size3()?.1;
    // Without a mask, query heads that share a key head are more queries of that head: each key is then loaded once.
    let group = if causal { 1 } else { heads / kv };
    let packed = if group > 1 {
        let grouped = q.f_view([entries, kv, group, dim])?.f_transpose(1, 2)?;
        grouped.f_reshape([entries * group, kv, dim])?
    } else {
        q.f_contiguous()?
    };
    let lengths = flash::Lengths {
        query_starts: &sequences.starts,
        key_starts: &sequences.keys,
        key_lengths: &sequences.lengths,
        most_queries: sequences.most_queries * group,
        most_keys: sequences.most_keys,
    };
    let (out, sums) = flash::attend(&packed, keys, values, &lengths, causal, scale)?;
    if group == 1 {
        return Ok((out, sums.f_transpose(0, 1)?.f_contiguous()?));
    }
    let out = out.f_view([entries, group, kv, dim])?.f_transpose(1, 2)?.f_reshape([entries, heads, dim])?;
    let sums = sums.f_view([kv, entries, group])?.f_permute([1i64, 0, 2])?.f_reshape([entries, heads])?;
    Ok((out, sums))
}

/// The same, run by run.
fn plain_attend(
    q: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    sequences: &Sequences,
    causal: bool,
    scale: f64,
) -> Result<(Tensor, Tensor)> {
    let (_, heads, dim) = q.size3()?;
    let kv = keys.size3()?.1;
    let group = heads / kv;
    let (mut outs, mut sums) = (Vec::new(), Vec::new());
    for (part, starts) in sequences.parts.iter().zip(sequences.starts.windows(2)) {
        let (first, count, len) = (starts[0], starts[1] - starts[0], i64::from(part.len));
        let run =
            |pool: &Tensor| -> Result<Tensor> { Ok(pool.f_narrow(0, i64::from(part.start), len)?.f_transpose(0, 1)?) };
        let q = q.f_narrow(0, first, count)?.f_view([count, kv, group, dim])?.f_transpose(0, 1)?;
        let q = q.f_reshape([kv, count * group, dim])?;
        let mut scores = q.f_matmul(&run(keys)?.f_transpose(1, 2)?)?.f_to_kind(Kind::Float)?.f_mul_scalar(scale)?;
        if causal {
            let sees = Tensor::f_ones([count, len], (Kind::Bool, q.device()))?.f_tril(len - count)?;
            let hidden = sees.f_logical_not()?.f_view([1, count, 1, len])?;
            let shaped = scores.f_view([kv, count, group, len])?.f_masked_fill(&hidden, f64::NEG_INFINITY)?;
            scores = shaped.f_view([kv, count * group, len])?;
        }
        let sum = scores.f_logsumexp([-1i64].as_slice(), true)?;
        let weights = scores.f_sub(&sum)?.f_exp()?.f_to_kind(values.kind())?;
        let back = |x: Tensor, width: i64| -> Result<Tensor> {
            Ok(x.f_view([kv, count, group, width])?.f_transpose(0, 1)?.f_reshape([count, heads, width])?)
        };
        outs.push(back(weights.f_matmul(&run(values)?)?, dim)?);
        sums.push(back(sum, 1)?.f_squeeze_dim(-1)?);
    }
    Ok((Tensor::f_cat(&outs, 0)?, Tensor::f_cat(&sums, 0)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::Device;

    use super::{super::rounding::UNIT, *};
    use crate::library::{Cuda, cuda};

    /// A tree of runs, rows at its leaves: a root that is shared by all, two branches, single rows below them, and a span
    /// that is being read.
    struct Tree {
        batch: Batch,
        /// Keys of all runs, each counted once.
        keys_there: usize,
        q: Tensor,
        keys: Tensor,
        values: Tensor,
    }

    impl Tree {
        /// Queries, keys and values are random numbers that are exact in `kind`.
        fn new(lens: &[u32], rows: u32, (kv, group, dim): (i64, i64, i64), seed: i64, kind: Kind) -> Self {
            tch::manual_seed(seed);
            let random =
                |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(kind).to_kind(Kind::Double);
            let part = |start: u32, len: u32| Part { start, len };
            let (root, left, right) = (part(0, lens[0]), part(20, lens[1]), part(30, lens[2]));
            let mut texts: Vec<(Vec<Part>, usize)> = (0..rows)
                .map(|row| (vec![root, if row % 2 == 0 { left } else { right }, part(40 + 4 * row, 1 + row % 3)], 1))
                .collect();
            texts.push((vec![root, left], (lens[1] as usize).min(3)));
            texts.push((vec![root], 1));
            let mut batch = Batch::default();
            for (parts, count) in &texts {
                let slots: Vec<u32> = parts.iter().flat_map(|p| p.start..p.start + p.len).collect();
                batch.push(&vec![0; *count], &slots, parts, true);
            }
            let mut distinct: Vec<Part> = texts.iter().flat_map(|(parts, _)| parts.clone()).collect();
            distinct.sort_unstable();
            distinct.dedup();
            let q = random(&[batch.rows() as i64, kv * group, dim]);
            let (keys, values) = (random(&[64, kv, dim]), random(&[64, kv, dim]));
            let keys_there = distinct.iter().map(|part| part.len as usize).sum();
            Tree { batch, keys_there, q, keys, values }
        }

        /// Attention of all rows, run by run and merged: [rows, heads, D].
        fn merged(&self, device: Device, kind: Kind, flash: bool) -> Tensor {
            let cascade = Cascade::new(&self.batch);
            // The run that is being read is also seen in full by rows below it.
            let read_twice = self.batch.spans.iter().map(|span| span.path_len).max().unwrap_or(0);
            assert!(cascade.keys_read() <= self.keys_there + read_twice);
            let mut upload = Upload::default();
            let grouped = if flash { self.q.size()[1] / self.keys.size()[1] } else { 1 };
            let places = cascade.upload(&mut upload, grouped);
            let sent = upload.send(device).unwrap();
            let there = |x: &Tensor| x.to_kind(kind).to_device(device);
            let cascade = cascade.on_device(&places, &sent, flash).unwrap();
            let merged = cascade.attend(&there(&self.q), &there(&self.keys), &there(&self.values)).unwrap();
            merged.to_device(Device::Cpu).to_kind(Kind::Double)
        }

        /// For every row, how far `merged` is from attention over the whole text in f64, how many keys the row sees, and how
        /// large the terms of a score can be in sum.
        fn off(&self, merged: &Tensor) -> Vec<(f64, usize, f64)> {
            let (_, heads, dim) = self.q.size3().unwrap();
            let kv = self.keys.size()[1];
            let mut all = Vec::new();
            for span in &self.batch.spans {
                for row in span.first_row..span.first_row + span.rows {
                    let seen: Vec<i64> = self.batch.seen(span, row, None).iter().map(|s| i64::from(*s)).collect();
                    let at = Tensor::from_slice(&seen);
                    let pick = |pool: &Tensor| pool.index_select(0, &at).transpose(0, 1).unsqueeze(0);
                    let one = self.q.get(row as i64).view([1, heads, 1, dim]);
                    let (keys, values) = (pick(&self.keys), pick(&self.values));
                    let exact = Tensor::scaled_dot_product_attention(
                        &one,
                        &keys,
                        &values,
                        None::<&Tensor>,
                        0.0,
                        false,
                        None,
                        heads > kv,
                    );
                    let terms = one.abs().view([kv, heads / kv, dim]).matmul(&keys.abs().get(0).transpose(1, 2));
                    let size = terms.max().double_value(&[]) / (dim as f64).sqrt();
                    let off = (exact.view([heads, dim]) - merged.get(row as i64)).abs().max().double_value(&[]);
                    all.push((off, seen.len(), size));
                }
            }
            all
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn merged_runs_are_attention_over_the_whole_text(
            lens in proptest::collection::vec(1u32..7, 3), rows in 1u32..5, kv in 1i64..3, group in 1i64..4, seed in 0i64..1000,
        ) {
            let dim = 8;
            let tree = Tree::new(&lens, rows, (kv, group, dim), seed, Kind::Float);
            let largest = tree.values.abs().max().double_value(&[]);
            for (row, (off, keys, size)) in tree.off(&tree.merged(Device::Cpu, Kind::Float, false)).into_iter().enumerate() {
                // A score is off by `dim` + 1 units of the sum of its terms' sizes, which is `size` at most, and what is
                // made of scores (the log-sum-exp of a run and that of the runs, each twice) by as much and by its own
                // rounding; each of the two sums over all keys adds a unit for every key.
                let units = 4.0 * ((dim as f64 + 1.0) * size + size + 4.0) + 4.0 * keys as f64;
                prop_assert!(off <= UNIT * units * largest, "row {}: {}", row, off);
            }
        }
    }

    #[test]
    fn flash_attention_is_attention_up_to_its_rounding() {
        match cuda() {
            Cuda::Ready { devices } if *devices > 0 => {}
            other => return println!("skipped: no GPU can be used: {other}"),
        }
        for (seed, kv, group, dim) in [(1, 2, 1, 64), (2, 2, 4, 128), (3, 1, 3, 64), (4, 8, 4, 128)] {
            for lens in [[1, 1, 1], [6, 3, 5], [19, 9, 10]] {
                let tree = Tree::new(&lens, 5, (kv, group, dim), seed, Kind::BFloat16);
                let largest = tree.values.abs().max().double_value(&[]);
                let merged = tree.merged(Device::Cuda(0), Kind::BFloat16, true);
                for (row, (off, _, size)) in tree.off(&merged).into_iter().enumerate() {
                    // In bf16, whose unit is 2⁻⁹, are the weights of a run, its output, and what is merged; the scores and
                    // their sums are in f32.
                    let most = (3.0 / 512.0 + 4.0 * UNIT * (dim as f64 + 1.0) * size) * largest;
                    assert!(off <= most, "{kv} key heads, {group} queries each, {lens:?}, row {row}: {off} of {most}");
                }
            }
        }
    }
}
