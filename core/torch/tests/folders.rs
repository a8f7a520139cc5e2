//! Model folders that cannot be used: each is refused with the name of what is wrong, before anything is computed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, path::Path};

use metareward_torch::{CausalLm, Precision, Prompting, TemplateDate, config::ModelConfig, inspect};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

/// A copy of a good folder.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models/llama-tied-llama3rope");
    for entry in fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

/// What `inspect` and `load` say, without the folder's name; they must say the same.
fn refusal(folder: &TempDir) -> String {
    let start = format!("model folder {}: ", folder.path().display());
    let inspected = inspect(folder.path(), Precision::F32).unwrap_err().to_string();
    let loaded = CausalLm::load(folder.path(), Device::Cpu, Precision::F32).unwrap_err().to_string();
    assert_eq!(inspected, loaded);
    inspected.strip_prefix(&start).unwrap_or_else(|| panic!("{inspected}")).to_owned()
}

fn change_config(folder: &TempDir, key: &str, value: Value) {
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    match value {
        Value::Null => config.as_object_mut().unwrap().remove(key),
        value => config.as_object_mut().unwrap().insert(key.to_owned(), value),
    };
    fs::write(path, config.to_string()).unwrap();
}

fn change_tensors(folder: &TempDir, change: impl FnOnce(&mut Vec<(String, Tensor)>)) {
    let path = folder.path().join("model.safetensors");
    let mut tensors: Vec<_> = Tensor::read_safetensors(&path).unwrap();
    change(&mut tensors);
    fs::remove_file(&path).unwrap();
    Tensor::write_safetensors(&tensors, &path).unwrap();
}

#[test]
fn the_copy_itself_is_good() {
    inspect(folder().path(), Precision::F32).unwrap();
}

