//! Variable-length FlashAttention (Dao 2023) of libtorch, which tch does not bind: through `shim/attention.cpp`.

use std::ffi::{CStr, c_char, c_int};

use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

use crate::{Result, TorchError};

unsafe extern "C" {
    fn metareward_flash_attention(
        query: *const C_tensor,
        key: *const C_tensor,
        value: *const C_tensor,
        query_starts: *const C_tensor,
        key_starts: *const C_tensor,
        key_lengths: *const C_tensor,
        most_queries: i64,
        most_keys: i64,
        causal: c_int,
        scale: f64,
        out: *mut *mut C_tensor,
        lse: *mut *mut C_tensor,
        error: *mut c_char,
        capacity: usize,
    ) -> c_int;
}

/// Sequences of queries and keys, all i32 on the device.
pub(crate) struct Lengths<'a> {
    /// Row at which each sequence's queries begin, and after the last one the number of rows.
    pub(crate) query_starts: &'a Tensor,
    /// Slot of each sequence's first key, and one entry more.
    pub(crate) key_starts: &'a Tensor,
    /// Number of each sequence's keys.
    pub(crate) key_lengths: &'a Tensor,
    pub(crate) most_queries: i64,
    pub(crate) most_keys: i64,
}

/// Whether there is a kernel for this device, number format and head size.
pub(crate) fn available(device: Device, kind: Kind, head_dim: i64) -> bool {
    device.is_cuda() && matches!(kind, Kind::BFloat16 | Kind::Half) && head_dim <= 256 && head_dim % 8 == 0
}

/// softmax(scale · q Kᵀ) V of every sequence: [rows, heads, D] and the log-sum-exp of the scores [heads, rows] in f32.
/// `q` [rows, heads, D], pools [slots, kv heads, D]. `causal`: the last query sees the last key, the one before
/// sees one fewer.
///
/// # Errors
/// When libtorch refuses, as it does where [`available`] says no.
pub(crate) fn attend(
    q: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    lengths: &Lengths<'_>,
    causal: bool,
    scale: f64,
) -> Result<(Tensor, Tensor)> {
    let (mut out, mut lse) = (std::ptr::null_mut(), std::ptr::null_mut());
    let mut error = [0 as c_char; 400];
    // SAFETY: the tensors live through the call, which only reads them; the two results and the error buffer are ours, and
    // the buffer's length goes with it.
    let failed = unsafe {
        metareward_flash_attention(
            q.as_ptr(),
            keys.as_ptr(),
            values.as_ptr(),
            lengths.query_starts.as_ptr(),
            lengths.key_starts.as_ptr(),
            lengths.key_lengths.as_ptr(),
            lengths.most_queries,
            lengths.most_keys,
            c_int::from(causal),
            scale,
            &raw mut out,
            &raw mut lse,
            error.as_mut_ptr(),
            error.len(),
        )
    };
    if failed != 0 {
        // SAFETY: on failure the shim closes the text with a zero inside the buffer.
        let text = unsafe { CStr::from_ptr(error.as_ptr()) };
        return Err(TorchError::Libtorch(text.to_string_lossy().into_owned()));
    }
    // SAFETY: on success both are new tensors that nobody else owns.
    Ok(unsafe { (Tensor::from_ptr(out), Tensor::from_ptr(lse)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reaches libtorch's dispatcher, which has no such kernel for a CPU, and comes back with what it says.
    #[test]
    fn the_dispatcher_is_reached_and_its_refusal_comes_back_as_one_line() {
        let pool = Tensor::zeros([4, 2, 8], (Kind::Float, Device::Cpu));
        let ints = |values: &[i32]| Tensor::from_slice(values);
        let (starts, keys, lengths) = (ints(&[0, 4]), ints(&[0, 0]), ints(&[4]));
        let lengths =
            Lengths { query_starts: &starts, key_starts: &keys, key_lengths: &lengths, most_queries: 4, most_keys: 4 };
        let error = attend(&pool, &pool, &pool, &lengths, false, 1.0).unwrap_err().to_string();
        assert!(error.contains("_flash_attention_forward") && error.contains("CPU"), "{error}");
        assert!(!error.contains('\n'));
    }
}
