// Deformable convolution with AVX2 and FMA, summed in float: float32, float16 and bfloat16.

#if defined(__x86_64__)
#include <immintrin.h>

#define SHIPWAY_TARGET __attribute__((target("avx2,fma")))
#define SHIPWAY_INLINE __attribute__((target("avx2,fma"), always_inline)) inline
#include "deform_conv2d.hpp"

namespace shipway::dcn {
namespace {

constexpr std::int64_t kRows = 6;  // twelve sums, two weights and a factor fill the sixteen registers
static_assert(kTile % kRows == 0 && kPanel == 16, "the blocks are written for these sizes");

// Sums of one place. Named one by one below: an array of them would be written to memory each turn.
struct Row {
  __m256 left, right;
};

SHIPWAY_INLINE Row load_row(const float* at) {
  return {_mm256_loadu_ps(at), _mm256_loadu_ps(at + 8)};
}
SHIPWAY_INLINE void store_row(float* at, const Row& row) {
  _mm256_storeu_ps(at, row.left);
  _mm256_storeu_ps(at + 8, row.right);
}
SHIPWAY_INLINE void add_row(Row& row, const float* column, const Row& weight) {
  const __m256 factor = _mm256_broadcast_ss(column);
  row.left = _mm256_fmadd_ps(factor, weight.left, row.left);
  row.right = _mm256_fmadd_ps(factor, weight.right, row.right);
}

// Adds the columns of kRows places, times a panel of weights, to their sums.
SHIPWAY_TARGET void add_block(const float* columns, std::int64_t length, const float* weight,
                              float* sums, std::int64_t step) {
  Row row0 = load_row(sums), row1 = load_row(sums + step), row2 = load_row(sums + 2 * step);
  Row row3 = load_row(sums + 3 * step), row4 = load_row(sums + 4 * step);
  Row row5 = load_row(sums + 5 * step);
  for (std::int64_t c = 0; c < length; ++c) {
    const Row factors = load_row(weight + c * kPanel);
    add_row(row0, columns + c, factors);
    add_row(row1, columns + length + c, factors);
    add_row(row2, columns + 2 * length + c, factors);
    add_row(row3, columns + 3 * length + c, factors);
    add_row(row4, columns + 4 * length + c, factors);
    add_row(row5, columns + 5 * length + c, factors);
  }
  store_row(sums, row0);
  store_row(sums + step, row1);
  store_row(sums + 2 * step, row2);
  store_row(sums + 3 * step, row3);
  store_row(sums + 4 * step, row4);
  store_row(sums + 5 * step, row5);
}

}  // namespace
}  // namespace shipway::dcn

#include "deform_conv2d_tile.hpp"

namespace shipway::dcn {

template <class T>
void run_avx2(const Problem& problem, const Operands& operands, const Tile& tile,
              Scratch<float>& scratch) {
  run_tile<T>(problem, operands, tile, scratch);
}

template void run_avx2<float>(const Problem&, const Operands&, const Tile&, Scratch<float>&);
template void run_avx2<Float16>(const Problem&, const Operands&, const Tile&, Scratch<float>&);
template void run_avx2<BFloat16>(const Problem&, const Operands&, const Tile&, Scratch<float>&);

}  // namespace shipway::dcn
#endif
