// Non-maximum suppression: of boxes that overlap, the one with the best score stays.
//
// Upright boxes as in mmcv.ops.nms, rotated ones as in mmcv.ops.nms_rotated. Boxes with one score stay
// in their own order.

#include <algorithm>
#include <numeric>
#include <vector>

#include "rotated_boxes.hpp"
#include "shipway_kernel.hpp"

namespace shipway {
namespace {

template <class W, class T>
std::vector<std::int64_t> best_first(const T* scores, std::int64_t count) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  // A NaN is as in torch the largest of all.
  const auto better = [&](std::int64_t a, std::int64_t b) {
    const W left = W(scores[a]), right = W(scores[b]);
    return left > right || (left != left && right == right);
  };
  std::stable_sort(order.begin(), order.end(), better);
  return order;
}

// Keeps boxes from the best on; `overlaps(kept, other)` says which later ones it removes.
template <class Overlaps>
int suppress(std::vector<std::int64_t> order, shipway_host* host, const Overlaps& overlaps) {
  std::vector<char> removed(order.size(), 0);
  std::vector<std::int64_t> kept;
  const auto count = static_cast<std::int64_t>(order.size());
  for (std::int64_t i = 0; i < count; ++i) {
    if (removed[static_cast<std::size_t>(i)]) continue;
    kept.push_back(order[static_cast<std::size_t>(i)]);
    const int failed = parallel(host, count - i - 1, 256, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t k = i + 1 + begin; k < i + 1 + end; ++k) {
        char& gone = removed[static_cast<std::size_t>(k)];
        if (!gone) gone = overlaps(kept.back(), order[static_cast<std::size_t>(k)]);
      }
    });
    if (failed) return failed;
  }
  const auto number = static_cast<std::int64_t>(kept.size());
  auto* out = static_cast<std::int64_t*>(host->allocate(host, 0, &number, 1));
  if (out == nullptr && number > 0) return fail(host, "there is no memory for the result");
  std::copy(kept.begin(), kept.end(), out);
  return 0;
}

int check(const shipway_tensor* in, std::int64_t columns, const char* what, shipway_host* host) {
  if (in[0].rank != 2 || (in[0].shape[1] >= 0 && in[0].shape[1] != columns)) {
    return fail(host, std::string("boxes must be [n, ") + std::to_string(columns) + "]: " + what);
  }
  const std::int64_t boxes = in[0].shape[0], scores = in[1].rank == 1 ? in[1].shape[0] : -2;
  if (scores == -2 || (boxes >= 0 && scores >= 0 && boxes != scores)) {
    return fail(host, "scores must be [n], one for each of the " + std::to_string(boxes) + " boxes");
  }
  return 0;
}

int check_upright(const shipway_tensor* in, shipway_host* host) {
  return check(in, 4, "left, top, right, bottom", host);
}

int check_rotated(const shipway_tensor* in, shipway_host* host) {
  if (check(in, 5, "centre x, centre y, width, height, angle", host)) return 1;
  if (!present(in[2])) return 0;
  const std::int64_t boxes = in[0].shape[0], labels = in[2].rank == 1 ? in[2].shape[0] : -2;
  if (labels == -2 || (boxes >= 0 && labels >= 0 && boxes != labels)) {
    return fail(host, "labels must be [n], one for each of the " + std::to_string(boxes) + " boxes");
  }
  return 0;
}

int infer(const shipway_tensor* in, const shipway_attribute*, shipway_shape* out, shipway_host* host) {
  if (check_upright(in, host)) return 1;
  set_shape(out[0], {-1});
  return 0;
}

int infer_rotated(const shipway_tensor* in, const shipway_attribute*, shipway_shape* out,
                  shipway_host* host) {
  if (check_rotated(in, host)) return 1;
  set_shape(out[0], {-1});
  return 0;
}

int compute(const shipway_tensor* in, const shipway_attribute* attributes, shipway_tensor*,
            shipway_host* host) {
  if (check_upright(in, host)) return 1;
  return with_float(in[0].dtype, host, [&](auto tag) {
    using T = decltype(tag);
    using W = wide_t<T>;
    const T* boxes = data<T>(in[0]);
    const W threshold = W(attributes[0].f), more = W(attributes[1].i);
    const auto overlaps = [=](std::int64_t first, std::int64_t second) {
      const T *a = boxes + 4 * first, *b = boxes + 4 * second;
      const W one = (W(a[2]) + more - W(a[0])) * (W(a[3]) + more - W(a[1]));
      const W other = (W(b[2]) + more - W(b[0])) * (W(b[3]) + more - W(b[1]));
      const W width = std::min(W(a[2]) + more, W(b[2]) + more) - std::max(W(a[0]), W(b[0]));
      const W height = std::min(W(a[3]) + more, W(b[3]) + more) - std::max(W(a[1]), W(b[1]));
      const W common = std::max(width, W(0)) * std::max(height, W(0));
      return common / (one + other - common) > threshold;  // 0 / 0 is not
    };
    return suppress(best_first<W>(data<T>(in[1]), in[0].shape[0]), host, overlaps);
  });
}

int compute_rotated(const shipway_tensor* in, const shipway_attribute* attributes, shipway_tensor*,
                    shipway_host* host) {
  if (check_rotated(in, host)) return 1;
  const std::int64_t* labels = present(in[2]) ? data<std::int64_t>(in[2]) : nullptr;
  return with_float(in[0].dtype, host, [&](auto tag) {
    using T = decltype(tag);
    using W = wide_t<T>;
    const T* boxes = data<T>(in[0]);
    const W threshold = W(attributes[0].f);
    const auto overlaps = [=](std::int64_t first, std::int64_t second) {
      if (labels != nullptr && labels[first] != labels[second]) return false;
      return overlap(RotatedBox<W>(boxes + 5 * first), RotatedBox<W>(boxes + 5 * second), false) > threshold;
    };
    return suppress(best_first<W>(data<T>(in[1]), in[0].shape[0]), host, overlaps);
  });
}

constexpr shipway_attribute_spec kUpright[] = {
    {"iou_threshold", SHIPWAY_ATTR_FLOAT, 1, 0, 0, nullptr, nullptr, 0},
    {"offset", SHIPWAY_ATTR_INT, 0, 0, 0, nullptr, nullptr, 0},
};
constexpr shipway_attribute_spec kRotated[] = {
    {"iou_threshold", SHIPWAY_ATTR_FLOAT, 1, 0, 0, nullptr, nullptr, 0},
};

}  // namespace

extern const shipway_op nms_op;
const shipway_op nms_op = {SHIPWAY_OP_ABI, 1, "shipway", "Nms", "nms", "TT", "l", kFloats, 0, 2,
                           kUpright, nullptr, infer, compute};

extern const shipway_op nms_rotated_op;
const shipway_op nms_rotated_op = {SHIPWAY_OP_ABI, 1, "shipway", "NmsRotated", "nms_rotated", "TTI",
                                   "l", kFloats, 0b100, 1, kRotated, nullptr, infer_rotated,
                                   compute_rotated};

}  // namespace shipway
