//! Chat templates, rendered as transformers renders them with jinja2. `fixtures/make.py` made the expected texts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeMap, fs, path::Path};

use metareward_api::Message;
use metareward_torch::{TemplateDate, chat::ChatTemplate};
use serde_json::Value;

fn special() -> BTreeMap<String, String> {
    [("bos_token", "<bos>"), ("eos_token", "<eos>")].map(|(name, text)| (name.to_owned(), text.to_owned())).into()
}

/// CRC-32 as zlib computes it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}

#[test]
fn conversations_render_as_in_transformers() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fixture: Value = serde_json::from_str(&fs::read_to_string(here.join("fixtures/chats.json")).unwrap()).unwrap();
    let date: TemplateDate = fixture["date"].as_str().unwrap().parse().unwrap();
    assert_eq!(date, TemplateDate::default());
    let shared = here.join("../../../shared/data/chat_templates");
    let (mut compared, mut wrong) = (0, Vec::new());
    for case in fixture["templates"].as_array().unwrap() {
        let name = case["template"].as_str().unwrap();
        let source = match case["source"].as_str() {
            Some(source) => source.to_owned(),
            None => match fs::read_to_string(shared.join(name)) {
                Ok(source) if u64::from(crc32(source.as_bytes())) == case["crc32"].as_u64().unwrap() => source,
                Ok(_) => {
                    println!("skipped {name}: it is not the file that the fixture was made with");
                    continue;
                }
                Err(_) => {
                    println!("skipped {name}: ../shared/data/chat_templates is not there");
                    continue;
                }
            },
        };
        let template = ChatTemplate::new(&source, special(), date).unwrap_or_else(|error| panic!("{name}: {error}"));
        for entry in case["rendered"].as_array().unwrap() {
            let chat = entry["chat"].as_str().unwrap();
            let add = entry["add_generation_prompt"].as_bool().unwrap();
            let messages: Vec<Message> = serde_json::from_value(fixture["chats"][chat].clone()).unwrap();
            let ours = template.render(&messages, add);
            let equal = match (&ours, entry["text"].as_str(), entry["error"].as_str()) {
                (Ok(ours), Some(theirs), _) => ours == theirs,
                (Err(ours), _, Some(theirs)) => ours.to_string().contains(theirs),
                _ => false,
            };
            compared += 1;
            if !equal {
                wrong.push(format!("{name}, {chat}, {add}:\n  ours   {ours:?}\n  theirs {entry}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong.join("\n"));
    println!("{compared} conversations compared");
}

#[test]
fn every_template_says_how_a_turn_ends() {
    use metareward_torch::{Prompting, TextTokenizer};
    use tokenizers::{AddedToken, Tokenizer, models::bpe::BPE, pre_tokenizers::byte_level::ByteLevel};

    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/chat_templates");
    let expected = [
        ("gemma.jinja", "<end_of_turn>"),
        ("llama3.jinja", "<|eot_id|>"),
        ("llama3_1.jinja", "<|eot_id|>"),
        ("llama3_2.jinja", "<|eot_id|>"),
        ("phi3.jinja", "<|end|>"),
        ("qwen2_5.jinja", "<|im_end|>"),
        ("qwen3.jinja", "<|im_end|>"),
    ];
    for (name, end) in expected {
        let Ok(source) = fs::read_to_string(shared.join(name)) else {
            println!("skipped {name}: ../shared/data/chat_templates is not there");
            continue;
        };
        // Bytes as tokens, and the special tokens of all these families.
        let vocabulary = ByteLevel::alphabet().into_iter().map(|byte| byte.to_string());
        let mut vocabulary: Vec<String> = vocabulary.collect();
        vocabulary.sort();
        let vocabulary: Vec<(String, u32)> = vocabulary.into_iter().zip(0..).collect();
        let vocabulary: [(String, u32); 256] = vocabulary.try_into().unwrap();
        let bpe = BPE::builder().vocab_and_merges(vocabulary, Vec::new()).build().unwrap();
        let mut tokenizer = Tokenizer::new(bpe);
        tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
        tokenizer.with_decoder(Some(ByteLevel::default()));
        let special_tokens = ["<bos>", "<eos>", "<end_of_turn>", "<|eot_id|>", "<|end|>", "<|im_end|>", "<|im_start|>"];
        tokenizer.add_special_tokens(special_tokens.map(|text| AddedToken::from(text, true))).unwrap();
        let tokenizer = TextTokenizer::new(tokenizer).unwrap();
        let template = ChatTemplate::new(&source, special(), TemplateDate::default()).unwrap();
        let eos = tokenizer.id("<eos>").unwrap();
        let prompting = Prompting::new(tokenizer, template, &[eos], 300).unwrap();

        let messages = [Message::user("Why?")];
        let words = " <think>\nHm.\n</think>\n\nBecause.\n\n";
        let completed = prompting.complete(&messages, words).unwrap();
        let (last, said) = completed.completion.split_last().unwrap();
        assert_eq!(prompting.tokenizer().token_text(*last), end, "{name}");
        assert!(prompting.end_ids().contains(last));
        assert_eq!(prompting.tokenizer().decode(said).unwrap(), words, "{name}: word for word");
        assert_eq!(completed.prompt, prompting.prompt(&messages).unwrap().ids);
    }
}

#[test]
fn templates_that_do_not_work_say_why() {
    let new = |source: &str| ChatTemplate::new(source, special(), TemplateDate::default());
    let message = |error: metareward_torch::TorchError| error.to_string();
    assert_eq!(
        message(new("a\n{% if %}").unwrap_err()),
        "the chat template does not compile: unexpected end of block (line 2)"
    );
    let render = |source: &str| message(new(source).unwrap().render(&[Message::user("Hi")], true).unwrap_err());
    assert_eq!(
        render("\n{{ raise_exception('only questions, please') }}"),
        "the chat template does not render: only questions, please (line 2)"
    );
    assert_eq!(
        render("{{ strftime_now('%Q') }}"),
        "the chat template does not render: strftime_now: %Q is not known (line 1)"
    );
    assert!(render("{{ messages[7].role }}").starts_with("the chat template does not render: "));
    assert_eq!(
        message("2024-02-30".parse::<TemplateDate>().unwrap_err()),
        "\"2024-02-30\" is not a day: write it like 2024-07-26"
    );
}

/// Tokenizers like Llama 2's put a space before a text; after an opened turn there is one only where the template writes
/// one. A model that answers `yes` there has written the token that is trained on.
#[test]
fn completions_begin_as_the_template_says() {
    use metareward_torch::{Prompting, TextTokenizer};
    use tokenizers::{
        AddedToken, Tokenizer,
        models::bpe::BPE,
        pre_tokenizers::metaspace::{Metaspace, PrependScheme},
    };

    let prompting = |source: &str| {
        let pieces = ["▁", "y", "e", "s", "\n", "H", "l", "o", ".", "ye", "yes", "▁yes", "\n\n", "<unk>"];
        let vocabulary: [(String, u32); 14] = std::array::from_fn(|id| (pieces[id].to_owned(), id as u32));
        let merges = [("y", "e"), ("ye", "s"), ("▁", "yes"), ("\n", "\n")];
        let merges = merges.map(|(left, right)| (left.to_owned(), right.to_owned())).to_vec();
        let bpe = BPE::builder().vocab_and_merges(vocabulary, merges).unk_token("<unk>".to_owned()).build().unwrap();
        let mut tokenizer = Tokenizer::new(bpe);
        let space = Metaspace::new('▁', PrependScheme::First, false);
        tokenizer.with_pre_tokenizer(Some(space.clone())).with_decoder(Some(space));
        tokenizer.add_special_tokens(["<s>", "</s>", "[A]"].map(|text| AddedToken::from(text, true))).unwrap();
        let template = ChatTemplate::new(source, special(), TemplateDate::default()).unwrap();
        Prompting::new(TextTokenizer::new(tokenizer).unwrap(), template, &[], 20).unwrap()
    };
    let pieces = |prompting: &Prompting, completion: &str| -> Vec<String> {
        let completed = prompting.complete(&[Message::user("Hello.")], completion).unwrap();
        let inner = prompting.tokenizer().inner();
        completed.completion.iter().map(|id| inner.id_to_token(*id as u32).unwrap()).collect()
    };
    let spaced =
        prompting("<s>{{ messages[0].content }}[A]{% if messages[1] %} {{ messages[1].content }} </s>{% endif %}");
    assert_eq!(pieces(&spaced, "yes"), ["▁yes", "</s>"]);
    let line =
        prompting("<s>{{ messages[0].content }}[A]\n{% if messages[1] %}{{ messages[1].content }}</s>{% endif %}");
    assert_eq!(pieces(&line, "yes"), ["yes", "</s>"]);
    // A completion that begins with a line break would merge with the prompt's; the model could not have written that.
    assert_eq!(pieces(&line, "\nyes"), ["▁", "\n", "yes", "</s>"]);
}

/// Phi 3's special tokens take white space after them along. The model's own white space is its own.
#[test]
fn special_tokens_do_not_swallow_the_models_words() {
    use metareward_torch::{Prompting, TextTokenizer};
    use tokenizers::{AddedToken, Tokenizer, models::bpe::BPE, pre_tokenizers::byte_level::ByteLevel};

    let mut bytes: Vec<String> = ByteLevel::alphabet().into_iter().map(|byte| byte.to_string()).collect();
    bytes.sort();
    let vocabulary: Vec<(String, u32)> = bytes.into_iter().zip(0..).collect();
    let vocabulary: [(String, u32); 256] = vocabulary.try_into().unwrap();
    let mut tokenizer = Tokenizer::new(BPE::builder().vocab_and_merges(vocabulary, Vec::new()).build().unwrap());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    let special = ["<|user|>", "<|assistant|>", "<|end|>"].map(|text| AddedToken::from(text, true).rstrip(true));
    tokenizer.add_special_tokens(special).unwrap();
    let source = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}\
                  {% if add_generation_prompt %}<|assistant|>\n{% endif %}";
    let template = ChatTemplate::new(source, BTreeMap::new(), TemplateDate::default()).unwrap();
    let prompting = Prompting::new(TextTokenizer::new(tokenizer).unwrap(), template, &[], 300).unwrap();
    for words in ["Yes.", " Yes.", "\n\nYes. ", "\t", "", "\u{a0}No"] {
        let completed = prompting.complete(&[Message::user("Why?")], words).unwrap();
        let (end, said) = completed.completion.split_last().unwrap();
        assert_eq!(prompting.tokenizer().decode(said).unwrap(), words, "word for word");
        assert_eq!(prompting.tokenizer().token_text(*end), "<|end|>");
    }
}

#[test]
fn a_template_whose_turns_do_not_continue_is_refused_for_completions() {
    use metareward_torch::Prompting;

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models/llama-untied");
    let tokenizer = metareward_torch::TextTokenizer::read(&folder).unwrap();
    let source = "{% if add_generation_prompt %}ask: {% endif %}{{ messages[-1].content }}";
    let template = ChatTemplate::new(source, special(), TemplateDate::default()).unwrap();
    let prompting = Prompting::new(tokenizer, template, &[4], 150).unwrap();
    let messages = [Message::user("Why?")];
    prompting.prompt(&messages).unwrap();
    assert_eq!(
        prompting.complete(&messages, "So.").unwrap_err().to_string(),
        "the chat template does not render a finished turn as a continuation of the opened one: a prompt ends in \
         \"ask: Hello.\", the finished conversation is \"metareward-probe\""
    );
}
