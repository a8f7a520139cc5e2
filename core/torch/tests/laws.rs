//! Laws of the forward pass, of tokens and of text, as properties.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeMap, path::Path};

use metareward_api::Message;
use metareward_torch::{
    CausalLm, Precision, Prompting, TemplateDate, TextTokenizer,
    chat::ChatTemplate,
    logprobs::{chunked_log_softmax_gather, token_logprobs},
    model::Adapter,
    save::save_model_in_shards,
};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};
use tokenizers::{AddedToken, Tokenizer, models::bpe::BPE, pre_tokenizers::byte_level::ByteLevel};

fn model(name: &str) -> CausalLm {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models").join(name);
    CausalLm::load(&folder, Device::Cpu, Precision::F32).unwrap()
}

fn hidden(model: &CausalLm, tokens: &[i64]) -> Tensor {
    tch::no_grad(|| model.forward_hidden(&Tensor::from_slice(tokens).unsqueeze(0)).unwrap()).squeeze_dim(0)
}

fn largest(difference: &Tensor) -> f64 {
    if difference.numel() == 0 { 0.0 } else { difference.abs().max().double_value(&[]) }
}

/// Every byte a token, with merges of ASCII letters, and special tokens.
fn byte_tokenizer() -> TextTokenizer {
    let mut bytes: Vec<String> = ByteLevel::alphabet().into_iter().map(|byte| byte.to_string()).collect();
    bytes.sort();
    bytes.extend(["th", "the", "ĊĊ", "Ġa"].map(str::to_owned));
    let vocabulary: Vec<(String, u32)> = bytes.into_iter().zip(0..).collect();
    let vocabulary: [(String, u32); 260] = vocabulary.try_into().unwrap();
    let merges = [("t", "h"), ("th", "e"), ("Ċ", "Ċ"), ("Ġ", "a")];
    let merges = merges.map(|(left, right)| (left.to_owned(), right.to_owned())).to_vec();
    let mut tokenizer = Tokenizer::new(BPE::builder().vocab_and_merges(vocabulary, merges).build().unwrap());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, false)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    tokenizer.add_special_tokens(["<bos>", "<turn>"].map(|text| AddedToken::from(text, true))).unwrap();
    TextTokenizer::new(tokenizer).unwrap()
}

