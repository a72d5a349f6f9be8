// Multi-scale deformable attention with AVX2, FMA and F16C: float32, float16 and bfloat16.
//
// Samples are prepared eight at a time into offsets and weights, then each head's channels are summed
// in registers. A corner outside its level never gets weight 0 on some other pixel (0 * NaN is NaN):
// its inside neighbour takes both corners, each with half the weight, which is exact.

#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>

#include "multi_scale_deformable_attn.hpp"

#define SHIPWAY_AVX2 __attribute__((target("avx2,fma,f16c")))
#define SHIPWAY_AVX2_INLINE __attribute__((target("avx2,fma,f16c"), always_inline)) inline

namespace shipway::msda {
namespace {

constexpr std::int64_t kLanes = 8;
constexpr std::int64_t kAhead = 8;  // samples between a prefetch and its use; at most kLanes

// Prepared samples. Offsets are in elements from the layout's value; -1 marks a point outside.
struct Samples {
  std::int32_t *origin, *right, *down;  // upper left corner, steps to the right and the lower corners
  float* weights[4];                    // of upper left, upper right, lower left, lower right
};

template <class T>
struct Source {  // samples in memory, one after the other
  const T* locations;
  const T* weights;
};

struct Pair {
  __m256 first, second;
};

SHIPWAY_AVX2_INLINE __m256 load(const float* at) { return _mm256_loadu_ps(at); }
SHIPWAY_AVX2_INLINE __m256 load(const Float16* at) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
}
SHIPWAY_AVX2_INLINE __m256 load(const BFloat16* at) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
SHIPWAY_AVX2_INLINE void store(float* at, __m256 value) { _mm256_storeu_ps(at, value); }
SHIPWAY_AVX2_INLINE void store(Float16* at, __m256 value) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(at),
                   _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

// Rounds to the nearest bfloat16, kept in the lower half of each 32-bit lane.
SHIPWAY_AVX2_INLINE __m256i round_bfloat16(__m256 value) {
  const __m256i bits = _mm256_castps_si256(value), upper = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
  const __m256i bias = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, bias), 16);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(rounded, _mm256_or_si256(upper, _mm256_set1_epi32(0x40)), nan);
}
SHIPWAY_AVX2_INLINE void store(BFloat16* at, __m256 value) {
  const __m256i rounded = round_bfloat16(value);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(at),
                   _mm_packus_epi32(_mm256_castsi256_si128(rounded),
                                    _mm256_extracti128_si256(rounded, 1)));
}

// Sixteen channels. bfloat16 splits into even and odd channels, two instructions instead of four.
SHIPWAY_AVX2_INLINE Pair load_pair(const float* at) { return {load(at), load(at + kLanes)}; }
SHIPWAY_AVX2_INLINE Pair load_pair(const Float16* at) { return {load(at), load(at + kLanes)}; }
SHIPWAY_AVX2_INLINE Pair load_pair(const BFloat16* at) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  const __m256i upper = _mm256_and_si256(bits, _mm256_set1_epi32(static_cast<int>(0xffff0000u)));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(bits, 16)), _mm256_castsi256_ps(upper)};
}

template <bool kStream>
SHIPWAY_AVX2_INLINE void store_bits(void* at, __m256i bits) {
  if (kStream) {
    _mm256_stream_si256(static_cast<__m256i*>(at), bits);
  } else {
    _mm256_storeu_si256(static_cast<__m256i*>(at), bits);
  }
}
template <bool kStream>
SHIPWAY_AVX2_INLINE void store_pair(float* at, Pair value) {
  store_bits<kStream>(at, _mm256_castps_si256(value.first));
  store_bits<kStream>(at + kLanes, _mm256_castps_si256(value.second));
}
template <bool kStream>
SHIPWAY_AVX2_INLINE void store_pair(Float16* at, Pair value) {
  constexpr int kRound = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  store_bits<kStream>(at, _mm256_set_m128i(_mm256_cvtps_ph(value.second, kRound),
                                           _mm256_cvtps_ph(value.first, kRound)));
}
template <bool kStream>
SHIPWAY_AVX2_INLINE void store_pair(BFloat16* at, Pair value) {
  store_bits<kStream>(at, _mm256_or_si256(round_bfloat16(value.first),
                                          _mm256_slli_epi32(round_bfloat16(value.second), 16)));
}

