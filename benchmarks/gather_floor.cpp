// The least time that reading what a deformable attention must read can take: the pixels' bytes are
// summed as they are, in the order of the queries, with nothing computed and nothing prepared.

#include <immintrin.h>

#include <cstdint>
#include <thread>
#include <vector>

namespace {

__attribute__((target("avx2"))) void gather(const char* value, const std::int64_t* offsets,
                                            std::int64_t begin, std::int64_t end,
                                            std::int64_t row_bytes, char* output,
                                            std::int64_t samples) {
  constexpr std::int64_t kAhead = 24;
  __m256i sums[8] = {};
  for (std::int64_t i = begin; i < end; ++i) {
    const char* next = value + offsets[i + kAhead];
    for (std::int64_t at = 0; at < row_bytes; at += 64) __builtin_prefetch(next + at);
    const auto* row = reinterpret_cast<const __m256i*>(value + offsets[i]);
    for (std::int64_t k = 0; k < row_bytes / 32; ++k) {
      sums[k & 7] = _mm256_add_epi32(sums[k & 7], _mm256_loadu_si256(row + k));
    }
    if ((i + 1) % samples == 0) {
      auto* to = reinterpret_cast<__m256i*>(output + i / samples * row_bytes);
      for (std::int64_t k = 0; k < row_bytes / 32; ++k) _mm256_storeu_si256(to + k, sums[k & 7]);
    }
  }
}

}  // namespace

// Reads `count` rows of `row_bytes` (a multiple of 32, at most 256) at byte offsets, on `threads`
// threads, and writes one row for every `samples` of them. `offsets` has 24 more entries than `count`.
extern "C" __attribute__((visibility("default"))) void gather_floor(const char* value, const std::int64_t* offsets, std::int64_t count,
                             std::int64_t row_bytes, char* output, std::int64_t samples,
                             std::int32_t threads) {
  std::vector<std::thread> pool;
  for (std::int32_t t = 0; t < threads; ++t) {
    const std::int64_t rows = count / samples, begin = rows * t / threads * samples;
    const std::int64_t end = rows * (t + 1) / threads * samples;
    pool.emplace_back([=] { gather(value, offsets, begin, end, row_bytes, output, samples); });
  }
  for (auto& thread : pool) thread.join();
}