fn prompting() -> Prompting {
    let special = [("bos_token".to_owned(), "<bos>".to_owned())].into();
    let source = "{{ bos_token }}{% for m in messages %}{{ m.role }}:\n{{ m.content | trim }}<turn>{% endfor %}\
                  {% if add_generation_prompt %}assistant:\n{% endif %}";
    let template = ChatTemplate::new(source, special, TemplateDate::default()).unwrap();
    Prompting::new(byte_tokenizer(), template, &[], 300).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is trained on decodes to the model's words, whatever they are, and ends in the end-of-turn token.
    #[test]
    fn completions_are_word_for_word(question in "\\PC{0,20}", words in "[\\PC\n\t ]{0,40}") {
        prop_assume!(!words.contains("<turn>") && !words.contains("<bos>"));
        let prompting = prompting();
        let messages = [Message::user(question)];
        let completed = prompting.complete(&messages, &words).unwrap();
        let (end, said) = completed.completion.split_last().unwrap();
        prop_assert_eq!(prompting.tokenizer().token_text(*end), "<turn>");
        prop_assert_eq!(prompting.end_ids(), [*end]);
        prop_assert_eq!(prompting.tokenizer().decode(said).unwrap(), words);
        prop_assert_eq!(completed.prompt, prompting.prompt(&messages).unwrap().ids);
    }

    /// `tojson` writes JSON that reads back as what went in.
    #[test]
    fn json_in_templates_reads_back(content in any::<String>(), indent in proptest::option::of(0..5_usize)) {
        let option = indent.map(|indent| format!("(indent={indent})")).unwrap_or_default();
        let source = format!("{{{{ messages | tojson{option} }}}}");
        let template = ChatTemplate::new(&source, BTreeMap::new(), TemplateDate::default()).unwrap();
        let messages = vec![Message::user(content), Message::assistant("")];
        let text = template.render(&messages, false).unwrap();
        prop_assert_eq!(serde_json::from_str::<Vec<Message>>(&text).unwrap(), messages);
    }

    /// A day reads back as it is written, and no other text is a day.
    #[test]
    fn days_read_back(year in 1..=9999_u16, month in 0..=13_u8, day in 0..=32_u8) {
        let text = format!("{year:04}-{month:02}-{day:02}");
        if let Ok(date) = text.parse::<TemplateDate>() {
            prop_assert_eq!(date.to_string(), text);
        } else {
            prop_assert!(month == 0 || month > 12 || day == 0 || day > 28);
        }
    }

    /// Probabilities of all tokens add up to one, and no hidden state is needed to know it.
    #[test]
    fn probabilities_add_up_to_one(seed in any::<i64>(), width in 1..8_i64, vocabulary in 1..200_i64, scale in 0.0..30.0) {
        tch::manual_seed(seed);
        let options = (Kind::Float, Device::Cpu);
        let hidden: Tensor = Tensor::randn([1, width], options) * scale;
        let head = Tensor::randn([vocabulary, width], options);
        let targets = Tensor::arange(vocabulary, (Kind::Int64, Device::Cpu));
        let logprobs = chunked_log_softmax_gather(&hidden.repeat([vocabulary, 1]), &head, &targets).unwrap();
        let sum = logprobs.to_kind(Kind::Double).exp().sum(None).double_value(&[]);
        // Every probability is made of logits of its own, sums of `width` terms in f32, and of a sum over the vocabulary.
        let size = hidden.abs().matmul(&head.abs().transpose(0, 1)).max().double_value(&[]);
        let units = 2.0 * width as f64 * size + 4.0 * size + vocabulary as f64 + 10.0;
        prop_assert!((sum - 1.0).abs() <= units / f64::from(1 << 24), "{}", sum);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    /// What comes later changes no bit of what is before it.
    #[test]
    fn attention_is_causal(tokens in proptest::collection::vec(0..150_i64, 2..40), cut in any::<prop::sample::Index>()) {
        for name in ["llama-untied", "mistral-window", "qwen3-norms"] {
            let model = model(name);
            let cut = cut.index(tokens.len());
            let mut other = tokens.clone();
            other[cut..].iter_mut().for_each(|token| *token = (*token + 7) % 150);
            let (a, b) = (hidden(&model, &tokens), hidden(&model, &other));
            let length = cut as i64;
            prop_assert_eq!(largest(&(a.narrow(0, 0, length) - b.narrow(0, 0, length))), 0.0, "{}", name);
            prop_assert!(largest(&(a.get(length) - b.get(length))) > 0.0, "{}", name);
        }
    }

    /// Two layers with a window of 8 see 14 tokens back and not 15.
    #[test]
    fn windows_end_where_they_should(tokens in proptest::collection::vec(0..150_i64, 30..40), place in 0..10_usize) {
        let model = model("mistral-window");
        let mut other = tokens.clone();
        other[place] = (other[place] + 7) % 150;
        let difference = hidden(&model, &tokens) - hidden(&model, &other);
        let place = place as i64;
        prop_assert!(largest(&difference.get(place + 14)) > 0.0);
        prop_assert_eq!(largest(&difference.narrow(0, place + 15, tokens.len() as i64 - place - 15)), 0.0);
    }

    /// Attention depends on how far apart two tokens are, not on where they are.
    #[test]
    fn positions_are_relative(tokens in proptest::collection::vec(0..150_i64, 1..20), shift in 0..200_i64) {
        for name in ["llama-tied-llama3rope", "qwen2-biases"] {
            let model = model(name);
            let tokens = Tensor::from_slice(&tokens).unsqueeze(0);
            let at = |shift: i64| {
                tch::no_grad(|| {
                    let positions = Tensor::arange(tokens.size()[1], (Kind::Int64, Device::Cpu)) + shift;
                    let rope = model.rope(&positions).unwrap();
                    let hidden = model.embed(&tokens).unwrap();
                    model.layer_forward(0, &hidden, &rope, metareward_torch::model::Attention::Causal).unwrap()
                })
            };
            prop_assert!(largest(&(at(0) - at(shift))) < 1e-4, "{}", name);
        }
    }

    /// An adapter is the same as its product added to the weight, for every linear layer.
    #[test]
    fn an_adapter_is_an_added_weight(seed in any::<i64>(), scale in -2.0..2.0_f64, rank in 1..5_i64) {
        tch::manual_seed(seed);
        let tokens = [1, 20, 30, 40, 50];
        let names = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
            "mlp.up_proj", "mlp.down_proj"];
        for name in names.map(|name| format!("model.layers.1.{name}")) {
            let mut adapted = model("llama-tied-llama3rope");
            let weight = adapted.weights().tensors()[&format!("{name}.weight")].shallow_clone();
            let (rows, columns) = weight.size2().unwrap();
            let options = (Kind::Float, Device::Cpu);
            let a: Tensor = Tensor::randn([rank, columns], options) * 0.1;
            let b: Tensor = Tensor::randn([rows, rank], options) * 0.1;
            let merged = [(format!("{name}.weight"), weight + b.matmul(&a) * scale)].into();
            let merged = adapted.with(&merged).unwrap();
            adapted.linear_mut(&name).unwrap().adapter = Some(Adapter { a, b, scale });
            prop_assert!(largest(&(hidden(&adapted, &tokens) - hidden(&merged, &tokens))) < 1e-3, "{}", name);
            // A shared handle has the adapter too.
            let shared = adapted.share().unwrap();
            prop_assert_eq!(largest(&(hidden(&adapted, &tokens) - hidden(&shared, &tokens))), 0.0);
        }
    }

    /// However many files it becomes, the same tensors come back.
    #[test]
    fn any_number_of_files_holds_the_model(shard_bytes in 0..200_000_u64) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models/qwen2-biases");
        let model = model("qwen2-biases");
        let folder = tempfile::tempdir().unwrap();
        save_model_in_shards(&source, folder.path(), model.weights().tensors(), Precision::F32, shard_bytes).unwrap();
        let again = CausalLm::load(folder.path(), Device::Cpu, Precision::F32).unwrap();
        prop_assert_eq!(again.weights().tensors().len(), model.weights().tensors().len());
        for (name, tensor) in model.weights().tensors() {
            prop_assert!(tensor.equal(&again.weights().tensors()[name]), "{}", name);
        }
    }
}

