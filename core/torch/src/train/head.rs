//! Log-probabilities of target tokens and their gradient, some rows of the vocabulary's logits at a time.
//!
//! The logits of a batch, `[tokens, vocabulary]`, would be the largest tensor of training by far. They never exist: rows
//! are taken in chunks, and a chunk's logits are turned into log-probabilities and, where a gradient is wanted, into the
//! gradients of the hidden states and of the weight at once. Where the loss has to see the sums first, the chunk's
//! logits are computed a second time, unless all rows fit one chunk.

use tch::{Kind, Tensor, no_grad};

use crate::error::Result;

/// Logits held at a time: 64 MiB in f32.
const CHUNK_ELEMENTS: i64 = 1 << 24;

/// The output projection, and how many rows go through it at a time.
pub(crate) struct Head<'a> {
    weight: &'a Tensor,
    rows: i64,
}

/// Log-probabilities of a batch's targets, with what a later [`Head::backward`] can reuse.
pub(crate) struct HeadForward {
    /// Log-probability of every target, f32, shape `[N]`.
    pub log_probs: Tensor,
    /// Log-probabilities of the whole vocabulary, where one chunk held all rows.
    kept: Option<Tensor>,
}

/// Gradients of a loss with respect to the projection's input and weight.
pub(crate) struct HeadBackward {
    /// Shape `[N, hidden]`, in the kind of the hidden states.
    pub hidden: Tensor,
    /// Shape `[vocabulary, hidden]`, f32; `None` where it was not wanted.
    pub weight: Option<Tensor>,
}

impl<'a> Head<'a> {
    /// A projection with `weight` of shape `[vocabulary, hidden]`.
    pub fn new(weight: &'a Tensor) -> Self {
        let vocabulary = weight.size().first().copied().unwrap_or(1).max(1);
        Self { weight, rows: (CHUNK_ELEMENTS / vocabulary).max(1) }
    }

    /// The same with `rows` rows per chunk.
    #[cfg(test)]
    pub fn with_rows(weight: &'a Tensor, rows: i64) -> Self {
        Self { weight, rows }
    }

    /// Log-probability of `targets` (`[N]`, i64) after `hidden` (`[N, hidden]`), without a graph.
    pub fn forward(&self, hidden: &Tensor, targets: &Tensor) -> Result<HeadForward> {
        no_grad(|| {
            let mut parts = Vec::new();
            let mut kept = None;
            for (start, length) in chunks(targets, self.rows) {
                let hidden = hidden.f_narrow(0, start, length)?;
                let targets = targets.f_narrow(0, start, length)?;
                let all = self.vocabulary_log_probs(&hidden)?;
                parts.push(pick(&all, &targets)?);
                kept = Some(all);
            }
            let kept = if parts.len() == 1 { kept } else { None };
            Ok(HeadForward { log_probs: concatenate(parts, hidden)?, kept })
        })
    }

    /// Gradients of `Σ coefficients[i] · log p(targets[i])`. `coefficients` is f32, `[N]`.
    pub fn backward(
        &self,
        forward: HeadForward,
        hidden: &Tensor,
        targets: &Tensor,
        coefficients: &Tensor,
        weight: bool,
    ) -> Result<HeadBackward> {
        no_grad(|| {
            let mut gradient = self.no_gradient(weight)?;
            let mut parts = Vec::new();
            let mut kept = forward.kept;
            for (start, length) in chunks(targets, self.rows) {
                let hidden = hidden.f_narrow(0, start, length)?;
                let all = match kept.take() {
                    Some(all) => all,
                    None => self.vocabulary_log_probs(&hidden)?,
                };
                let targets = targets.f_narrow(0, start, length)?;
                let coefficients = coefficients.f_narrow(0, start, length)?;
                parts.push(self.chunk_gradient(all, &hidden, &targets, &coefficients, &mut gradient)?);
            }
            Ok(HeadBackward { hidden: concatenate(parts, hidden)?, weight: gradient })
        })
    }

    /// Both at once, for a loss whose coefficients are known beforehand: every chunk's logits are computed once.
    pub fn forward_backward(
        &self,
        hidden: &Tensor,
        targets: &Tensor,
        coefficients: &Tensor,
        weight: bool,
    ) -> Result<(Tensor, HeadBackward)> {
        no_grad(|| {
            let mut gradient = self.no_gradient(weight)?;
            let mut log_probs = Vec::new();
            let mut parts = Vec::new();
            for (start, length) in chunks(targets, self.rows) {
                let hidden = hidden.f_narrow(0, start, length)?;
                let targets = targets.f_narrow(0, start, length)?;
                let coefficients = coefficients.f_narrow(0, start, length)?;
                let all = self.vocabulary_log_probs(&hidden)?;
                log_probs.push(pick(&all, &targets)?);
                parts.push(self.chunk_gradient(all, &hidden, &targets, &coefficients, &mut gradient)?);
            }
            let log_probs = concatenate(log_probs, hidden)?;
            Ok((log_probs, HeadBackward { hidden: concatenate(parts, hidden)?, weight: gradient }))
        })
    }

