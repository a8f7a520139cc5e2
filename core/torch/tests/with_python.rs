//! Against transformers itself: run with `METAREWARD_PYTHON` set to a Python that has torch and transformers. Without it
//! these tests say so and pass; what they compare on small models is also in the fixtures.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use metareward_torch::{CausalLm, Precision, save::save_model_in_shards};
use tch::{Device, Kind, Tensor};

/// A command that runs `script`, or `None` with a message where no Python is named.
fn python(script: &str) -> Option<Command> {
    let Some(python) = std::env::var_os("METAREWARD_PYTHON") else {
        println!("skipped: METAREWARD_PYTHON names no Python with torch and transformers");
        return None;
    };
    let mut command = Command::new(python);
    command.args(["-c", script]);
    Some(command)
}

fn run(mut command: Command) {
    let output = command.output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn model_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models").join(name)
}

const LOAD: &str = "
import sys, torch, transformers
from safetensors.torch import load_file
for source, saved in zip(sys.argv[1::2], sys.argv[2::2]):
    expected = load_file(source + '/expected.safetensors')
    model, info = transformers.AutoModelForCausalLM.from_pretrained(saved, dtype='auto', output_loading_info=True)
    assert not any(info.values()), info
    tokenizer = transformers.AutoTokenizer.from_pretrained(saved)
    assert tokenizer.chat_template and tokenizer.eos_token == '<|turn|>'
    assert model.generation_config.eos_token_id == [4, 5]
    wanted = expected['logits_f32' if model.dtype == torch.float32 else 'logits_bf16']
    # Up to the shorter row's end: padded places mean nothing.
    difference = float((model.eval()(input_ids=expected['tokens']).logits - wanted)[:, :23].abs().max())
    print(source.split('/')[-1], model.dtype, difference)
    assert difference <= (1e-5 if model.dtype == torch.float32 else 0.1)
";

#[test]
fn transformers_loads_what_is_saved() {
    let Some(mut command) = python(LOAD) else { return };
    let target = tempfile::tempdir().unwrap();
    for (name, precision, shard_bytes) in [
        ("llama-tied-llama3rope", Precision::F32, u64::MAX),
        ("llama-untied", Precision::F32, 30_000),
        ("mistral-window", Precision::F32, u64::MAX),
        ("qwen2-biases", Precision::F32, 20_000),
        ("qwen3-norms", Precision::Bf16, u64::MAX),
    ] {
        let (source, target) = (model_folder(name), target.path().join(name));
        let model = CausalLm::load(&source, Device::Cpu, precision).unwrap();
        save_model_in_shards(&source, &target, model.weights().tensors(), precision, shard_bytes).unwrap();
        command.arg(source).arg(target);
    }
    run(command);
}

/// Shapes and lengths nearer to real models than the fixtures': long positions, many heads, windows that are passed.
const MAKE: &str = "
import sys, torch, transformers
from safetensors.torch import save_file
common = dict(vocab_size=512, hidden_size=128, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=4096)
llama3 = dict(rope_type='llama3', factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=256)
yarn = dict(rope_type='yarn', factor=4.0, original_max_position_embeddings=1024)
configs = {
    'llama': transformers.LlamaConfig(**common, rope_theta=500000.0, rope_scaling=llama3, tie_word_embeddings=True),
    'mistral': transformers.MistralConfig(**common, sliding_window=150),
    'qwen2': transformers.Qwen2Config(**common, rope_scaling=yarn),
    'qwen3': transformers.Qwen3Config(**common, head_dim=64, rope_theta=1e6),
}
torch.manual_seed(0)
for name, config in configs.items():
    folder = sys.argv[1] + '/' + name
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 1.5 / parameter.shape[-1] ** 0.5)
        model.save_pretrained(folder)
        tokens = torch.randint(0, 512, (2, 500))
        f32 = model(input_ids=tokens).logits
        bf16 = {}
        for attention in ('sdpa', 'eager'):
            half = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation=attention)
            bf16[attention] = half.eval()(input_ids=tokens).logits.float()
    save_file({'tokens': tokens, 'f32': f32, 'bf16': bf16['sdpa'], 'eager': bf16['eager']}, folder + '.expected')
";

#[test]
fn larger_models_agree() {
    let Some(mut command) = python(MAKE) else { return };
    let folder = tempfile::tempdir().unwrap();
    command.arg(folder.path());
    run(command);
    for name in ["llama", "mistral", "qwen2", "qwen3"] {
        let expected = Tensor::read_safetensors(folder.path().join(format!("{name}.expected"))).unwrap();
        let expected: BTreeMap<String, Tensor> = expected.into_iter().collect();
        let largest = |ours: &Tensor, theirs: &Tensor| (ours - theirs).abs().max().double_value(&[]);
        for (precision, key) in [(Precision::F32, "f32"), (Precision::Bf16, "bf16")] {
            let model = CausalLm::load(&folder.path().join(name), Device::Cpu, precision).unwrap();
            let logits = tch::no_grad(|| model.logits(&expected["tokens"]).unwrap()).to_kind(Kind::Float);
            let difference = largest(&logits, &expected[key]);
            let allowed = if key == "f32" { 1e-4 } else { largest(&expected["eager"], &expected["bf16"]) };
            println!("{name}, {key}: at most {difference:e} (allowed {allowed:e})");
            assert!(difference <= allowed, "{name}, {key}: {difference} > {allowed}");
        }
    }
}
