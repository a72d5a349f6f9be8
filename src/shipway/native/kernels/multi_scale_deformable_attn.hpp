// Multi-scale deformable attention: what its driver and the kernels of each instruction set share.
#pragma once

#include <cstdint>
#include <vector>

#include "shipway_kernel.hpp"

namespace shipway::msda {

// One call. Sizes carry the names of mmcv: value is [batch, pixels, heads, channels].
struct Problem {
  const void* value;
  const std::int64_t* sizes;   // [levels, 2]: height, width
  const std::int64_t* starts;  // [levels]: first pixel
  const void* locations;       // [batch, queries, heads, levels, points, 2]: x, y
  const void* weights;         // [batch, queries, heads, levels, points]
  void* output;                // [batch, queries, heads, channels]
  std::int64_t batch, pixels, heads, channels, levels, points, queries;
  std::int32_t dtype;

  std::int64_t samples() const { return levels * points; }
};

struct Range {
  std::int64_t batch, begin, end;  // queries [begin, end) of one batch entry
};

// Where the vector kernels find a head's pixels: in the value tensor itself, or in a packed copy of
// one head. Strides are in elements.
struct Layout {
  const void* value;  // pixel 0 of head `head_begin`
  std::int64_t pixel_stride;
  std::int64_t head_stride;
  std::int64_t head_begin, head_count;
};

// Level data repeated for each sample, so that a vector of samples needs only plain loads. The first
// sample of head h stands at h * samples().
struct SampleTable {
  std::vector<float> width, height;               // NaN for an empty level: no point is inside it
  std::vector<std::int32_t> right, bottom;        // last column and row
  std::vector<std::int32_t> row_stride, origin;   // in elements; origin holds level and head
};

// How the work is laid out; it never changes the result by more than rounding.
struct Plan {
  int isa;         // as shipway_isa_level
  bool packed;     // copy one head at a time into a dense plane
  bool streaming;  // write past the caches
  bool prefetch;   // ask for the next samples' pixels early
};

// Samples prepared together, and the room a table needs past its period.
inline constexpr std::int64_t kBlock = 128;
inline std::int64_t block_samples(std::int64_t samples) {
  return samples < kBlock ? kBlock / samples * samples : samples;
}

Plan choose_plan(const Problem& problem, shipway_host* host);
int run(const Problem& problem, const Plan& plan, shipway_host* host);
void run_portable(const Problem& problem, const Range& range);
#if defined(__x86_64__)
void run_avx2(const Problem& problem, const Layout& layout, const SampleTable& table,
              const Plan& plan, const Range& range);
void run_avx512(const Problem& problem, const Layout& layout, const SampleTable& table,
                const Plan& plan, const Range& range);
#endif

}  // namespace shipway::msda
