// The two ends of `network/upsampled.rs`: the rims of the small map, and the large image from quarters and rims. As operators
// with gradients of their own they touch each value once; libtorch's slices would make the whole map anew for each of them.
#include "native.h"
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {
// To and from: cells [n, 4 c, h, w] whose channels are (row, column, c), and an image [n, c, 2 h, 2 w]; channels last, f32.
template <bool to_image> void move(float *cells, float *image, int64_t rows, int64_t w, int64_t c) {
  at::parallel_for(0, rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++)
      for (int64_t part = 0; part < 2; part++) {
        float *from = cells + row * w * 4 * c + part * 2 * c, *to = image + (2 * row + part) * 2 * w * c;
        for (int64_t x = 0; x < w; x++, from += 4 * c, to += 2 * c)
          for (int64_t i = 0; i < 2 * c; i++) {
            if (to_image) to[i] = from[i];
            else from[i] = to[i];
          }
      }
  });
}

at::Tensor channels_last(const at::Tensor &like, at::IntArrayRef size) {
  return at::empty(size, like.options().memory_format(at::MemoryFormat::ChannelsLast));
}

class FromQuarters : public torch::autograd::Function<FromQuarters> {
public:
  static at::Tensor forward(AutogradContext *, const at::Tensor &given, const at::Tensor &top, const at::Tensor &bottom,
                            const at::Tensor &left, const at::Tensor &right) {
    at::Tensor cells = given.contiguous(at::MemoryFormat::ChannelsLast);
    int64_t n = cells.size(0), c = cells.size(1) / 4, h = cells.size(2), w = cells.size(3);
    at::Tensor image = channels_last(cells, {n, c, 2 * h, 2 * w});
    move<true>(cells.data_ptr<float>(), image.data_ptr<float>(), n * h, w, c);
    image.narrow(2, 0, 2).add_(top);
    image.narrow(2, -2, 2).add_(bottom);
    image.narrow(3, 0, 2).add_(left);
    image.narrow(3, -2, 2).add_(right);
    return image;
  }

  static variable_list backward(AutogradContext *, variable_list gradients) {
    at::Tensor image = gradients[0].contiguous(at::MemoryFormat::ChannelsLast);
    int64_t n = image.size(0), c = image.size(1), h = image.size(2) / 2, w = image.size(3) / 2;
    at::Tensor cells = channels_last(image, {n, 4 * c, h, w});
    move<false>(cells.data_ptr<float>(), image.data_ptr<float>(), n * h, w, c);
    return {cells, image.narrow(2, 0, 2), image.narrow(2, -2, 2), image.narrow(3, 0, 2), image.narrow(3, -2, 2)};
  }
};

class Rims : public torch::autograd::Function<Rims> {
public:
  static variable_list forward(AutogradContext *, const at::Tensor &x) {
    return {x, x.narrow(2, 0, 1).clone(), x.narrow(2, -1, 1).clone(), x.narrow(3, 0, 1).clone(),
            x.narrow(3, -1, 1).clone()};
  }

  // The gradient of the map itself comes new from the one convolution that the map goes into, so that it may be added to.
  static variable_list backward(AutogradContext *, variable_list gradients) {
    at::Tensor x = gradients[0];
    x.narrow(2, 0, 1).add_(gradients[1]);
    x.narrow(2, -1, 1).add_(gradients[2]);
    x.narrow(3, 0, 1).add_(gradients[3]);
    x.narrow(3, -1, 1).add_(gradients[4]);
    return {x};
  }
};
} // namespace

extern "C" {
// x [n, c, h, w] into outputs[5]: itself, its first and last row [n, c, 1, w], its first and last column [n, c, h, 1]. All
// five have to be used, the first by one operator only.
int salad_rims(const at::Tensor *x, at::Tensor **outputs) {
  return salad::guarded(0, [&] {
    auto found = Rims::apply(*x);
    for (size_t i = 0; i < found.size(); i++) outputs[i] = new at::Tensor(found[i]);
    return 1;
  });
}

// cells [n, 4 c, h, w]; top and bottom [n, c, 2, 2 w], left and right [n, c, 2 h, 2] are added.
at::Tensor *salad_from_quarters(const at::Tensor *cells, const at::Tensor *top, const at::Tensor *bottom,
                                const at::Tensor *left, const at::Tensor *right) {
  return salad::guarded<>(static_cast<at::Tensor *>(nullptr), [&] {
    return new at::Tensor(FromQuarters::apply(*cells, *top, *bottom, *left, *right));
  });
}
}
