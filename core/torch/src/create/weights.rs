//! Random weights from a counter-based generator: the same on every machine.

use std::{collections::BTreeMap, f64::consts::TAU, fs, path::Path};

use safetensors::{Dtype, tensor::TensorView};

use crate::{
    create::ModelShape,
    error::{Result, TorchError},
};

/// Writes `model.safetensors`.
pub(super) fn write(path: &Path, shape: &ModelShape, vocabulary: usize, seed: u64) -> Result<()> {
    let head = shape.hidden_size / shape.num_attention_heads;
    let (hidden, inner) = (shape.hidden_size, shape.intermediate_size);
    let keys = head * shape.num_key_value_heads;
    let linear = shape.linear_deviation;

    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    let mut matrix = |name: String, rows: usize, columns: usize, deviation: f64| {
        // One stream per tensor: its values do not depend on what else the model holds.
        let stream = name.bytes().fold(mix(seed), |state, byte| mix(state ^ u64::from(byte)));
        let values = (0..(rows * columns) as u64).map(|index| (normal(stream, index) * deviation) as f32);
        tensors.insert(name, (vec![rows, columns], values.flat_map(f32::to_le_bytes).collect()));
    };
    matrix("model.embed_tokens.weight".into(), vocabulary, hidden, shape.embedding_deviation);
    for layer in 0..shape.num_hidden_layers {
        let layer = format!("model.layers.{layer}");
        matrix(format!("{layer}.self_attn.q_proj.weight"), hidden, hidden, linear);
        matrix(format!("{layer}.self_attn.k_proj.weight"), keys, hidden, linear);
        matrix(format!("{layer}.self_attn.v_proj.weight"), keys, hidden, linear);
        matrix(format!("{layer}.self_attn.o_proj.weight"), hidden, hidden, linear);
        matrix(format!("{layer}.mlp.gate_proj.weight"), inner, hidden, linear);
        matrix(format!("{layer}.mlp.up_proj.weight"), inner, hidden, linear);
        matrix(format!("{layer}.mlp.down_proj.weight"), hidden, inner, linear);
    }
    let ones: Vec<u8> = std::iter::repeat_n(1f32.to_le_bytes(), hidden).flatten().collect();
    for layer in 0..shape.num_hidden_layers {
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            tensors.insert(format!("model.layers.{layer}.{norm}.weight"), (vec![hidden], ones.clone()));
        }
    }
    tensors.insert("model.norm.weight".into(), (vec![hidden], ones));

    let failed = |source: safetensors::SafeTensorError| TorchError::Input(format!("weights: {source}"));
    let views = tensors
        .iter()
        .map(|(name, (shape, bytes))| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(failed)?)))
        .collect::<Result<Vec<_>>>()?;
    let metadata = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(failed)?;
    fs::write(path, bytes).map_err(|source| TorchError::io(path, &source))
}

/// SplitMix64's finaliser (Steele et al. 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A standard normal number by Box and Muller, the `index`-th of the stream.
fn normal(stream: u64, index: u64) -> f64 {
    let uniform = |salt: u64| (mix(stream ^ mix(2 * index + salt)) >> 11) as f64 / (1u64 << 53) as f64;
    libm::sqrt(-2.0 * libm::log(1.0 - uniform(0))) * libm::cos(TAU * uniform(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_standard_normal() {
        let values: Vec<f64> = (0..100_000).map(|index| normal(7, index)).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        let outside = values.iter().filter(|value| value.abs() > 1.96).count() as f64 / values.len() as f64;
        assert!(mean.abs() < 0.01, "{mean}");
        assert!((variance - 1.0).abs() < 0.02, "{variance}");
        assert!((outside - 0.05).abs() < 0.003, "{outside}");
    }
}
