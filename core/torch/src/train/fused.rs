//! libtorch's fused AdamW, which tch does not bind: through `shim/optimizer.cpp`.

use std::ffi::{CStr, c_char, c_int};

use metareward_api::TrainSettings;
use tch::{Kind, Tensor};
use torch_sys::C_tensor;

use crate::error::{Result, TorchError};

unsafe extern "C" {
    fn metareward_fused_adamw(
        weights: *const C_tensor,
        gradient: *const C_tensor,
        mean: *const C_tensor,
        square: *const C_tensor,
        steps: *const C_tensor,
        rate: f64,
        beta1: f64,
        beta2: f64,
        decay: f64,
        epsilon: f64,
        error: *mut c_char,
        capacity: usize,
    ) -> c_int;
}

/// Flat f32 tensors of one length on one device.
pub(crate) struct Block<'a> {
    pub weights: &'a Tensor,
    pub gradient: &'a Tensor,
    pub mean: &'a Tensor,
    pub square: &'a Tensor,
    /// Updates made, this one counted: one f32 on the device.
    pub steps: &'a Tensor,
}

/// One step of AdamW, in place, with learning rate `rate` and weight decay `decay`.
///
/// # Errors
/// When a tensor is not f32, or libtorch refuses.
pub(crate) fn step(block: &Block<'_>, rate: f64, decay: f64, settings: &TrainSettings) -> Result<()> {
    let Block { weights, gradient, mean, square, steps } = block;
    let all = [weights, gradient, mean, square];
    let alike = all.iter().all(|tensor| tensor.kind() == Kind::Float && tensor.numel() == weights.numel());
    if !alike || steps.kind() != Kind::Float || steps.numel() != 1 {
        return Err(TorchError::Machine("the optimizer's tensors are not alike: this is a bug".to_owned()));
    }
    let mut error = [0 as c_char; 512];
    // SAFETY: all pointers are to live tensors, which the call does not keep, and `error` has `capacity` bytes.
    let failed = unsafe {
        metareward_fused_adamw(
            weights.as_ptr(),
            gradient.as_ptr(),
            mean.as_ptr(),
            square.as_ptr(),
            steps.as_ptr(),
            rate,
            settings.adam_beta1,
            settings.adam_beta2,
            decay,
            settings.adam_epsilon,
            error.as_mut_ptr(),
            error.len(),
        )
    };
    if failed != 0 {
        // SAFETY: the shim closes what it writes with a zero.
        let message = unsafe { CStr::from_ptr(error.as_ptr()) };
        return Err(TorchError::from(tch::TchError::Torch(message.to_string_lossy().into_owned())));
    }
    Ok(())
}