// x and y of eight samples. In-lane shuffles leave the order 0 1 4 5 2 3 6 7, which the permutation
// mends.
SHIPWAY_AVX2_INLINE Pair load_locations(const float* at) {
  const __m256 low = load(at), high = load(at + kLanes);
  const __m256 x = _mm256_shuffle_ps(low, high, 0x88), y = _mm256_shuffle_ps(low, high, 0xdd);
  return {_mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(x), 0xd8)),
          _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(y), 0xd8))};
}
SHIPWAY_AVX2_INLINE Pair load_locations(const BFloat16* at) { return load_pair(at); }
SHIPWAY_AVX2_INLINE Pair load_locations(const Float16* at) {
  const __m256 low = load(at), high = load(at + kLanes);
  const __m256 x = _mm256_shuffle_ps(low, high, 0x88), y = _mm256_shuffle_ps(low, high, 0xdd);
  return {_mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(x), 0xd8)),
          _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(y), 0xd8))};
}

struct Axis {
  __m256 inside, low_part, high_part;  // weights of the two neighbours
  __m256i low, both;                   // index of the first; all ones where the second differs
};

// The two neighbours of `position` among pixels 0 .. last on one axis.
SHIPWAY_AVX2_INLINE Axis split_axis(__m256 location, __m256 size, __m256i last) {
  const __m256 half = _mm256_set1_ps(0.5f), one = _mm256_set1_ps(1.0f);
  const __m256 raw = _mm256_fmsub_ps(location, size, half);
  const __m256 inside = _mm256_and_ps(_mm256_cmp_ps(raw, _mm256_set1_ps(-1.0f), _CMP_GT_OQ),
                                      _mm256_cmp_ps(raw, size, _CMP_LT_OQ));
  const __m256 position = _mm256_and_ps(raw, inside);
  const __m256 floor = _mm256_floor_ps(position);
  const __m256 part = _mm256_sub_ps(position, floor), rest = _mm256_sub_ps(one, part);
  const __m256i index = _mm256_cvtps_epi32(floor);
  const __m256i before = _mm256_cmpgt_epi32(_mm256_setzero_si256(), index);
  const __m256i not_last = _mm256_cmpgt_epi32(last, index);
  const __m256 before_mask = _mm256_castsi256_ps(before);
  const __m256 last_mask = _mm256_castsi256_ps(not_last);
  const __m256 halved = _mm256_mul_ps(half, _mm256_blendv_ps(rest, part, before_mask));
  const __m256 both = _mm256_andnot_ps(before_mask, last_mask);
  return {inside, _mm256_blendv_ps(halved, rest, both), _mm256_blendv_ps(halved, part, both),
          _mm256_min_epi32(_mm256_max_epi32(index, _mm256_setzero_si256()), last),
          _mm256_castps_si256(both)};
}

SHIPWAY_AVX2_INLINE __m256i load_int(const std::int32_t* at) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}
SHIPWAY_AVX2_INLINE void store_int(std::int32_t* at, __m256i value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), value);
}

// Prepares samples i .. i + 7, which stand at `entry` of the table.
template <class T>
SHIPWAY_AVX2_INLINE void prepare_eight(const T* locations, const T* weights,
                                       const SampleTable& table, std::int64_t entry,
                                       std::int32_t pixel_stride, const Samples& to,
                                       std::int64_t i) {
  const Pair location = load_locations(locations);
  const Axis x = split_axis(location.first, load(table.width.data() + entry),
                            load_int(table.right.data() + entry));
  const Axis y = split_axis(location.second, load(table.height.data() + entry),
                            load_int(table.bottom.data() + entry));
  const __m256i row = load_int(table.row_stride.data() + entry);
  const __m256i pixel = _mm256_set1_epi32(pixel_stride);
  const __m256i origin =
      _mm256_add_epi32(_mm256_add_epi32(_mm256_mullo_epi32(y.low, row),
                                        _mm256_mullo_epi32(x.low, pixel)),
                       load_int(table.origin.data() + entry));
  const __m256i inside = _mm256_castps_si256(_mm256_and_ps(x.inside, y.inside));
  const __m256i outside = _mm256_xor_si256(inside, _mm256_set1_epi32(-1));
  store_int(to.origin + i, _mm256_or_si256(origin, outside));
  store_int(to.right + i, _mm256_and_si256(x.both, pixel));
  store_int(to.down + i, _mm256_and_si256(y.both, row));
  const __m256 weight = load(weights);
  const __m256 upper = _mm256_mul_ps(weight, y.low_part);
  const __m256 lower = _mm256_mul_ps(weight, y.high_part);
  store(to.weights[0] + i, _mm256_mul_ps(upper, x.low_part));
  store(to.weights[1] + i, _mm256_mul_ps(upper, x.high_part));
  store(to.weights[2] + i, _mm256_mul_ps(lower, x.low_part));
  store(to.weights[3] + i, _mm256_mul_ps(lower, x.high_part));
}

