// Multi-scale deformable attention: what its driver and the kernels of each instruction set share.
#pragma once

#include <algorithm>
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

  std::int64_t samples() const { return levels * points; }  // of one head of one query
  std::int64_t sample_count() const { return batch * queries * heads * samples(); }
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

inline std::int64_t element_bytes(const Problem& problem) {
  return problem.dtype == SHIPWAY_FLOAT32 ? 4 : problem.dtype == SHIPWAY_FLOAT64 ? 8 : 2;
}

// Level data repeated for each sample, so that a vector of samples needs only plain loads. The
// first sample of head h stands at h * samples().
struct SampleTable {
  std::vector<float> width, height;               // NaN for an empty level: no point is inside it
  std::vector<std::int32_t> right, bottom;        // last column and row
  std::vector<std::int32_t> row_stride, origin;   // in elements; origin holds level and head
};

// How the work is laid out; it never changes the result by more than rounding.
struct Plan {
  int isa;         // as shipway_isa_level
  std::int64_t packed_heads;  // heads copied at a time into a dense plane; 0 to gather in place
};

// Output rows whose samples are prepared together. A row is one head of one query. Rows that follow
// one another in memory make a run; the next run is one query further on.
struct Block {
  std::int64_t first_row, head;  // the first row among [batch, queries, heads], and its table head
  std::int64_t runs, rows_per_run;
};

inline constexpr std::int64_t kBlockSamples = 128;

// Cuts a range into blocks that stay in the nearest cache.
class Blocks {
 public:
  Blocks(const Problem& problem, const Layout& layout, const Range& range)
      : each_(problem.samples()), heads_(problem.heads),
        first_row_((range.batch * problem.queries + range.begin) * problem.heads +
                   layout.head_begin),
        whole_(layout.head_count == problem.heads),
        unit_(whole_ ? 1 : layout.head_count),
        units_((range.end - range.begin) * (whole_ ? problem.heads : 1)),
        per_block_(std::max<std::int64_t>(kBlockSamples / (unit_ * each_), 1)) {}

  std::int64_t count() const { return (units_ + per_block_ - 1) / per_block_; }
  std::int64_t samples() const { return per_block_ * unit_ * each_; }
  Block at(std::int64_t i) const {
    const std::int64_t unit = i * per_block_, units = std::min(per_block_, units_ - unit);
    if (whole_) return {first_row_ + unit, unit % heads_, 1, units};
    return {first_row_ + unit * heads_, 0, units, unit_};
  }

 private:
  std::int64_t each_, heads_;
  std::int64_t first_row_;
  bool whole_;
  std::int64_t unit_, units_, per_block_;
};

// Entries of a table: one period, the longest block that starts in it, and a vector more.
inline std::int64_t table_length(const Problem& problem, const Layout& layout) {
  const std::int64_t run = layout.head_count * problem.samples();
  return run + std::max(run, kBlockSamples) + 16;
}

Plan choose_plan(const Problem& problem, const shipway_host* host);
int run(const Problem& problem, const Plan& plan, shipway_host* host);
void run_portable(const Problem& problem, const Range& range);
#if defined(__x86_64__)
void run_avx2(const Problem& problem, const Layout& layout, const SampleTable& table,
              const Range& range);
void run_avx512(const Problem& problem, const Layout& layout, const SampleTable& table,
                const Range& range);
#endif

}  // namespace shipway::msda
