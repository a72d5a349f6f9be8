// One tile of a deformable convolution, the same for every instruction set. The including file first
// defines SHIPWAY_TARGET and SHIPWAY_INLINE (function attributes, the latter always inlined) and
// `kRows` and `add_block`. Everything is local to that file, because a function compiled for one
// instruction set must not be merged with its namesake for another.
#pragma once

#include <cmath>

#include "deform_conv2d.hpp"

namespace shipway::dcn {
namespace {

// Where the places of a tile read, for one tap and deformable group. A point reads four pixels. One
// that lies outside never gets weight 0 on some other pixel (0 * NaN is NaN): its neighbour inside
// takes both, each with half the weight, which is exact.
template <class W>
struct Points {
  std::int64_t origin[kTile];             // upper left pixel; -1 for a point that reads nothing
  std::int64_t right[kTile], down[kTile];  // steps to the other pixels
  W weights[4][kTile];                    // upper left, upper right, lower left, lower right
  W mask[kTile];
};

template <class W>
struct Axis {
  std::int64_t low, step;
  W low_part, high_part;
};

// The two pixels around a position in (-1, size).
template <class W>
SHIPWAY_INLINE Axis<W> split_axis(W position, std::int64_t size) {
  const W floor = std::floor(position), part = position - floor, rest = 1 - part;
  const std::int64_t low = static_cast<std::int64_t>(floor);
  if (low < 0) return {0, 0, part / 2, part / 2};
  if (low + 1 >= size) return {size - 1, 0, rest / 2, rest / 2};
  return {low, 1, rest, part};
}

template <class T>
SHIPWAY_TARGET void locate(const Problem& problem, const Operands& operands, const Tile& tile,
                           std::int64_t deform_group, std::int64_t tap, Points<wide_t<T>>& to) {
  using W = wide_t<T>;
  const std::int64_t places = problem.places();
  const std::int64_t row =
      (tile.image * problem.deform_groups + deform_group) * problem.taps() + tap;
  const T* offset_y = static_cast<const T*>(operands.offset) + 2 * row * places;
  const T* offset_x = offset_y + places;
  const T* mask = static_cast<const T*>(operands.mask);
  const std::int64_t tap_y = tap / problem.kernel_width, tap_x = tap % problem.kernel_width;
  for (std::int64_t i = 0; i < tile.end - tile.begin; ++i) {
    const std::int64_t place = tile.begin + i;
    const std::int64_t base_y = place / problem.out_width * problem.stride[0] -
                                problem.padding[0] + tap_y * problem.dilation[0];
    const std::int64_t base_x = place % problem.out_width * problem.stride[1] -
                                problem.padding[1] + tap_x * problem.dilation[1];
    const W y = static_cast<W>(base_y) + static_cast<W>(offset_y[place]);
    const W x = static_cast<W>(base_x) + static_cast<W>(offset_x[place]);
    to.mask[i] = mask == nullptr ? W(1) : static_cast<W>(mask[row * places + place]);
    const bool inside = problem.pixels() > 0 && y > -1 && x > -1 &&
                        y < static_cast<W>(problem.height) && x < static_cast<W>(problem.width);
    to.origin[i] = -1;
    if (!inside) continue;
    const Axis<W> down = split_axis(y, problem.height), right = split_axis(x, problem.width);
    to.origin[i] = down.low * problem.width + right.low;
    to.right[i] = right.step;
    to.down[i] = down.step * problem.width;
    to.weights[0][i] = down.low_part * right.low_part;
    to.weights[1][i] = down.low_part * right.high_part;
    to.weights[2][i] = down.high_part * right.low_part;
    to.weights[3][i] = down.high_part * right.high_part;
  }
}

// Samples `length` channels of a point.
template <class W>
SHIPWAY_INLINE void sample(const W* __restrict upper_left, const W* __restrict upper_right,
                           const W* __restrict lower_left, const W* __restrict lower_right,
                           const W* weights, W mask, std::int64_t length, W* __restrict to) {
  const W w0 = weights[0], w1 = weights[kTile], w2 = weights[2 * kTile], w3 = weights[3 * kTile];
  for (std::int64_t c = 0; c < length; ++c) {
    to[c] = mask * (w0 * upper_left[c] + w1 * upper_right[c] + w2 * lower_left[c] +
                    w3 * lower_right[c]);
  }
}

template <class W>
SHIPWAY_TARGET void gather(const Problem& problem, const Operands& operands, const Tile& tile,
                           const Segment& segment, const Points<W>& points, W* columns) {
  const std::int64_t length = segment.end - segment.begin, channels = problem.channels;
  const W* image = static_cast<const W*>(operands.input) +
                   tile.image * problem.pixels() * channels + segment.begin;
  for (std::int64_t i = 0; i < tile.end - tile.begin; ++i) {
    W* column = columns + i * length;
    if (points.origin[i] < 0) {
      for (std::int64_t c = 0; c < length; ++c) column[c] = W(0) * points.mask[i];
      continue;
    }
    const W* upper = image + points.origin[i] * channels;
    const W* lower = upper + points.down[i] * channels;
    const std::int64_t right = points.right[i] * channels;
    sample(upper, upper + right, lower, lower + right, points.weights[0] + i, points.mask[i],
           length, column);
  }
}

// Adds columns times weights of one segment and tap to the sums.
template <class W>
SHIPWAY_TARGET void multiply(const Problem& problem, const Operands& operands, const Tile& tile,
                             const Segment& segment, std::int64_t tap, const W* columns, W* sums) {
  const std::int64_t length = segment.end - segment.begin, width = problem.sum_width();
  const std::int64_t first = segment.begin - segment.group * problem.group_channels();
  for (std::int64_t panel = 0; panel < problem.group_panels(); ++panel) {
    const std::int64_t at = segment.group * problem.group_panels() + panel;
    const W* weight = static_cast<const W*>(operands.weight) +
                      ((at * problem.taps() + tap) * problem.group_channels() + first) * kPanel;
    for (std::int64_t i = 0; i < tile.end - tile.begin; i += kRows) {
      add_block(columns + i * length, length, weight, sums + i * width + at * kPanel, width);
    }
  }
}

template <class T>
SHIPWAY_TARGET void store_sums(const Problem& problem, const Operands& operands, const Tile& tile,
                               const wide_t<T>* sums) {
  const T* bias = static_cast<const T*>(operands.bias);
  for (std::int64_t filter = 0; filter < problem.filters; ++filter) {
    const std::int64_t group = filter / problem.group_filters();
    const wide_t<T>* from = sums + group * problem.group_panels() * kPanel +
                            filter % problem.group_filters();
    const wide_t<T> start = bias == nullptr ? wide_t<T>(0) : static_cast<wide_t<T>>(bias[filter]);
    T* to = static_cast<T*>(operands.output) +
            (tile.image * problem.filters + filter) * problem.places() + tile.begin;
    for (std::int64_t i = 0; i < tile.end - tile.begin; ++i) {
      to[i] = static_cast<T>(from[i * problem.sum_width()] + start);
    }
  }
}

template <class T>
SHIPWAY_TARGET void run_tile(const Problem& problem, const Operands& operands, const Tile& tile,
                             Scratch<wide_t<T>>& scratch) {
  using W = wide_t<T>;
  Points<W> points;
  std::fill(scratch.sums.begin(), scratch.sums.end(), W(0));
  for (std::int64_t group = 0; group < problem.deform_groups; ++group) {
    const std::vector<Segment> segments = segments_of(problem, group);
    for (std::int64_t tap = 0; tap < problem.taps(); ++tap) {
      locate<T>(problem, operands, tile, group, tap, points);
      for (const Segment& segment : segments) {
        gather(problem, operands, tile, segment, points, scratch.columns.data());
        multiply(problem, operands, tile, segment, tap, scratch.columns.data(),
                 scratch.sums.data());
      }
    }
  }
  store_sums<T>(problem, operands, tile, scratch.sums.data());
}

}  // namespace
}  // namespace shipway::dcn
