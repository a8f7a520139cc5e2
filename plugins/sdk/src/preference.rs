//! What preference losses have in common: logistic functions that do not overflow, means per token, checks of what
//! comes in and goes out, and an NLL term for any of them.

use std::collections::BTreeMap;

use metareward_api::{OptionError, PairLogProbs, PluginError, PreferenceLoss};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// log σ(z), without overflow at either end.
pub fn log_sigmoid(z: f64) -> f64 {
    if z >= 0.0 { -libm::log1p(libm::exp(-z)) } else { z - libm::log1p(libm::exp(z)) }
}

/// σ(z), without overflow at either end.
pub fn sigmoid(z: f64) -> f64 {
    if z >= 0.0 {
        1.0 / (1.0 + libm::exp(-z))
    } else {
        let e = libm::exp(z);
        e / (1.0 + e)
    }
}

/// −(1−s)·log σ(z) − s·log σ(−z) and its derivative by z: the loss of DPO where a label is wrong with probability s.
pub fn smoothed_logistic(z: f64, smoothing: f64) -> (f64, f64) {
    let loss = -(1.0 - smoothing) * log_sigmoid(z) - smoothing * log_sigmoid(-z);
    (loss, smoothing * sigmoid(z) - (1.0 - smoothing) * sigmoid(-z))
}

/// 1 over the number of tokens: what makes a mean per token of a sum.
///
/// # Errors
/// When there are no tokens; `side` is `chosen` or `rejected`.
pub fn per_token(item: usize, side: &str, tokens: u32) -> Result<f64, PluginError> {
    if tokens == 0 {
        return Err(PluginError::at(item, format!("the {side} completion has no tokens to normalise by")));
    }
    Ok(1.0 / f64::from(tokens))
}

/// [`per_token`] of the chosen and of the rejected completion.
///
/// # Errors
/// When one of them has no tokens.
pub fn per_token_of_both(item: usize, pair: &PairLogProbs) -> Result<[f64; 2], PluginError> {
    Ok([per_token(item, "chosen", pair.chosen_tokens)?, per_token(item, "rejected", pair.rejected_tokens)?])
}

/// Checks an option that must be a finite number above 0.
///
/// # Errors
/// Names the option and what was found.
pub fn check_positive(key: &str, value: f64) -> Result<(), OptionError> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(OptionError::at(key, format!("expected a number above 0, found {value}")))
}

/// Checks the option `label_smoothing`: from 0 and below 0.5.
///
/// # Errors
/// Says what was found.
pub fn check_label_smoothing(value: f64) -> Result<(), OptionError> {
    if (0.0..0.5).contains(&value) {
        return Ok(());
    }
    Err(OptionError::at("label_smoothing", format!("expected a number from 0 and below 0.5, found {value}")))
}

/// How the NLL of a chosen completion is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NllPer {
    /// Its mean over the completion's tokens (Pang et al. 2024; TRL).
    #[default]
    Token,
    /// Its sum over the completion's tokens.
    Sequence,
}

/// An NLL term beside a preference loss: weight · −log π(chosen), per token or per sequence. With DPO this is the loss of
/// iterative reasoning preference optimization (Pang et al. 2024), which TRL calls RPO.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Nll {
    /// The term's weight; 0 leaves it out.
    pub weight: f64,
    /// Mean or sum.
    pub per: NllPer,
}

impl Nll {
    /// Checks the option `nll_weight`: a finite number from 0.
    ///
    /// # Errors
    /// Says what was found.
    pub fn check(self) -> Result<(), OptionError> {
        if self.weight.is_finite() && self.weight >= 0.0 {
            return Ok(());
        }
        Err(OptionError::at("nll_weight", format!("expected a number from 0, found {}", self.weight)))
    }

    /// A loss at zero margin with this term beside it: with an NLL no loss is fixed at the start.
    pub fn beside_start(self, loss_at_start: f64) -> Option<f64> {
        (self.weight == 0.0).then_some(loss_at_start)
    }

    /// The chosen completion's NLL and its derivative by the log-probability, without the weight.
    fn of(self, item: usize, pair: &PairLogProbs) -> Result<(f64, f64), PluginError> {
        let factor = match self.per {
            NllPer::Token => per_token(item, "chosen", pair.chosen_tokens)?,
            NllPer::Sequence => 1.0,
        };
        Ok((-factor * pair.policy_chosen, -factor))
    }
}

/// What a method makes of one pair, before the pair's weight and the NLL term.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Term {
    /// Loss.
    pub loss: f64,
    /// d loss / d policy_chosen.
    pub chosen_gradient: f64,
    /// d loss / d policy_rejected.
    pub rejected_gradient: f64,
    /// Implicit reward of the chosen completion.
    pub chosen_reward: f64,
    /// Implicit reward of the rejected completion.
    pub rejected_reward: f64,
    /// Metrics by name; their means over the batch are reported.
    pub metrics: Vec<(&'static str, f64)>,
}

