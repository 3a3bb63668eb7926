// Batch norm in training and the leaky ReLU after it (ReLU with slope 0, nothing with slope 1) as one operator with its own
// gradient, on the CPU, channels last, f32 or bf16. libtorch's two read and write the whole map once more each way, and
// with wide maps that traffic is a fifth of a step.
//
// A map [n, channels, height, width] in this layout is `rows` = n * height * width rows of `channels` values. Sums are taken
// by blocks of rows whose number depends on the shape alone and joined in order, so that threads change no bit.
#include "native.h"
#include <ATen/Parallel.h>
#include <algorithm>
#include <torch/csrc/autograd/custom_function.h>
#include <vector>

// One function for each generation of processors, chosen when the program starts.
#if defined(__x86_64__) && defined(__GNUC__)
#define FOR_EACH_CPU __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define FOR_EACH_CPU
#endif
#define INLINE static inline __attribute__((always_inline))

namespace {
// Values of a block: small enough for the second look at it to come from the cache.
constexpr int64_t BLOCK_VALUES = 16384;
// Rows of few channels are handled as one longer row, so that there is something to vectorise.
constexpr int64_t MIN_WIDTH = 64;

struct Bf16 {
  uint16_t bits;
};
INLINE float load(float v) { return v; }
INLINE float load(Bf16 v) {
  uint32_t bits = static_cast<uint32_t>(v.bits) << 16;
  float f;
  __builtin_memcpy(&f, &bits, 4);
  return f;
}
INLINE void store(float &to, float v) { to = v; }
INLINE void store(Bf16 &to, float v) {
  uint32_t bits;
  __builtin_memcpy(&bits, &v, 4);
  // To nearest, ties to even. A NaN stays one: its bits below the ones kept are not all set.
  to.bits = static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// How a map is cut into blocks.
struct Blocks {
  int64_t rows, channels, together, each, count;
  Blocks(int64_t rows, int64_t channels)
      : rows(rows), channels(channels), together(std::max<int64_t>(1, MIN_WIDTH / channels)),
        each(together * std::max<int64_t>(1, BLOCK_VALUES / (channels * together))), count((rows + each - 1) / each) {}
  int64_t width() const { return channels * together; }
  int64_t first(int64_t block) const { return block * each; }
  int64_t size(int64_t block) const { return std::min(each, rows - block * each); }
};

// `values` (one a channel) repeated for rows that are handled together.
std::vector<float> repeated(const float *values, const Blocks &blocks) {
  std::vector<float> out;
  for (int64_t i = 0; i < blocks.together; i++) out.insert(out.end(), values, values + blocks.channels);
  return out;
}

// Calls f(values, width, count) for the part of a block that fills whole widths, then for the rest, row by row.
template <class T, class F> INLINE void by_width(T *values, int64_t rows, int64_t channels, int64_t together, F f) {
  int64_t whole = rows / together;
  f(values, channels * together, whole);
  f(values + whole * together * channels, channels, rows - whole * together);
}

// Sums over a block's rows of x - shift and, where `squares`, of its square; into sums[channels] by way of lanes[width].
template <bool squares, class T>
INLINE void sum_rows(const T *x, int64_t rows, int64_t channels, int64_t together, const float *__restrict shift,
                     float *__restrict lanes, float *__restrict sums) {
  std::fill_n(lanes, channels * together, 0.f);
  by_width(x, rows, channels, together, [&](const T *part, int64_t width, int64_t count) __attribute__((always_inline)) {
    for (int64_t i = 0; i < count; i++, part += width)
      for (int64_t j = 0; j < width; j++) {
        float v = load(part[j]) - shift[j];
        lanes[j] += squares ? v * v : v;
      }
  });
  std::fill_n(sums, channels, 0.f);
  for (int64_t t = 0; t < together; t++)
    for (int64_t c = 0; c < channels; c++) sums[c] += lanes[t * channels + c];
}

// y = max(a x + b, slope (a x + b)).
template <class T>
INLINE void transform_rows(const T *__restrict x, T *__restrict y, int64_t values, int64_t width, const float *__restrict a,
                           const float *__restrict b, float slope) {
  for (int64_t at = 0; at < values; at += width)
    for (int64_t j = 0, end = std::min(width, values - at); j < end; j++) {
      float v = load(x[at + j]) * a[j] + b[j];
      store(y[at + j], v > 0 ? v : slope * v);
    }
}

// With g = dy times the slope at a x + b: sums over a block's rows of g, and of g (x - centre).
template <class T>
INLINE void gradient_sums(const T *x, const T *dy, int64_t rows, int64_t channels, int64_t together,
                          const float *__restrict a, const float *__restrict b, const float *__restrict centre,
                          float slope, float *__restrict lanes, float *__restrict sums) {
  int64_t all = channels * together;
  float *__restrict plain = lanes, *__restrict weighted = lanes + all;
  std::fill_n(lanes, 2 * all, 0.f);
  int64_t whole = rows / together * together * channels;
  for (int64_t at = 0, width = all; at < rows * channels; at += width) {
    if (at == whole) width = channels;
    for (int64_t j = 0; j < width; j++) {
      float v = load(x[at + j]), d = load(dy[at + j]);
      float g = v * a[j] + b[j] > 0 ? d : slope * d;
      plain[j] += g;
      weighted[j] += g * (v - centre[j]);
    }
  }
  std::fill_n(sums, 2 * channels, 0.f);
  for (int64_t t = 0; t < together; t++)
    for (int64_t c = 0; c < channels; c++) {
      sums[c] += plain[t * channels + c];
      sums[channels + c] += weighted[t * channels + c];
    }
}

// dx = a g - p - q (x - centre).
template <class T>
INLINE void gradient_rows(const T *__restrict x, const T *__restrict dy, T *__restrict dx, int64_t values, int64_t width,
                          const float *__restrict a, const float *__restrict b, const float *__restrict centre,
                          const float *__restrict p, const float *__restrict q, float slope) {
  for (int64_t at = 0; at < values; at += width)
    for (int64_t j = 0, end = std::min(width, values - at); j < end; j++) {
      float v = load(x[at + j]), d = load(dy[at + j]);
      float g = v * a[j] + b[j] > 0 ? d : slope * d;
      store(dx[at + j], a[j] * g - p[j] - q[j] * (v - centre[j]));
    }
}

// target_clones takes no templates: each kernel by name, for both types.
#define KERNELS(T, name)                                                                                                   \
  FOR_EACH_CPU void sums_##name(const T *x, int64_t rows, int64_t c, int64_t t, const float *shift, float *l, float *s) {  \
    sum_rows<false>(x, rows, c, t, shift, l, s);                                                                           \
  }                                                                                                                        \
  FOR_EACH_CPU void squares_##name(const T *x, int64_t rows, int64_t c, int64_t t, const float *m, float *l, float *s) {   \
    sum_rows<true>(x, rows, c, t, m, l, s);                                                                                \
  }                                                                                                                        \
  FOR_EACH_CPU void transform_##name(const T *x, T *y, int64_t n, int64_t w, const float *a, const float *b, float k) {    \
    transform_rows(x, y, n, w, a, b, k);                                                                                   \
  }                                                                                                                        \
  FOR_EACH_CPU void gradient_sums_##name(const T *x, const T *dy, int64_t rows, int64_t c, int64_t t, const float *a,      \
                                         const float *b, const float *m, float k, float *l, float *s) {                    \
    gradient_sums(x, dy, rows, c, t, a, b, m, k, l, s);                                                                    \
  }                                                                                                                        \
  FOR_EACH_CPU void gradient_##name(const T *x, const T *dy, T *dx, int64_t n, int64_t w, const float *a, const float *b,  \
                                    const float *m, const float *p, const float *q, float k) {                             \
    gradient_rows(x, dy, dx, n, w, a, b, m, p, q, k);                                                                      \
  }                                                                                                                        \
  struct Kernels_##name {                                                                                                  \
    using Value = T;                                                                                                       \
    static constexpr auto sums = sums_##name, squares = squares_##name;                                                    \
    static constexpr auto transform = transform_##name;                                                                    \
    static constexpr auto gradient_sums = gradient_sums_##name;                                                            \
    static constexpr auto gradient = gradient_##name;                                                                      \
  };
