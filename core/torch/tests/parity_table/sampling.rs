//! Drawn tokens against the distribution that transformers' logits processors leave, by chi-square with fixed seeds: on the path
//! of declared parameters and on that of a sampler that reshapes; and that a wrong order of the parameters would show.

use std::collections::BTreeMap;

use metareward_api::{
    DrawPlan, GenerationDraw, GenerationRequest, Generator, Kind, Message, NextTokens, Plugin, PluginError, PluginInfo,
    Sampler, SamplerItem, Sampling,
};
use metareward_laws::exact::distribution;
use metareward_torch::{CausalLm, Precision, Prompting, TemplateDate, generate::TorchGenerator};
use serde_json::Value;
use tch::{Device, Tensor};

use crate::{
    generation::{answers, config},
    models::{Model, all, json, version},
    row::Row,
};

/// Draws per case.
const DRAWS: u32 = 40_000;
/// Standard deviations of a right sampler's chi-square that are allowed. Among the cases here one of 4.5 comes by chance once in
/// about 8,000 sets of seeds.
const DEVIATIONS: f64 = 4.5;

/// The parameters of a case of the fixture, for one token.
fn sampling(case: &Value) -> Sampling {
    let number = |name: &str| case[name].as_f64().unwrap();
    Sampling {
        temperature: number("temperature"),
        top_p: number("top_p"),
        top_k: case["top_k"].as_u64().map(|k| k as u32),
        min_p: number("min_p"),
        max_tokens: 1,
        stop: Vec::new(),
    }
}

