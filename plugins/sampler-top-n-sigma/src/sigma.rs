//! The plugin: which tokens are kept, and how probable they are.

use metareward_api::{DrawPlan, Kind, NextTokens, OptionError, Plugin, PluginError, PluginInfo, Sampler, SamplerItem};
use metareward_plugin::{FromOptions, Options};

use crate::TopNSigmaOptions;

/// Keeps what is within n standard deviations of the largest logit.
#[derive(Clone, Debug)]
pub struct TopNSigma {
    options: TopNSigmaOptions,
}

impl FromOptions for TopNSigma {
    type Options = TopNSigmaOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Sampler,
            name: "top-n-sigma".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "tokens whose logit is within n standard deviations of the largest".to_owned(),
        }
    }

    fn from_options(options: TopNSigmaOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options })
    }
}

impl Plugin for TopNSigma {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

impl Sampler for TopNSigma {
    fn plan(&self, items: &[SamplerItem]) -> Result<Vec<Vec<DrawPlan>>, PluginError> {
        let plan = DrawPlan { sampling: self.options.sampling(), seed_offset: 0 };
        Ok(items.iter().map(|item| vec![plan.clone(); item.draws as usize]).collect())
    }

    /// As many as the option says; more than any vocabulary has where it says all.
    fn reshapes(&self) -> Result<Option<u32>, PluginError> {
        Ok(Some(self.options.candidates.unwrap_or(u32::MAX)))
    }