KERNELS(float, f32)
KERNELS(Bf16, bf16)

struct Moments {
  std::vector<double> mean, variance; // variance without Bessel's correction
};

template <class K> Moments moments(const typename K::Value *x, const Blocks &blocks) {
  int64_t c = blocks.channels;
  std::vector<float> means(blocks.count * c), squares(blocks.count * c);
  at::parallel_for(0, blocks.count, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> zero(blocks.width(), 0.f), lanes(blocks.width());
    for (int64_t block = begin; block < end; block++) {
      auto part = x + blocks.first(block) * c;
      int64_t rows = blocks.size(block);
      float *mean = &means[block * c];
      K::sums(part, rows, c, blocks.together, zero.data(), lanes.data(), mean);
      for (int64_t i = 0; i < c; i++) mean[i] /= static_cast<float>(rows);
      K::squares(part, rows, c, blocks.together, repeated(mean, blocks).data(), lanes.data(), &squares[block * c]);
    }
  });
  // Chan, Golub and LeVeque 1979: two groups' sums of squared deviations, joined.
  Moments all{std::vector<double>(c), std::vector<double>(c)};
  double seen = 0;
  for (int64_t block = 0; block < blocks.count; block++) {
    double rows = static_cast<double>(blocks.size(block)), total = seen + rows;
    for (int64_t i = 0; i < c; i++) {
      double delta = means[block * c + i] - all.mean[i];
      all.mean[i] += delta * rows / total;
      all.variance[i] += squares[block * c + i] + delta * delta * seen * rows / total;
    }
    seen = total;
  }
  for (double &v : all.variance) v /= seen;
  return all;
}

