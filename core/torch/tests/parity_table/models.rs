//! The models of `fixtures/parity/make_variants.py`: their weights follow from a hash and are made here as they are there.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use metareward_torch::config::ModelConfig;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::Value;
use tch::Tensor;

/// One model, in a folder of its own, and what transformers computed with it.
pub struct Model {
    /// Architecture and variant.
    pub name: String,
    /// The model folder.
    pub folder: PathBuf,
    /// Numbers and texts.
    pub expected: Value,
    /// Tensors, by what they are.
    pub tensors: BTreeMap<String, Tensor>,
    // The folder lives as long as this.
    _scratch: tempfile::TempDir,
}

impl Model {
    /// The architecture, for grouping.
    pub fn architecture(&self) -> &str {
        self.expected["config"]["architectures"][0].as_str().unwrap().trim_end_matches("ForCausalLM")
    }
}

/// A file under `fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// A JSON fixture.
pub fn json(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(fixture(name)).unwrap()).unwrap()
}

/// `transformers` and its version, as fixtures say it.
pub fn version(document: &Value, library: &str) -> String {
    format!("{library} {}", document["versions"][library].as_str().unwrap())
}

/// All models.
pub fn all() -> Vec<Model> {
    let document = json("parity/variants.json");
    let mut tensors: BTreeMap<String, BTreeMap<String, Tensor>> = BTreeMap::new();
    for (name, tensor) in Tensor::read_safetensors(fixture("parity/variants.safetensors")).unwrap() {
        let (model, what) = name.rsplit_once('/').unwrap();
        tensors.entry(model.to_owned()).or_default().insert(what.to_owned(), tensor);
    }
    document["variants"].as_array().unwrap().iter().map(|expected| model(expected, &mut tensors)).collect()
}

fn model(expected: &Value, tensors: &mut BTreeMap<String, BTreeMap<String, Tensor>>) -> Model {
    let name = expected["name"].as_str().unwrap().to_owned();
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().to_owned();
    fs::write(folder.join("config.json"), expected["config"].to_string()).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(fixture("train/sft-model").join(file), folder.join(file)).unwrap();
    }
    let shapes = ModelConfig::read(&folder).unwrap_or_else(|error| panic!("{name}: {error}")).expected();
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(tensor, shape)| {
            let shape: Vec<usize> = shape.into_iter().map(|size| size as usize).collect();
            let values = weights(&name, &tensor, &shape);
            (tensor, shape, values.into_iter().flat_map(f32::to_le_bytes).collect())
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
    let tensors = tensors.remove(&name).unwrap();
    Model { name, folder, expected: expected.clone(), tensors, _scratch: scratch }
}

/// The numbers of one tensor: `fill` of the script.
fn weights(model: &str, tensor: &str, shape: &[usize]) -> Vec<f32> {
    let noise = hashed(&format!("{model}/{tensor}"), shape.iter().product());
    if let [_] = shape {
        let middle = if tensor.contains("norm") { 1.0 } else { 0.0 };
        return noise.map(|x| x * 0.5 + middle).collect();
    }
    let gain = if tensor.contains("embed") || tensor.contains("lm_head") { 2.5 } else { 3.5 };
    let scale = (gain / (*shape.last().unwrap() as f64).sqrt()) as f32;
    noise.map(|x| x * scale).collect()
}

/// Numbers in [-1, 1): SplitMix64 at the places after the FNV-1a hash of the name, its upper 24 bits.
fn hashed(name: &str, count: usize) -> impl Iterator<Item = f32> + use<> {
    let seed = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325u64, |seed, byte| (seed ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
    (1..=count as u64).map(move |place| {
        let mut z = seed.wrapping_add(place.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        ((z >> 40) as f32 - 8_388_608.0) / 8_388_608.0
    })
}
