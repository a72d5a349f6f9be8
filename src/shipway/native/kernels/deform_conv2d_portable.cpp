// Deformable convolution in plain C++: every dtype, every processor.

#define SHIPWAY_TARGET
#define SHIPWAY_INLINE inline
#include "deform_conv2d.hpp"

namespace shipway::dcn {
namespace {

constexpr std::int64_t kRows = 2;
static_assert(kTile % kRows == 0, "the last rows of a tile are computed together");

// A panel's sums of one place, in whatever vector registers there are. GCC and Clang split it.
template <class W>
struct Row {
  typedef W Vector __attribute__((vector_size(16)));
  static constexpr int kParts = static_cast<int>(kPanel * sizeof(W) / 16);
  Vector part[kParts];

  static Row load(const W* at) {
    Row row;
    std::memcpy(row.part, at, sizeof row.part);
    return row;
  }
  void store(W* at) const { std::memcpy(at, part, sizeof part); }
  void add(W factor, const Row& weight) {
    for (int k = 0; k < kParts; ++k) part[k] += factor * weight.part[k];
  }
};

// Adds the columns of kRows places, times a panel of weights, to their sums.
template <class W>
void add_block(const W* columns, std::int64_t length, const W* weight, W* sums,
               std::int64_t step) {
  Row<W> first = Row<W>::load(sums), second = Row<W>::load(sums + step);
  for (std::int64_t c = 0; c < length; ++c) {
    const Row<W> factors = Row<W>::load(weight + c * kPanel);
    first.add(columns[c], factors);
    second.add(columns[length + c], factors);
  }
  first.store(sums);
  second.store(sums + step);
}

}  // namespace
}  // namespace shipway::dcn

#include "deform_conv2d_tile.hpp"

namespace shipway::dcn {

template <class T>
void run_portable(const Problem& problem, const Operands& operands, const Tile& tile,
                  Scratch<wide_t<T>>& scratch) {
  run_tile<T>(problem, operands, tile, scratch);
}

template void run_portable<float>(const Problem&, const Operands&, const Tile&, Scratch<float>&);
template void run_portable<double>(const Problem&, const Operands&, const Tile&, Scratch<double>&);
template void run_portable<Float16>(const Problem&, const Operands&, const Tile&, Scratch<float>&);
template void run_portable<BFloat16>(const Problem&, const Operands&, const Tile&, Scratch<float>&);

}  // namespace shipway::dcn
