// Samples of a volume at given points, bilinear or nearest, with three rules for what lies outside.
//
// Source: torch.nn.functional.grid_sample for five axes, whose order of operations is kept: it
// decides which voxel is the nearest one.

#include <algorithm>
#include <cmath>

#include "shipway_kernel.hpp"

namespace shipway {
namespace {

enum Mode { kBilinear, kNearest };
enum Padding { kZeros, kBorder, kReflection };
enum Attribute { kModeAttribute, kPaddingAttribute, kAlignAttribute };

int check_attributes(const shipway_attribute* attributes, shipway_host* host) {
  const std::int64_t mode = attributes[kModeAttribute].i, padding = attributes[kPaddingAttribute].i;
  if (mode != kBilinear && mode != kNearest) {
    return fail(host, "interpolation_mode is " + std::to_string(mode) +
                          ", but must be 0 (bilinear) or 1 (nearest)");
  }
  if (padding >= kZeros && padding <= kReflection) return 0;
  return fail(host, "padding_mode is " + std::to_string(padding) +
                        ", but must be 0 (zeros), 1 (border) or 2 (reflection)");
}

int infer(const shipway_tensor* in, const shipway_attribute* attributes, shipway_shape* out,
          shipway_host* host) {
  if (check_attributes(attributes, host)) return 1;
  if (in[0].rank != 5) {
    return fail(host, "input has shape " + shape_text(in[0]) +
                          ", but must be [batch, channels, depth, height, width]");
  }
  const bool triples = in[1].rank == 5 && (in[1].shape[4] < 0 || in[1].shape[4] == 3);
  const bool fits = triples && (in[0].shape[0] < 0 || in[1].shape[0] < 0 ||
                                in[0].shape[0] == in[1].shape[0]);
  if (!fits) {
    return fail(host, "grid has shape " + shape_text(in[1]) + ", but must be [" +
                          (in[0].shape[0] < 0 ? std::string("?") : std::to_string(in[0].shape[0])) +
                          ", out depth, out height, out width, 3]");
  }
  const std::int64_t* grid = in[1].shape;
  set_shape(out[0], {grid[0], in[0].shape[1], grid[1], grid[2], grid[3]});
  return 0;
}

struct Settings {
  std::int64_t mode, padding;
  bool align_corners;
};

// Mirrors a position at two edges, given as twice their place.
template <class W>
W reflect(W position, std::int64_t twice_low, std::int64_t twice_high) {
  if (twice_low == twice_high) return W(0);
  const W low = static_cast<W>(twice_low) / 2, span = static_cast<W>(twice_high - twice_low) / 2;
  const W away = std::fabs(position - low), flips = std::floor(away / span);
  const W extra = away - flips * span;
  return flips - 2 * std::floor(flips / 2) == 1 ? span - extra + low : extra + low;
}

// The position of a grid coordinate in voxels. With padding it lies inside; NaN is the last voxel.
template <class W>
W place(W coordinate, std::int64_t size, const Settings& settings) {
  W position = settings.align_corners
                   ? (coordinate + 1) / 2 * static_cast<W>(size - 1)
                   : ((coordinate + 1) * static_cast<W>(size) - 1) / 2;
  if (settings.padding == kZeros) return position;
  if (settings.padding == kReflection) {
    position = settings.align_corners ? reflect(position, 0, 2 * (size - 1))
                                      : reflect(position, -1, 2 * size - 1);
  }
  const W last = static_cast<W>(size - 1);
  if (!(position < last)) return last;
  return position < 0 ? W(0) : position;
}

// The two voxels around a position on an axis. One outside never gets weight 0 on some other voxel
// (0 * NaN is NaN): its neighbour inside takes both, each with half the weight, which is exact.
template <class W>
struct Reads {
  bool inside;
  std::int64_t index[2];
  W share[2];
};

template <class W>
Reads<W> bilinear_reads(W position, std::int64_t size) {
  if (!(position > -1 && position < static_cast<W>(size))) return {false, {0, 0}, {0, 0}};
  const W floor = std::floor(position), part = position - floor, rest = floor + 1 - position;
  const std::int64_t low = static_cast<std::int64_t>(floor);
  if (low < 0) return {true, {0, 0}, {part / 2, part / 2}};
  if (low + 1 >= size) return {true, {low, low}, {rest / 2, rest / 2}};
  return {true, {low, low + 1}, {rest, part}};
}

template <class W>
Reads<W> nearest_reads(W position, std::int64_t size) {
  const W nearest = std::nearbyint(position);
  if (!(nearest >= 0 && nearest < static_cast<W>(size))) return {false, {0, 0}, {0, 0}};
  const std::int64_t index = static_cast<std::int64_t>(nearest);
  return {true, {index, index}, {1, 0}};
}

constexpr std::int64_t kBlock = 32;  // points whose voxels are found together, for all channels

template <class W>
struct Block {
  bool inside[kBlock];
  std::int64_t index[kBlock][8];
  W weight[kBlock][8];
};

template <class T>
struct Sampler {
  using W = wide_t<T>;
  const T* input;
  const T* grid;
  T* output;
  std::int64_t channels, depth, height, width, points;  // points of one batch entry
  Settings settings;