// Per channel: y = act(scale x + shift).
struct Affine {
  std::vector<float> scale, shift;
};

Affine affine(const at::Tensor &mean, const at::Tensor &deviation, const at::Tensor &weight, const at::Tensor &bias,
              const Blocks &blocks) {
  std::vector<float> scale(blocks.channels), shift(blocks.channels);
  const double *m = mean.const_data_ptr<double>(), *d = deviation.const_data_ptr<double>();
  for (int64_t i = 0; i < blocks.channels; i++) {
    double a = (weight.defined() ? weight.const_data_ptr<float>()[i] : 1.0) / d[i];
    scale[i] = static_cast<float>(a);
    shift[i] = static_cast<float>((bias.defined() ? bias.const_data_ptr<float>()[i] : 0.0) - m[i] * a);
  }
  return {repeated(scale.data(), blocks), repeated(shift.data(), blocks)};
}

template <class K> const typename K::Value *values(const at::Tensor &t) {
  return static_cast<const typename K::Value *>(t.const_data_ptr());
}

template <class K>
at::Tensor transformed(const at::Tensor &x, const Affine &by, float slope, const Blocks &blocks) {
  at::Tensor y = at::empty_like(x);
  auto to = static_cast<typename K::Value *>(y.mutable_data_ptr());
  at::parallel_for(0, blocks.count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; block++) {
      int64_t at = blocks.first(block) * blocks.channels, n = blocks.size(block) * blocks.channels;
      K::transform(values<K>(x) + at, to + at, n, blocks.width(), by.scale.data(), by.shift.data(), slope);
    }
  });
  return y;
}

struct Gradients {
  at::Tensor x, weight, bias;
};

template <class K>
Gradients gradients(const at::Tensor &x, const at::Tensor &dy, const at::Tensor &mean, const at::Tensor &deviation,
                    const Affine &by, float slope, const Blocks &blocks) {
  int64_t c = blocks.channels;
  const double *m = mean.const_data_ptr<double>(), *d = deviation.const_data_ptr<double>();
  std::vector<float> centre(m, m + c);
  centre = repeated(centre.data(), blocks);
  std::vector<float> partial(blocks.count * 2 * c);
  at::parallel_for(0, blocks.count, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> lanes(2 * blocks.width());
    for (int64_t block = begin; block < end; block++) {
      int64_t at = blocks.first(block) * c;
      K::gradient_sums(values<K>(x) + at, values<K>(dy) + at, blocks.size(block), c, blocks.together, by.scale.data(),
                       by.shift.data(), centre.data(), slope, lanes.data(), &partial[block * 2 * c]);
    }
  });
  std::vector<double> sums(2 * c);
  for (int64_t block = 0; block < blocks.count; block++)
    for (int64_t i = 0; i < 2 * c; i++) sums[i] += partial[block * 2 * c + i];

  at::Tensor dweight = at::empty({c}, x.options().dtype(at::kFloat)), dbias = at::empty_like(dweight);
  std::vector<float> p(c), q(c);
  double rows = static_cast<double>(blocks.rows);
  for (int64_t i = 0; i < c; i++) {
    dbias.mutable_data_ptr<float>()[i] = static_cast<float>(sums[i]);
    dweight.mutable_data_ptr<float>()[i] = static_cast<float>(sums[c + i] / d[i]);
    p[i] = static_cast<float>(by.scale[i] * sums[i] / rows);
    q[i] = static_cast<float>(by.scale[i] * sums[c + i] / (rows * d[i] * d[i]));
  }
  p = repeated(p.data(), blocks);
  q = repeated(q.data(), blocks);
  at::Tensor dx = at::empty_like(x);
  auto to = static_cast<typename K::Value *>(dx.mutable_data_ptr());
  at::parallel_for(0, blocks.count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; block++) {
      int64_t at = blocks.first(block) * c, n = blocks.size(block) * c;
      K::gradient(values<K>(x) + at, values<K>(dy) + at, to + at, n, blocks.width(), by.scale.data(), by.shift.data(),
                  centre.data(), p.data(), q.data(), slope);
    }
  });
  return {dx, dweight, dbias};
}

