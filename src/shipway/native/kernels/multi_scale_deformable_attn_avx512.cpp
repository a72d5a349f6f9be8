// Multi-scale deformable attention with AVX-512 F, DQ, BW and VL: float32, float16 and bfloat16.
//
// The same method as with AVX2, sixteen samples at a time; masks stand in for its tails.

#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 warns about its own _mm512_undefined_ps (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include <algorithm>

#define SHIPWAY_LANES 16
#define SHIPWAY_TARGET \
  __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,f16c")))
#define SHIPWAY_INLINE \
  __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,f16c"), always_inline)) inline
#include "multi_scale_deformable_attn_blocks.hpp"

namespace shipway::msda {
namespace {

constexpr int kRound = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

struct Pair {
  __m512 first, second;
};

SHIPWAY_INLINE __mmask16 mask_of(std::int64_t lanes) {
  return static_cast<__mmask16>(lanes >= 16 ? 0xffffu : (1u << lanes) - 1u);
}
SHIPWAY_INLINE __m512i widen(__m256i bits) {
  return _mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16);
}

SHIPWAY_INLINE __m512 load(const float* at, __mmask16 mask) {
  return _mm512_maskz_loadu_ps(mask, at);
}
SHIPWAY_INLINE __m512 load(const Float16* at, __mmask16 mask) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, at));
}
SHIPWAY_INLINE __m512 load(const BFloat16* at, __mmask16 mask) {
  return _mm512_castsi512_ps(widen(_mm256_maskz_loadu_epi16(mask, at)));
}

// Rounds to the nearest bfloat16, kept in the lower half of each 32-bit lane.
SHIPWAY_INLINE __m512i round_bfloat16(__m512 value) {
  const __m512i bits = _mm512_castps_si512(value), upper = _mm512_srli_epi32(bits, 16);
  const __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
  const __m512i bias = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, bias), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
  return _mm512_mask_or_epi32(rounded, nan, upper, _mm512_set1_epi32(0x40));
}

SHIPWAY_INLINE void store(float* at, __m512 value, __mmask16 mask) {
  _mm512_mask_storeu_ps(at, mask, value);
}
SHIPWAY_INLINE void store(Float16* at, __m512 value, __mmask16 mask) {
  _mm256_mask_storeu_epi16(at, mask, _mm512_cvtps_ph(value, kRound));
}
SHIPWAY_INLINE void store(BFloat16* at, __m512 value, __mmask16 mask) {
  _mm256_mask_storeu_epi16(at, mask, _mm512_cvtepi32_epi16(round_bfloat16(value)));
}

// Thirty-two channels. bfloat16 splits into even and odd channels, two instructions instead of
// four.
SHIPWAY_INLINE Pair load_pair(const float* at) {
  return {_mm512_loadu_ps(at), _mm512_loadu_ps(at + 16)};
}
SHIPWAY_INLINE Pair load_pair(const Float16* at) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at))),
          _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + 16)))};
}
SHIPWAY_INLINE Pair split_pair(__m512i bits) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(bits, 16)),
          _mm512_castsi512_ps(_mm512_and_si512(bits, upper))};
}
SHIPWAY_INLINE Pair load_pair(const BFloat16* at) { return split_pair(_mm512_loadu_si512(at)); }

SHIPWAY_INLINE void store_pair(float* at, Pair value) {
  _mm512_storeu_ps(at, value.first);
  _mm512_storeu_ps(at + 16, value.second);
}
SHIPWAY_INLINE void store_pair(Float16* at, Pair value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), _mm512_cvtps_ph(value.first, kRound));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(at + 16), _mm512_cvtps_ph(value.second, kRound));
}
SHIPWAY_INLINE void store_pair(BFloat16* at, Pair value) {
  const __m512i odd = _mm512_slli_epi32(round_bfloat16(value.second), 16);
  _mm512_storeu_si512(at, _mm512_or_si512(round_bfloat16(value.first), odd));
}

// x and y of up to sixteen samples; the mask has two bits for each of them.
SHIPWAY_INLINE Pair load_locations(const float* at, __mmask32 mask) {
  const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask & 0xffffu), at);
  const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), at + 16);
  return {_mm512_permutex2var_ps(low, even, high), _mm512_permutex2var_ps(low, odd, high)};
}
SHIPWAY_INLINE Pair load_locations(const Float16* at, __mmask32 mask) {
  const __m512i both = _mm512_maskz_loadu_epi16(mask, at);
  return {_mm512_cvtph_ps(_mm512_cvtepi32_epi16(both)),
          _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(both, 16)))};
}
SHIPWAY_INLINE Pair load_locations(const BFloat16* at, __mmask32 mask) {
  return split_pair(_mm512_maskz_loadu_epi16(mask, at));
}

