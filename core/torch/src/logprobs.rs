//! Log-probabilities of given tokens, without ever holding the logits of a whole batch.

use metareward_api::Message;
use tch::{Kind, Tensor};

use crate::{
    Result, TorchError,
    model::CausalLm,
    prompting::{Completed, Prompting},
};

/// Rows and columns of the piece of the logits that exists at a time: 64 MiB in f32.
const ROWS: i64 = 1024;
const COLUMNS: i64 = 16_384;

/// Log-probability `[N]` (f32, natural logarithm) of each target: `hidden` `[N, H]` after the final norm, `lm_head` `[V, H]`,
/// `targets` `[N]` (i64). Logits are made in the number format of the model and summed up in f32, as in transformers.
///
/// # Errors
/// When libtorch refuses.
pub fn chunked_log_softmax_gather(hidden: &Tensor, lm_head: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let (count, vocabulary) = (hidden.size2()?.0, lm_head.size2()?.0);
    let mut rows = Vec::new();
    for start in (0..count).step_by(ROWS as usize) {
        let length = ROWS.min(count - start);
        let hidden = hidden.f_narrow(0, start, length)?;
        let targets = targets.f_narrow(0, start, length)?.f_unsqueeze(1)?;
        let (mut sums, mut wanted) = (Vec::new(), Vec::new());
        for first in (0..vocabulary).step_by(COLUMNS as usize) {
            let width = COLUMNS.min(vocabulary - first);
            let part = lm_head.f_narrow(0, first, width)?;
            let logits = hidden.f_linear(&part, None::<&Tensor>)?.f_to_kind(Kind::Float)?;
            sums.push(logits.f_logsumexp([1_i64].as_slice(), false)?);
            // The target's logit where it is in this piece, else 0.
            let place = targets.f_sub_scalar(first)?;
            let inside = place.f_ge(0)?.f_logical_and(&place.f_lt(width)?)?;
            let here = logits.f_gather(1, &place.f_clamp(0, width - 1)?, false)?;
            wanted.push(here.f_masked_fill(&inside.f_logical_not()?, 0.0)?.f_squeeze_dim(1)?);
        }
        let normaliser = match &sums[..] {
            [one] => one.shallow_clone(),
            _ => Tensor::f_stack(&sums, 0)?.f_logsumexp([0_i64].as_slice(), false)?,
        };
        let wanted = match &wanted[..] {
            [one] => one.shallow_clone(),
            _ => Tensor::f_stack(&wanted, 0)?.f_sum_dim_intlist([0_i64].as_slice(), false, None)?,
        };
        rows.push(wanted.f_sub(&normaliser)?);
    }
    if rows.is_empty() {
        return Ok(Tensor::f_zeros([0], (Kind::Float, hidden.device()))?);
    }
    Ok(Tensor::f_cat(&rows, 0)?)
}

/// A token of a completion and its log-probability.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct TokenLogProb {
    /// The token.
    pub id: i64,
    /// Its text, read by itself.
    pub text: String,
    /// Natural logarithm of its probability, given everything before it.
    pub logprob: f64,
}

/// Log-probability of a completion.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct TextLogProb {
    /// Sum over all tokens.
    pub sum: f64,
    /// Each token, the end-of-turn token last.
    pub tokens: Vec<TokenLogProb>,
}

/// Log-probability of each of `completion`'s tokens after `prompt`'s.
///
/// # Errors
/// [`TorchError::Input`] when there is no prompt or the two do not fit the model's context.
pub fn token_logprobs(model: &CausalLm, prompt: &[i64], completion: &[i64]) -> Result<Vec<f64>> {
    let length = prompt.len() + completion.len();
    let context = model.config().context;
    if prompt.is_empty() {
        return Err(TorchError::Input("a completion needs at least one token before it".to_owned()));
    }
    if length as i64 > context {
        return Err(TorchError::Input(format!(
            "prompt and completion have {length} tokens, more than the model's context of {context}"
        )));
    }
    if completion.is_empty() {
        return Ok(Vec::new());
    }
    tch::no_grad(|| {
        let ids: Vec<i64> = prompt.iter().chain(completion).copied().collect();
        let tokens = Tensor::f_from_slice(&ids[..length - 1])?.f_unsqueeze(0)?.f_to_device(model.device())?;
        let targets = Tensor::f_from_slice(completion)?.f_to_device(model.device())?;
        let hidden = model.forward_hidden(&tokens)?.f_squeeze_dim(0)?;
        let answer = hidden.f_narrow(0, prompt.len() as i64 - 1, completion.len() as i64)?;
        let logprobs = chunked_log_softmax_gather(&answer, model.lm_head()?, &targets)?;
        Ok(Vec::<f64>::try_from(&logprobs.f_to_kind(Kind::Double)?)?)
    })
}

/// Log-probability of `completion` as the model's next turn, the end-of-turn token included.
///
/// # Errors
/// [`TorchError::Input`] when the conversation does not fit the chat template or the model's context.
pub fn text_logprob(
    model: &CausalLm,
    prompting: &Prompting,
    messages: &[Message],
    completion: &str,
) -> Result<TextLogProb> {
    let Completed { prompt, completion } = prompting.complete(messages, completion)?;
    let logprobs = token_logprobs(model, &prompt, &completion)?;
    let tokens = completion.iter().zip(&logprobs).map(|(&id, &logprob)| TokenLogProb {
        id,
        text: prompting.tokenizer().token_text(id),
        logprob,
    });
    Ok(TextLogProb { sum: logprobs.iter().sum(), tokens: tokens.collect() })
}
