//! `metareward generate`: lets a model answer a prompt.

use metareward_api::{GenerationDraw, GenerationRequest, Generator, Guides, Sampling};
use serde_json::json;

use crate::{
    args::GenerateArgs,
    engine,
    failure::Failure,
    interrupt,
    model::{self, Located},
    ranks::Ranks,
};

/// Prints every answer; with `--json` one object with text, tokens and finish reason of each.
///
/// # Errors
/// When the model cannot be used or the prompt does not fit it.
pub fn run(args: &GenerateArgs, json: bool) -> Result<(), Failure> {
    let Some(ranks) = Ranks::meet()? else {
        let (located, settings) = prepared(args)?;
        return answer(args, json, &located, &mut settings.generator(&located.folder)?);
    };
    ranks.draw(&|| prepared(args), &mut |located, generator| answer(args, json, located, generator))
}

fn prepared(args: &GenerateArgs) -> Result<(Located, engine::Settings), Failure> {
    Ok((model::locate(&args.question.model, None)?, engine::Settings::of_device(&args.device)?))
}

fn answer(args: &GenerateArgs, json: bool, located: &Located, generator: &mut dyn Generator) -> Result<(), Failure> {
    let card = generator.load(&located.folder).map_err(engine::failure)?;
    let sampling = Sampling {
        temperature: if args.greedy { 0.0 } else { args.temperature },
        top_p: args.top_p,
        top_k: args.top_k,
        min_p: args.min_p,
        max_tokens: args.max_tokens.min(card.context),
        stop: args.stop.clone(),
    };
    let draws = (0..args.count)
        .map(|draw| GenerationDraw { seed: args.seed.wrapping_add(u64::from(draw)), sampling: sampling.clone(), draw })
        .collect();
    let request = GenerationRequest { id: "prompt".into(), messages: args.question.messages(), draws };
    let answers = generator.generate(&[request], &Guides::default(), &interrupt::Quiet).map_err(engine::failure)?;
    let answers = answers.into_iter().next().unwrap_or_default();
    if json {
        println!("{}", json!({ "model": located.folder, "revision": located.revision, "answers": answers }));
    } else {
        for (number, answer) in answers.iter().enumerate() {
            if answers.len() > 1 {
                println!("[{}]", number + 1);
            }
            println!("{}", answer.text);
        }
    }
    Ok(())
}
