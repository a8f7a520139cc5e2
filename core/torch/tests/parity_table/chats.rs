//! Chat templates: texts and token ids of conversations, and where TRL's trainer sees prompt, chosen and rejected begin and end.

use std::{fs, path::Path};

use metareward_api::Message;
use metareward_torch::{
    Prompting, TemplateDate, TextTokenizer,
    chat::ChatTemplate,
    marked::{MarkedPair, MarkedToken, Part},
};
use serde_json::Value;

use crate::{
    models::{fixture, json, version},
    row::Row,
};

/// CRC-32 as zlib computes it.
fn crc32(bytes: &[u8]) -> u64 {
    u64::from(!bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 })
    }))
}

fn ids(value: &Value) -> Vec<i64> {
    serde_json::from_value(value.clone()).unwrap()
}

fn messages(value: &Value) -> Vec<Message> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Rows of texts, ids and pairs; none where the templates are not there.
pub fn rows() -> Vec<Row> {
    let document = json("parity/chats.json");
    let date: TemplateDate = document["date"].as_str().unwrap().parse().unwrap();
    let tokenizer = TextTokenizer::read(&fixture("parity/chat-tokenizer")).unwrap();
    let special = [("bos_token", "<bos>"), ("eos_token", "<eos>"), ("pad_token", "<pad>")]
        .map(|(name, text)| (name.to_owned(), text.to_owned()));
    let [transformers, jinja, trl] = ["transformers", "jinja2", "trl"].map(|library| version(&document, library));
    let mut texts = Row::new("chat templates: texts", format!("{jinja} in {transformers}"), "texts that differ", 0.0);
    let mut tokens =
        Row::new("chat templates: token ids", format!("{transformers}, apply_chat_template"), "lists that differ", 0.0);
    let mut once = Row::new(
        "chat templates: <bos> once, or never where the template has none",
        &transformers,
        "prompts that differ",
        0.0,
    );
    let mut pairs = Row::new(
        "pairs: prompt and completion ids up to the end of the turn",
        format!("{trl}, DPOTrainer"),
        "lists that differ",
        0.0,
    );
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/chat_templates");
    for case in document["templates"].as_array().unwrap() {
        let name = case["template"].as_str().unwrap();
        let source = match fs::read_to_string(shared.join(name)) {
            Ok(source) if crc32(source.as_bytes()) == case["crc32"].as_u64().unwrap() => source,
            Ok(_) => {
                println!("skipped {name}: it is not the file that the fixture was made with");
                continue;
            }
            Err(_) => {
                println!("skipped {name}: ../shared/data/chat_templates is not there");
                continue;
            }
        };
        let template = ChatTemplate::new(&source, special.clone().into(), date).unwrap();
        for entry in case["conversations"].as_array().unwrap() {
            let chat = entry["chat"].as_str().unwrap();
            let add = entry["add_generation_prompt"].as_bool().unwrap();
            let at = format!("{name}, {chat}, {add}");
            let ours = template.render(&messages(&document["chats"][chat]), add);
            if let Some(theirs) = entry["error"].as_str() {
                texts.equal(&at, ours.is_err_and(|error| error.to_string().contains(theirs)));
                continue;
            }
            let ours = ours.unwrap_or_else(|error| panic!("{at}: {error}"));
            let length = entry["characters"].as_u64().unwrap();
            let equal =
                ours.chars().count() as u64 == length && crc32(ours.as_bytes()) == entry["crc32"].as_u64().unwrap();
            texts.equal(&at, equal);
            let found = tokenizer.encode(&ours).unwrap();
            let joined = found.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
            let count = entry["ids"]["count"].as_u64().unwrap();
            let equal =
                found.len() as u64 == count && crc32(joined.as_bytes()) == entry["ids"]["crc32"].as_u64().unwrap();
            tokens.equal(&at, equal);
            if chat != "special tokens in a text" {
                let bos = found.iter().filter(|id| **id == 1).count();
                let written = usize::from(source.contains("bos_token"));
                once.equal(&at, bos == written && entry["bos"] == written);
            }
        }
        let prompting = Prompting::new(tokenizer.clone(), template, &[], 1000).unwrap();
        for pair in case["pairs"].as_array().unwrap() {
            let completion = |side: &str| pair[side][0]["content"].as_str().unwrap();
            let before = messages(&pair["prompt"]);
            let ours =
                MarkedPair::new(&prompting, &before, completion("chosen"), completion("rejected"), None).unwrap();
            let at = format!("{name}, {:?}", completion("chosen"));
            let found = |tokens: &[MarkedToken]| tokens.iter().map(|token| token.id).collect::<Vec<_>>();
            pairs.equal(&at, found(&ours.prompt) == ids(&pair["prompt_ids"]));
            pairs.equal(&at, found(&ours.chosen) == answer(&tokenizer, name, &ids(&pair["chosen_ids"])));
            pairs.equal(&at, found(&ours.rejected) == answer(&tokenizer, name, &ids(&pair["rejected_ids"])));
            assert!(ours.prompt.iter().all(|token| !token.trained && token.part == Part::Prompt));
            for (tokens, part) in [(&ours.chosen, Part::Chosen), (&ours.rejected, Part::Rejected)] {
                let (end, words) = tokens.split_last().unwrap();
                assert!(end.trained && end.part == Part::End);
                assert!(words.iter().all(|token| token.trained && token.part == part));
            }
        }
    }
    let rows = vec![texts, tokens, once, pairs];
    if shared.is_dir() { rows } else { Vec::new() }
}

/// What is the model's own of TRL's completion: TRL's ends where the rendered conversation ends, so it holds what the template
/// writes after the token that ends the turn, and before the first word.
fn answer(tokenizer: &TextTokenizer, template: &str, theirs: &[i64]) -> Vec<i64> {
    let (before, end, after) = match template {
        "gemma.jinja" => ("", "<end_of_turn>", "\n"),
        "phi3.jinja" => ("", "<|end|>", "\n<eos>"),
        "qwen2_5.jinja" => ("", "<|im_end|>", "\n"),
        "qwen3.jinja" => ("<think>\n\n</think>\n\n", "<|im_end|>", "\n"),
        _ => ("", "<|eot_id|>", ""),
    };
    let text = |ids: &[i64]| ids.iter().map(|id| tokenizer.token_text(*id)).collect::<String>();
    let at = theirs.iter().position(|id| Some(*id) == tokenizer.id(end)).unwrap();
    assert_eq!(text(&theirs[at + 1..]), after, "{template}");
    let start = tokenizer.encode(before).unwrap();
    theirs[..=at].strip_prefix(start.as_slice()).unwrap().to_vec()
}