/// The chain rule of probability: a completion's tokens score the same when some of them are moved into the prompt.
#[test]
fn a_completion_can_be_scored_in_parts() {
    let model = model("qwen3-norms");
    let tokens: Vec<i64> = (0..30).map(|index| (index * 37 + 11) % 150).collect();
    let whole = token_logprobs(&model, &tokens[..10], &tokens[10..]).unwrap();
    let rest = token_logprobs(&model, &tokens[..20], &tokens[20..]).unwrap();
    assert_eq!(whole.len(), 20);
    for (a, b) in whole[10..].iter().zip(&rest) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
    assert!(token_logprobs(&model, &tokens[..1], &[]).unwrap().is_empty());
    let error = token_logprobs(&model, &[], &tokens).unwrap_err().to_string();
    assert_eq!(error, "a completion needs at least one token before it");
    let error = token_logprobs(&model, &vec![1; 250], &tokens).unwrap_err().to_string();
    assert_eq!(error, "prompt and completion have 280 tokens, more than the model's context of 256");
}

/// Gradients reach every weight, through the tied matrix from both of its uses.
#[test]
fn gradients_reach_every_weight() {
    for name in ["llama-tied-llama3rope", "llama-untied", "mistral-window", "qwen2-biases", "qwen3-norms"] {
        let loaded = model(name);
        let trainable: BTreeMap<String, Tensor> = loaded
            .weights()
            .tensors()
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.copy().set_requires_grad(true)))
            .collect();
        let model = loaded.with(&trainable).unwrap();
        let tokens = Tensor::arange(24, (Kind::Int64, Device::Cpu)).view([2, 12]);
        let hidden = model.forward_hidden(&tokens).unwrap().reshape([24, -1]);
        let targets = tokens.reshape([24]);
        let loss = -chunked_log_softmax_gather(&hidden, model.lm_head().unwrap(), &targets).unwrap().mean(None);
        loss.backward();
        for (tensor_name, tensor) in &trainable {
            let gradient = tensor.grad();
            assert!(gradient.defined(), "{name}: {tensor_name}");
            let norm = gradient.norm().double_value(&[]);
            assert!(norm.is_finite() && norm > 0.0, "{name}: {tensor_name}: {norm}");
        }
    }
}
