//! Which tensors are trained: all weights, or low-rank adapters beside them.

use std::{collections::BTreeMap, ops::Range, path::Path, sync::Arc};

use metareward_api::{EngineError, TrainSettings};
use tch::{Device, Kind, Tensor, no_grad};

use super::{
    native::NativeWorker,
    parameters::{Flat, Layout},
    ranks::{self, Gathering},
    trunk::Trunk,
    worker::{TensorWorker, Worker},
};
use crate::{
    Precision,
    error::{Result, TorchError},
    model::{Adapter, CausalLm},
    weights::Weights,
};

/// The trained tensors of a model as the forward pass reads them: all weights in the number format that the model computes
/// in, or adapters in f32. What the optimizer keeps beside bf16 weights is the optimizer's.
pub(crate) struct Trainable {
    /// Where the tensors lie.
    pub layout: Layout,
    /// The tensors.
    pub weights: Flat,
    base: CausalLm,
    adapters: Option<Adapters>,
    /// Whether the weights are shared out: `weights` are then this process's share, and its views are empty.
    shared: bool,
}

/// The linear layers with adapters, in the order of the layout: A, then B, of each.
struct Adapters {
    linears: Vec<String>,
    scale: f64,
}

impl Trainable {
    /// What `settings` say to train of `base`. Adapters start as in PEFT: A uniform within ±1/√in, B zero; A is drawn
    /// from the run's fingerprint.
    pub fn new(base: CausalLm, settings: &TrainSettings, fingerprint: &str) -> Result<Self, EngineError> {
        match &settings.lora {
            None => Ok(Self::full(base)?),
            Some(lora) => {
                let linears = adapted(&base, &lora.targets)?;
                if lora.rank == 0 {
                    return Err(settings_error("lora.rank", "it is 0; use 8, 16 or another number above 0"));
                }
                let scale = lora.alpha / f64::from(lora.rank);
                Ok(Self::lora(base, linears, i64::from(lora.rank), scale, fingerprint)?)
            }
        }
    }

    fn full(base: CausalLm) -> Result<Self> {
        let layout = Layout::new(base.config().expected());
        let weights = layout.zeros_in(base.precision().kind(), base.device())?;
        no_grad(|| -> Result<()> {
            for (slot, view) in layout.slots().iter().zip(&weights.views) {
                view.shallow_clone().f_copy_(weight(&base, &slot.name)?)?;
            }
            Ok(())
        })?;
        // From here on these are the weights: the folder's own need no memory any more.
        let names = layout.slots().iter().map(|slot| slot.name.clone());
        let views = weights.views.iter().map(Tensor::f_detach).collect::<std::result::Result<Vec<_>, _>>()?;
        let tensors = Weights::from_tensors(names.zip(views).collect());
        let base = CausalLm::new(Arc::clone(base.config()), tensors, base.device(), base.precision())?;
        Ok(Self { layout, weights, base, adapters: None, shared: false })
    }

    /// All weights of the model in `folder`, of which this process keeps the elements `own` on `device` and the others the
    /// rest. The tensors of the model are empty until they are put together.
    pub fn shared(
        folder: &Path,
        precision: Precision,
        own: impl Fn(i64) -> Range<i64>,
        device: Device,
    ) -> Result<Self> {
        // On the CPU the folder's own tensors are mapped, and only what is kept is read.
        let whole = CausalLm::load(folder, Device::Cpu, precision)?;
        let layout = Layout::new(whole.config().expected());
        let own = own(layout.length());
        let kind = precision.kind();
        let share = Tensor::f_zeros([own.end - own.start], (kind, device))?;
        for slot in layout.slots() {
            let place = slot.range();
            let (start, end) = (own.start.max(place.start as i64), own.end.min(place.end as i64));
            if start < end {
                let flat = weight(&whole, &slot.name)?.f_reshape([-1])?;
                let piece = flat.f_narrow(0, start - place.start as i64, end - start)?;
                no_grad(|| share.f_narrow(0, start - own.start, end - start)?.f_copy_(&piece))?;
            }
        }
        let leaves = layout
            .slots()
            .iter()
            .map(|_| Ok(ranks::nothing(kind, device)?.f_set_requires_grad(true)?))
            .collect::<Result<Vec<_>>>()?;
        let names = layout.slots().iter().map(|slot| slot.name.clone());
        let tensors = Weights::from_tensors(names.zip(leaves.iter().map(Tensor::shallow_clone)).collect());
        let base = CausalLm::new(Arc::clone(whole.config()), tensors, device, precision)?;
        Ok(Self { layout, weights: Flat { all: share, views: leaves }, base, adapters: None, shared: true })
    }

    /// What puts the weights together, where they are shared out.
    pub fn gathering(&self) -> Option<Gathering> {
        self.shared.then(|| {
            let leaves = self.weights.views.iter().map(Tensor::shallow_clone).collect();
            let (layers, tied) = (self.base.layers().len(), self.base.config().tied);
            Gathering::new(&self.layout, self.weights.all.shallow_clone(), leaves, layers, tied)
        })
    }

