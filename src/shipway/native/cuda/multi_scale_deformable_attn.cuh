// Multi-scale deformable attention, the arithmetic of one point: where its four corners are and how
// much each one counts. Plain C++ as well as CUDA, so that a test without a GPU can run it.
#pragma once

#include <cmath>
#include <cstdint>

namespace shipway::msda_cuda {

struct Level {
  std::int32_t height, width;
  std::int32_t start;  // first pixel
};

// Corners in the order top left, top right, bottom left, bottom right.
template <class Real>
struct Point {
  std::int32_t pixel;   // of the top left corner, from the first pixel of the batch entry
  std::int32_t width;   // pixels from a corner to the one below it
  std::int32_t inside;  // bit i: corner i lies in the level and may be read
  Real weights[4];      // bilinear share times attention; 0 for a corner outside
};

__host__ __device__ __forceinline__ bool within(std::int32_t place, std::int32_t size) {
  return static_cast<std::uint32_t>(place) < static_cast<std::uint32_t>(size);
}

// Locations are in [0, 1] over the level's area, pixel centres at (i + 0.5) / size. Written so that
// NaN fails the test; infinities and what is a pixel or more outside fail it too.
template <class Real>
__host__ __device__ __forceinline__ Point<Real> make_point(const Level& level, Real x, Real y,
                                                           Real attention) {
  const Real width = static_cast<Real>(level.width), height = static_cast<Real>(level.height);
  const Real column = std::fma(x, width, Real(-0.5)), row = std::fma(y, height, Real(-0.5));
  Point<Real> point{level.start, level.width, 0, {Real(0), Real(0), Real(0), Real(0)}};
  if (!(column > Real(-1) && row > Real(-1) && column < width && row < height)) return point;
  const Real left = std::floor(column), top = std::floor(row);
  // Rounded once, at the size of the share: column - left would carry the rounding of the column.
  const Real right_share = std::fma(x, width, -(left + Real(0.5)));
  const Real bottom_share = std::fma(y, height, -(top + Real(0.5)));
  const std::int32_t at_x = static_cast<std::int32_t>(left), at_y = static_cast<std::int32_t>(top);
  point.pixel += at_y * level.width + at_x;
#pragma unroll
  for (int corner = 0; corner < 4; ++corner) {
    const bool right = corner % 2 == 1, bottom = corner / 2 == 1;
    if (!within(at_x + right, level.width) || !within(at_y + bottom, level.height)) continue;
    point.inside |= 1 << corner;
    point.weights[corner] = (right ? right_share : Real(1) - right_share) *
                            (bottom ? bottom_share : Real(1) - bottom_share) * attention;
  }
  return point;
}

}  // namespace shipway::msda_cuda
