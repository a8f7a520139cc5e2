//! `metareward logprobs`: log-probability of a completion, in sum and per token.

use metareward_torch::{CausalLm, Prompting, TemplateDate, logprobs::text_logprob};
use serde_json::json;

use crate::{args::LogprobsArgs, engine, failure::Failure, model};

/// Prints the sum and a line per token, the end-of-turn token last.
///
/// # Errors
/// When the model cannot be used or prompt and completion do not fit it.
pub fn run(args: &LogprobsArgs, json: bool) -> Result<(), Failure> {
    let located = model::locate(&args.question.model, None)?;
    let settings = engine::Settings::of_device(&args.device)?;
    let device = settings.device.resolve().map_err(engine::torch_failure)?;
    let precision = settings.precision(&located.folder)?;
    let model = CausalLm::load(&located.folder, device, precision).map_err(engine::torch_failure)?;
    let prompting =
        Prompting::read(&located.folder, model.config(), TemplateDate::default()).map_err(engine::torch_failure)?;
    let result =
        text_logprob(&model, &prompting, &args.question.messages(), &args.completion).map_err(engine::torch_failure)?;
    if json {
        println!("{}", json!({ "sum": result.sum, "tokens": result.tokens, "revision": located.revision }));
    } else {
        for token in &result.tokens {
            println!("{:>12.6}  {:>7}  {:?}", token.logprob, token.id, token.text);
        }
        println!("{:>12.6}  sum of {} tokens", result.sum, result.tokens.len());
    }
    Ok(())
}
