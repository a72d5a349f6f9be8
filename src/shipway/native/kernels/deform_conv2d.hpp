// Deformable convolution: what its driver and the kernels of each instruction set share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "shipway_kernel.hpp"

namespace shipway::dcn {

inline constexpr std::int64_t kPanel = 16;     // filters summed together
inline constexpr std::int64_t kSegment = 256;  // channels gathered at a time; the nearest cache holds
                                               // one segment of one panel
inline constexpr std::int64_t kTile = 48;      // output places worked on together

// One call, with height before width in each pair.
struct Problem {
  std::int64_t batch, channels, height, width;
  std::int64_t filters, kernel_height, kernel_width;
  std::int64_t out_height, out_width;
  std::int64_t groups, deform_groups;
  std::int64_t stride[2], padding[2], dilation[2];
  std::int32_t dtype;

  std::int64_t taps() const { return kernel_height * kernel_width; }
  std::int64_t pixels() const { return height * width; }
  std::int64_t places() const { return out_height * out_width; }
  std::int64_t group_channels() const { return channels / groups; }
  std::int64_t group_filters() const { return filters / groups; }
  std::int64_t group_panels() const { return (group_filters() + kPanel - 1) / kPanel; }
  std::int64_t sum_width() const { return groups * group_panels() * kPanel; }
  std::int64_t packed_elements() const { return sum_width() * taps() * group_channels(); }
};

// The tensors. `input` and `weight` are laid out anew, in the type that is computed in.
struct Operands {
  const void* input;   // [batch, pixels, channels]
  const void* weight;  // [groups, panels, taps, channels of a group, kPanel], zero where there is no filter
  const void* offset;  // [batch, deform groups, taps, 2, places]: y, x
  const void* mask;    // [batch, deform groups, taps, places], or null
  const void* bias;    // [filters], or null
  void* output;        // [batch, filters, places]
};

struct Tile {
  std::int64_t image, begin, end;  // places [begin, end)
};

// Channels that share a group and a deformable group.
struct Segment {
  std::int64_t begin, end, group;
};

inline std::vector<Segment> segments_of(const Problem& problem, std::int64_t deform_group) {
  const std::int64_t each = problem.channels / problem.deform_groups;
  const std::int64_t last = (deform_group + 1) * each;
  std::vector<Segment> found;
  for (std::int64_t at = deform_group * each; at < last;) {
    const std::int64_t group = at / problem.group_channels();
    const std::int64_t end =
        std::min({last, (group + 1) * problem.group_channels(), at + kSegment});
    found.push_back({at, end, group});
    at = end;
  }
  return found;
}

// Memory of one thread for all its tiles.
template <class W>
struct Scratch {
  std::vector<W> columns, sums;
  explicit Scratch(const Problem& problem)
      : columns(static_cast<std::size_t>(kTile * std::min(kSegment, problem.channels))),
        sums(static_cast<std::size_t>(kTile * problem.sum_width())) {}
};

template <class T>
void run_portable(const Problem& problem, const Operands& operands, const Tile& tile,
                  Scratch<wide_t<T>>& scratch);

// For float, Float16 and BFloat16 only.
template <class T>
void run_avx2(const Problem& problem, const Operands& operands, const Tile& tile,
              Scratch<float>& scratch);

}  // namespace shipway::dcn