  std::int64_t blocks() const { return (points + kBlock - 1) / kBlock; }

  void operator()(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t at = begin; at < end; ++at) {
      const std::int64_t batch = at / blocks(), first = at % blocks() * kBlock;
      run_block(batch, first, std::min(kBlock, points - first));
    }
  }

  Reads<W> reads_of(const T& coordinate, std::int64_t size) const {
    const W position = place(static_cast<W>(coordinate), size, settings);
    return settings.mode == kNearest ? nearest_reads(position, size)
                                     : bilinear_reads(position, size);
  }

  void find_voxels(const T* coordinate, Block<W>& block, std::int64_t i) const {
    const Reads<W> x = reads_of(coordinate[0], width), y = reads_of(coordinate[1], height);
    const Reads<W> z = reads_of(coordinate[2], depth);
    block.inside[i] = x.inside && y.inside && z.inside;
    for (int corner = 0; corner < 8; ++corner) {
      const int down = corner >> 2, along = corner >> 1 & 1, right = corner & 1;
      block.index[i][corner] =
          (z.index[down] * height + y.index[along]) * width + x.index[right];
      block.weight[i][corner] = z.share[down] * y.share[along] * x.share[right];
    }
  }

  void run_block(std::int64_t batch, std::int64_t first, std::int64_t count) const {
    Block<W> block;
    for (std::int64_t i = 0; i < count; ++i) {
      find_voxels(grid + 3 * (batch * points + first + i), block, i);
    }
    for (std::int64_t c = batch * channels; c < (batch + 1) * channels; ++c) {
      const T* volume = input + c * depth * height * width;
      T* to = output + c * points + first;
      for (std::int64_t i = 0; i < count; ++i) {
        to[i] = static_cast<T>(block.inside[i] ? sample(volume, block, i) : W(0));
      }
    }
  }

  W sample(const T* volume, const Block<W>& block, std::int64_t i) const {
    if (settings.mode == kNearest) return static_cast<W>(volume[block.index[i][0]]);
    W sum = 0;
    for (int corner = 0; corner < 8; ++corner) {
      sum += block.weight[i][corner] * static_cast<W>(volume[block.index[i][corner]]);
    }
    return sum;
  }
};

int compute(const shipway_tensor* in, const shipway_attribute* attributes, shipway_tensor* out,
            shipway_host* host) {
  const std::int64_t* size = in[0].shape;
  if (elements(out[0]) == 0) return 0;
  const std::int64_t padding = attributes[kPaddingAttribute].i;
  if (size[2] * size[3] * size[4] == 0 && padding != kZeros) {
    return fail(host, "input has shape " + shape_text(in[0]) +
                          ": a volume without voxels has no border");
  }
  const Settings settings{attributes[kModeAttribute].i, padding,
                          attributes[kAlignAttribute].i != 0};
  const std::int64_t points = in[1].shape[1] * in[1].shape[2] * in[1].shape[3];
  return with_float(in[0].dtype, host, [&](auto tag) {
    using T = decltype(tag);
    const Sampler<T> sampler{data<T>(in[0]), data<T>(in[1]), data<T>(out[0]), size[1], size[2],
                             size[3],        size[4],        points,          settings};
    return parallel(host, size[0] * sampler.blocks(), 2, sampler);
  });
}

constexpr shipway_attribute_spec kAttributes[] = {
    {"interpolation_mode", SHIPWAY_ATTR_INT, 0, 0, 0, nullptr, nullptr, 0},
    {"padding_mode", SHIPWAY_ATTR_INT, 0, 0, 0, nullptr, nullptr, 0},
    {"align_corners", SHIPWAY_ATTR_INT, 0, 0, 0, nullptr, nullptr, 0},
};

}  // namespace

extern const shipway_op grid_sample_3d_op;
const shipway_op grid_sample_3d_op = {SHIPWAY_OP_ABI, 1, "shipway", "GridSample3d",
                                      "grid_sample_3d", "TT", "T", kFloats, 0, 3, kAttributes,
                                      nullptr, infer, compute};

}  // namespace shipway