template <class T>
SHIPWAY_AVX2 void prepare(const Source<T>& from, std::int64_t count, const SampleTable& table,
                          std::int64_t entry, std::int32_t pixel_stride, const Samples& to) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    prepare_eight(from.locations + 2 * i, from.weights + i, table, entry + i, pixel_stride, to, i);
  }
  if (i == count) return;
  T locations[2 * kLanes] = {}, weights[kLanes] = {};
  std::copy(from.locations + 2 * i, from.locations + 2 * count, locations);
  std::copy(from.weights + i, from.weights + count, weights);
  prepare_eight(locations, weights, table, entry + i, pixel_stride, to, i);
}

template <class T, int kPairs>
SHIPWAY_AVX2_INLINE void add_corner(const T* pixel, float weight, Pair* sums) {
  const __m256 factor = _mm256_set1_ps(weight);
  for (int p = 0; p < kPairs; ++p) {
    const Pair channels = load_pair(pixel + 2 * kLanes * p);
    sums[p].first = _mm256_fmadd_ps(factor, channels.first, sums[p].first);
    sums[p].second = _mm256_fmadd_ps(factor, channels.second, sums[p].second);
  }
}

SHIPWAY_AVX2_INLINE void fetch(const char* at, std::int64_t size_bytes) {
  for (std::int64_t line = 0; line < size_bytes; line += 64) _mm_prefetch(at + line, _MM_HINT_T0);
}

template <class T>
SHIPWAY_AVX2_INLINE void fetch_sample(const T* value, const Samples& samples, std::int64_t i,
                                      std::int64_t size_bytes) {
  const T* origin = value + samples.origin[i];
  const std::int64_t right = samples.right[i], down = samples.down[i];
  fetch(reinterpret_cast<const char*>(origin), size_bytes);
  fetch(reinterpret_cast<const char*>(origin + right), size_bytes);
  fetch(reinterpret_cast<const char*>(origin + down), size_bytes);
  fetch(reinterpret_cast<const char*>(origin + down + right), size_bytes);
}

// Sixteen times kPairs channels of one head of one query, from samples [begin, end). kSets sums run
// beside each other so that additions need not wait for one another.
template <class T, int kPairs, bool kStream, bool kFetch>
SHIPWAY_AVX2_INLINE void sum_pairs(const T* value, const Samples& samples, std::int64_t begin,
                                   std::int64_t end, T* output) {
  constexpr int kSets = kPairs >= 4 ? 1 : kPairs >= 2 ? 2 : 4;
  Pair sums[kSets][kPairs] = {};
  for (std::int64_t i = begin; i < end; ++i) {
    if (kFetch) fetch_sample(value, samples, i + kAhead, 2 * kLanes * kPairs * sizeof(T));
    const std::int64_t offset = samples.origin[i];
    if (offset < 0) continue;
    const T* upper = value + offset;
    const T* lower = upper + samples.down[i];
    const std::int64_t right = samples.right[i];
    add_corner<T, kPairs>(upper, samples.weights[0][i], sums[0]);
    add_corner<T, kPairs>(upper + right, samples.weights[1][i], sums[1 % kSets]);
    add_corner<T, kPairs>(lower, samples.weights[2][i], sums[2 % kSets]);
    add_corner<T, kPairs>(lower + right, samples.weights[3][i], sums[3 % kSets]);
  }
  for (int p = 0; p < kPairs; ++p) {
    Pair sum = sums[0][p];
    for (int s = 1; s < kSets; ++s) {
      sum.first = _mm256_add_ps(sum.first, sums[s][p].first);
      sum.second = _mm256_add_ps(sum.second, sums[s][p].second);
    }
    store_pair<kStream>(output + 2 * kLanes * p, sum);
  }
}

