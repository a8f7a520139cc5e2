// What tch does not bind of libtorch: variable-length FlashAttention with its log-sum-exp.
//
// The call goes through libtorch's dispatcher, so nothing here is linked against CUDA: where libtorch_cuda is loaded and
// the tensors are on a GPU its kernel runs, elsewhere the dispatcher says that there is none.

#include <ATen/core/Tensor.h>
#include <ATen/ops/_flash_attention_forward.h>

#include <cstring>
#include <exception>
#include <optional>

extern "C" {

// Writes at most `capacity` bytes of the error's first line, its closing zero included. Returns 0 on success.
//
// `query` [rows, heads, D], `key` and `value` [slots, key heads, D]. Sequence i has the query rows query_starts[i] ..
// query_starts[i + 1] and key_lengths[i] keys from slot key_starts[i] on; key_starts has one more entry, which is not read.
// Both results are new tensors that the caller frees: out [rows, heads, D], lse [heads, rows].
int metareward_flash_attention(
    const at::Tensor* query,
    const at::Tensor* key,
    const at::Tensor* value,
    const at::Tensor* query_starts,
    const at::Tensor* key_starts,
    const at::Tensor* key_lengths,
    int64_t most_queries,
    int64_t most_keys,
    int causal,
    double scale,
    at::Tensor** out,
    at::Tensor** lse,
    char* error,
    size_t capacity) {
  try {
    auto result = at::_flash_attention_forward(
        *query,
        *key,
        *value,
        *query_starts,
        *key_starts,
        most_queries,
        most_keys,
        /*dropout_p=*/0.0,
        causal != 0,
        /*return_debug_mask=*/false,
        scale,
        std::nullopt,
        std::nullopt,
        *key_lengths,
        std::nullopt);
    *out = new at::Tensor(std::move(std::get<0>(result)));
    *lse = new at::Tensor(std::move(std::get<1>(result)));
    return 0;
  } catch (const std::exception& e) {
    const char* text = e.what();
    size_t length = std::strcspn(text, "\n");
    if (length >= capacity) length = capacity - 1;
    std::memcpy(error, text, length);
    error[length] = 0;
    return 1;
  } catch (...) {
    std::strncpy(error, "an unknown C++ exception", capacity - 1);
    error[capacity - 1] = 0;
    return 1;
  }
}
}
