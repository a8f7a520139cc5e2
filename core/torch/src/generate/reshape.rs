//! Samplers that give the probabilities themselves.

use metareward_api::{EngineError, NextTokens, Sampler};

/// A sampler that reshapes, and how many of the most probable tokens it wants to see.
#[derive(Clone, Copy)]
pub(crate) struct Reshape<'a> {
    sampler: &'a dyn Sampler,
    tokens: usize,
}

/// Some tokens, most probable first, and their logits.
type Top = (Vec<u32>, Vec<f64>);

/// The distribution of one draw's next token.
pub(crate) struct Reshaped {
    tokens: Vec<u32>,
    probabilities: Vec<f64>,
}

impl Reshaped {
    /// The token at `u` in [0, 1) of the cumulative distribution, most probable logit first.
    pub(crate) fn token(&self, u: f64) -> u32 {
        let goal = u * self.probabilities.iter().sum::<f64>();
        let mut below = 0.0;
        let mut last = 0;
        for (token, probability) in self.tokens.iter().zip(&self.probabilities) {
            if *probability > 0.0 {
                below += probability;
                last = *token;
                if below > goal {
                    break;
                }
            }
        }
        last
    }
}

impl<'a> Reshape<'a> {
    /// Asks the sampler whether it reshapes.
    pub(crate) fn of(sampler: Option<&'a dyn Sampler>) -> Result<Option<Self>, EngineError> {
        let Some(sampler) = sampler else { return Ok(None) };
        let tokens = sampler.reshapes().map_err(|error| failed(sampler, error.message))?;
        Ok(tokens.map(|tokens| Self { sampler, tokens: tokens as usize }))
    }

    /// The tokens that the sampler wants to see of a row, and their logits.
    pub(crate) fn top(&self, logits: &[f32]) -> Result<Top, EngineError> {
        let top = most_probable(logits, self.tokens);
        if top.1.iter().any(|logit| !logit.is_finite()) {
            return Err(EngineError::Machine("the model gave a logit that is not finite".to_owned()));
        }
        Ok(top)
    }

    /// The distributions of all draws of all rows: what [`Reshape::top`] gave, the draws' numbers within their prompt, and
    /// the length of the answer so far. One call of the plugin.
    pub(crate) fn ask(&self, rows: Vec<(Top, Vec<u32>, usize)>) -> Result<Vec<Vec<Reshaped>>, EngineError> {
        let mut asked = Vec::new();
        for ((tokens, logits), draws, position) in &rows {
            asked.extend(draws.iter().map(|draw| NextTokens {
                draw: *draw,
                position: u32::try_from(*position).unwrap_or(u32::MAX),
                tokens: tokens.clone(),
                logits: logits.clone(),
            }));
        }
        let answers = self.sampler.reshape(&asked).map_err(|error| failed(self.sampler, error.message))?;
        let whole = |(row, probabilities): (&NextTokens, &Vec<f64>)| {
            probabilities.len() == row.tokens.len() && probabilities.iter().any(|probability| *probability > 0.0)
        };
        if answers.len() != asked.len() || !asked.iter().zip(&answers).all(whole) {
            return Err(failed(self.sampler, "reshape gave rows without probabilities".to_owned()));
        }
        let mut reshaped =
            asked.into_iter().zip(answers).map(|(row, probabilities)| Reshaped { tokens: row.tokens, probabilities });
        Ok(rows.iter().map(|(_, draws, _)| reshaped.by_ref().take(draws.len()).collect()).collect())
    }
}

fn failed(sampler: &dyn Sampler, message: String) -> EngineError {
    EngineError::Plugin { plugin: sampler.info().name, message }
}

/// The `count` tokens with the highest logits that can come at all, highest first; of equals, lower indices first.
fn most_probable(logits: &[f32], count: usize) -> Top {
    let mut order: Vec<u32> = (0u32..).zip(logits).filter(|(_, x)| **x != f32::NEG_INFINITY).map(|(i, _)| i).collect();
    let by_logit = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if count > 0 && count < order.len() {
        order.select_nth_unstable_by(count - 1, by_logit);
        order.truncate(count);
    }
    order.sort_unstable_by(by_logit);
    let logits = order.iter().map(|token| f64::from(logits[*token as usize])).collect();
    (order, logits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_probable_tokens_come_highest_first() {
        let logits = [0.5, 2.0, f32::NEG_INFINITY, 2.0, -1.0];
        assert_eq!(most_probable(&logits, 3), (vec![1, 3, 0], vec![2.0, 2.0, 0.5]));
        assert_eq!(most_probable(&logits, 9).0, [1, 3, 0, 4]);
    }

    #[test]
    fn a_draw_is_the_inverse_of_the_cumulative_distribution() {
        let reshaped = Reshaped { tokens: vec![7, 3, 9], probabilities: vec![0.5, 0.0, 0.5] };
        assert_eq!([0.0, 0.49, 0.5, 0.999_999].map(|u| reshaped.token(u)), [7, 7, 9, 9]);
    }
}
