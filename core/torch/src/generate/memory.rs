//! How much memory a call may take, and what happens when the device has less.

use metareward_api::EngineError;
use tch::Device;

use crate::library;

/// Bytes for keys and values on a CPU, where nothing is stated.
const CPU_BYTES: u64 = 2 << 30;
/// Bytes of a GPU that stay free for activations, where nothing is stated.
const GPU_SPARE: u64 = 2 << 30;

/// Bytes for keys and values: what is stated, else 2 GiB on a CPU, and on a GPU nine tenths of what is free but 2 GiB.
/// `held`: bytes that an earlier call's keys and values hold, which are free for this one.
pub(crate) fn budget(stated: u64, device: Device, held: u64) -> u64 {
    if stated > 0 {
        return stated;
    }
    match (device, library::device_memory(device)) {
        (Device::Cpu, _) | (_, None) => CPU_BYTES,
        (_, Some(memory)) => ((memory.free + held).saturating_sub(GPU_SPARE) / 10 * 9).max(1 << 28),
    }
}

/// What a call was given when the device ran out of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) device: Device,
    /// Bytes of the model's weights.
    pub(crate) weights: u64,
    /// Bytes of keys and values.
    pub(crate) cache: u64,
    /// Tokens that a text's keys and values were kept for.
    pub(crate) slots: usize,
    /// Most tokens of a pass.
    pub(crate) rows: usize,
}

/// Runs `attempt` with the whole batch and, if the device runs out of memory, once more with half of it; `attempt` is told
/// by how much to divide rows, keys and values, and notes what it took.
///
/// # Errors
/// What `attempt` reports; when both run out of memory, one sentence with the numbers and what to change.
pub(crate) fn at_half_if_short<T>(
    mut attempt: impl FnMut(usize, &mut Option<Given>) -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    let mut given = None;
    match attempt(1, &mut given) {
        Err(error) if out_of_memory(&error) => {}
        other => return other,
    }
    tracing::warn!("out of memory: the batch is computed again at half the size");
    let whole = given;
    match attempt(2, &mut given) {
        Err(error) if out_of_memory(&error) => Err(EngineError::Machine(sentence(whole.or(given)))),
        other => other,
    }
}

/// Whether the error is libtorch's or our own word for no memory.
fn out_of_memory(error: &EngineError) -> bool {
    let EngineError::Machine(message) = error else { return false };
    ["out of memory", "can't allocate memory", "not enough memory"].iter().any(|text| message.contains(text))
}

fn sentence(given: Option<Given>) -> String {
    let gigabytes = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let Some(Given { device, weights, cache, slots, rows }) = given else {
        return "out of memory, also at half the batch: set engine.cache_bytes and engine.batch_rows lower".to_owned();
    };
    let of = library::device_memory(device).map_or(String::new(), |memory| {
        format!(" of {} in all, {} free now", gigabytes(memory.total), gigabytes(memory.free))
    });
    format!(
        "out of memory, also at half the batch: weights of {}, keys and values of {} ({slots} tokens) and the activations of \
         {rows} tokens a pass{of}; set engine.cache_bytes below {}, engine.batch_rows below {}, or take a smaller model",
        gigabytes(weights),
        gigabytes(cache),
        cache / 2,
        (rows / 2).max(2),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short() -> EngineError {
        EngineError::Machine("libtorch: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …".to_owned())
    }

    fn given(part: usize) -> Given {
        let part64 = part as u64;
        Given {
            device: Device::Cpu,
            weights: 16_000_000_000,
            cache: 60_000_000_000 / part64,
            slots: 460_000 / part,
            rows: 1024 / part,
        }
    }

    #[test]
    fn half_the_batch_is_tried_once() {
        let mut parts = Vec::new();
        let answer = at_half_if_short(|part, noted| {
            parts.push(part);
            *noted = Some(given(part));
            if part == 1 { Err(short()) } else { Ok(7) }
        });
        assert_eq!((answer, parts), (Ok(7), vec![1, 2]));
        // Other errors are not tried again.
        let mut calls = 0;
        let other = at_half_if_short::<()>(|_, _| {
            calls += 1;
            Err(EngineError::Stopped)
        });
        assert_eq!((other, calls), (Err(EngineError::Stopped), 1));
    }

    #[test]
    fn the_sentence_has_the_numbers_and_what_to_change() {
        let error = at_half_if_short::<()>(|part, noted| {
            *noted = Some(given(part));
            Err(short())
        });
        let text = error.unwrap_err().to_string();
        assert_eq!(
            text,
            "out of memory, also at half the batch: weights of 16.0 GB, keys and values of 60.0 GB (460000 tokens) and the \
             activations of 1024 tokens a pass; set engine.cache_bytes below 30000000000, engine.batch_rows below 512, or take \
             a smaller model"
        );
    }

    #[test]
    fn a_cpu_takes_what_is_stated_or_two_gigabytes() {
        assert_eq!(budget(5, Device::Cpu, 9), 5);
        assert_eq!(budget(0, Device::Cpu, 9), 2 << 30);
    }
}