template <class T>
SHIPWAY_AVX2 void sum_eight(const T* value, const Samples& samples, std::int64_t begin,
                            std::int64_t end, T* output) {
  __m256 sums[4] = {};
  for (std::int64_t i = begin; i < end; ++i) {
    if (samples.origin[i] < 0) continue;
    const T* upper = value + samples.origin[i];
    const T* corners[4] = {upper, upper + samples.right[i], upper + samples.down[i],
                           upper + samples.down[i] + samples.right[i]};
    for (int k = 0; k < 4; ++k) {
      sums[k] = _mm256_fmadd_ps(_mm256_set1_ps(samples.weights[k][i]), load(corners[k]), sums[k]);
    }
  }
  store(output, _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3])));
}

// Fewer than eight channels.
template <class T>
SHIPWAY_AVX2 void sum_few(const T* value, const Samples& samples, std::int64_t begin,
                          std::int64_t end, std::int64_t channels, T* output) {
  float sums[kLanes] = {};
  for (std::int64_t i = begin; i < end; ++i) {
    if (samples.origin[i] < 0) continue;
    const T* upper = value + samples.origin[i];
    const T* corners[4] = {upper, upper + samples.right[i], upper + samples.down[i],
                           upper + samples.down[i] + samples.right[i]};
    for (int k = 0; k < 4; ++k) {
      for (std::int64_t c = 0; c < channels; ++c) {
        sums[c] += samples.weights[k][i] * static_cast<float>(corners[k][c]);
      }
    }
  }
  for (std::int64_t c = 0; c < channels; ++c) output[c] = static_cast<T>(sums[c]);
}

// Any number of channels; the last vectors overlap the ones before, so none reaches past the row.
template <class T, bool kFetch>
SHIPWAY_AVX2 void sum_any(const T* value, const Samples& samples, std::int64_t begin,
                          std::int64_t end, std::int64_t channels, T* output) {
  if (channels < 8) return sum_few(value, samples, begin, end, channels, output);
  if (channels < 16) {
    sum_eight(value, samples, begin, end, output);
    return sum_eight(value + channels - 8, samples, begin, end, output + channels - 8);
  }
  std::int64_t c = 0;
  for (; c + 64 <= channels; c += 64) {
    sum_pairs<T, 4, false, kFetch>(value + c, samples, begin, end, output + c);
  }
  for (; c + 32 <= channels; c += 32) {
    sum_pairs<T, 2, false, kFetch>(value + c, samples, begin, end, output + c);
  }
  for (; c < channels; c += 16) {
    c = std::min(c, channels - 16);
    sum_pairs<T, 1, false, kFetch>(value + c, samples, begin, end, output + c);
  }
}

template <class T, bool kStream, bool kFetch>
SHIPWAY_AVX2_INLINE void sum_channels(const T* value, const Samples& samples, std::int64_t begin,
                                      std::int64_t end, std::int64_t channels, T* output) {
  switch (channels) {
    case 16: return sum_pairs<T, 1, kStream, kFetch>(value, samples, begin, end, output);
    case 32: return sum_pairs<T, 2, kStream, kFetch>(value, samples, begin, end, output);
    case 64: return sum_pairs<T, 4, kStream, kFetch>(value, samples, begin, end, output);
    default: return sum_any<T, kFetch>(value, samples, begin, end, channels, output);
  }
}

// The output rows (a head of a query each) of one range, block by block.
template <class T>
class Rows {
 public:
  Rows(const Problem& problem, const Layout& layout, const SampleTable& table, const Range& range)
      : problem_(problem), layout_(layout), table_(table), range_(range),
        size_(block_samples(problem.samples())),
        ints_(static_cast<std::size_t>(6 * (size_ + 2 * kLanes))),
        floats_(static_cast<std::size_t>(8 * (size_ + 2 * kLanes))),
        staged_(static_cast<std::size_t>(3 * size_)) {
    const std::int64_t step = size_ + 2 * kLanes;
    for (int k = 0; k < 2; ++k) {
      std::int32_t* ints = ints_.data() + 3 * step * k;
      float* floats = floats_.data() + 4 * step * k;
      buffers_[k] = {ints, ints + step, ints + 2 * step,
                     {floats, floats + step, floats + 2 * step, floats + 3 * step}};
    }
  }

