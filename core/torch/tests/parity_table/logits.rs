//! Logits and log-probabilities of every architecture and variant, in f32 and bf16, short and over the whole context.

use metareward_torch::{CausalLm, Precision, inspect, logprobs::chunked_log_softmax_gather};
use tch::{Device, Kind, Tensor};

use crate::{
    models::{Model, json, version},
    row::Row,
};

fn largest(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.size(), theirs.size());
    (ours.to_kind(Kind::Float) - theirs.to_kind(Kind::Float)).abs().max().double_value(&[])
}

/// Log-probability of every next token of `tokens`.
fn next_logprobs(model: &CausalLm, tokens: &Tensor) -> Tensor {
    let hidden = model.forward_hidden(&tokens.unsqueeze(0)).unwrap().squeeze_dim(0);
    let places = tokens.size1().unwrap() - 1;
    let (before, after) = (hidden.narrow(0, 0, places), tokens.narrow(0, 1, places));
    chunked_log_softmax_gather(&before, model.lm_head().unwrap(), &after).unwrap()
}

/// A row per architecture, precision and length.
pub fn rows(models: &[Model]) -> Vec<Row> {
    let transformers = version(&json("parity/variants.json"), "transformers");
    let mut rows = Vec::new();
    let mut architectures: Vec<&str> = models.iter().map(Model::architecture).collect();
    architectures.dedup();
    for architecture in architectures {
        let row = |what: &str, reference: String, unit, limit| {
            Row::new(format!("{architecture}: {what}"), reference, unit, limit)
        };
        let halves = || format!("{transformers}, sdpa");
        let mut single = row("logits, f32", transformers.clone(), "logit", 1e-4);
        let mut one = row("logits after one token, f32", transformers.clone(), "logit", 1e-4);
        let mut long =
            row("log-probabilities over the whole context, f32", transformers.clone(), "log-probability", 1e-4);
        let mut half = row("logits, bf16", halves(), "what eager and sdpa differ", 1.0);
        let mut half_long =
            row("log-probabilities over the whole context, bf16", halves(), "what eager and sdpa differ", 1.0);
        for model in models.iter().filter(|model| model.architecture() == architecture) {
            let tokens = model.tensors["tokens"].to_kind(Kind::Int64);
            let places = model.tensors["f32"].size()[0];
            let short = tokens.narrow(0, 0, places).unsqueeze(0);
            let _guard = tch::no_grad_guard();
            let ours = CausalLm::load(&model.folder, Device::Cpu, Precision::F32).unwrap();
            assert_eq!(ours.card().parameters, model.expected["parameters"].as_u64().unwrap(), "{}", model.name);
            assert_eq!(inspect(&model.folder, Precision::F32).unwrap(), ours.card());
            assert_eq!(tokens.size1().unwrap(), i64::from(ours.card().context), "the longest length");
            single.add(&model.name, largest(&ours.logits(&short).unwrap().squeeze_dim(0), &model.tensors["f32"]));
            let alone = ours.logits(&short.narrow(1, 0, 1)).unwrap().get(0);
            one.add(&model.name, largest(&alone, &model.tensors["f32"].narrow(0, 0, 1)));
            long.add(&model.name, largest(&next_logprobs(&ours, &tokens), &model.tensors["f32_long"]));
            let ours = CausalLm::load(&model.folder, Device::Cpu, Precision::Bf16).unwrap();
            let allowed = |what: &str| model.expected["eager_against_sdpa"][what].as_f64().unwrap();
            // In parts of what transformers differs from itself; where it does not, the limit is that of f32.
            let part = |difference: f64, allowed: f64| difference / allowed.max(1e-4);
            let logits = ours.logits(&short).unwrap().squeeze_dim(0);
            half.add(&model.name, part(largest(&logits, &model.tensors["bf16"]), allowed("bf16")));
            let logprobs = next_logprobs(&ours, &tokens);
            half_long.add(&model.name, part(largest(&logprobs, &model.tensors["bf16_long"]), allowed("bf16_long")));
        }
        rows.extend([single, one, long, half, half_long]);
    }
    rows
}
