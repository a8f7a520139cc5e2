//! Rotary positions (Su et al. 2021), with the scalings of transformers' `modeling_rope_utils`.

use std::f64::consts::PI;

use tch::{Device, Kind, Tensor};

use crate::{
    Result,
    config::{ModelConfig, RopeScaling},
};

/// Cosine and sine at some positions, `[1 or B, 1, T, D]`.
#[derive(Debug)]
pub struct Rope {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    /// `x` `[B, heads, T, D]` turned by its positions.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let half = x.size4()?.3 / 2;
        let turned = Tensor::f_cat(&[x.f_narrow(3, half, half)?.f_neg()?, x.f_narrow(3, 0, half)?], 3)?;
        Ok(x.f_mul(&self.cos)?.f_add(&turned.f_mul(&self.sin)?)?)
    }
}

/// The frequencies of a model.
#[derive(Debug)]
pub struct RopeTable {
    /// `[D / 2]`, f32.
    frequencies: Tensor,
    attention_factor: f64,
}

impl RopeTable {
    /// Frequencies as `config` describes them.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn new(config: &ModelConfig, device: Device) -> Result<Self> {
        let (frequencies, attention_factor) = frequencies(config)?;
        Ok(Self { frequencies: Tensor::f_from_slice(&frequencies)?.f_to_device(device)?, attention_factor })
    }

    /// Frequencies `[D / 2]` in f32, radians per position.
    pub fn frequencies(&self) -> &Tensor {
        &self.frequencies
    }

    /// What cosine and sine are multiplied by: 1 but for YaRN.
    pub fn attention_factor(&self) -> f64 {
        self.attention_factor
    }

    /// Factors at `positions` (i64), `[T]` for all rows or `[B, T]` for each, computed in f32 and rounded to `kind`.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn at(&self, positions: &Tensor, kind: Kind) -> Result<Rope> {
        let angles = positions.f_to_kind(Kind::Float)?.f_unsqueeze(-1)?.f_mul(&self.frequencies)?;
        let angles = Tensor::f_cat(&[&angles, &angles], -1)?;
        // [T, D] → [1, 1, T, D] and [B, T, D] → [B, 1, T, D].
        let angles = if angles.dim() == 2 { angles.f_unsqueeze(0)? } else { angles }.f_unsqueeze(1)?;
        let factor = |wave: Tensor| -> Result<Tensor> {
            let wave = if self.attention_factor == 1.0 { wave } else { wave.f_mul_scalar(self.attention_factor)? };
            Ok(wave.f_to_kind(kind)?)
        };
        Ok(Rope { cos: factor(angles.f_cos()?)?, sin: factor(angles.f_sin()?)? })
    }
}

/// Frequencies in f32 and the factor of YaRN. The order of operations is transformers', so that both round alike: at long
/// positions a difference in the last place of a frequency becomes visible.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
fn frequencies(config: &ModelConfig) -> Result<(Vec<f32>, f64)> {
    let exponents = (0..config.head_dim / 2).map(|index| (2 * index) as f32 / config.head_dim as f32);
    let periods = Tensor::f_pow_scalar(config.rope_theta, &Tensor::f_from_slice(&exponents.collect::<Vec<_>>())?)?;
    let periods = Vec::<f32>::try_from(&periods)?;
    let base = periods.iter().map(|period| 1.0 / period);
    Ok(match config.rope_scaling {
        RopeScaling::Default => (base.collect(), 1.0),
        RopeScaling::Linear { factor } => (base.map(|f| f / factor as f32).collect(), 1.0),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            let low_wavelength = (original_context / low_freq_factor) as f32;
            let high_wavelength = (original_context / high_freq_factor) as f32;
            let scaled = base.map(|f| {
                let wavelength = (1.0 / f) * (2.0 * PI) as f32;
                if wavelength > low_wavelength {
                    f / factor as f32
                } else if wavelength < high_wavelength {
                    f
                } else {
                    let turns = (1.0 / wavelength) * original_context as f32;
                    let smooth = (turns - low_freq_factor as f32) / (high_freq_factor - low_freq_factor) as f32;
                    (1.0 - smooth) * f / factor as f32 + smooth * f
                }
            });
            (scaled.collect(), 1.0)
        }
        RopeScaling::Yarn { factor, original_context, attention_factor, beta_fast, beta_slow, truncate } => {
            let dim = config.head_dim as f64;
            let dimension =
                |turns: f64| dim * (original_context / (turns * 2.0 * PI)).ln() / (2.0 * config.rope_theta.ln());
            let (mut low, mut high) = (dimension(beta_fast), dimension(beta_slow));
            if truncate {
                (low, high) = (low.floor(), high.ceil());
            }
            let (low, mut high) = (low.max(0.0), high.min(dim - 1.0));
            if (high - low).abs() < f64::EPSILON {
                high += 0.001;
            }
            let scaled = periods.iter().enumerate().map(|(index, period)| {
                let ramp = ((index as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
                let kept = 1.0 - ramp;
                1.0 / (factor as f32 * period) * (1.0 - kept) + 1.0 / period * kept
            });
            (scaled.collect(), attention_factor)
        }
    })
}
