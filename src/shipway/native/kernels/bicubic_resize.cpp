// Resizes planes by factors that are data, bicubic or bilinear.
//
// Source: torch.nn.functional.interpolate with scale_factor and recompute_scale_factor=False: the
// output has floor(size * factor) pixels, and pixels are found with the factor itself. Cubic weights:
// Keys 1981 with a = -0.75.

#include <algorithm>
#include <cmath>
#include <new>
#include <vector>

#include "shipway_kernel.hpp"

namespace shipway {
namespace {

constexpr std::int64_t kMostPixels = std::int64_t{1} << 31;  // of an axis
constexpr double kSharpness = -0.75;

int infer(const shipway_tensor* in, const shipway_attribute*, shipway_shape* out,
          shipway_host* host) {
  if (in[0].rank != 4) {
    return fail(host, "input has shape " + shape_text(in[0]) +
                          ", but must be [batch, channels, height, width]");
  }
  if (in[1].rank != 1 || (in[1].shape[0] >= 0 && in[1].shape[0] != 2)) {
    return fail(host, "scales has shape " + shape_text(in[1]) +
                          ", but must be [2], the factors of height and width");
  }
  set_shape(out[0], {in[0].shape[0], in[0].shape[1], -1, -1});
  return 0;
}

struct Settings {
  bool align_corners, bilinear;
};

// What the pixels of one output axis read: `taps` pixels each, with their weights.
template <class W>
struct Axis {
  std::int64_t size = 0, taps = 0;
  std::vector<std::int64_t> index;
  std::vector<W> weight;
};

// The cubic kernel at a distance of up to one pixel, and from one to two.
double near_weight(double x) { return ((kSharpness + 2) * x - (kSharpness + 3)) * x * x + 1; }
double far_weight(double x) {
  return ((kSharpness * x - 5 * kSharpness) * x + 8 * kSharpness) * x - 4 * kSharpness;
}

template <class W>
Axis<W> make_axis(std::int64_t from, std::int64_t size, double scale, const Settings& settings) {
  Axis<W> axis;
  axis.size = size;
  axis.taps = settings.bilinear ? 2 : 4;
  const double ratio = !settings.align_corners ? 1 / scale
                       : size > 1 ? static_cast<double>(from - 1) / static_cast<double>(size - 1)
                                  : 0.0;
  for (std::int64_t at = 0; at < size; ++at) {
    const double number = static_cast<double>(at);
    double position = settings.align_corners ? ratio * number : ratio * (number + 0.5) - 0.5;
    if (settings.bilinear) position = std::max(position, 0.0);
    const double floor = std::floor(position), part = position - floor;
    const double cubic[4] = {far_weight(part + 1), near_weight(part), near_weight(1 - part),
                             far_weight(2 - part)};
    const double linear[2] = {1 - part, part};
    for (std::int64_t tap = 0; tap < axis.taps; ++tap) {
      const double pixel = floor + static_cast<double>(tap - axis.taps / 2 + 1);
      axis.index.push_back(std::clamp<std::int64_t>(static_cast<std::int64_t>(pixel), 0, from - 1));
      axis.weight.push_back(static_cast<W>(settings.bilinear ? linear[tap] : cubic[tap]));
    }
  }
  return axis;
}

template <class T>
struct Resizer {
  using W = wide_t<T>;
  const T* input;
  T* output;
  std::int64_t height, width;
  const Axis<W>& rows;
  const Axis<W>& columns;

  // Output rows, counted over all planes: the input rows of each are summed first, then its columns.
  void operator()(std::int64_t begin, std::int64_t end) const {
    std::vector<W> sums(static_cast<std::size_t>(width));
    for (std::int64_t at = begin; at < end; ++at) {
      sum_rows(input + at / rows.size * height * width, at % rows.size, sums.data());
      sum_columns(sums.data(), output + at * columns.size);
    }
  }

  void sum_rows(const T* plane, std::int64_t row, W* sums) const {
    std::fill(sums, sums + width, W(0));
    for (std::int64_t tap = 0; tap < rows.taps; ++tap) {
      const auto entry = static_cast<std::size_t>(row * rows.taps + tap);
      const T* from = plane + rows.index[entry] * width;
      const W weight = rows.weight[entry];
      for (std::int64_t x = 0; x < width; ++x) sums[x] += weight * static_cast<W>(from[x]);
    }
  }

  void sum_columns(const W* sums, T* to) const {
    for (std::int64_t x = 0; x < columns.size; ++x) {
      W sum = 0;
      for (std::int64_t tap = 0; tap < columns.taps; ++tap) {
        const auto entry = static_cast<std::size_t>(x * columns.taps + tap);
        sum += columns.weight[entry] * sums[columns.index[entry]];
      }
      to[x] = static_cast<T>(sum);
    }
  }
};

template <class T>
int resize(const shipway_tensor* in, const std::int64_t* shape, void* output,
           const Settings& settings, shipway_host* host) {
  using W = wide_t<T>;
  const float* scales = data<float>(in[1]);
  const std::int64_t* size = in[0].shape;
  try {
    const Axis<W> rows = make_axis<W>(size[2], shape[2], static_cast<double>(scales[0]), settings);
    const Axis<W> columns =
        make_axis<W>(size[3], shape[3], static_cast<double>(scales[1]), settings);
    const Resizer<T> resizer{data<T>(in[0]), static_cast<T*>(output), size[2], size[3], rows,
                             columns};
    return parallel(host, shape[0] * shape[1] * shape[2], 8, resizer);
  } catch (const std::bad_alloc&) {
    return fail(host, "BicubicResize ran out of memory");
  }
}

int compute(const shipway_tensor* in, const shipway_attribute* attributes, shipway_tensor*,
            shipway_host* host) {
  std::int64_t shape[4] = {in[0].shape[0], in[0].shape[1], 0, 0};
  for (int axis = 0; axis < 2; ++axis) {
    const double scale = static_cast<double>(data<float>(in[1])[axis]);
    const double wanted = std::floor(static_cast<double>(in[0].shape[2 + axis]) * scale);
    if (!(wanted >= 1 && wanted <= static_cast<double>(kMostPixels))) {
      return fail(host, std::string(axis == 0 ? "height " : "width ") +
                            std::to_string(in[0].shape[2 + axis]) + " times scale " +
                            std::to_string(scale) + " is no size of an image");
    }
    shape[2 + axis] = static_cast<std::int64_t>(wanted);
  }
  void* output = host->allocate(host, 0, shape, 4);
  if (shape[0] * shape[1] == 0) return 0;
  if (output == nullptr) return fail(host, "BicubicResize ran out of memory");
  const Settings settings{attributes[0].i != 0, attributes[1].i != 0};
  return with_float(in[0].dtype, host, [&](auto tag) {
    return resize<decltype(tag)>(in, shape, output, settings, host);
  });
}

constexpr shipway_attribute_spec kAttributes[] = {
    {"align_corners", SHIPWAY_ATTR_INT, 0, 0, 0, nullptr, nullptr, 0},
    {"bilinear", SHIPWAY_ATTR_INT, 0, 0, 0, nullptr, nullptr, 0},
};

}  // namespace

extern const shipway_op bicubic_resize_op;
const shipway_op bicubic_resize_op = {SHIPWAY_OP_ABI, 1, "shipway", "BicubicResize",
                                      "bicubic_resize", "Tf", "T", kFloats, 0, 2, kAttributes,
                                      nullptr, infer, compute};

}  // namespace shipway
