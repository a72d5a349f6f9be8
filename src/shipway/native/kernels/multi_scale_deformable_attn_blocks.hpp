// The part of the vector kernels that is the same for every width. The including file first defines
// SHIPWAY_LANES, SHIPWAY_TARGET and SHIPWAY_INLINE (function attributes, the latter always
// inlined), and later `prepare` and `sum_channels`. Everything is local to that file, because a
// function compiled for one instruction set must not be merged with its namesake for another.
#pragma once

#include "multi_scale_deformable_attn.hpp"

namespace shipway::msda {
namespace {

constexpr std::int64_t kLanes = SHIPWAY_LANES;
constexpr std::int64_t kAhead = kLanes;  // samples between a prefetch and its use; at most kLanes

// Prepared samples. Offsets are in elements from the layout's value; -1 marks a point outside.
struct Samples {
  std::int32_t *origin, *right, *down;  // upper left corner, steps to the right and lower corners
  float* weights[4];                    // of upper left, upper right, lower left, lower right
};

// Two blocks of prepared samples: while one is summed, the next one is being fetched.
struct Buffers {
  std::vector<std::int32_t> ints;
  std::vector<float> floats;
  Samples samples[2];

  explicit Buffers(std::int64_t block) {
    const std::int64_t step = block + 2 * kLanes;
    ints.resize(static_cast<std::size_t>(6 * step));
    floats.resize(static_cast<std::size_t>(8 * step));
    for (int k = 0; k < 2; ++k) {
      std::int32_t* i = ints.data() + 3 * step * k;
      float* f = floats.data() + 4 * step * k;
      samples[k] = {i, i + step, i + 2 * step, {f, f + step, f + 2 * step, f + 3 * step}};
    }
  }
};

// Prepares `count` samples that follow one another in memory, from number `first` of the tensors.
template <class T>
SHIPWAY_TARGET void prepare(const Problem& problem, std::int64_t first, std::int64_t count,
                            const SampleTable& table, std::int64_t entry, std::int32_t pixel_stride,
                            const Samples& to, std::int64_t at);

// Sums samples [begin, end) into one output row.
template <class T>
SHIPWAY_TARGET void sum_channels(const T* value, const Samples& samples, std::int64_t begin,
                                 std::int64_t end, std::int64_t channels, T* output);

SHIPWAY_INLINE void fetch(const char* at, std::int64_t size_bytes) {
  for (std::int64_t line = 0; line < size_bytes; line += 64) __builtin_prefetch(at + line);
}

// Gathers wait for memory, not for arithmetic: without this the processor sees only the few samples
// that fit its window, fewer still where halves need converting.
template <class T>
SHIPWAY_INLINE void fetch_sample(const T* value, const Samples& samples, std::int64_t i,
                                 std::int64_t size_bytes) {
  constexpr std::int64_t kSize = sizeof(T);
  const char* origin = reinterpret_cast<const char*>(value) + kSize * samples.origin[i];
  const std::int64_t right = kSize * samples.right[i], down = kSize * samples.down[i];
  fetch(origin, size_bytes);
  fetch(origin + right, size_bytes);
  fetch(origin + down, size_bytes);
  fetch(origin + down + right, size_bytes);
}

template <class T>
SHIPWAY_TARGET void prepare_block(const Problem& problem, const Layout& layout,
                                  const SampleTable& table, const Block& block, const Samples& to) {
  const std::int64_t each = problem.samples(), entry = block.head * each;
  const std::int64_t run = block.rows_per_run * each;
  for (std::int64_t i = 0; i < block.runs; ++i) {
    const std::int64_t first = (block.first_row + i * problem.heads) * each;
    prepare<T>(problem, first, run, table, entry, static_cast<std::int32_t>(layout.pixel_stride),
               to, i * run);
  }
}

// Lets prefetches run from the end of one block into the next.
inline void chain(const Samples& from, const Samples& to, std::int64_t count) {
  std::copy(from.origin, from.origin + kAhead, to.origin + count);
  std::copy(from.right, from.right + kAhead, to.right + count);
  std::copy(from.down, from.down + kAhead, to.down + count);
}

template <class T>
SHIPWAY_TARGET void sum_block(const Problem& problem, const Layout& layout, const Block& block,
                              const Samples& samples) {
  const std::int64_t each = problem.samples(), channels = problem.channels;
  std::int64_t first = 0;
  for (std::int64_t i = 0; i < block.runs; ++i) {
    T* output = static_cast<T*>(problem.output) + (block.first_row + i * problem.heads) * channels;
    for (std::int64_t k = 0; k < block.rows_per_run; ++k, first += each, output += channels) {
      sum_channels<T>(static_cast<const T*>(layout.value), samples, first, first + each, channels,
                      output);
    }
  }
}

template <class T>
SHIPWAY_TARGET void run_blocks(const Problem& problem, const Layout& layout,
                               const SampleTable& table, const Range& range) {
  const Blocks blocks(problem, layout, range);
  const Buffers buffers(blocks.samples());
  prepare_block<T>(problem, layout, table, blocks.at(0), buffers.samples[0]);
  for (std::int64_t i = 0; i < blocks.count(); ++i) {
    const Samples &now = buffers.samples[i % 2], &next = buffers.samples[1 - i % 2];
    const Block block = blocks.at(i);
    if (i + 1 < blocks.count()) {
      prepare_block<T>(problem, layout, table, blocks.at(i + 1), next);
      chain(next, now, block.runs * block.rows_per_run * problem.samples());
    }
    sum_block<T>(problem, layout, block, now);
  }
}

inline void run_types(const Problem& problem, const Layout& layout, const SampleTable& table,
                      const Range& range) {
  switch (problem.dtype) {
    case SHIPWAY_FLOAT16: return run_blocks<Float16>(problem, layout, table, range);
    case SHIPWAY_BFLOAT16: return run_blocks<BFloat16>(problem, layout, table, range);
    default: return run_blocks<float>(problem, layout, table, range);
  }
}

}  // namespace
}  // namespace shipway::msda
