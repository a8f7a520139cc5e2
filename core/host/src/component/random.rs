//! Random numbers for guests that insist on them: the same in every run.

use wasmtime_wasi::random::Deterministic;

/// Numbers that repeat after 64 KiB: for seeds of hash maps, which is what guest languages ask for.
pub(super) fn seeded() -> Deterministic {
    // SplitMix64 (Steele, Lea and Flood 2014).
    let mut state = 0u64;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    });
    Deterministic::new(words.take(8192).flat_map(u64::to_le_bytes).collect())
}
