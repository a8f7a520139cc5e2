//! Drawing tokens on the device: temperature, top-k, top-p, min-p and the draw itself, with the meaning and the random
//! numbers of [`super::sample`]. What comes to the host is one number per draw and two for each row.
//!
//! A distribution that is cut off is worked out on its most probable tokens alone, [`CANDIDATES`] of them. Where that is
//! not enough, which the device says with the tokens, the row is done again over the whole vocabulary.

use metareward_api::Sampling;
use tch::{Kind, Tensor};

use super::{
    sample::same_distribution,
    schedule::{Wanted, not_finite},
};
use crate::Result;

/// Most probable tokens that are looked at first.
const CANDIDATES: i64 = 1024;

/// One distribution and the draws from it.
struct Row<'a> {
    output: i64,
    sampling: &'a Sampling,
    /// Index in the list of wanted draws, and random number.
    draws: Vec<(usize, f64)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kindred {
    Greedy,
    /// Nothing is cut off.
    Whole,
    /// Cut off by top-k, top-p or min-p.
    Cut,
}

fn kindred(sampling: &Sampling) -> Kindred {
    if sampling.temperature <= 0.0 {
        Kindred::Greedy
    } else if sampling.top_k.is_none() && sampling.top_p >= 1.0 && sampling.min_p <= 0.0 {
        Kindred::Whole
    } else {
        Kindred::Cut
    }
}