    fn lora(base: CausalLm, linears: Vec<String>, rank: i64, scale: f64, fingerprint: &str) -> Result<Self> {
        let mut shapes = Vec::new();
        for linear in &linears {
            let (out, width) = weight(&base, &format!("{linear}.weight"))?.size2()?;
            shapes.push((format!("{linear}.lora_A.weight"), vec![rank, width]));
            shapes.push((format!("{linear}.lora_B.weight"), vec![out, rank]));
        }
        let layout = Layout::new(shapes);
        let weights = layout.zeros_in(Kind::Float, base.device())?;
        for (slot, view) in layout.slots().iter().zip(&weights.views).step_by(2) {
            let bound = 1.0 / (slot.shape[1] as f64).sqrt();
            let values = uniform(&format!("{fingerprint}\n{}", slot.name), view.numel(), bound);
            let values = Tensor::f_from_slice(&values)?.f_view(slot.shape.as_slice())?;
            no_grad(|| view.shallow_clone().f_copy_(&values))?;
        }
        Ok(Self { layout, weights, base, adapters: Some(Adapters { linears, scale }), shared: false })
    }

    /// The model, with the weights that it started from where adapters are trained.
    pub fn model(&self) -> &CausalLm {
        &self.base
    }

    /// Where the tensors are.
    pub fn device(&self) -> Device {
        self.base.device()
    }

    /// A worker for one thread. All workers read the same memory. `native` says with which kernels, `limit` how many bytes
    /// of activations it may hold with our own.
    pub fn worker(&self, checkpointing: bool, native: bool, limit: u64) -> Result<Worker> {
        let leaves = self
            .weights
            .views
            .iter()
            // What is put together is put into these very tensors.
            .map(|view| if self.shared { Ok(view.shallow_clone()) } else { view.f_detach()?.f_set_requires_grad(true) })
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let model = match &self.adapters {
            None => {
                let replacements = self.layout.slots().iter().zip(&leaves);
                self.base.with(&replacements.map(|(slot, leaf)| (slot.name.clone(), leaf.shallow_clone())).collect())?
            }
            Some(adapters) => {
                let mut model = self.base.share()?;
                for (linear, tensors) in adapters.linears.iter().zip(leaves.chunks_exact(2)) {
                    let place = model
                        .linear_mut(linear)
                        .ok_or_else(|| TorchError::Input(format!("the model has no linear layer {linear}")))?;
                    let (a, b) = (tensors[0].shallow_clone(), tensors[1].shallow_clone());
                    place.adapter = Some(Adapter { a, b, scale: adapters.scale });
                }
                model
            }
        };
        Ok(if native {
            Worker::Native(Box::new(NativeWorker::new(&model, &self.layout, checkpointing, limit)?))
        } else {
            Worker::Tensors(TensorWorker::new(Trunk::new(model, &self.layout, leaves, checkpointing), &self.layout))
        })
    }

    /// The model as it is now, adapters merged into the weights: `W + alpha / rank · B A`, computed in f32.
    pub fn merged(&self) -> Result<CausalLm> {
        let mut replacements = BTreeMap::new();
        match &self.adapters {
            None => {
                for (slot, view) in self.layout.slots().iter().zip(&self.weights.views) {
                    replacements.insert(slot.name.clone(), view.f_detach()?);
                }
            }
            Some(adapters) => {
                for (linear, tensors) in adapters.linears.iter().zip(self.weights.views.chunks_exact(2)) {
                    let name = format!("{linear}.weight");
                    let weight = weight(&self.base, &name)?;
                    let change = tensors[1].f_matmul(&tensors[0])?.f_mul_scalar(adapters.scale)?;
                    let merged = weight.f_to_kind(Kind::Float)?.f_add(&change)?.f_to_kind(weight.kind())?;
                    replacements.insert(name, merged);
                }
            }
        }
        self.base.with(&replacements)
    }
}

fn weight<'a>(model: &'a CausalLm, name: &str) -> Result<&'a Tensor> {
    model.weights().tensors().get(name).ok_or_else(|| TorchError::Input(format!("tensor {name} is missing")))
}

/// Names of the linear layers whose last part is one of `targets`, in the order of the forward pass.
fn adapted(model: &CausalLm, targets: &[String]) -> Result<Vec<String>, EngineError> {
    let expected = model.config().expected();
    let linears: Vec<&str> = expected
        .iter()
        .filter(|(name, shape)| shape.len() == 2 && name.starts_with("model.layers."))
        .filter_map(|(name, _)| name.strip_suffix(".weight"))
        .collect();
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    for target in targets {
        if !linears.iter().any(|name| last(name) == *target) {
            let mut known: Vec<String> = linears.iter().map(|name| last(name)).collect();
            known.sort();
            known.dedup();
            let message = format!("the model has no linear layer {target:?}; it has {}", known.join(", "));
            return Err(settings_error("lora.targets", &message));
        }
    }
    if targets.is_empty() {
        return Err(settings_error("lora.targets", "it is empty; name a linear layer, for example q_proj"));
    }
    Ok(linears.into_iter().filter(|name| targets.contains(&last(name))).map(str::to_owned).collect())
}

fn settings_error(record: &str, message: &str) -> EngineError {
    EngineError::Input { record: record.to_owned(), message: message.to_owned() }
}

/// A seed decided by `name` alone: FNV-1a.
pub(crate) fn seed(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// `count` values between −bound and bound, decided by `name` alone: SplitMix64 of its [`seed`].
fn uniform(name: &str, count: usize, bound: f64) -> Vec<f32> {
    let mut state = seed(name);
    (0..count)
        .map(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            let unit = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
            ((2.0 * unit - 1.0) * bound) as f32
        })
        .collect()
}