    fn no_gradient(&self, weight: bool) -> Result<Option<Tensor>> {
        if !weight {
            return Ok(None);
        }
        Ok(Some(Tensor::f_zeros(self.weight.size(), (Kind::Float, self.weight.device()))?))
    }

    fn vocabulary_log_probs(&self, hidden: &Tensor) -> Result<Tensor> {
        // The softmax is in f32 also where the product is in bf16, as in transformers' loss functions.
        Ok(hidden.f_matmul(&self.weight.f_transpose(0, 1)?)?.f_log_softmax(-1, Kind::Float)?)
    }

    /// Consumes the chunk's log-probabilities: d/d logits = coefficient · (one-hot − softmax).
    fn chunk_gradient(
        &self,
        all: Tensor,
        hidden: &Tensor,
        targets: &Tensor,
        coefficients: &Tensor,
        weight: &mut Option<Tensor>,
    ) -> Result<Tensor> {
        let coefficients = coefficients.f_unsqueeze(-1)?;
        let mut logits = all;
        let _ = logits.f_exp_()?;
        let _ = logits.f_mul_(&coefficients.f_neg()?)?;
        let _ = logits.f_scatter_add_(1, &targets.f_unsqueeze(-1)?, &coefficients)?;
        let logits = logits.f_to_kind(self.weight.kind())?;
        if let Some(sum) = weight {
            let transposed = logits.f_transpose(0, 1)?;
            if self.weight.kind() == Kind::Float {
                let _ = sum.f_addmm_(&transposed, hidden)?;
            } else {
                let _ = sum.f_add_(&transposed.f_matmul(hidden)?)?;
            }
        }
        Ok(logits.f_matmul(self.weight)?)
    }
}

fn chunks(targets: &Tensor, rows: i64) -> Vec<(i64, i64)> {
    let total = targets.size().first().copied().unwrap_or(0);
    let mut chunks = Vec::new();
    let mut start = 0;
    while start < total {
        let length = rows.min(total - start);
        chunks.push((start, length));
        start += length;
    }
    chunks
}

fn pick(all: &Tensor, targets: &Tensor) -> Result<Tensor> {
    Ok(all.f_gather(1, &targets.f_unsqueeze(-1)?, false)?.f_squeeze_dim(-1)?)
}

