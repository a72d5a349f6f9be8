// How much of two rotated boxes is in both.
//
// Corners of each that lie in the other, and crossings of their edges, span the common area; sorted
// around their middle, they give it. Boxes are centre x, centre y, width, height, angle in radians.
#pragma once

#include <algorithm>
#include <cmath>

namespace shipway {
namespace {

template <class W>
struct RotatedBox {
  W x, y, width, height, angle;

  template <class T>
  explicit RotatedBox(const T* box)
      : x(W(box[0])), y(W(box[1])), width(W(box[2])), height(W(box[3])), angle(W(box[4])) {}

  W area() const { return width * height; }
};

template <class W>
struct Spot {
  W x, y;
};

template <class W>
W cross(Spot<W> a, Spot<W> b) {
  return a.x * b.y - a.y * b.x;
}

template <class W>
void corners_of(const RotatedBox<W>& box, W from_x, W from_y, Spot<W>* out) {
  const W sine = std::sin(box.angle), cosine = std::cos(box.angle);
  const W right = box.width / 2, down = box.height / 2;
  const W x[4] = {-right, right, right, -right}, y[4] = {-down, -down, down, down};
  for (int k = 0; k < 4; ++k) {
    out[k].x = cosine * x[k] - sine * y[k] + (box.x - from_x);
    out[k].y = sine * x[k] + cosine * y[k] + (box.y - from_y);
  }
}

// Whether a spot lies in the box, borders included, up to rounding.
template <class W>
bool lies_in(const RotatedBox<W>& box, W from_x, W from_y, Spot<W> spot) {
  const W sine = std::sin(box.angle), cosine = std::cos(box.angle);
  const W x = spot.x - (box.x - from_x), y = spot.y - (box.y - from_y);
  const W across = cosine * x + sine * y, along = cosine * y - sine * x;
  const W slack = W(1e-6);
  return std::abs(across) <= box.width / 2 * (1 + slack) && std::abs(along) <= box.height / 2 * (1 + slack);
}

template <class W>
W common_area(const RotatedBox<W>& first, const RotatedBox<W>& second) {
  const W from_x = first.x, from_y = first.y;  // near 0, where floats are dense
  Spot<W> one[4], other[4], spots[24];
  corners_of(first, from_x, from_y, one);
  corners_of(second, from_x, from_y, other);
  int count = 0;
  for (int k = 0; k < 4; ++k) {
    if (lies_in(second, from_x, from_y, one[k])) spots[count++] = one[k];
  }
  for (int k = 0; k < 4; ++k) {
    if (lies_in(first, from_x, from_y, other[k])) spots[count++] = other[k];
  }
  for (int i = 0; i < 4; ++i) {
    const Spot<W> start = one[i], step{one[(i + 1) % 4].x - start.x, one[(i + 1) % 4].y - start.y};
    for (int j = 0; j < 4; ++j) {
      const Spot<W> edge{other[(j + 1) % 4].x - other[j].x, other[(j + 1) % 4].y - other[j].y};
      const Spot<W> gap{other[j].x - start.x, other[j].y - start.y};
      const W turn = cross(step, edge);
      if (turn == 0) continue;  // parallel: their corners tell
      const W s = cross(gap, edge) / turn, t = cross(gap, step) / turn;
      if (s >= 0 && s <= 1 && t >= 0 && t <= 1) {
        spots[count++] = {start.x + s * step.x, start.y + s * step.y};
      }
    }
  }
  if (count < 3) return 0;
  Spot<W> middle{0, 0};
  for (int k = 0; k < count; ++k) middle.x += spots[k].x, middle.y += spots[k].y;
  middle.x /= W(count), middle.y /= W(count);
  struct Turned {
    W angle;
    Spot<W> spot;
  } turned[24];
  for (int k = 0; k < count; ++k) {
    const Spot<W> from{spots[k].x - middle.x, spots[k].y - middle.y};
    turned[k] = {std::atan2(from.y, from.x), from};
  }
  std::sort(turned, turned + count, [](const Turned& a, const Turned& b) { return a.angle < b.angle; });
  W twice = 0;
  for (int k = 0; k < count; ++k) twice += cross(turned[k].spot, turned[(k + 1) % count].spot);
  return std::abs(twice) / 2;
}

// The common area over that of both together (`of_first`: over that of the first alone). 0 where a box
// has no area, a NaN or an infinity.
template <class W>
W overlap(const RotatedBox<W>& first, const RotatedBox<W>& second, bool of_first) {
  const W one = first.area(), other = second.area();
  const W reach = std::abs(first.x) + std::abs(first.y) + std::abs(second.x) + std::abs(second.y) +
                  std::abs(first.angle) + std::abs(second.angle) + std::abs(first.width) +
                  std::abs(first.height) + std::abs(second.width) + std::abs(second.height);
  if (!(first.width > 0 && first.height > 0 && second.width > 0 && second.height > 0) || !std::isfinite(reach)) {
    return 0;
  }
  const W common = common_area(first, second);
  return common / (of_first ? one : one + other - common);
}

}  // namespace
}  // namespace shipway
