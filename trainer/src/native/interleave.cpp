// Joins what `network/upsampled.rs` computes: four neighbouring pixels as channels of one place, and what to add along the
// rims. As one operator with its own gradient it costs one pass, where slices that are added to in place cost a copy each.
#include "native.h"
#include <torch/csrc/autograd/custom_function.h>

namespace {
// cells [n, 4 c, h, w], channels last, in the order (row, column, c), to [n, c, 2 h, 2 w], channels last.
at::Tensor spread(const at::Tensor &cells) {
  int64_t n = cells.size(0), c = cells.size(1) / 4, h = cells.size(2), w = cells.size(3);
  auto places = cells.permute({0, 2, 3, 1}).reshape({n, h, w, 2, 2, c}).permute({0, 1, 3, 2, 4, 5});
  return places.contiguous().view({n, 2 * h, 2 * w, c}).permute({0, 3, 1, 2});
}

// The way back.
at::Tensor gather(const at::Tensor &image) {
  int64_t n = image.size(0), c = image.size(1), h = image.size(2) / 2, w = image.size(3) / 2;
  auto places = image.permute({0, 2, 3, 1}).reshape({n, h, 2, w, 2, c}).permute({0, 1, 3, 2, 4, 5});
  return places.contiguous().view({n, h, w, 4 * c}).permute({0, 3, 1, 2});
}

class Interleave : public torch::autograd::Function<Interleave> {
public:
  static at::Tensor forward(torch::autograd::AutogradContext *, const at::Tensor &cells, const at::Tensor &top,
                            const at::Tensor &bottom, const at::Tensor &left, const at::Tensor &right) {
    at::Tensor image = spread(cells);
    image.narrow(2, 0, 2).add_(top);
    image.narrow(2, -2, 2).add_(bottom);
    image.narrow(3, 0, 2).add_(left);
    image.narrow(3, -2, 2).add_(right);
    return image;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *, torch::autograd::variable_list g) {
    const at::Tensor &image = g[0];
    return {gather(image), image.narrow(2, 0, 2), image.narrow(2, -2, 2), image.narrow(3, 0, 2), image.narrow(3, -2, 2)};
  }
};
} // namespace

extern "C" {
// cells [n, 4 c, h, w]; top and bottom [n, c, 2, 2 w], left and right [n, c, 2 h, 2].
at::Tensor *salad_interleave(const at::Tensor *cells, const at::Tensor *top, const at::Tensor *bottom,
                             const at::Tensor *left, const at::Tensor *right) {
  return salad::guarded<>(static_cast<at::Tensor *>(nullptr), [&] {
    return new at::Tensor(Interleave::apply(*cells, *top, *bottom, *left, *right));
  });
}
}
