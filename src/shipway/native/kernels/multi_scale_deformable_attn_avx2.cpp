// Multi-scale deformable attention with AVX2, FMA and F16C: float32, float16 and bfloat16.
//
// Samples are prepared eight at a time into offsets and weights, then each head's channels are
// summed in registers. A corner outside its level never gets weight 0 on some other pixel (0 * NaN
// is NaN): its inside neighbour takes both corners, each with half the weight, which is exact.

#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>

#define SHIPWAY_LANES 8
#define SHIPWAY_TARGET __attribute__((target("avx2,fma,f16c")))
#define SHIPWAY_INLINE __attribute__((target("avx2,fma,f16c"), always_inline)) inline
#include "multi_scale_deformable_attn_blocks.hpp"

namespace shipway::msda {
namespace {

struct Pair {
  __m256 first, second;
};

SHIPWAY_INLINE __m256 load(const float* at) { return _mm256_loadu_ps(at); }
SHIPWAY_INLINE __m256 load(const Float16* at) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
}
SHIPWAY_INLINE __m256 load(const BFloat16* at) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
SHIPWAY_INLINE void store(float* at, __m256 value) { _mm256_storeu_ps(at, value); }
SHIPWAY_INLINE void store(Float16* at, __m256 value) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(at),
                   _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

// Rounds to the nearest bfloat16, kept in the lower half of each 32-bit lane.
SHIPWAY_INLINE __m256i round_bfloat16(__m256 value) {
  const __m256i bits = _mm256_castps_si256(value), upper = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
  const __m256i bias = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, bias), 16);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(rounded, _mm256_or_si256(upper, _mm256_set1_epi32(0x40)), nan);
}
SHIPWAY_INLINE void store(BFloat16* at, __m256 value) {
  const __m256i rounded = round_bfloat16(value);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(at),
                   _mm_packus_epi32(_mm256_castsi256_si128(rounded),
                                    _mm256_extracti128_si256(rounded, 1)));
}

// Sixteen channels. bfloat16 splits into even and odd channels, two instructions instead of four.
SHIPWAY_INLINE Pair load_pair(const float* at) { return {load(at), load(at + kLanes)}; }
SHIPWAY_INLINE Pair load_pair(const Float16* at) { return {load(at), load(at + kLanes)}; }
SHIPWAY_INLINE Pair load_pair(const BFloat16* at) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  const __m256i upper = _mm256_and_si256(bits, _mm256_set1_epi32(static_cast<int>(0xffff0000u)));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(bits, 16)), _mm256_castsi256_ps(upper)};
}

SHIPWAY_INLINE void store_pair(float* at, Pair value) {
  store(at, value.first);
  store(at + kLanes, value.second);
}
SHIPWAY_INLINE void store_pair(Float16* at, Pair value) {
  store(at, value.first);
  store(at + kLanes, value.second);
}
SHIPWAY_INLINE void store_pair(BFloat16* at, Pair value) {
  const __m256i odd = _mm256_slli_epi32(round_bfloat16(value.second), 16);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(at),
                      _mm256_or_si256(round_bfloat16(value.first), odd));
}

// x and y of eight samples. In-lane shuffles leave the order 0 1 4 5 2 3 6 7, which the permutation
// mends.
SHIPWAY_INLINE Pair load_locations(const float* at) {
  const __m256 low = load(at), high = load(at + kLanes);
  const __m256 x = _mm256_shuffle_ps(low, high, 0x88), y = _mm256_shuffle_ps(low, high, 0xdd);
  return {_mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(x), 0xd8)),
          _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(y), 0xd8))};
}
SHIPWAY_INLINE Pair load_locations(const BFloat16* at) { return load_pair(at); }
SHIPWAY_INLINE Pair load_locations(const Float16* at) {
  const __m256 low = load(at), high = load(at + kLanes);
  const __m256 x = _mm256_shuffle_ps(low, high, 0x88), y = _mm256_shuffle_ps(low, high, 0xdd);
  return {_mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(x), 0xd8)),
          _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(y), 0xd8))};
}

struct Axis {
  __m256 inside, low_part, high_part;  // weights of the two neighbours
  __m256i low, both;                   // index of the first; all ones where the second differs
};

// The two neighbours of a location among pixels 0 .. last on one axis.
SHIPWAY_INLINE Axis split_axis(__m256 location, __m256 size, __m256i last) {
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

SHIPWAY_INLINE __m256i load_int(const std::int32_t* at) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}
SHIPWAY_INLINE void store_int(std::int32_t* at, __m256i value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), value);
}

