//! The trained tensors in one block of memory.
//!
//! All weights lie in one flat tensor, and so do the gradient and both moments. The update of a step is then a handful
//! of operations however many tensors the model has, the training state is a few tensors on disk, and a process of a group
//! can take a range of it for its share. Matrices come first, so that weight decay applies to one leading range.

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

    /// Flat f32 memory filled with zeros.
    #[cfg(test)]
    pub fn zeros(&self, device: Device) -> Result<Flat> {
        self.zeros_in(Kind::Float, device)
    }

    /// Flat memory of this number format filled with zeros.
    pub fn zeros_in(&self, kind: Kind, device: Device) -> Result<Flat> {
        self.flat(Tensor::f_zeros([self.length], (kind, device))?)
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
    if gradient.all.kind() != Kind::Float {
        return Ok(squared_norm(&gradient.all)?.sqrt());
    }
    let norms = gradient.views.iter().map(|view| view.f_norm()).collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(Tensor::f_stack(&norms, 0)?.f_norm()?.f_double_value(&[])?)
}

/// What a gradient of norm `norm` is multiplied by, as `torch.nn.utils.clip_grad_norm_` does: `limit / (norm + 1e-6)`
/// where that is below 1. A limit of 0 changes nothing.
pub(crate) fn clip_factor(norm: f64, limit: f64) -> f64 {
    if limit > 0.0 { (limit / (norm + 1e-6)).min(1.0) } else { 1.0 }
}

/// Elements whose squares are summed up at a time.
const BLOCK: i64 = 1 << 22;

/// Sum of the squares of a flat gradient, or of a part of one, in any number format: f32 within blocks, f64 over them.
///
/// # Errors
/// When there is no memory for a block in f32.
pub(crate) fn squared_norm(gradient: &Tensor) -> Result<f64> {
    let length = gradient.size1()?;
    (0..length).step_by(BLOCK as usize).try_fold(0.0, |sum, start| {
        let block = gradient.f_narrow(0, start, BLOCK.min(length - start))?.f_to_kind(Kind::Float)?;
        Ok(sum + block.f_dot(&block)?.f_double_value(&[])?)
    })
}