/// The loss of a batch: `term` for every pair, `nll` beside it, both times the pair's weight. Where there is an NLL term its
/// mean over the batch is the metric `nll`.
///
/// # Errors
/// When a log-probability or weight is not finite, when `term` fails, and when what it makes is not finite.
pub fn batch(
    pairs: &[PairLogProbs],
    nll: Nll,
    term: impl Fn(usize, &PairLogProbs) -> Result<Term, PluginError>,
) -> Result<PreferenceLoss, PluginError> {
    let mut out = PreferenceLoss {
        losses: Vec::with_capacity(pairs.len()),
        chosen_gradient: Vec::with_capacity(pairs.len()),
        rejected_gradient: Vec::with_capacity(pairs.len()),
        chosen_rewards: Vec::with_capacity(pairs.len()),
        rejected_rewards: Vec::with_capacity(pairs.len()),
        metrics: BTreeMap::new(),
    };
    let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
    for (item, pair) in pairs.iter().enumerate() {
        finite(
            item,
            [
                ("policy_chosen", pair.policy_chosen),
                ("policy_rejected", pair.policy_rejected),
                ("reference_chosen", pair.reference_chosen),
                ("reference_rejected", pair.reference_rejected),
                ("weight", pair.weight),
            ],
        )?;
        let mut term = term(item, pair)?;
        if nll.weight > 0.0 {
            let (loss, gradient) = nll.of(item, pair)?;
            term.loss += nll.weight * loss;
            term.chosen_gradient += nll.weight * gradient;
            term.metrics.push(("nll", loss));
        }
        finite(
            item,
            [
                ("the loss", term.loss),
                ("the gradient of chosen", term.chosen_gradient),
                ("the gradient of rejected", term.rejected_gradient),
                ("the reward of chosen", term.chosen_reward),
                ("the reward of rejected", term.rejected_reward),
            ],
        )?;
        out.losses.push(pair.weight * term.loss);
        out.chosen_gradient.push(pair.weight * term.chosen_gradient);
        out.rejected_gradient.push(pair.weight * term.rejected_gradient);
        out.chosen_rewards.push(term.chosen_reward);
        out.rejected_rewards.push(term.rejected_reward);
        for (name, value) in term.metrics {
            *sums.entry(name).or_default() += value;
        }
    }
    out.metrics = sums.into_iter().map(|(name, sum)| (name.to_owned(), sum / pairs.len() as f64)).collect();
    Ok(out)
}

fn finite<const N: usize>(item: usize, values: [(&str, f64); N]) -> Result<(), PluginError> {
    match values.into_iter().find(|(_, value)| !value.is_finite()) {
        Some((name, value)) => Err(PluginError::at(item, format!("{name} is {value}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair(policy_chosen: f64, weight: f64) -> PairLogProbs {
        PairLogProbs {
            policy_chosen,
            policy_rejected: -3.0,
            reference_chosen: -2.0,
            reference_rejected: -2.0,
            chosen_tokens: 4,
            rejected_tokens: 3,
            weight,
        }
    }

    #[test]
    fn the_nll_stands_beside_the_loss_and_under_the_weight() {
        let term = |_: usize, _: &PairLogProbs| Ok(Term { loss: 1.0, chosen_gradient: -0.5, ..Term::default() });
        let with = |per| batch(&[pair(-8.0, 1.0), pair(-4.0, 2.0)], Nll { weight: 0.25, per }, term).unwrap();
        let token = with(NllPer::Token);
        assert_eq!(token.losses, [1.5, 2.5]);
        assert_eq!(token.chosen_gradient, [-0.5625, -1.125]);
        assert_eq!(token.rejected_gradient, [0.0, 0.0]);
        assert_eq!(token.metrics["nll"], 1.5);
        assert_eq!(with(NllPer::Sequence).losses, [3.0, 4.0]);
        let without = batch(&[pair(-8.0, 1.0)], Nll::default(), term).unwrap();
        assert_eq!((without.losses[0], without.metrics.len()), (1.0, 0));
    }

    #[test]
    fn what_is_not_finite_is_named() {
        let zero = |_: usize, _: &PairLogProbs| Ok(Term::default());
        let error = batch(&[pair(-1.0, 1.0), pair(f64::NAN, 1.0)], Nll::default(), zero).unwrap_err();
        assert_eq!(error.to_string(), "item 1: policy_chosen is NaN");
        let infinite = |_: usize, _: &PairLogProbs| Ok(Term { loss: f64::INFINITY, ..Term::default() });
        assert_eq!(
            batch(&[pair(-1.0, 1.0)], Nll::default(), infinite).unwrap_err().to_string(),
            "item 0: the loss is inf"
        );
        let nll = Nll { weight: 1.0, per: NllPer::Token };
        let empty = PairLogProbs { chosen_tokens: 0, ..pair(-1.0, 1.0) };
        assert!(batch(&[empty], nll, zero).unwrap_err().message.contains("no tokens"));
        assert!(Nll { weight: -1.0, per: NllPer::Token }.check().is_err());
    }

    proptest! {
        #[test]
        fn logistic_functions_keep_their_identities(z in -2000.0..2000.0f64, smoothing in 0.0..0.5f64) {
            prop_assert!((sigmoid(z) + sigmoid(-z) - 1.0).abs() <= 1e-15);
            prop_assert!((log_sigmoid(z) - log_sigmoid(-z) - z).abs() <= 1e-12 * z.abs().max(1.0));
            let (loss, slope) = smoothed_logistic(z, smoothing);
            let (mirrored, mirrored_slope) = smoothed_logistic(-z, smoothing);
            prop_assert!(loss.is_finite() && loss >= 0.0);
            // d(loss(z) − loss(−z))/dz = 2s − 1, whatever z.
            prop_assert!((slope + mirrored_slope - (2.0 * smoothing - 1.0)).abs() <= 1e-15);
            prop_assert!((loss - mirrored - (2.0 * smoothing - 1.0) * z).abs() <= 1e-11 * z.abs().max(1.0));
        }
    }
}