  // Rows are counted over the layout's heads, query by query.
  std::int64_t count() const { return (range_.end - range_.begin) * layout_.head_count; }
  std::int64_t block() const { return size_ / problem_.samples(); }
  const Samples& samples(int buffer) const { return buffers_[buffer]; }
  std::int64_t index(std::int64_t row) const {
    const std::int64_t query = range_.batch * problem_.queries + range_.begin + row / layout_.head_count;
    return query * problem_.heads + layout_.head_begin + row % layout_.head_count;
  }

  SHIPWAY_AVX2 void prepare_rows(std::int64_t begin, std::int64_t end, int buffer) {
    const std::int64_t each = problem_.samples();
    const Source<T> from = layout_.head_count == problem_.heads ? at(begin) : stage(begin, end);
    prepare(from, (end - begin) * each, table_, begin % layout_.head_count * each,
            static_cast<std::int32_t>(layout_.pixel_stride), buffers_[buffer]);
  }

  // Lets prefetches run from the end of one block into the next.
  SHIPWAY_AVX2 void chain(int buffer, std::int64_t count) {
    const Samples &from = buffers_[1 - buffer], &to = buffers_[buffer];
    store_int(to.origin + count, load_int(from.origin));
    store_int(to.right + count, load_int(from.right));
    store_int(to.down + count, load_int(from.down));
  }

 private:
  Source<T> at(std::int64_t row) const {
    const std::int64_t first = index(row) * problem_.samples();
    return {static_cast<const T*>(problem_.locations) + 2 * first,
            static_cast<const T*>(problem_.weights) + first};
  }
  Source<T> stage(std::int64_t begin, std::int64_t end) {
    const std::int64_t each = problem_.samples();
    T *locations = staged_.data(), *weights = staged_.data() + 2 * size_;
    for (std::int64_t row = begin; row < end; ++row) {
      const Source<T> from = at(row);
      for (std::int64_t i = 0; i < 2 * each; ++i) *locations++ = from.locations[i];
      for (std::int64_t i = 0; i < each; ++i) *weights++ = from.weights[i];
    }
    return {staged_.data(), staged_.data() + 2 * size_};
  }

  const Problem& problem_;
  const Layout& layout_;
  const SampleTable& table_;
  const Range& range_;
  std::int64_t size_;
  std::vector<std::int32_t> ints_;
  std::vector<float> floats_;
  std::vector<T> staged_;
  Samples buffers_[2];
};

template <class T, bool kStream, bool kFetch>
SHIPWAY_AVX2 void run_rows(const Problem& problem, const Layout& layout, Rows<T>& rows) {
  const std::int64_t channels = problem.channels, each = problem.samples();
  const T* value = static_cast<const T*>(layout.value);
  T* output = static_cast<T*>(problem.output);
  int buffer = 0;
  rows.prepare_rows(0, std::min(rows.block(), rows.count()), buffer);
  for (std::int64_t begin = 0; begin < rows.count(); begin += rows.block()) {
    const std::int64_t end = std::min(begin + rows.block(), rows.count());
    if (end < rows.count()) {
      rows.prepare_rows(end, std::min(end + rows.block(), rows.count()), 1 - buffer);
      if (kFetch) rows.chain(buffer, (end - begin) * each);
    }
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t first = (row - begin) * each;
      sum_channels<T, kStream, kFetch>(value, rows.samples(buffer), first, first + each, channels,
                                       output + rows.index(row) * channels);
    }
    buffer = 1 - buffer;
  }
  if (kStream) _mm_sfence();
}

template <class T>
void run_type(const Problem& problem, const Layout& layout, const SampleTable& table,
              const Plan& plan, const Range& range) {
  Rows<T> rows(problem, layout, table, range);
  const auto run = plan.streaming ? (plan.prefetch ? run_rows<T, true, true> : run_rows<T, true, false>)
                                  : (plan.prefetch ? run_rows<T, false, true> : run_rows<T, false, false>);
  run(problem, layout, rows);
}

}  // namespace

void run_avx2(const Problem& problem, const Layout& layout, const SampleTable& table,
              const Plan& plan, const Range& range) {
  switch (problem.dtype) {
    case SHIPWAY_FLOAT16: return run_type<Float16>(problem, layout, table, plan, range);
    case SHIPWAY_BFLOAT16: return run_type<BFloat16>(problem, layout, table, plan, range);
    default: return run_type<float>(problem, layout, table, plan, range);
  }
}

}  // namespace shipway::msda
#endif
