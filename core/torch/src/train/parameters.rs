//! The trained tensors in one block of f32 memory.
//!
//! All masters lie in one flat tensor, and so do the gradient and both moments. The update of a step is then a handful
//! of operations however many tensors the model has, and the training state is three tensors on disk. Matrices come
//! first, so that weight decay applies to one leading range.

use tch::{Device, Kind, Tensor};

use crate::error::{Result, TorchError};

/// Elements to which every tensor's start is aligned: 64 bytes of f32.
const ALIGN: i64 = 16;

/// Place of one tensor in the flat memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Name as in the model folder.
    pub name: String,
    /// Shape.
    pub shape: Vec<i64>,
    offset: i64,
    length: i64,
}

impl Slot {
    /// Its elements in the flat memory.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset as usize..(self.offset + self.length) as usize
    }
}

/// Where every trained tensor lies in the flat memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    slots: Vec<Slot>,
    decayed: i64,
    length: i64,
}

impl Layout {
    /// A layout of nothing.
    pub fn empty() -> Self {
        Self { slots: Vec::new(), decayed: 0, length: 0 }
    }

    /// A layout of the named shapes: first all with two or more dimensions, which weight decay applies to, then the
    /// rest (norms, biases), each group in the order given.
    pub fn new(shapes: impl IntoIterator<Item = (String, Vec<i64>)>) -> Self {
        let (matrices, vectors): (Vec<_>, Vec<_>) = shapes.into_iter().partition(|(_, shape)| shape.len() >= 2);
        let mut layout = Self::empty();
        for (name, shape) in matrices {
            layout.push(name, shape);
        }
        layout.decayed = layout.length;
        for (name, shape) in vectors {
            layout.push(name, shape);
        }
        layout
    }

    fn push(&mut self, name: String, shape: Vec<i64>) {
        let length = shape.iter().product();
        self.slots.push(Slot { name, shape, offset: self.length, length });
        self.length += (length + ALIGN - 1) / ALIGN * ALIGN;
    }

    /// The tensors, in the order of the flat memory.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Elements of the flat memory, gaps for alignment included.
    pub fn length(&self) -> i64 {
        self.length
    }

    /// Elements at the front to which weight decay applies.
    pub fn decayed(&self) -> i64 {
        self.decayed
    }

    /// Flat memory filled with zeros.
    pub fn zeros(&self, device: Device) -> Result<Flat> {
        self.flat(Tensor::f_zeros([self.length], (Kind::Float, device))?)
    }

    /// Wraps a tensor of this layout's length, without copying.
    pub fn flat(&self, all: Tensor) -> Result<Flat> {
        if all.size() != [self.length] {
            return Err(TorchError::Machine(format!(
                "flat parameters hold {:?} elements, the layout {}",
                all.size(),
                self.length
            )));
        }
        let views = self
            .slots
            .iter()
            .map(|slot| all.f_narrow(0, slot.offset, slot.length)?.f_view(slot.shape.as_slice()))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(Flat { all, views })
    }
}

/// Flat memory and a view of it for every tensor of the layout.
pub(crate) struct Flat {
    /// All elements, one dimension.
    pub all: Tensor,
    /// One view per slot, in the slot's shape.
    pub views: Vec<Tensor>,
}

/// Norm of a gradient: the Euclidean norm of the tensors' norms, as `torch.nn.utils.clip_grad_norm_` computes it.
pub(crate) fn gradient_norm(gradient: &Flat) -> Result<f64> {
    if gradient.views.is_empty() {
        return Ok(0.0);
    }
    let norms = gradient.views.iter().map(|view| view.f_norm()).collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(Tensor::f_stack(&norms, 0)?.f_norm()?.f_double_value(&[])?)
}

/// What a gradient of norm `norm` is multiplied by, as `torch.nn.utils.clip_grad_norm_` does: `limit / (norm + 1e-6)`
/// where that is below 1. A limit of 0 changes nothing.
pub(crate) fn clip_factor(norm: f64, limit: f64) -> f64 {
    if limit > 0.0 { (limit / (norm + 1e-6)).min(1.0) } else { 1.0 }
}

/// Scales a gradient of norm `norm` down to `limit`; see [`clip_factor`].
pub(crate) fn clip(gradient: &mut Flat, norm: f64, limit: f64) -> Result<()> {
    let factor = clip_factor(norm, limit);
    if factor < 1.0 {
        let _ = gradient.all.f_mul_scalar_(factor)?;
    }
    Ok(())
}
