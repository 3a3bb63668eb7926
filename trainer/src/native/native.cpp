// What tch does not hand through of libtorch: the slope of a leaky ReLU, the fused Adam, forgetting gradients, autocast's
// type, the TF32 switch, copies that do not wait. `mod.rs` beside it is the safe side.
#include "native.h"
#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <vector>

namespace salad {
std::string &last_error() {
  thread_local std::string words;
  return words;
}
} // namespace salad
using salad::guarded;

namespace {
std::vector<at::Tensor> list(at::Tensor **tensors, size_t n) {
  std::vector<at::Tensor> out;
  out.reserve(n);
  for (size_t i = 0; i < n; i++) out.push_back(*tensors[i]);
  return out;
}
} // namespace

extern "C" {
const char *salad_last_error() { return salad::last_error().c_str(); }

at::Tensor *salad_leaky_relu(const at::Tensor *x, double slope) {
  return guarded<>(static_cast<at::Tensor *>(nullptr), [&] { return new at::Tensor(at::leaky_relu(*x, slope)); });
}

// A copy on `device` (-1 is the CPU, else the number of a CUDA device) that does not wait where the source is pinned.
at::Tensor *salad_to_device(const at::Tensor *x, int device) {
  return guarded<>(static_cast<at::Tensor *>(nullptr), [&] {
    auto to = device < 0 ? at::Device(at::kCPU) : at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device));
    return new at::Tensor(x->to(to, x->scalar_type(), /*non_blocking=*/true, /*copy=*/false));
  });
}

// Twice the side, bilinear, in the type that x has: autocast would make f32 of it, and move twice the bytes.
at::Tensor *salad_upsampled(const at::Tensor *x) {
  return guarded<>(static_cast<at::Tensor *>(nullptr), [&] {
    c10::impl::ExcludeDispatchKeyGuard plain(c10::autocast_dispatch_keyset);
    return new at::Tensor(at::upsample_bilinear2d(*x, {x->size(2) * 2, x->size(3) * 2}, /*align_corners=*/false));
  });
}

// A copy in memory that a GPU copies from without the processor's help.
at::Tensor *salad_pinned(const at::Tensor *x) {
  return guarded<>(static_cast<at::Tensor *>(nullptr), [&] { return new at::Tensor(x->pin_memory()); });
}

// The next backward pass then writes the gradient anew, where zeroing it would cost a pass here and a sum there.
int salad_forget_gradient(at::Tensor *x) {
  return guarded(0, [&] {
    x->mutable_grad().reset();
    return 1;
  });
}

int salad_fused_adam(at::Tensor **parameters, at::Tensor **gradients, at::Tensor **means, at::Tensor **squares, size_t n,
                     const at::Tensor *steps, double rate, double beta1, double beta2, double decay, double epsilon) {
  return guarded(0, [&] {
    at::NoGradGuard guard;
    std::vector<at::Tensor> all_steps(n, *steps);
    at::_fused_adam_(list(parameters, n), list(gradients, n), list(means, n), list(squares, n), {}, all_steps, rate, beta1,
                     beta2, decay, epsilon, /*amsgrad=*/false, /*maximize=*/false);
    return 1;
  });
}

// Returns whether it was on before. `cuda` chooses whose operators are meant.
int salad_autocast_bf16(int cuda, int on) {
  auto device = cuda ? at::kCUDA : at::kCPU;
  bool before = at::autocast::is_autocast_enabled(device);
  if (on) {
    at::autocast::set_autocast_dtype(device, at::kBFloat16);
    at::autocast::increment_nesting();
  } else if (at::autocast::decrement_nesting() == 0) {
    at::autocast::clear_cache();
  }
  at::autocast::set_autocast_enabled(device, on != 0);
  return before;
}

void salad_allow_tf32(int on) {
  at::globalContext().setAllowTF32CuBLAS(false);
  at::globalContext().setAllowTF32CuDNN(on != 0);
}

// Whether TF32 is on: 1, 2 and 3 are matrix products, convolutions and both.
int salad_tf32() {
  return (at::globalContext().allowTF32CuBLAS() ? 1 : 0) | (at::globalContext().allowTF32CuDNN() ? 2 : 0);
}
}