// Prepares samples i .. i + 7, which stand at `entry` of the table.
template <class T>
SHIPWAY_INLINE void prepare_eight(const T* locations, const T* weights,
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

// The last vector may take in samples beyond `count`, as long as the tensors have any.
template <class T>
SHIPWAY_TARGET void prepare(const Problem& problem, std::int64_t first, std::int64_t count,
                          const SampleTable& table, std::int64_t entry, std::int32_t pixel_stride,
                          const Samples& to, std::int64_t at) {
  const T* locations = static_cast<const T*>(problem.locations) + 2 * first;
  const T* weights = static_cast<const T*>(problem.weights) + first;
  const std::int64_t available = problem.sample_count() - first;
  std::int64_t i = 0;
  for (; i < count && i + kLanes <= available; i += kLanes) {
    prepare_eight(locations + 2 * i, weights + i, table, entry + i, pixel_stride, to, at + i);
  }
  if (i >= count) return;
  T last_locations[2 * kLanes] = {}, last_weights[kLanes] = {};
  std::copy(locations + 2 * i, locations + 2 * count, last_locations);
  std::copy(weights + i, weights + count, last_weights);
  prepare_eight(last_locations, last_weights, table, entry + i, pixel_stride, to, at + i);
}

template <class T, int kPairs>
SHIPWAY_INLINE void add_corner(const T* pixel, float weight, Pair* sums) {
  const __m256 factor = _mm256_set1_ps(weight);
  for (int p = 0; p < kPairs; ++p) {
    const Pair channels = load_pair(pixel + 2 * kLanes * p);
    sums[p].first = _mm256_fmadd_ps(factor, channels.first, sums[p].first);
    sums[p].second = _mm256_fmadd_ps(factor, channels.second, sums[p].second);
  }
}

// Sixteen times kPairs channels of one head of one query, from samples [begin, end). kSets sums run
// beside each other so that additions need not wait for one another.
template <class T, int kPairs>
SHIPWAY_INLINE void sum_pairs(const T* value, const Samples& samples, std::int64_t begin,
                                   std::int64_t end, T* output) {
  constexpr int kSets = kPairs >= 4 ? 1 : kPairs >= 2 ? 2 : 4;
  Pair sums[kSets][kPairs] = {};
  for (std::int64_t i = begin; i < end; ++i) {
    fetch_sample(value, samples, i + kAhead, 2 * kLanes * kPairs * sizeof(T));
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
    store_pair(output + 2 * kLanes * p, sum);
  }
}

template <class T>
SHIPWAY_TARGET void sum_eight(const T* value, const Samples& samples, std::int64_t begin,
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
SHIPWAY_TARGET void sum_few(const T* value, const Samples& samples, std::int64_t begin,
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
template <class T>
SHIPWAY_TARGET void sum_any(const T* value, const Samples& samples, std::int64_t begin,
                          std::int64_t end, std::int64_t channels, T* output) {
  if (channels < 8) return sum_few(value, samples, begin, end, channels, output);
  if (channels < 16) {
    sum_eight(value, samples, begin, end, output);
    return sum_eight(value + channels - 8, samples, begin, end, output + channels - 8);
  }
  std::int64_t c = 0;
  for (; c + 64 <= channels; c += 64) {
    sum_pairs<T, 4>(value + c, samples, begin, end, output + c);
  }
  for (; c + 32 <= channels; c += 32) {
    sum_pairs<T, 2>(value + c, samples, begin, end, output + c);
  }
  for (; c < channels; c += 16) {
    c = std::min(c, channels - 16);
    sum_pairs<T, 1>(value + c, samples, begin, end, output + c);
  }
}

template <class T>
SHIPWAY_TARGET void sum_channels(const T* value, const Samples& samples, std::int64_t begin,
                                      std::int64_t end, std::int64_t channels, T* output) {
  switch (channels) {
    case 16: return sum_pairs<T, 1>(value, samples, begin, end, output);
    case 32: return sum_pairs<T, 2>(value, samples, begin, end, output);
    case 64: return sum_pairs<T, 4>(value, samples, begin, end, output);
    default: return sum_any<T>(value, samples, begin, end, channels, output);
  }
}

}  // namespace

void run_avx2(const Problem& problem, const Layout& layout, const SampleTable& table,
              const Range& range) {
  run_types(problem, layout, table, range);
}

}  // namespace shipway::msda
#endif