/// One token per wanted draw, added to `tokens`. `logits` [outputs, V], f32, on any device.
///
/// # Errors
/// When logits are NaN or infinite, or libtorch refuses.
pub(crate) fn draw(logits: &Tensor, wanted: &[Wanted<'_>], tokens: &mut Vec<u32>) -> Result<()> {
    draw_from(logits, wanted, tokens, CANDIDATES)
}

fn draw_from(logits: &Tensor, wanted: &[Wanted<'_>], tokens: &mut Vec<u32>, candidates: i64) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let _guard = tch::no_grad_guard();
    let vocabulary = logits.size2()?.1;
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (index, Wanted { output, sampling, u }) in wanted.iter().enumerate() {
        let output = *output as i64;
        match rows.last_mut() {
            Some(row) if row.output == output && same_distribution(row.sampling, sampling) => {
                row.draws.push((index, *u));
            }
            _ => rows.push(Row { output, sampling, draws: vec![(index, *u)] }),
        }
    }
    let first = tokens.len();
    tokens.resize(first + wanted.len(), 0);
    let of = |kind: Kindred| -> Vec<&Row<'_>> { rows.iter().filter(|row| kindred(row.sampling) == kind).collect() };
    let groups = [
        (Kindred::Greedy, of(Kindred::Greedy)),
        (Kindred::Whole, of(Kindred::Whole)),
        (Kindred::Cut, of(Kindred::Cut)),
    ];
    // Per group: the tokens [rows, draws], then a 1 per row that was not enough.
    let mut drawn =
        vec![logits.f_amax([-1i64].as_slice(), false)?.f_isfinite()?.f_all()?.f_to_kind(Kind::Int64)?.f_view(1)?];
    for (kind, rows) in &groups {
        if rows.is_empty() {
            continue;
        }
        let (picked, short) = match kind {
            Kindred::Greedy => {
                let best = select(logits, rows)?.f_argmax(-1, true)?;
                (best.f_expand([rows.len() as i64, most_draws(rows)], false)?, None)
            }
            Kindred::Whole => (whole(logits, rows)?, None),
            Kindred::Cut => {
                let (picked, short) = cut(logits, rows, candidates.min(vocabulary))?;
                (picked, Some(short))
            }
        };
        drawn.push(picked.f_reshape(-1)?);
        drawn.extend(short);
    }
    let numbers: Vec<i64> = Vec::try_from(Tensor::f_cat(&drawn, 0)?)?;
    let (finite, mut numbers) = numbers.split_first().ok_or_else(not_finite)?;
    if *finite == 0 {
        return Err(not_finite());
    }
    for (kind, rows) in &groups {
        let width = most_draws(rows) as usize;
        let (picked, rest) = numbers.split_at(rows.len() * width);
        let (short, rest) = rest.split_at(if *kind == Kindred::Cut { rows.len() } else { 0 });
        numbers = rest;
        for (row, picked) in rows.iter().zip(picked.chunks(width.max(1))) {
            for ((index, _), token) in row.draws.iter().zip(picked) {
                tokens[first + index] = u32::try_from(*token).unwrap_or(0);
            }
        }
        let again: Vec<&Row<'_>> =
            rows.iter().zip(short).filter(|(_, short)| **short != 0).map(|(row, _)| *row).collect();
        if !again.is_empty() {
            let (picked, _) = cut(logits, &again, vocabulary)?;
            let picked: Vec<i64> = Vec::try_from(picked.f_reshape(-1)?)?;
            for (row, picked) in again.iter().zip(picked.chunks(most_draws(&again).max(1) as usize)) {
                for ((index, _), token) in row.draws.iter().zip(picked) {
                    tokens[first + index] = u32::try_from(*token).unwrap_or(0);
                }
            }
        }
    }
    Ok(())
}

fn most_draws(rows: &[&Row<'_>]) -> i64 {
    rows.iter().map(|row| row.draws.len()).max().unwrap_or(0) as i64
}

/// The logits of these rows, [rows, V].
fn select(logits: &Tensor, rows: &[&Row<'_>]) -> Result<Tensor> {
    let all = logits.size2()?.0 == rows.len() as i64 && rows.iter().zip(0..).all(|(row, at)| row.output == at);
    if all {
        return Ok(logits.shallow_clone());
    }
    let outputs: Vec<i64> = rows.iter().map(|row| row.output).collect();
    Ok(logits.f_index_select(0, &Tensor::f_from_slice(&outputs)?.f_to_device(logits.device())?)?)
}

/// Parameters and random numbers of some rows, f64 [rows, 4 + draws]: temperature, top-k, top-p, min-p, then a number
/// per draw. No top-k is the whole vocabulary.
fn parameters(rows: &[&Row<'_>], logits: &Tensor) -> Result<Tensor> {
    let (width, vocabulary) = (most_draws(rows) as usize, logits.size2()?.1);
    let mut values = Vec::with_capacity(rows.len() * (4 + width));
    for Row { sampling, draws, .. } in rows {
        let k = sampling.top_k.map_or(vocabulary, |k| i64::from(k.max(1)).min(vocabulary));
        values.extend([sampling.temperature, k as f64, sampling.top_p, sampling.min_p.min(1.0)]);
        values.extend(draws.iter().map(|(_, u)| *u).chain(std::iter::repeat_n(0.0, width - draws.len())));
    }
    let shape = [rows.len() as i64, 4 + width as i64];
    Ok(Tensor::f_from_slice(&values)?.f_view(shape)?.f_to_device(logits.device())?)
}

/// The places at which the cumulative `weights` [rows, n] pass the random numbers: [rows, draws].
fn places(weights: &Tensor, parameters: &Tensor) -> Result<Tensor> {
    let (rows, width) = parameters.size2()?;
    let sums = weights.f_cumsum(-1, Kind::Double)?;
    let last = sums.size2()?.1 - 1;
    let goals = parameters.f_narrow(1, 4, width - 4)?.f_mul(&sums.f_narrow(1, last, 1)?)?;
    // In tch it is the values that are asked for their place in a sequence.
    let places = goals.f_contiguous()?.f_searchsorted(&sums, false, true, "right", None::<&Tensor>)?;
    // Rounding put the goal at the very end: the last token that is kept. It is the first at which the sum is complete.
    let complete = sums.f_narrow(1, last, 1)?.f_contiguous()?;
    let complete = complete.f_searchsorted(&sums, false, false, "left", None::<&Tensor>)?;
    Ok(places.f_minimum(&complete.f_expand([rows, width - 4], false)?)?)
}

/// Tokens [rows, draws] from distributions that nothing is cut off from.
fn whole(logits: &Tensor, rows: &[&Row<'_>]) -> Result<Tensor> {
    let logits = select(logits, rows)?;
    let parameters = parameters(rows, &logits)?;
    let temperature = parameters.f_narrow(1, 0, 1)?.f_to_kind(Kind::Float)?;
    let most = logits.f_amax([-1i64].as_slice(), true)?;
    places(&logits.f_sub(&most)?.f_div(&temperature)?.f_exp()?, &parameters)
}

/// Tokens [rows, draws] from distributions that are cut off, and a 1 [rows] where `count` candidates were too few.
fn cut(logits: &Tensor, rows: &[&Row<'_>], count: i64) -> Result<(Tensor, Tensor)> {
    let logits = select(logits, rows)?;
    let vocabulary = logits.size2()?.1;
    let parameters = parameters(rows, &logits)?;
    let column = |at: i64| parameters.f_narrow(1, at, 1);
    let (temperature, k, p, min_p) = (column(0)?, column(1)?, column(2)?, column(3)?);
    let most = logits.f_amax([-1i64].as_slice(), true)?;
    let cold = temperature.f_to_kind(Kind::Float)?;
    let weigh = |scores: &Tensor| -> Result<Tensor> {
        Ok(scores.f_sub(&most)?.f_div(&cold)?.f_exp()?.f_to_kind(Kind::Double)?)
    };
    // By index first, and then stably by size: of equals the one with the lower index comes first.
    let (tokens, scores) = if count < vocabulary {
        let (scores, tokens) = logits.f_topk(count, -1, true, false)?;
        let (tokens, order) = tokens.f_sort(-1, false)?;
        (Some(tokens), scores.f_gather(-1, &order, false)?)
    } else {
        (None, logits.shallow_clone())
    };
    let (sorted, order) = scores.f_sort_stable(true, -1, true)?;
    let weights = weigh(&sorted)?;
    // Top-k, ties with the k-th included.
    let limited = k.f_lt(vocabulary as f64)?;
    let at = k.f_clamp_max(count as f64)?.f_sub_scalar(1.0)?.f_to_kind(Kind::Int64)?;
    let least = sorted.f_gather(-1, &at, false)?;
    let top = sorted.f_ge_tensor(&least)?.f_logical_or(&limited.f_logical_not()?)?;
    let kept = weights.f_mul(&top.f_to_kind(Kind::Double)?)?;
    // Top-p of what is left: kept while those before add up to less.
    let all = if count < vocabulary {
        let weights = logits.f_sub(&most)?.f_div_(&cold)?.f_exp_()?;
        weights.f_sum_dim_intlist([-1i64].as_slice(), true, Kind::Double)?
    } else {
        weights.f_sum_dim_intlist([-1i64].as_slice(), true, Kind::Double)?
    };
    let total = kept.f_sum_dim_intlist([-1i64].as_slice(), true, Kind::Double)?.f_where_self(&limited, &all)?;
    let sums = kept.f_cumsum(-1, Kind::Double)?;
    let goal = total.f_mul(&p)?;
    let open = p.f_ge(1.0)?;
    let nucleus = sums.f_sub(&kept)?.f_lt_tensor(&goal)?.f_logical_or(&open)?;
    let likely = weights.f_ge_tensor(&min_p)?;
    let keep = top.f_logical_and(&nucleus)?.f_logical_and(&likely)?;
    // Back in the order of the tokens.
    let kept = weights.f_mul(&keep.f_to_kind(Kind::Double)?)?;
    let ordered = kept.f_zeros_like()?.f_scatter(-1, &order, &kept)?;
    let places = places(&ordered, &parameters)?;
    let picked = match &tokens {
        Some(tokens) => tokens.f_gather(-1, &places, false)?,
        None => places,
    };
    let short = if count < vocabulary {
        // Enough where one of the three leaves nothing beyond the candidates.
        let last = count - 1;
        let by_k = k.f_le(last as f64)?.f_logical_and(&sorted.f_narrow(1, last, 1)?.f_lt_tensor(&least)?)?;
        let by_p = sums.f_narrow(1, last, 1)?.f_ge_tensor(&goal)?.f_logical_and(&open.f_logical_not()?)?;
        let by_p = by_p.f_logical_and(&limited.f_logical_not()?)?;
        let by_min = weights.f_narrow(1, last, 1)?.f_lt_tensor(&min_p)?.f_logical_and(&limited.f_logical_not()?)?;
        by_k.f_logical_or(&by_p)?.f_logical_or(&by_min)?.f_logical_not()?.f_to_kind(Kind::Int64)?.f_view(-1)?
    } else {
        Tensor::f_zeros([rows.len() as i64], (Kind::Int64, logits.device()))?
    };
    Ok((picked, short))
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::{
        super::{
            sample::{Drawer, uniform},
            simd::Level,
        },
        *,
    };
    use crate::library::{Cuda, cuda};

    /// On libtorch's tensors on the CPU, and on a GPU where there is one.
    #[test]
    fn the_device_draws_what_the_cpu_draws() {
        draws_what_the_cpu_draws(Device::Cpu);
        match cuda() {
            Cuda::Ready { devices } if *devices > 0 => draws_what_the_cpu_draws(Device::Cuda(0)),
            other => println!("skipped on a GPU: none can be used: {other}"),
        }
    }

    /// The tokens of the CPU's sampler, but where a random number falls on the very border between two tokens.
    fn draws_what_the_cpu_draws(device: Device) {
        tch::manual_seed(5);
        let vocabulary = 3000i64;
        let sampling = |temperature, top_k, top_p, min_p| Sampling {
            temperature,
            top_p,
            top_k,
            min_p,
            max_tokens: 1,
            stop: Vec::new(),
        };
        let kinds = [
            sampling(0.0, None, 1.0, 0.0),
            sampling(1.0, None, 1.0, 0.0),
            sampling(0.7, None, 0.9, 0.0),
            sampling(1.3, Some(5), 1.0, 0.0),
            sampling(1.0, Some(40), 0.8, 0.02),
            sampling(1.0, None, 1.0, 0.1),
            sampling(2.5, None, 0.99, 0.0),
            sampling(1.0, Some(2500), 0.95, 0.0),
            sampling(3.0, None, 0.999, 0.0001),
        ];
        let mut differ = 0;
        let mut count = 0;
        for (round, scale) in [0.3, 1.0, 3.0, 6.0].into_iter().enumerate() {
            // Rounded, so that ties are frequent.
            let logits = (Tensor::randn([12, vocabulary], (Kind::Float, Device::Cpu)) * scale * 8.0).round() / 8.0;
            let flat: Vec<f32> = Vec::try_from(logits.reshape(-1)).unwrap();
            let mut wanted = Vec::new();
            for output in 0..12usize {
                for draw in 0..1 + output as u64 % 5 {
                    // Draws of one prompt with the same parameters, and with different ones.
                    let kind = if output % 2 == 0 { output } else { output + draw as usize };
                    let u = uniform(output as u64 * 31 + draw, round as u64);
                    wanted.push(Wanted { output, sampling: &kinds[kind % kinds.len()], u });
                }
            }
            for candidates in [CANDIDATES, 16, vocabulary] {
                let (mut ours, mut theirs) = (Vec::new(), Vec::new());
                draw_from(&logits.to_device(device), &wanted, &mut ours, candidates).unwrap();
                let row = |output: usize| &flat[output * vocabulary as usize..][..vocabulary as usize];
                Drawer::default().draw(Level::detect(), row, &wanted, &mut theirs).unwrap();
                assert_eq!(ours.len(), theirs.len());
                differ += ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
                count += ours.len();
            }
        }
        println!("{differ} of {count} draws differ");
        assert!(count > 300 && differ * 200 <= count, "{differ} of {count}");
    }

    #[test]
    fn broken_logits_are_said_so() {
        let sampling =
            Sampling { temperature: 1.0, top_p: 0.9, top_k: None, min_p: 0.0, max_tokens: 1, stop: Vec::new() };
        let wanted = [Wanted { output: 0, sampling: &sampling, u: 0.5 }];
        for bad in [f32::NAN, f32::INFINITY] {
            let logits = Tensor::from_slice(&[1.0, bad, 2.0]).view([1, 3]);
            assert!(draw(&logits, &wanted, &mut Vec::new()).is_err());
        }
        let never = Tensor::from_slice(&[1.0, f32::NEG_INFINITY, 2.0]).view([1, 3]);
        assert!(draw(&never, &wanted, &mut Vec::new()).is_ok());
    }
}