Blocks blocks_of(const at::Tensor &x) { return {x.size(0) * x.size(2) * x.size(3), x.size(1)}; }

class NormActivation : public torch::autograd::Function<NormActivation> {
public:
  static at::Tensor forward(torch::autograd::AutogradContext *context, const at::Tensor &input,
                            const std::optional<at::Tensor> &given_weight, const std::optional<at::Tensor> &given_bias,
                            at::Tensor running_mean, at::Tensor running_variance, double momentum, double epsilon,
                            double slope) {
    at::Tensor none, weight = given_weight.value_or(none), bias = given_bias.value_or(none);
    at::Tensor x = input.contiguous(at::MemoryFormat::ChannelsLast);
    Blocks blocks = blocks_of(x);
    bool half = x.scalar_type() == at::kBFloat16;
    Moments found =
        half ? moments<Kernels_bf16>(values<Kernels_bf16>(x), blocks) : moments<Kernels_f32>(values<Kernels_f32>(x), blocks);
    at::Tensor mean = at::empty({blocks.channels}, x.options().dtype(at::kDouble)), deviation = at::empty_like(mean);
    double unbiased = static_cast<double>(blocks.rows) / static_cast<double>(std::max<int64_t>(1, blocks.rows - 1));
    float *running[] = {running_mean.mutable_data_ptr<float>(), running_variance.mutable_data_ptr<float>()};
    for (int64_t i = 0; i < blocks.channels; i++) {
      mean.mutable_data_ptr<double>()[i] = found.mean[i];
      deviation.mutable_data_ptr<double>()[i] = std::sqrt(found.variance[i] + epsilon);
      running[0][i] = static_cast<float>((1 - momentum) * running[0][i] + momentum * found.mean[i]);
      running[1][i] = static_cast<float>((1 - momentum) * running[1][i] + momentum * unbiased * found.variance[i]);
    }
    context->save_for_backward({x, weight, bias, mean, deviation});
    context->saved_data["slope"] = slope;
    Affine by = affine(mean, deviation, weight, bias, blocks);
    float k = static_cast<float>(slope);
    return half ? transformed<Kernels_bf16>(x, by, k, blocks) : transformed<Kernels_f32>(x, by, k, blocks);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *context,
                                                 torch::autograd::variable_list outputs) {
    auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &bias = saved[2], &mean = saved[3], &deviation = saved[4];
    at::Tensor dy = outputs[0].to(x.scalar_type()).contiguous(at::MemoryFormat::ChannelsLast);
    Blocks blocks = blocks_of(x);
    Affine by = affine(mean, deviation, weight, bias, blocks);
    float slope = static_cast<float>(context->saved_data["slope"].toDouble());
    Gradients found = x.scalar_type() == at::kBFloat16
                          ? gradients<Kernels_bf16>(x, dy, mean, deviation, by, slope, blocks)
                          : gradients<Kernels_f32>(x, dy, mean, deviation, by, slope, blocks);
    at::Tensor none;
    return {found.x, weight.defined() ? found.weight : none, bias.defined() ? found.bias : none, none, none, none, none,
            none};
  }
};
} // namespace

extern "C" {
// x [n, channels, height, width], f32 or bf16; weight and bias f32 or null; the running statistics are brought up to date.
at::Tensor *salad_norm_activation(const at::Tensor *x, const at::Tensor *weight, const at::Tensor *bias,
                                  at::Tensor *running_mean, at::Tensor *running_variance, double momentum, double epsilon,
                                  double slope) {
  return salad::guarded<>(static_cast<at::Tensor *>(nullptr), [&] {
    auto optional = [](const at::Tensor *t) { return t ? std::optional<at::Tensor>(*t) : std::nullopt; };
    return new at::Tensor(NormActivation::apply(*x, optional(weight), optional(bias), *running_mean, *running_variance,
                                                momentum, epsilon, slope));
  });
}
}
