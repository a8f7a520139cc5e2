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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        /// A tree of runs, rows at its leaves: merging gives what attention over the whole text gives.
        #[test]
        fn merged_runs_are_attention_over_the_whole_text(
            lens in proptest::collection::vec(1u32..7, 4), rows in 1usize..5, kv in 1i64..3, group in 1i64..4, seed in 0i64..1000,
        ) {
            tch::manual_seed(seed);
            let (heads, dim, slots) = (kv * group, 8i64, 64i64);
            let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
            let (keys, values) = (random(&[slots, kv, dim]), random(&[slots, kv, dim]));
            // The root is shared by all; two branches; below the first one, single rows and a span being read.
            let part = |start: u32, len: u32| Part { start, len };
            let (root, left, right) = (part(0, lens[0]), part(20, lens[1]), part(30, lens[2]));
            let mut batch = Batch::default();
            let slot = |parts: &[Part]| -> Vec<u32> { parts.iter().flat_map(|p| p.start..p.start + p.len).collect() };
            let mut texts = Vec::new();
            for row in 0..rows as u32 {
                let own = part(40 + 4 * row, 1 + row % 3);
                texts.push((vec![root, if row % 2 == 0 { left } else { right }, own], 1));
            }
            texts.push((vec![root, left], (lens[1] as usize).min(3)));
            texts.push((vec![root], 1));
            for (parts, count) in &texts {
                batch.push(&vec![0; *count], &slot(parts), parts, true);
            }
            let q = random(&[batch.rows() as i64, heads, dim]);
            let cascade = Cascade::new(&batch);
            let mut distinct: Vec<Part> = texts.iter().flat_map(|(parts, _)| parts.clone()).collect();
            distinct.sort_unstable();
            distinct.dedup();
            let all: usize = distinct.iter().map(|part| part.len as usize).sum();
            // The run that is being read is also seen in full by rows below it.
            prop_assert!(cascade.keys_read() <= all + lens[1] as usize);
            let mut upload = Upload::default();
            let places = cascade.upload(&mut upload, 1);
            let sent = upload.send(Device::Cpu).unwrap();
            let merged = cascade.on_device(&places, &sent, false).unwrap().attend(&q, &keys, &values).unwrap();
            for span in &batch.spans {
                for row in span.first_row..span.first_row + span.rows {
                    let seen: Vec<i64> = batch.seen(span, row, None).iter().map(|s| i64::from(*s)).collect();
                    let at = Tensor::from_slice(&seen);
                    let double = |x: Tensor| x.to_kind(Kind::Double);
                    let pick = |pool: &Tensor| double(pool.index_select(0, &at).transpose(0, 1).unsqueeze(0));
                    let one = double(q.get(row as i64).view([1, heads, 1, dim]));
                    let exact = Tensor::scaled_dot_product_attention(
                        &one, &pick(&keys), &pick(&values), None::<&Tensor>, 0.0, false, None, group > 1,
                    );
                    let difference = (exact.view([heads, dim]) - merged.get(row as i64)).abs().max().double_value(&[]);
                    // A score is off by `dim` + 1 units of the sum of its terms' sizes, which is `size` at most, and what is
                    // made of scores (the log-sum-exp of a run and that of the runs, each twice) by as much and by its own
                    // rounding; each of the two sums over all keys adds a unit for every key.
                    let terms = one.abs().view([kv, group, dim]).matmul(&pick(&keys.abs()).get(0).transpose(1, 2));
                    let size = terms.max().double_value(&[]) / (dim as f64).sqrt();
                    let units = 4.0 * ((dim as f64 + 1.0) * size + size + 4.0) + 4.0 * seen.len() as f64;
                    let most = UNIT * units * values.abs().max().double_value(&[]);
                    prop_assert!(difference <= most, "row {}: {} of {}", row, difference, most);
                }
            }
        }
    }
}