fn named(case: &Value) -> String {
    let sampling = sampling(case);
    let mut parts = Vec::new();
    if sampling.temperature != 1.0 {
        parts.push(format!("temperature {}", sampling.temperature));
    }
    parts.extend(sampling.top_k.map(|k| format!("top-k {k}")));
    if sampling.top_p < 1.0 {
        parts.push(format!("top-p {}", sampling.top_p));
    }
    if sampling.min_p > 0.0 {
        parts.push(format!("min-p {}", sampling.min_p));
    }
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Tokens by what they read as: special tokens read as nothing, and which of them came cannot be told from an answer.
fn cells(probabilities: &[f64]) -> BTreeMap<String, f64> {
    let mut cells = BTreeMap::new();
    for (id, probability) in probabilities.iter().enumerate() {
        let text = if id < 6 { String::new() } else { format!("w{}", id - 6) };
        *cells.entry(text).or_default() += probability;
    }
    cells
}

/// How many standard deviations the counts' chi-square is above its mean, by the cube root that Wilson and Hilferty gave;
/// infinite where something came that cannot come. Cells of fewer than five expected draws are one.
fn deviations(counts: &BTreeMap<String, u32>, cells: &BTreeMap<String, f64>, draws: u32) -> f64 {
    let (mut chi, mut free) = (0.0, -1.0);
    let mut rare = (0.0, 0.0);
    for (text, count) in counts {
        if cells.get(text).is_none_or(|probability| *probability == 0.0) && *count > 0 {
            return f64::INFINITY;
        }
    }
    for (text, probability) in cells {
        let expected = probability * f64::from(draws);
        let found = f64::from(counts.get(text).copied().unwrap_or(0));
        if expected >= 5.0 {
            chi += (found - expected).powi(2) / expected;
            free += 1.0;
        } else {
            rare = (rare.0 + expected, rare.1 + found);
        }
    }
    if rare.0 >= 5.0 {
        chi += (rare.1 - rare.0).powi(2) / rare.0;
        free += 1.0;
    }
    // One cell: all draws are in it, or there was something that cannot come.
    if free <= 0.0 {
        return 0.0;
    }
    ((chi / free).cbrt() - (1.0 - 2.0 / (9.0 * free))) / (2.0 / (9.0 * free)).sqrt()
}

/// A sampler that answers with the exact distribution of the parameters of the case that is asked for.
struct Exact(Sampling);

impl Plugin for Exact {
    fn info(&self) -> PluginInfo {
        let text = |text: &str| text.to_owned();
        PluginInfo { kind: Kind::Sampler, name: text("exact"), version: text("1.0.0"), summary: text("for tests") }
    }
}

impl Sampler for Exact {
    fn plan(&self, _: &[SamplerItem]) -> Result<Vec<Vec<DrawPlan>>, PluginError> {
        Err(PluginError::new("not asked for"))
    }

    fn reshapes(&self) -> Result<Option<u32>, PluginError> {
        Ok(Some(1000))
    }

    fn reshape(&self, rows: &[NextTokens]) -> Result<Vec<Vec<f64>>, PluginError> {
        // All rows are draws of one prompt: they have the same logits.
        let first = distribution(&self.0, &rows[0].logits);
        Ok(rows
            .iter()
            .map(|row| if row.logits == rows[0].logits { first.clone() } else { distribution(&self.0, &row.logits) })
            .collect())
    }
}

/// A loaded engine and the fixture.
struct Bench {
    engine: TorchGenerator,
    messages: Vec<Message>,
    document: Value,
    model: Model,
}

impl Bench {
    fn new() -> Bench {
        let document = json("parity/sampling.json");
        let model = all().into_iter().find(|model| model.name == document["model"].as_str().unwrap()).unwrap();
        let mut engine = TorchGenerator::new(config());
        engine.load(&model.folder).unwrap();
        let messages = serde_json::from_value(document["messages"].clone()).unwrap();
        Bench { engine, messages, document, model }
    }

    /// From now on draws with the backend on tensors.
    fn move_to_tensors(&mut self) {
        let (model, prompting) = self.loaded();
        self.engine.set_model_on_tensors(model, prompting);
    }

    fn loaded(&self) -> (CausalLm, Prompting) {
        let model = CausalLm::load(&self.model.folder, Device::Cpu, Precision::F32).unwrap();
        let prompting = Prompting::read(&self.model.folder, model.config(), TemplateDate::default()).unwrap();
        (model, prompting)
    }

    /// Counts of the first tokens of many draws.
    fn draw(&mut self, sampling: &Sampling, seed: u64, reshape: Option<&dyn Sampler>) -> BTreeMap<String, u32> {
        let draws = (0..DRAWS)
            .map(|draw| GenerationDraw { seed: seed + u64::from(draw), sampling: sampling.clone(), draw })
            .collect();
        let request = GenerationRequest { id: "many".to_owned(), messages: self.messages.clone(), draws };
        let mut counts = BTreeMap::new();
        for answer in &answers(&mut self.engine, &[request], reshape)[0] {
            *counts.entry(answer.text.clone()).or_default() += 1;
        }
        counts
    }
}

impl Bench {
    /// Probability of every text of two tokens: the second's depends on the first's.
    fn two_tokens(&self, sampling: &Sampling) -> BTreeMap<String, f64> {
        let (model, prompting) = self.loaded();
        let prompt = prompting.prompt(&self.messages).unwrap().ids;
        let last = |ids: &[i64]| -> Vec<f64> {
            let logits = tch::no_grad(|| model.logits(&Tensor::from_slice(ids).unsqueeze(0)).unwrap());
            let logits = Vec::try_from(logits.get(0).get(ids.len() as i64 - 1).to_kind(tch::Kind::Double)).unwrap();
            distribution(sampling, &logits)
        };
        let mut texts = BTreeMap::new();
        for (first, probability) in last(&prompt).iter().enumerate() {
            if prompting.end_ids().contains(&(first as i64)) {
                *texts.entry(String::new()).or_default() += probability;
                continue;
            }
            let longer: Vec<i64> = prompt.iter().copied().chain([first as i64]).collect();
            for (second, after) in last(&longer).iter().enumerate() {
                let text = prompting.tokenizer().decode(&[first as i64, second as i64]).unwrap();
                *texts.entry(text).or_default() += probability * after;
            }
        }
        texts
    }
}

/// A row for the arithmetic, one for each path of the engine, and one for two tokens.
pub fn rows() -> Vec<Row> {
    let mut bench = Bench::new();
    let transformers = version(&bench.document, "transformers");
    let order: Vec<String> = serde_json::from_value(bench.document["processors"].clone()).unwrap();
    let reference = format!("{transformers}: {}", order.join(", ").replace("LogitsWarper", ""));
    let mut exact = Row::new("exact distribution of sampling parameters", &reference, "probability", 1e-12);
    let mut declared = Row::new(
        format!("sampled tokens, {DRAWS} draws per case, declared parameters"),
        &reference,
        "standard deviations of chi-square",
        DEVIATIONS,
    );
    let mut reshaped = Row::new(
        format!("sampled tokens, {DRAWS} draws per case, a sampler that reshapes"),
        &reference,
        "standard deviations of chi-square",
        DEVIATIONS,
    );
    let logits = numbers(&bench.document["logits"]);
    // The backend for GPUs and bf16 has a sampler of its own; here it draws on the CPU in f32.
    let mut on_tensors = Row::new(
        format!("sampled tokens, {DRAWS} draws per case, backend on tensors"),
        &reference,
        "standard deviations of chi-square",
        DEVIATIONS,
    );
    let mut other = Bench::new();
    other.move_to_tensors();
    let plain = Sampling { temperature: 1.0, ..sampling(&bench.document["cases"][0]) };
    for (index, case) in bench.document["cases"].clone().as_array().unwrap().iter().enumerate() {
        let (name, sampling, expected) = (named(case), sampling(case), numbers(&case["probabilities"]));
        for (ours, theirs) in distribution(&sampling, &logits).iter().zip(&expected) {
            exact.add(&name, ours - theirs);
        }
        // Too even is wrong as well.
        let seed = 1_000_000 * (index as u64 + 1);
        declared.add(&name, deviations(&bench.draw(&sampling, seed, None), &cells(&expected), DRAWS));
        on_tensors.add(&name, deviations(&other.draw(&sampling, seed, None), &cells(&expected), DRAWS));
        let counts = bench.draw(&plain, seed + 500_000, Some(&Exact(sampling)));
        reshaped.add(&name, deviations(&counts, &cells(&expected), DRAWS));
    }
    let mut together = Row::new(
        format!("two sampled tokens together, {DRAWS} draws per case"),
        "the model's own conditional probabilities",
        "standard deviations of chi-square",
        DEVIATIONS,
    );
    for (seed, temperature) in [(1, 1.0), (2, 0.6)] {
        let sampling = Sampling { temperature, max_tokens: 2, ..plain.clone() };
        let expected = bench.two_tokens(&sampling);
        let counts = bench.draw(&sampling, 100_000_000 * seed, None);
        together.add(&format!("temperature {temperature}"), deviations(&counts, &expected, DRAWS));
    }
    vec![exact, declared, on_tensors, reshaped, together]
}

/// The parameters in another order than transformers'.
fn in_another_order(order: &[&str], sampling: &Sampling, logits: &[f64]) -> Vec<f64> {
    let plain = Sampling { temperature: 1.0, top_p: 1.0, top_k: None, min_p: 0.0, ..sampling.clone() };
    order.iter().fold(logits.to_vec(), |logits, parameter| {
        let one = match *parameter {
            "temperature" => {
                return logits.iter().map(|logit| logit / sampling.temperature).collect();
            }
            "top-k" => Sampling { top_k: sampling.top_k, ..plain.clone() },
            "top-p" => Sampling { top_p: sampling.top_p, ..plain.clone() },
            "min-p" => Sampling { min_p: sampling.min_p, ..plain.clone() },
            other => panic!("{other}"),
        };
        distribution(&one, &logits).iter().map(|probability| probability.ln()).collect()
    })
}

#[test]
fn a_wrong_order_of_the_parameters_shows() {
    let mut bench = Bench::new();
    let logits = numbers(&bench.document["logits"]);
    let plain = Sampling { temperature: 1.0, ..sampling(&bench.document["cases"][0]) };
    let soft = |logits: &[f64]| distribution(&plain, logits);
    let right = ["temperature", "top-k", "top-p", "min-p"];
    let wrong: [(&str, [&str; 4]); 4] = [
        ("temperature last", ["top-k", "top-p", "min-p", "temperature"]),
        ("top-p before top-k", ["temperature", "top-p", "top-k", "min-p"]),
        ("min-p before the temperature", ["min-p", "temperature", "top-k", "top-p"]),
        ("top-p before the temperature", ["top-p", "temperature", "top-k", "min-p"]),
    ];
    let mut seen = [0; 4];
    for (index, case) in bench.document["cases"].clone().as_array().unwrap().iter().enumerate() {
        let sampling = sampling(case);
        let counts = bench.draw(&sampling, 1_000_000 * (index as u64 + 1), None);
        let again = soft(&in_another_order(&right, &sampling, &logits));
        assert!(
            deviations(&counts, &cells(&again), DRAWS) < DEVIATIONS,
            "{}: the right order, step by step",
            named(case)
        );
        for (seen, (_, order)) in seen.iter_mut().zip(&wrong) {
            let other = soft(&in_another_order(order, &sampling, &logits));
            let apart = again.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            if apart > 0.02 {
                *seen += 1;
                let found = deviations(&counts, &cells(&other), DRAWS);
                assert!(found > DEVIATIONS, "{}: {order:?} is {found} deviations away", named(case));
            }
        }
    }
    for (seen, (name, _)) in seen.iter().zip(&wrong) {
        assert!(*seen > 0, "no case tells {name} from the right order");
    }
    println!("cases that tell: {seen:?} of {wrong:?}");
}