    fn reshape(&self, rows: &[NextTokens]) -> Result<Vec<Vec<f64>>, PluginError> {
        rows.iter().enumerate().map(|(item, row)| self.probabilities(item, row)).collect()
    }
}

impl TopNSigma {
    fn probabilities(&self, item: usize, row: &NextTokens) -> Result<Vec<f64>, PluginError> {
        let NextTokens { tokens, logits, .. } = row;
        if tokens.len() != logits.len() {
            let message = format!("{} tokens and {} logits", tokens.len(), logits.len());
            return Err(PluginError::at(item, message));
        }
        // A token that the engine forbids has the logit −∞: it is never drawn and does not count in the spread.
        if let Some(bad) = logits.iter().find(|logit| logit.is_nan() || **logit == f64::INFINITY) {
            return Err(PluginError::at(item, format!("a logit is {bad}")));
        }
        let allowed: Vec<f64> = logits.iter().copied().filter(|logit| logit.is_finite()).collect();
        let Some(largest) = allowed.iter().copied().reduce(f64::max) else {
            return Err(PluginError::at(item, "no token to choose from"));
        };
        let TopNSigmaOptions { n, temperature, .. } = self.options;
        if temperature == 0.0 {
            // Of equally large logits the one that the engine puts first.
            let best = logits.iter().position(|logit| *logit == largest);
            return Ok((0..logits.len()).map(|index| if Some(index) == best { 1.0 } else { 0.0 }).collect());
        }
        let floor = largest - n * standard_deviation(&allowed, largest);
        let weight = |logit: &f64| if *logit >= floor { libm::exp((logit - largest) / temperature) } else { 0.0 };
        let weights: Vec<f64> = logits.iter().map(weight).collect();
        // At least 1: the largest logit is kept and weighs 1.
        let total = weights.iter().sum::<f64>();
        Ok(weights.into_iter().map(|weight| weight / total).collect())
    }
}

/// √(Σ(l − mean)² / V). Differences to the largest logit keep equal logits exactly without spread.
fn standard_deviation(logits: &[f64], largest: f64) -> f64 {
    let count = logits.len() as f64;
    let mean = logits.iter().map(|logit| logit - largest).sum::<f64>() / count;
    let square = |logit: &f64| (logit - largest - mean) * (logit - largest - mean);
    (logits.iter().map(square).sum::<f64>() / count).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use metareward_plugin::read_options;
    use proptest::{collection::vec, prelude::*};
    use serde_json::{Value, json};

    fn sampler(options: Value) -> TopNSigma {
        TopNSigma::from_options(read_options(&options).unwrap()).unwrap()
    }

    fn row(logits: &[f64]) -> NextTokens {
        NextTokens { draw: 0, position: 0, tokens: (0..logits.len() as u32).collect(), logits: logits.to_vec() }
    }

    fn reshape(options: Value, logits: &[f64]) -> Vec<f64> {
        sampler(options).reshape(&[row(logits)]).unwrap().remove(0)
    }

    #[test]
    fn what_is_near_the_largest_is_kept() {
        // Mean 4, variance (36 + 4 + 4 + 36) / 4 = 20: σ is 4.472.
        let logits = [10.0, 6.0, 2.0, -2.0];
        let share = |a: f64, b: f64| libm::exp(b) / (libm::exp(a) + libm::exp(b));
        let found = reshape(json!({}), &logits);
        assert!((found[1] - share(10.0, 6.0)).abs() < 1e-15 && found[2..] == [0.0, 0.0], "{found:?}");
        // Exactly the kept ones are within n·σ; the temperature does not change which.
        assert_eq!(reshape(json!({"n": 0.89}), &logits), [1.0, 0.0, 0.0, 0.0]);
        let hot = reshape(json!({"temperature": 2}), &logits);
        assert!((hot[1] - share(5.0, 3.0)).abs() < 1e-15 && hot[2..] == [0.0, 0.0], "{hot:?}");
        assert_eq!(reshape(json!({"n": 0}), &logits), [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn equal_and_forbidden_logits() {
        assert_eq!(reshape(json!({}), &[3.5; 4]), [0.25; 4]);
        assert_eq!(reshape(json!({}), &[7.0]), [1.0]);
        // Σ = 1 with the forbidden token left out of mean and variance: 0 and 2 are σ = 1 around 1.
        let forbidden = reshape(json!({"n": 1.9}), &[2.0, 0.0, f64::NEG_INFINITY]);
        assert_eq!(forbidden, [1.0, 0.0, 0.0]);
        assert_eq!(reshape(json!({"temperature": 0}), &[1.0, 3.0, 3.0]), [0.0, 1.0, 0.0]);
        for bad in [vec![], vec![f64::NAN, 1.0], vec![f64::NEG_INFINITY], vec![f64::INFINITY]] {
            assert!(sampler(json!({})).reshape(&[row(&[1.0]), row(&bad)]).unwrap_err().item == Some(1), "{bad:?}");
        }
        let unequal = NextTokens { tokens: vec![1], ..row(&[1.0, 2.0]) };
        assert_eq!(sampler(json!({})).reshape(&[unequal]).unwrap_err().to_string(), "item 0: 1 tokens and 2 logits");
    }

    #[test]
    fn plans_are_neutral_and_ranges_are_checked() {
        let sampler = sampler(json!({"max_tokens": 7, "candidates": 50}));
        assert_eq!(sampler.reshapes().unwrap(), Some(50));
        assert_eq!(self::sampler(json!({})).reshapes().unwrap(), Some(u32::MAX));
        let plan = sampler.plan(&[SamplerItem { characters: 0, draws: 2 }]).unwrap().remove(0).remove(1);
        assert_eq!((plan.sampling.top_p, plan.sampling.min_p, plan.sampling.max_tokens), (1.0, 0.0, 7));
        for (key, value) in
            [("n", json!(-1)), ("candidates", json!(0)), ("temperature", json!(-1)), ("max_tokens", json!(0))]
        {
            let error = read_options::<TopNSigmaOptions>(&json!({ key: value })).unwrap_err();
            assert_eq!(error.key.as_deref(), Some(key), "{error}");
        }
    }

    proptest! {
        #[test]
        fn the_set_is_the_papers_at_every_temperature(
            logits in vec(-30.0..30.0f64, 1..40),
            n in 0.0..3.0f64,
            temperature in 0.05..5.0f64,
            shift in -100.0..100.0f64,
        ) {
            let found = reshape(json!({"n": n, "temperature": temperature}), &logits);
            prop_assert!((found.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            // Written down a second time, with the temperature applied first as in the paper.
            let scaled: Vec<f64> = logits.iter().map(|logit| logit / temperature).collect();
            let mean = scaled.iter().sum::<f64>() / scaled.len() as f64;
            let sigma = (scaled.iter().map(|l| (l - mean) * (l - mean)).sum::<f64>() / scaled.len() as f64).sqrt();
            let largest = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            for (logit, probability) in scaled.iter().zip(&found) {
                let room = logit - (largest - n * sigma);
                prop_assert!(room.abs() < 1e-9 || (*probability > 0.0) == (room > 0.0) || *probability < 1e-300);
            }
            // The level of the logits means nothing.
            let shifted: Vec<f64> = logits.iter().map(|logit| logit + shift).collect();
            for (a, b) in reshape(json!({"n": n + 1e-9, "temperature": temperature}), &shifted).iter().zip(&found) {
                prop_assert!((a - b).abs() < 1e-6 || *b == 0.0);
            }
        }
    }
}