#[test]
fn files_are_missing() {
    let nowhere = Path::new("no-such-folder");
    assert_eq!(
        inspect(nowhere, Precision::F32).unwrap_err().to_string(),
        "model folder no-such-folder: there is no such folder"
    );
    let f = folder();
    fs::remove_file(f.path().join("config.json")).unwrap();
    assert_eq!(refusal(&f), "config.json is missing: is this a Hugging Face model folder?");

    let f = folder();
    fs::remove_file(f.path().join("model.safetensors")).unwrap();
    assert_eq!(refusal(&f), "there is neither model.safetensors nor model.safetensors.index.json");
    fs::write(f.path().join("pytorch_model.bin"), b"").unwrap();
    assert_eq!(
        refusal(&f),
        "there is neither model.safetensors nor model.safetensors.index.json; pytorch_model.bin is not read: save the \
         model again as safetensors"
    );
    fs::write(f.path().join("model.safetensors.index.json"), r#"{"weight_map": {"a": "model-1.safetensors"}}"#)
        .unwrap();
    assert_eq!(refusal(&f), "model-1.safetensors is missing, which model.safetensors.index.json names");
    fs::write(f.path().join("model.safetensors.index.json"), r#"{"weight_map": {"a": "../x"}}"#).unwrap();
    assert_eq!(refusal(&f), "model.safetensors.index.json: a is in \"../x\": not a file name");

    let f = folder();
    fs::remove_file(f.path().join("tokenizer.json")).unwrap();
    let error = inspect(f.path(), Precision::F32).unwrap_err().to_string();
    assert!(error.ends_with(": tokenizer.json is missing"), "{error}");
}

#[test]
fn the_configuration_does_not_fit() {
    let refused = |key: &str, value: Value| {
        let f = folder();
        change_config(&f, key, value);
        refusal(&f)
    };
    assert_eq!(
        refused("architectures", json!(["GPT2LMHeadModel"])),
        "config.json: architecture GPT2LMHeadModel is not known; known are LlamaForCausalLM, MistralForCausalLM, \
         Qwen2ForCausalLM, Qwen3ForCausalLM"
    );
    assert!(refused("architectures", Value::Null).starts_with("config.json: architectures is missing"));
    assert_eq!(refused("hidden_size", Value::Null), "config.json: hidden_size is missing");
    assert_eq!(refused("vocab_size", json!(-3)), "config.json: vocab_size is -3; it must be a whole number above 0");
    assert_eq!(
        refused("hidden_size", json!(1_u64 << 40)),
        "config.json: hidden_size is 1099511627776: no model is that large"
    );
    assert_eq!(
        refused("num_hidden_layers", json!(20_000)),
        "config.json: num_hidden_layers is 20000: no model is that large"
    );
    assert_eq!(
        refused("num_key_value_heads", json!(3)),
        "config.json: num_attention_heads (4) is not a multiple of num_key_value_heads (3)"
    );
    assert_eq!(refused("head_dim", json!(7)), "config.json: head_dim is 7, an odd number: rotary positions need pairs");
    assert_eq!(
        refused("rope_scaling", json!({ "rope_type": "longrope" })),
        "config.json: rope scaling \"longrope\" is not known; known are default, dynamic, linear, llama3, yarn"
    );
    assert_eq!(
        refused("rope_scaling", json!({ "rope_type": "linear" })),
        "config.json: rope scaling needs factor, a number above 0"
    );
    assert_eq!(refused("hidden_act", json!("gelu")), "config.json: hidden_act is \"gelu\"; only \"silu\" is known");
    assert!(refused("quantization_config", json!({ "quant_method": "gptq" })).contains("quantised weights (gptq)"));
    let f = folder();
    fs::write(f.path().join("config.json"), "{\n \"hidden_size\": ,").unwrap();
    assert_eq!(refusal(&f), "config.json: expected value at line 2 column 17");
}

#[test]
fn tensors_do_not_fit() {
    let f = folder();
    change_tensors(&f, |tensors| tensors.retain(|(name, _)| name != "model.layers.1.mlp.up_proj.weight"));
    assert_eq!(refusal(&f), "tensor model.layers.1.mlp.up_proj.weight is missing");

    let f = folder();
    change_config(&f, "intermediate_size", json!(40));
    assert_eq!(
        refusal(&f),
        "tensor model.layers.0.mlp.gate_proj.weight in model.safetensors has shape [48, 32]; config.json asks for [40, 32]"
    );

    let f = folder();
    change_config(&f, "tie_word_embeddings", json!(false));
    assert_eq!(refusal(&f), "tensor lm_head.weight is missing");

    let f = folder();
    change_config(&f, "num_hidden_layers", json!(1));
    assert_eq!(
        refusal(&f),
        "tensor model.layers.1.input_layernorm.weight in model.safetensors is not a part of the model in config.json"
    );

    let f = folder();
    change_tensors(&f, |tensors| {
        for (name, tensor) in tensors {
            if name == "model.norm.weight" {
                *tensor = tensor.to_kind(Kind::Int64);
            }
        }
    });
    assert_eq!(refusal(&f), "tensor model.norm.weight in model.safetensors holds I64; F32, F16 and BF16 are read");
}

#[test]
fn a_file_is_cut_short_or_is_something_else() {
    let path = |f: &TempDir| f.path().join("model.safetensors");
    let whole = fs::read(path(&folder())).unwrap();
    // In the length, in the header, in the tensors, one byte before the end.
    for length in [0, 4, 100, whole.len() / 2, whole.len() - 1] {
        let f = folder();
        fs::write(path(&f), &whole[..length]).unwrap();
        assert_eq!(
            refusal(&f),
            format!("model.safetensors is cut short, or is not a safetensors file ({length} bytes)")
        );
    }
    let f = folder();
    fs::write(path(&f), [&8_u64.to_le_bytes()[..], b"{\"a\": 1}"].concat()).unwrap();
    let message = refusal(&f);
    assert!(message.starts_with("model.safetensors is not a valid safetensors file: "), "{message}");
}

#[test]
fn other_number_formats_are_converted() {
    for kind in [Kind::Half, Kind::BFloat16] {
        let f = folder();
        let before = CausalLm::load(f.path(), Device::Cpu, Precision::F32).unwrap();
        change_tensors(&f, |tensors| tensors.iter_mut().for_each(|(_, tensor)| *tensor = tensor.to_kind(kind)));
        let after = CausalLm::load(f.path(), Device::Cpu, Precision::F32).unwrap();
        for (name, tensor) in before.weights().tensors() {
            assert!(tensor.to_kind(kind).to_kind(Kind::Float).equal(&after.weights().tensors()[name]), "{name}");
        }
    }
}

#[test]
fn weights_that_are_not_aligned_are_copied() {
    let f = folder();
    let before = CausalLm::load(f.path(), Device::Cpu, Precision::F32).unwrap();
    let path = f.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let header = &bytes[8..8 + usize::try_from(length).unwrap()];
    // One space more at the end of the header puts every tensor at an odd address.
    let moved = [&(length + 1).to_le_bytes()[..], header, b" ", &bytes[8 + header.len()..]].concat();
    let temporary = f.path().join("moved");
    fs::write(&temporary, moved).unwrap();
    fs::rename(temporary, path).unwrap();
    let after = CausalLm::load(f.path(), Device::Cpu, Precision::F32).unwrap();
    for (name, tensor) in before.weights().tensors() {
        assert!(tensor.equal(&after.weights().tensors()[name]), "{name}");
    }
}

#[test]
fn tokenizer_and_template_do_not_fit() {
    let read = |f: &TempDir| {
        let config = ModelConfig::read(f.path()).unwrap();
        let error = Prompting::read(f.path(), &config, TemplateDate::default()).unwrap_err().to_string();
        error.strip_prefix(&format!("model folder {}: ", f.path().display())).unwrap().to_owned()
    };
    let f = folder();
    fs::remove_file(f.path().join("chat_template.jinja")).unwrap();
    assert_eq!(
        read(&f),
        "there is no chat template: add chat_template.jinja, or chat_template in tokenizer_config.json (a base model has \
         none; its instruct variant does)"
    );
    fs::write(f.path().join("chat_template.jinja"), "{% endfor %}").unwrap();
    assert!(read(&f).starts_with("the chat template does not compile: "), "{}", read(&f));

    let f = folder();
    fs::write(f.path().join("tokenizer.json"), "{}").unwrap();
    assert!(read(&f).starts_with("tokenizer.json: "), "{}", read(&f));
}

#[test]
fn a_template_in_the_tokenizers_configuration_is_found() {
    use metareward_api::Message;

    let f = folder();
    let path = f.path().join("tokenizer_config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    fs::remove_file(f.path().join("chat_template.jinja")).unwrap();
    config["bos_token"] = json!({ "content": "<|begin|>", "lstrip": false });
    let templates = [
        json!("{{ bos_token }}A"),
        json!([{ "name": "tool_use", "template": "T" }, { "name": "default", "template": "{{ bos_token }}A" }]),
    ];
    for template in templates {
        config["chat_template"] = template;
        fs::write(&path, config.to_string()).unwrap();
        let model = ModelConfig::read(f.path()).unwrap();
        let prompting = Prompting::read(f.path(), &model, TemplateDate::default()).unwrap();
        let messages = [Message::user("Hi")];
        let prompted = prompting.prompt(&messages).unwrap();
        assert_eq!(prompted.text, "<|begin|>A");
        // The beginning-of-text token once: from the template, not from the tokenizer too.
        assert_eq!(prompted.ids[0], 1);
        assert_eq!(prompted.ids.iter().filter(|id| **id == 1).count(), 1);
        // Such a template shows no turn, so it says nothing of completions.
        let error = prompting.complete(&messages, "B").unwrap_err().to_string();
        assert_eq!(error, "the chat template leaves out the model's words: it renders its turn as \"\"");
    }

    // A tokenizer with more tokens than the model has embeddings.
    let f = folder();
    let model = ModelConfig::read(f.path()).unwrap();
    let smaller = ModelConfig { vocabulary: 50, ..model };
    let prompting = Prompting::read(f.path(), &smaller, TemplateDate::default()).unwrap();
    let error = prompting.prompt(&[Message::user("zzz")]).unwrap_err().to_string();
    assert!(error.contains("but the model knows only 50 tokens"), "{error}");
}

#[test]
fn weights_are_windows_into_the_file() {
    let f = folder();
    let path = f.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let offset = |name: &str| header[name]["data_offsets"][0].as_u64().unwrap();
    let model = CausalLm::load(f.path(), Device::Cpu, Precision::F32).unwrap();
    let tensors = model.weights().tensors();
    let address = |name: &str| tensors[name].data_ptr().addr() as u64;
    let first = "model.embed_tokens.weight";
    for name in tensors.keys() {
        assert_eq!(
            i128::from(address(name)) - i128::from(address(first)),
            i128::from(offset(name)) - i128::from(offset(first)),
            "{name}"
        );
    }
    // Updating a weight in place leaves the file as it was.
    let _ = tch::no_grad(|| tensors[first].shallow_clone().fill_(7.0));
    assert_eq!(tensors[first].double_value(&[0, 0]), 7.0);
    assert_eq!(fs::read(&path).unwrap(), bytes);
}
