// A place between pixels: which four it lies between, and how much each counts. Corners outside the
// plane count nothing, and a place that is a pixel or more outside (or NaN) has no corner at all.
#pragma once

#include <cmath>
#include <cstdint>

namespace shipway {
namespace {

template <class W>
struct Corners {
  std::int64_t offset[4];
  W weight[4];
  int count = 0;

  Corners(W y, W x, std::int64_t height, std::int64_t width) {
    if (!(y > W(-1) && x > W(-1) && y < W(height) && x < W(width))) return;
    const W top = std::floor(y), left = std::floor(x);
    for (int down = 0; down < 2; ++down) {
      for (int right = 0; right < 2; ++right) {
        const W row = top + W(down), column = left + W(right);
        if (row < 0 || column < 0 || row >= W(height) || column >= W(width)) continue;
        offset[count] = static_cast<std::int64_t>(row) * width + static_cast<std::int64_t>(column);
        weight[count++] = (W(1) - std::abs(y - row)) * (W(1) - std::abs(x - column));
      }
    }
  }

  template <class T>
  W read(const T* plane) const {
    W sum = 0;
    for (int k = 0; k < count; ++k) sum += W(plane[offset[k]]) * weight[k];
    return sum;
  }
};

}  // namespace
}  // namespace shipway
