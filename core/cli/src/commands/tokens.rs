//! `metareward tokens`: a preference pair as the model reads it and the trainer trains on it, token by token.

mod pairs;

use std::{
    fmt::Write as _,
    io::{IsTerminal, stdout},
};

use metareward_torch::{
    Prompting, TemplateDate,
    config::ModelConfig,
    marked::{MarkedPair, MarkedToken, Part},
};
use serde_json::json;

use crate::{args::TokensArgs, engine, failure::Failure, model};

/// Prints every token of one pair with id, text and part; with `--json` one object. No weights are read.
///
/// # Errors
/// When the model folder or the file cannot be used, or the conversation does not fit the chat template.
pub fn run(args: &TokensArgs, json: bool) -> Result<(), Failure> {
    let located = model::locate(&args.model, None)?;
    let config = ModelConfig::read(&located.folder).map_err(engine::torch_failure)?;
    let prompting =
        Prompting::read(&located.folder, &config, TemplateDate::default()).map_err(engine::torch_failure)?;
    let pairs::Read { pair, count } = pairs::read(&args.pair, args.record)?;
    let marked = MarkedPair::new(&prompting, &pair.messages, &pair.chosen, &pair.rejected, args.max_length)
        .map_err(engine::torch_failure)?;
    let trained = trained(&marked);
    if json {
        let value = json!({
            "record": args.record, "records": count, "trained": trained, "prompt": marked.prompt, "chosen": marked.chosen,
            "rejected": marked.rejected, "revision": located.revision,
        });
        println!("{value}");
    } else {
        let colours = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        print!("{}", shown(&marked, args.record, count, colours));
    }
    Ok(())
}

fn trained(pair: &MarkedPair) -> usize {
    pair.chosen.iter().chain(&pair.rejected).filter(|token| token.trained).count()
}

/// The pair as text: a heading, then the three parts with a line per token.
fn shown(pair: &MarkedPair, record: usize, count: usize, colours: bool) -> String {
    let tokens = pair.prompt.len() + pair.chosen.len() + pair.rejected.len();
    let mut text = format!(
        "pair {record} of {count}: {tokens} tokens, prompt {}, chosen {}, rejected {}; trained on {} (marked *)\n",
        pair.prompt.len(),
        pair.chosen.len(),
        pair.rejected.len(),
        trained(pair)
    );
    for (name, tokens) in [("prompt", &pair.prompt), ("chosen", &pair.chosen), ("rejected", &pair.rejected)] {
        // Both completions follow the prompt: their places are counted on from it.
        let start = if name == "prompt" { 0 } else { pair.prompt.len() };
        let _ = writeln!(text, "\n{name}\n{:>6}  {:>8}  {:<9}    text", "place", "id", "part");
        for (place, token) in tokens.iter().enumerate() {
            let _ = writeln!(text, "{}", line(start + place, token, colours));
        }
    }
    text
}

fn line(place: usize, token: &MarkedToken, colours: bool) -> String {
    let part = token.part.name();
    let mark = match token {
        MarkedToken { trained: true, .. } => "*",
        MarkedToken { part: Part::Prompt, .. } => " ",
        // Cut off by the longest sequence.
        _ => "-",
    };
    let line = format!("{place:>6}  {:>8}  {part:<9} {mark}  {:?}", token.id, token.text);
    let colour = match (colours, token.part) {
        (false, _) => return line,
        (true, Part::Prompt) => "2",
        (true, Part::Chosen) => "32",
        (true, Part::Rejected) => "31",
        (true, Part::End) => "36",
    };
    format!("\u{1b}[{colour}m{line}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: i64, text: &str, part: Part, trained: bool) -> MarkedToken {
        MarkedToken { id, text: text.to_owned(), part, trained }
    }

    fn pair() -> MarkedPair {
        MarkedPair {
            prompt: vec![token(1, "<s>", Part::Prompt, false), token(70, "Hi\n", Part::Prompt, false)],
            chosen: vec![token(8, "\u{1b}[31m", Part::Chosen, true), token(2, "</s>", Part::End, true)],
            rejected: vec![token(9, "no", Part::Rejected, true), token(2, "</s>", Part::End, false)],
        }
    }

    #[test]
    fn every_token_has_its_line() {
        let expected = "pair 1 of 3: 6 tokens, prompt 2, chosen 2, rejected 2; trained on 3 (marked *)\n\
                        \n\
                        prompt\n\
                        \x20place        id  part         text\n\
                        \x20    0         1  prompt       \"<s>\"\n\
                        \x20    1        70  prompt       \"Hi\\n\"\n\
                        \n\
                        chosen\n\
                        \x20place        id  part         text\n\
                        \x20    2         8  chosen    *  \"\\u{1b}[31m\"\n\
                        \x20    3         2  end       *  \"</s>\"\n\
                        \n\
                        rejected\n\
                        \x20place        id  part         text\n\
                        \x20    2         9  rejected  *  \"no\"\n\
                        \x20    3         2  end       -  \"</s>\"\n";
        assert_eq!(shown(&pair(), 1, 3, false), expected);
    }

    #[test]
    fn colours_stand_around_lines_and_nowhere_else() {
        let coloured = shown(&pair(), 1, 3, true);
        assert!(coloured.contains("\u{1b}[32m     2         8  chosen    *  \"\\u{1b}[31m\"\u{1b}[0m\n"), "{coloured}");
        assert_eq!(coloured.matches('\u{1b}').count(), 2 * 6);
    }
}