struct Axis {
  __m512 low_part, high_part;  // weights of the two neighbours
  __m512i low;                 // index of the first
  __mmask16 inside, both;      // both: the second is another pixel
};

// The two neighbours of a location among pixels 0 .. last on one axis.
SHIPWAY_INLINE Axis split_axis(__m512 location, __m512 size, __m512i last) {
  const __m512 half = _mm512_set1_ps(0.5f), one = _mm512_set1_ps(1.0f);
  const __m512i zero = _mm512_setzero_si512();
  const __m512 raw = _mm512_fmsub_ps(location, size, half);
  const __mmask16 above = _mm512_cmp_ps_mask(raw, _mm512_set1_ps(-1.0f), _CMP_GT_OQ);
  const __mmask16 inside = _mm512_mask_cmp_ps_mask(above, raw, size, _CMP_LT_OQ);
  const __m512 position = _mm512_maskz_mov_ps(inside, raw);
  const __m512 floor =
      _mm512_roundscale_ps(position, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  const __m512 part = _mm512_sub_ps(position, floor), rest = _mm512_sub_ps(one, part);
  const __m512i index = _mm512_cvtps_epi32(floor);
  const __mmask16 before = _mm512_cmplt_epi32_mask(index, zero);
  const __mmask16 both =
      _mm512_mask_cmplt_epi32_mask(_mm512_cmpge_epi32_mask(index, zero), index, last);
  const __m512 halved = _mm512_mul_ps(half, _mm512_mask_blend_ps(before, rest, part));
  return {_mm512_mask_blend_ps(both, halved, rest), _mm512_mask_blend_ps(both, halved, part),
          _mm512_min_epi32(_mm512_max_epi32(index, zero), last), inside, both};
}

// Prepares up to sixteen samples, which stand at `entry` of the table.
template <class T>
SHIPWAY_INLINE void prepare_sixteen(const T* locations, const T* weights, std::int64_t count,
                                    const SampleTable& table, std::int64_t entry,
                                    std::int32_t pixel_stride, const Samples& to, std::int64_t i) {
  const __mmask32 pairs = count >= 16 ? 0xffffffffu : (1u << 2 * count) - 1u;
  const Pair location = load_locations(locations, pairs);
  const Axis x = split_axis(location.first, _mm512_loadu_ps(table.width.data() + entry),
                            _mm512_loadu_si512(table.right.data() + entry));
  const Axis y = split_axis(location.second, _mm512_loadu_ps(table.height.data() + entry),
                            _mm512_loadu_si512(table.bottom.data() + entry));
  const __m512i row = _mm512_loadu_si512(table.row_stride.data() + entry);
  const __m512i pixel = _mm512_set1_epi32(pixel_stride), outside = _mm512_set1_epi32(-1);
  const __m512i down = _mm512_mullo_epi32(y.low, row), right = _mm512_mullo_epi32(x.low, pixel);
  const __m512i origin = _mm512_add_epi32(
      _mm512_add_epi32(down, right), _mm512_loadu_si512(table.origin.data() + entry));
  const __mmask16 inside = static_cast<__mmask16>(x.inside & y.inside);
  _mm512_storeu_si512(to.origin + i, _mm512_mask_mov_epi32(outside, inside, origin));
  _mm512_storeu_si512(to.right + i, _mm512_maskz_mov_epi32(x.both, pixel));
  _mm512_storeu_si512(to.down + i, _mm512_maskz_mov_epi32(y.both, row));
  const __m512 weight = load(weights, mask_of(count));
  const __m512 upper = _mm512_mul_ps(weight, y.low_part);
  const __m512 lower = _mm512_mul_ps(weight, y.high_part);
  _mm512_storeu_ps(to.weights[0] + i, _mm512_mul_ps(upper, x.low_part));
  _mm512_storeu_ps(to.weights[1] + i, _mm512_mul_ps(upper, x.high_part));
  _mm512_storeu_ps(to.weights[2] + i, _mm512_mul_ps(lower, x.low_part));
  _mm512_storeu_ps(to.weights[3] + i, _mm512_mul_ps(lower, x.high_part));
}

template <class T>
SHIPWAY_TARGET void prepare(const Problem& problem, std::int64_t first, std::int64_t count,
                            const SampleTable& table, std::int64_t entry, std::int32_t pixel_stride,
                            const Samples& to, std::int64_t at) {
  const T* locations = static_cast<const T*>(problem.locations) + 2 * first;
  const T* weights = static_cast<const T*>(problem.weights) + first;
  for (std::int64_t i = 0; i < count; i += kLanes) {
    prepare_sixteen(locations + 2 * i, weights + i, count - i, table, entry + i, pixel_stride, to,
                    at + i);
  }
}

template <class T, int kPairs>
SHIPWAY_INLINE void add_corner(const T* pixel, float weight, Pair* sums) {
  const __m512 factor = _mm512_set1_ps(weight);
  for (int p = 0; p < kPairs; ++p) {
    const Pair channels = load_pair(pixel + 32 * p);
    sums[p].first = _mm512_fmadd_ps(factor, channels.first, sums[p].first);
    sums[p].second = _mm512_fmadd_ps(factor, channels.second, sums[p].second);
  }
}

// Thirty-two times kPairs channels of one row. kSets sums run beside each other so that additions
// need not wait for one another.
template <class T, int kPairs>
SHIPWAY_INLINE void sum_pairs(const T* value, const Samples& samples, std::int64_t begin,
                              std::int64_t end, T* output) {
  constexpr int kSets = kPairs == 1 ? 4 : 2;
  Pair sums[kSets][kPairs] = {};
  for (std::int64_t i = begin; i < end; ++i) {
    fetch_sample(value, samples, i + kAhead, 32 * kPairs * sizeof(T));
    const std::int64_t offset = samples.origin[i];
    if (offset < 0) continue;
    const T* upper = value + offset;
    const T* lower = upper + samples.down[i];
    const std::int64_t right = samples.right[i];
    add_corner<T, kPairs>(upper, samples.weights[0][i], sums[0]);
    add_corner<T, kPairs>(upper + right, samples.weights[1][i], sums[1]);
    add_corner<T, kPairs>(lower, samples.weights[2][i], sums[2 % kSets]);
    add_corner<T, kPairs>(lower + right, samples.weights[3][i], sums[3 % kSets]);
  }
  for (int p = 0; p < kPairs; ++p) {
    Pair sum = sums[0][p];
    for (int s = 1; s < kSets; ++s) {
      sum.first = _mm512_add_ps(sum.first, sums[s][p].first);
      sum.second = _mm512_add_ps(sum.second, sums[s][p].second);
    }
    store_pair(output + 32 * p, sum);
  }
}

// Up to sixteen channels.
template <class T>
SHIPWAY_INLINE void sum_few(const T* value, const Samples& samples, std::int64_t begin,
                            std::int64_t end, std::int64_t channels, T* output) {
  const __mmask16 mask = mask_of(channels);
  __m512 sums[4] = {};
  for (std::int64_t i = begin; i < end; ++i) {
    fetch_sample(value, samples, i + kAhead, channels * std::int64_t{sizeof(T)});
    const std::int64_t offset = samples.origin[i];
    if (offset < 0) continue;
    const T* upper = value + offset;
    const T* lower = upper + samples.down[i];
    const T* corners[4] = {upper, upper + samples.right[i], lower, lower + samples.right[i]};
    for (int k = 0; k < 4; ++k) {
      const __m512 factor = _mm512_set1_ps(samples.weights[k][i]);
      sums[k] = _mm512_fmadd_ps(factor, load(corners[k], mask), sums[k]);
    }
  }
  const __m512 upper = _mm512_add_ps(sums[0], sums[1]), lower = _mm512_add_ps(sums[2], sums[3]);
  store(output, _mm512_add_ps(upper, lower), mask);
}

template <class T>
SHIPWAY_TARGET void sum_any(const T* value, const Samples& samples, std::int64_t begin,
                            std::int64_t end, std::int64_t channels, T* output) {
  std::int64_t c = 0;
  for (; c + 64 <= channels; c += 64) {
    sum_pairs<T, 2>(value + c, samples, begin, end, output + c);
  }
  for (; c + 32 <= channels; c += 32) {
    sum_pairs<T, 1>(value + c, samples, begin, end, output + c);
  }
  for (; c < channels; c += 16) {
    sum_few(value + c, samples, begin, end, std::min<std::int64_t>(channels - c, 16), output + c);
  }
}

template <class T>
SHIPWAY_TARGET void sum_channels(const T* value, const Samples& samples, std::int64_t begin,
                                 std::int64_t end, std::int64_t channels, T* output) {
  switch (channels) {
    case 16: return sum_few(value, samples, begin, end, 16, output);
    case 32: return sum_pairs<T, 1>(value, samples, begin, end, output);
    case 64: return sum_pairs<T, 2>(value, samples, begin, end, output);
    case 128: return sum_pairs<T, 4>(value, samples, begin, end, output);
    default: return sum_any(value, samples, begin, end, channels, output);
  }
}

}  // namespace

void run_avx512(const Problem& problem, const Layout& layout, const SampleTable& table,
                const Range& range) {
  run_types(problem, layout, table, range);
}

}  // namespace shipway::msda
#endif