fn concatenate(mut parts: Vec<Tensor>, like: &Tensor) -> Result<Tensor> {
    match (parts.len(), parts.pop()) {
        (1, Some(only)) => Ok(only),
        (0, _) | (_, None) => Ok(Tensor::f_zeros([0], (Kind::Float, like.device()))?),
        (_, Some(last)) => {
            parts.push(last);
            Ok(Tensor::f_cat(&parts, 0)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::Device;

    use super::*;
    use crate::generate::rounding::UNIT;

    /// How far log-probabilities, and gradients added up over `rows` rows, can be from the exact ones in f32, where all that
    /// goes in lies between -1 and 1. A logit is a sum of `width` terms of rounded numbers; a log-probability is
    /// two logits off, a sum over the vocabulary, and its own rounding; a row's gradient is a log-probability and a sum
    /// over the vocabulary off, for the target and for the others.
    fn off(width: i64, vocabulary: i64, rows: i64) -> (f64, f64) {
        let (width, vocabulary, rows) = (width as f64, vocabulary as f64, rows as f64);
        let log_prob = 2.0 * (width + 3.0) * width + vocabulary + 2.0 * (2.0 * width + vocabulary.ln());
        (UNIT * log_prob, UNIT * 2.0 * rows * (log_prob + vocabulary + rows))
    }

    fn differ(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    fn values(seed: u64, size: &[i64]) -> Tensor {
        let count = size.iter().product::<i64>();
        let values: Vec<f64> = (0..count)
            .map(|index| {
                let mixed = (seed.wrapping_add(index as u64)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                ((mixed >> 40) as f64 / (1u64 << 24) as f64 - 0.5) * 2.0
            })
            .collect();
        Tensor::from_slice(&values).view(size)
    }

    fn loss(weight: &Tensor, hidden: &Tensor, targets: &Tensor, coefficients: &Tensor) -> f64 {
        let all = hidden.matmul(&weight.transpose(0, 1)).log_softmax(-1, Kind::Double);
        (all.gather(1, &targets.unsqueeze(-1), false).squeeze_dim(-1) * coefficients)
            .sum(Kind::Double)
            .double_value(&[])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Central differences in f64 of the plain, unchunked loss against the f32 gradients made chunk by chunk.
        #[test]
        fn gradient_agrees_with_finite_differences(seed in 0u64..1000, rows in 1i64..7, n in 1i64..9) {
            tch::set_num_threads(1);
            let (vocabulary, width) = (11, 5);
            let weight = values(seed, &[vocabulary, width]);
            let hidden = values(seed + 7919, &[n, width]);
            let coefficients = values(seed + 104_729, &[n]);
            let targets = Tensor::from_slice(&(0..n).map(|i| (i * 3 + seed as i64) % vocabulary).collect::<Vec<_>>());
            let single = |tensor: &Tensor| tensor.to_kind(Kind::Float);
            let weight32 = single(&weight);
            let head = Head::with_rows(&weight32, rows);
            let (_, gradient) =
                head.forward_backward(&single(&hidden), &targets, &single(&coefficients), true).unwrap();
            let step = 1e-5;
            // What the differences themselves are off: the third derivative, and rounding in f64 over the step.
            let most = off(width, vocabulary, n).1 + 1e-8;
            for (index, (point, got)) in [(&hidden, &gradient.hidden), (&weight, gradient.weight.as_ref().unwrap())]
                .into_iter().enumerate()
            {
                let got = Vec::<f64>::try_from(got.to_kind(Kind::Double).contiguous().view(-1)).unwrap();
                for (position, got) in got.iter().enumerate() {
                    let moved = |by: f64| {
                        let copy = point.copy();
                        let mut flat = copy.view(-1);
                        let mut element = flat.narrow(0, position as i64, 1);
                        let _ = element.g_add_scalar_(by);
                        flat = copy;
                        if index == 0 { loss(&weight, &flat, &targets, &coefficients) }
                        else { loss(&flat, &hidden, &targets, &coefficients) }
                    };
                    let expected = (moved(step) - moved(-step)) / (2.0 * step);
                    prop_assert!((got - expected).abs() <= most, "{index} {position}: {got} {expected}");
                }
            }
        }

        /// However many rows a chunk has, and whether logits are kept or computed again: the same numbers.
        #[test]
        fn chunks_do_not_matter(seed in 0u64..1000, rows in 1i64..9, n in 1i64..12) {
            tch::set_num_threads(1);
            let (vocabulary, width) = (13, 8);
            let weight = values(seed, &[vocabulary, width]).to_kind(Kind::Float);
            let hidden = values(seed + 3, &[n, width]).to_kind(Kind::Float);
            let coefficients = values(seed + 5, &[n]).to_kind(Kind::Float);
            let targets = Tensor::from_slice(&(0..n).map(|i| (i * 5 + seed as i64) % vocabulary).collect::<Vec<_>>());
            let whole = Head::new(&weight);
            let (expected, gradient) = whole.forward_backward(&hidden, &targets, &coefficients, true).unwrap();
            let parts = Head::with_rows(&weight, rows);
            let forward = parts.forward(&hidden, &targets).unwrap();
            let (log_prob, most) = off(width, vocabulary, n);
            prop_assert!(differ(&forward.log_probs, &expected) <= 2.0 * log_prob);
            let again = parts.backward(forward, &hidden, &targets, &coefficients, true).unwrap();
            prop_assert!(differ(&again.hidden, &gradient.hidden) <= 2.0 * most);
            prop_assert!(differ(&again.weight.unwrap(), gradient.weight.as_ref().unwrap()) <= 2.0 * most);
        }
    }

    #[test]
    fn log_probabilities_are_at_most_zero_and_the_weight_gradient_is_optional() {
        let weight = values(1, &[6, 4]).to_kind(Kind::Float).to_device(Device::Cpu);
        let hidden = values(2, &[3, 4]).to_kind(Kind::Float);
        let targets = Tensor::from_slice(&[0i64, 5, 2]);
        let head = Head::new(&weight);
        let forward = head.forward(&hidden, &targets).unwrap();
        assert!(forward.log_probs.max().double_value(&[]) <= 0.0);
        let gradient = head.backward(forward, &hidden, &targets, &Tensor::from_slice(&[1f32; 3]), false).unwrap();
        assert!(gradient.weight.is_none());
    }
}
