// What tch does not bind of libtorch: the fused AdamW.
//
// The call goes through libtorch's dispatcher, so nothing here is linked against CUDA.

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>

#include <cstring>
#include <exception>

extern "C" {

// One step of AdamW on flat f32 tensors of one length, in place. `steps` is an f32 tensor of one element on the same device:
// the updates made, this one counted. Writes at most `capacity` bytes of the error's first line, its closing zero included.
// Returns 0 on success.
int metareward_fused_adamw(
    const at::Tensor* weights,
    const at::Tensor* gradient,
    const at::Tensor* mean,
    const at::Tensor* square,
    const at::Tensor* steps,
    double rate,
    double beta1,
    double beta2,
    double decay,
    double epsilon,
    char* error,
    size_t capacity) {
  try {
    at::NoGradGuard guard;
    at::_fused_adamw_(
        {*weights},
        {*gradient},
        {*mean},
        {*square},
        /*max_exp_avg_sqs=*/at::TensorList(),
        {*steps},
        rate,
        beta1,
        beta2,
        decay,
        epsilon,
        /*amsgrad=*/false,
        /*maximize=*/false);
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
